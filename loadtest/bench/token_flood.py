"""Somebody who makes up tokens: ``python -m loadtest.bench.token_flood PORT PER_SECOND HEADER.CLAIMS``.

Every request has a token of its own: a wrong signature of the right length, so that only verifying it tells. With an
empty third argument every token is an API key of the right form that nobody made. Prints ``began``, and every half
second ``refused N TOTAL``, the answers a second and all so far.
"""

from __future__ import annotations

import asyncio
import base64
import secrets
import sys
import time
import zlib
from collections import deque
from typing import cast

import uvloop

from loadtest.bench.scenarios.calls import call

_CONNECTIONS = 64
_REPORT_S = 0.5
_TICK_S = 0.001
_MARK = "@token@"


class Sender(asyncio.Protocol):
    """One connection with at most one request under way."""

    def __init__(self, flood: Flood) -> None:
        self._flood = flood
        self._got = b""
        self.transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)
        self._flood.free.append(self)

    def data_received(self, data: bytes) -> None:
        self._got += data
        head, gap, body = self._got.partition(b"\r\n\r\n")
        length = head.lower().partition(b"content-length: ")[2].partition(b"\r\n")[0]
        if gap and len(body) >= int(length):
            assert b" 200 " not in head[:20], head
            self._got = b""
            self._flood.answered += 1
            if b"\nconnection: close" in head.lower():
                assert self.transport is not None
                self.transport.close()
            else:
                self._flood.free.append(self)

    def connection_lost(self, exc: Exception | None) -> None:
        self._flood.lost += 1


class Flood:
    """See the module."""

    def __init__(self, port: int, per_second: float, template: str) -> None:
        self._port = port
        self._per_second = per_second
        self._template = template
        request = call("modern_0")
        request.headers["Authorization"] = f"Bearer {_MARK}"
        self._before, self._after = request.to_bytes(f"127.0.0.1:{port}").split(_MARK.encode())
        self._signature = base64.urlsafe_b64encode(secrets.token_bytes(256)).rstrip(b"=")
        self.free: deque[Sender] = deque()
        self.answered = self.lost = 0

    def _token(self) -> bytes:
        if not self._template:
            key = "gwk_" + secrets.token_urlsafe(32)
            return f"{key}{zlib.crc32(key.encode()):08x}".encode()
        return b"%b.%b%b" % (self._template.encode(), secrets.token_hex(16).encode(), self._signature[32:])

    async def _report(self) -> None:
        print("began", flush=True)
        while True:
            before, at = self.answered, time.monotonic()
            await asyncio.sleep(_REPORT_S)
            rate = (self.answered - before) / (time.monotonic() - at)
            print(f"refused {rate:.0f} {self.answered}", flush=True)

    async def run(self) -> None:
        """Send for ever."""
        loop = asyncio.get_running_loop()
        self.lost = _CONNECTIONS
        async with asyncio.TaskGroup() as group:
            group.create_task(self._report())
            due = time.monotonic()
            while True:
                for _ in range(self.lost):
                    await loop.create_connection(lambda: Sender(self), "127.0.0.1", self._port)
                    self.lost -= 1
                now = time.monotonic()
                due = max(due, now - 0.1)  # what could not be sent is not made up for
                while due <= now and self.free:
                    sender = self.free.popleft()
                    assert sender.transport is not None
                    sender.transport.write(b"%b%b%b" % (self._before, self._token(), self._after))
                    due += 1.0 / self._per_second
                await asyncio.sleep(_TICK_S)


if __name__ == "__main__":
    uvloop.run(Flood(int(sys.argv[1]), float(sys.argv[2]), sys.argv[3]).run())
