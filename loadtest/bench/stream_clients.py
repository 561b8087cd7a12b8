"""Thousands of legacy clients with open GET streams: ``python -m loadtest.bench.stream_clients PORT COUNT``.

Prints ``open COUNT`` when every stream is open, and ``heard ROUND SECONDS`` (monotonic clock, the same for all
processes) each time all of them have heard of a changed list once more; ``lost`` when a stream ends.
"""

from __future__ import annotations

import asyncio
import sys
import time
from typing import cast

import httptools
import uvloop

from loadtest import wire
from loadtest.wire import Request

_AT_ONCE = 50


class Streams:
    """All clients of this process."""

    def __init__(self, port: int, count: int) -> None:
        self.host = f"127.0.0.1:{port}"
        self._port = port
        self._count = count
        self._unheard = set(range(count))
        self._rounds = 0

    async def run(self) -> None:
        """Open all, then listen for ever."""
        gate = asyncio.Semaphore(_AT_ONCE)
        await asyncio.gather(*(self._open(number, gate) for number in range(self._count)))
        print(f"open {self._count}", flush=True)
        await asyncio.Event().wait()

    async def _open(self, number: int, gate: asyncio.Semaphore) -> None:
        async with gate:
            loop = asyncio.get_running_loop()
            _, client = await loop.create_connection(lambda: Client(self, number), "127.0.0.1", self._port)
            await client.opened

    def heard(self, number: int) -> None:
        """A client heard of a changed list."""
        self._unheard.discard(number)
        if not self._unheard:
            self._rounds += 1
            self._unheard = set(range(self._count))
            print(f"heard {self._rounds} {time.monotonic():.6f}", flush=True)


class Client(asyncio.Protocol):
    """One connection: ``initialize``, ``notifications/initialized``, then the stream."""

    def __init__(self, streams: Streams, number: int) -> None:
        self.opened: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._streams = streams
        self._number = number
        self._parser = httptools.HttpResponseParser(self)
        self._sid = ""
        self._step = 0
        self._rest = b""
        self._transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)  # uvloop's is no subclass
        self._send(wire.initialize())

    def _send(self, request: Request) -> None:
        assert self._transport is not None
        self._transport.write(request.to_bytes(self._streams.host))

    def data_received(self, data: bytes) -> None:
        self._parser.feed_data(data)

    def on_header(self, name: bytes, value: bytes) -> None:
        if name.lower() == b"mcp-session-id":
            self._sid = value.decode()

    def on_headers_complete(self) -> None:
        status = self._parser.get_status_code()
        if status >= 300:
            self._lost(f"HTTP {status} at step {self._step}")
        elif self._step == 2 and not self.opened.done():
            self.opened.set_result(None)

    def on_body(self, body: bytes) -> None:
        if self._step == 2:
            self._rest = (self._rest + body)[-1024:]
            if b"list_changed" in self._rest and self._rest.endswith((b"\n\n", b"\r\n\r\n")):
                self._rest = b""
                self._streams.heard(self._number)

    def on_message_complete(self) -> None:
        self._step += 1
        if self._step == 1:
            self._send(wire.notice("notifications/initialized", self._sid))
        elif self._step == 2:
            self._send(Request(b"", {"Accept": "text/event-stream", **wire.session_headers(self._sid)}, method="GET"))

    def connection_lost(self, exc: Exception | None) -> None:
        self._lost(str(exc))

    def _lost(self, why: str) -> None:
        print(f"lost {self._number}: {why}", flush=True)
        if not self.opened.done():
            self.opened.set_exception(ConnectionError(why))


if __name__ == "__main__":
    uvloop.run(Streams(int(sys.argv[1]), int(sys.argv[2])).run())
