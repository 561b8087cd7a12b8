"""A client that others may suffer from: ``python -m loadtest.bench.disturber PORT TOOL large|slow BYTES``.

``large`` asks for results of BYTES one after the other, half a second between two; ``slow`` asks once and reads 1 KiB
a second. Prints ``began`` when the first bytes have come.
"""

from __future__ import annotations

import socket
import sys
import time

from loadtest import wire

_PAUSE_S = 0.5
_SLOW_BYTES = 1024


def _asked(port: int, tool: str, size: int) -> socket.socket:
    connection = socket.socket()
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 65_536 if size else 0)
    connection.connect(("127.0.0.1", port))
    request = wire.modern("tools/call", {"name": tool, "arguments": {"bytes": size}})
    connection.sendall(request.to_bytes(f"127.0.0.1:{port}"))
    return connection


def slow(port: int, tool: str, size: int) -> None:
    """1 KiB a second, for ever."""
    with _asked(port, tool, size) as connection:
        while connection.recv(_SLOW_BYTES):
            print("began", flush=True)
            time.sleep(1.0)


def large(port: int, tool: str, size: int) -> None:
    """The whole result, again and again."""
    while True:
        with _asked(port, tool, size) as connection:
            left = size
            while left > 0 and (data := connection.recv(1 << 20)):
                left -= len(data)
        if left > 0:
            raise ConnectionError(f"{left} of {size} bytes did not come")
        print("began", flush=True)
        time.sleep(_PAUSE_S)


if __name__ == "__main__":
    {"slow": slow, "large": large}[sys.argv[3]](int(sys.argv[1]), sys.argv[2], int(sys.argv[4]))
