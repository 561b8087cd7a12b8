"""Somebody who makes up tokens: ``python -m loadtest.bench.token_flood PORT PER_SECOND HEADER.CLAIMS``.

Every request has a token of its own: a wrong signature of the right length, so that only verifying it tells. Prints
``began``, and every half second ``refused N``, the answers a second.
"""

from __future__ import annotations

import asyncio
import base64
import secrets
import sys
import time

from loadtest.bench.scenarios.calls import call

_CONNECTIONS = 16
_REPORT_S = 0.5


class Flood:
    """See the module."""

    def __init__(self, port: int, per_second: float, template: str) -> None:
        self._port = port
        self._pause_s = _CONNECTIONS / per_second
        self._template = template
        self._answered = 0

    def _request(self) -> bytes:
        signature = base64.urlsafe_b64encode(secrets.token_bytes(256)).rstrip(b"=").decode()
        request = call("modern_0")
        request.headers["Authorization"] = f"Bearer {self._template}.{signature}"
        return request.to_bytes(f"127.0.0.1:{self._port}")

    async def _send(self) -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", self._port)
        due = time.monotonic()
        while True:
            writer.write(self._request())
            head = await reader.readuntil(b"\r\n\r\n")
            assert b" 200 " not in head[:20], head
            length = head.lower().partition(b"content-length: ")[2].partition(b"\r\n")[0]
            await reader.readexactly(int(length))
            self._answered += 1
            due = max(due + self._pause_s, time.monotonic() - 1.0)
            await asyncio.sleep(max(0.0, due - time.monotonic()))

    async def run(self) -> None:
        """Send for ever."""
        async with asyncio.TaskGroup() as group:
            for _ in range(_CONNECTIONS):
                group.create_task(self._send())
            print("began", flush=True)
            while True:
                before = self._answered
                await asyncio.sleep(_REPORT_S)
                print(f"refused {(self._answered - before) / _REPORT_S:.0f}", flush=True)


if __name__ == "__main__":
    asyncio.run(Flood(int(sys.argv[1]), float(sys.argv[2]), sys.argv[3]).run())
