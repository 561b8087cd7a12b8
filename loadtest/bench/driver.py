"""Our own load driver, a process of its own: an order (JSON) on standard input, figures (JSON) on standard output.

For machines without ``wrk``, and for paced load: with ``per_second`` calls begin at fixed times, whichever connection
is free takes the next. A call that finds no free connection waits, and its waiting counts as latency, so that a server
that stalls cannot hide it.
"""

from __future__ import annotations

import asyncio
import json
import sys
import time
from collections import deque
from typing import Any, cast

import httptools
import uvloop

from loadtest.bench.figures import percentile
from loadtest.wire import Request

_KEPT = 512


class Connection(asyncio.Protocol):
    """One keep-alive connection with at most one request under way."""

    def __init__(self, driver: Driver) -> None:
        self._driver = driver
        self._parser = httptools.HttpResponseParser(self)
        self._begun = 0.0
        self._start = b""
        self._transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)  # uvloop's is no subclass
        self._driver.free(self)

    def send(self, request: bytes, due: float) -> None:
        """Begin a call that was due at ``due`` (monotonic seconds)."""
        assert self._transport is not None
        self._begun = due
        self._start = b""
        self._transport.write(request)

    def data_received(self, data: bytes) -> None:
        self._driver.received += len(data)
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserError:
            self._driver.lost(self)

    def on_body(self, body: bytes) -> None:
        if len(self._start) < _KEPT:
            self._start += body[:_KEPT]

    def on_message_complete(self) -> None:
        # The envelope is written before the result: an error's begins within the first few bytes.
        good = self._parser.get_status_code() < 400 and b'"error"' not in self._start[:64]
        self._driver.answered(self, self._begun, good)

    def connection_lost(self, exc: Exception | None) -> None:
        self._driver.lost(self)

    def close(self) -> None:
        """Leave."""
        if self._transport is not None:
            self._transport.abort()


class Driver:
    """See the module."""

    def __init__(self, order: dict[str, Any]) -> None:
        self.received = 0
        self._port = int(order["port"])
        host = f"127.0.0.1:{self._port}"
        self._requests = [Request(**{**one, "body": one["body"].encode()}).to_bytes(host) for one in order["requests"]]
        self._wanted = int(order["connections"])
        self._seconds = float(order["seconds"])
        self._per_second = float(order.get("per_second") or 0.0)
        self._latencies: list[float] = []
        self._failed = 0
        self._turn = 0
        self._running = False
        self._free: deque[Connection] = deque()
        self._due: deque[float] = deque()

    async def run(self) -> dict[str, Any]:
        """Open the connections, load for the ordered time, figures as a ``Sample`` has them."""
        loop = asyncio.get_running_loop()
        connections = [
            (await loop.create_connection(lambda: Connection(self), "127.0.0.1", self._port))[1]
            for _ in range(self._wanted)
        ]
        self._running = True
        begun = time.monotonic()
        if self._per_second:
            await self._pace(begun)
        else:
            for _ in range(self._wanted):
                self._begin(time.monotonic())
            await asyncio.sleep(self._seconds)
        self._running = False
        seconds = time.monotonic() - begun
        for connection in connections:
            connection.close()
        calls = len(self._latencies)
        return {
            "calls": calls,
            "failed": self._failed,
            "seconds": seconds,
            "p50_ms": percentile(self._latencies, 50) * 1000 if calls else 0.0,
            "p99_ms": percentile(self._latencies, 99) * 1000 if calls else 0.0,
            "bytes_per_call": self.received / max(calls, 1),
        }

    async def _pace(self, begun: float) -> None:
        number = 0
        while (now := time.monotonic()) < begun + self._seconds:
            while begun + number / self._per_second <= now:
                self._begin(now)
                number += 1
            await asyncio.sleep(0.001)

    def _begin(self, due: float) -> None:
        if not self._free:
            self._due.append(due)
            return
        request = self._requests[self._turn]
        self._turn = (self._turn + 1) % len(self._requests)
        self._free.popleft().send(request, due)

    def free(self, connection: Connection) -> None:
        """It can take a call."""
        self._free.append(connection)

    def answered(self, connection: Connection, begun: float, good: bool) -> None:
        """A call ended."""
        if not self._running:
            return
        now = time.monotonic()
        self._latencies.append(now - begun)
        self._failed += not good
        self._free.append(connection)
        if not self._per_second:
            self._begin(now)
        elif self._due:
            self._begin(self._due.popleft())

    def lost(self, connection: Connection) -> None:
        """A connection broke; that is no load any more."""
        if self._running:
            self._failed += 1


def main() -> None:
    """See the module."""
    order = json.load(sys.stdin)
    print(json.dumps(uvloop.run(Driver(order).run())))


if __name__ == "__main__":
    main()
