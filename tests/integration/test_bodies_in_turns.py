"""Bodies of upstreams that take long to be read: others have their turns meanwhile, and the body is whole."""

from __future__ import annotations

import asyncio
import gzip
import ssl
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import brotli  # type: ignore[import-untyped]
import pytest

from shared.connections import HttpConnection
from shared.errors import CallError
from shared.mcp import sse
from shared.settings import UpstreamSettings
from tests.certificates import self_signed
from tests.machine import scaled
from worker.transports import turns
from worker.transports.http_client import HttpPool
from worker.transports.http_endpoint import HttpEndpoint

LINES = b":\n" * 1_000_000
EVENT = b"data: the last\n\n"
CODERS: dict[str, Callable[[bytes], bytes]] = {"": bytes, "gzip": gzip.compress, "br": brotli.compress}


class Reading:
    """An exchange that reads an event stream. ``most`` is after how many bytes it has enough."""

    def __init__(self, pool: HttpPool, most: int = 1 << 40) -> None:
        self.request: bytes | tuple[bytes, ...] = pool.endpoint.head("GET", {}) + b"\r\n"
        self.size, self.events, self._most, self._pool = 0, [b""], most, pool
        self._reader = sse.Reader(1 << 20)
        self.done: asyncio.Future[CallError | None] = asyncio.get_running_loop().create_future()

    def on_headers(self, status: int, headers: dict[bytes, bytes]) -> None:
        """Do nothing."""

    def on_body(self, data: bytes) -> None:
        assert not self.done.done(), "nothing comes after the end"
        self.size += len(data)
        self.events += [bytes(one.data) for one in self._reader.feed(data)]
        if self.size > self._most:
            self._pool.cancel(self)
            self.done.set_result(None)

    def on_complete(self) -> None:
        self.done.set_result(None)

    def on_failed(self, error: CallError) -> None:
        self.done.set_result(error)


@asynccontextmanager
async def upstream(
    body: bytes, coding: str, chunked: bool, close: bool, tls: tuple[Path, Path] | None = None
) -> AsyncIterator[HttpPool]:
    """A server that answers each request with this body, in pieces of 10,000 bytes if it is ``chunked``."""
    head = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n"
    head += b"Content-Encoding: %b\r\n" % coding.encode() if coding else b""
    if close:
        answer = head + b"Connection: close\r\n\r\n" + body
    elif chunked:
        pieces = [body[at : at + 10_000] for at in range(0, len(body), 10_000)]
        answer = head + b"Transfer-Encoding: chunked\r\n\r\n"
        answer += b"".join(b"%x\r\n%b\r\n" % (len(one), one) for one in pieces) + b"0\r\n\r\n"
    else:
        answer = head + b"Content-Length: %d\r\n\r\n" % len(body) + body

    serving: set[asyncio.StreamWriter] = set()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        serving.add(writer)
        try:
            while await reader.readuntil(b"\r\n\r\n"):
                writer.write(answer)
                await writer.drain()
                if close:
                    break
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            serving.discard(writer)
            writer.close()

    context = None
    if tls is not None:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(*tls)
    listener = await asyncio.start_server(serve, "127.0.0.1", 0, ssl=context)
    url = f"{'https' if tls else 'http'}://localhost:{listener.sockets[0].getsockname()[1]}/"
    pool = HttpPool(HttpEndpoint(url, HttpConnection(url)), UpstreamSettings())
    try:
        yield pool
    finally:
        pool.close()
        listener.close()
        for writer in list(serving):
            writer.transport.abort()
        async with asyncio.timeout(scaled(5.0)):
            while serving:
                await asyncio.sleep(0)


async def turns_until(reading: Reading, limit_s: float = 30.0) -> int:
    """Return how many turns others had until an exchange was over."""
    count = 0
    async with asyncio.timeout(scaled(limit_s)):
        while not reading.done.done():
            await asyncio.sleep(0)
            count += 1
    return count


@pytest.mark.parametrize("coding", CODERS)
@pytest.mark.parametrize("framing", ["length", "chunked", "close"])
async def test_others_have_their_turns_while_a_long_body_is_read(
    monkeypatch: pytest.MonkeyPatch, coding: str, framing: str
) -> None:
    """A body of a kilobyte that decodes to a million lines, and one of as many that comes as it is. Each turn has one
    step here, however fast this machine is."""
    monkeypatch.setattr(turns, "TURN_S", 0.0)
    body = CODERS[coding](LINES + EVENT)
    async with upstream(body, coding, framing == "chunked", framing == "close") as pool:
        for _ in range(2):  # on one connection, where that stays open
            reading = Reading(pool)
            pool.submit(reading)
            assert await turns_until(reading) > 200
            assert reading.done.result() is None
            assert reading.size == len(LINES + EVENT) and reading.events[-1] == b"the last"
        assert pool.opened == (2 if framing == "close" else 1)


@pytest.mark.parametrize("coding", ["", "gzip"])
async def test_a_long_body_over_tls_is_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, coding: str) -> None:
    """Where reading cannot be paused, what comes meanwhile is kept."""
    monkeypatch.setattr(turns, "TURN_S", 0.0)
    files = self_signed(tmp_path)
    monkeypatch.setenv("SSL_CERT_FILE", str(files[0]))
    async with upstream(CODERS[coding](LINES + EVENT), coding, True, False, files) as pool:
        reading = Reading(pool)
        pool.submit(reading)
        await turns_until(reading)
        assert reading.done.result() is None and reading.size == len(LINES + EVENT)


async def test_who_has_enough_of_a_long_body_gets_no_more_of_it() -> None:
    """A few bytes that decode to 40 MB: no time is spent on the rest."""
    body = brotli.compress(b":\n" * 20_000_000, quality=1)
    async with upstream(body, "br", False, False) as pool:
        reading = Reading(pool, most=1_000_000)
        pool.submit(reading)
        await turns_until(reading)
        size = reading.size
        for _ in range(10):
            await asyncio.sleep(0)
        assert reading.size == size < 1_100_000
        other = Reading(pool, most=1_000_000)
        pool.submit(other)
        await turns_until(other)


async def test_a_body_whose_end_is_damaged_fails_when_that_is_read(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(turns, "TURN_S", 0.0)
    whole = gzip.compress(LINES + EVENT)
    async with upstream(whole[:-8] + b"\0" * 8, "gzip", False, False) as pool:
        reading = Reading(pool)
        pool.submit(reading)
        assert await turns_until(reading) > 200
        error = reading.done.result()
        assert error is not None and error.code == "upstream_protocol" and "gzip" in error.message
        assert reading.size > len(LINES) // 2
