"""Heads of responses that are known from before mean what they meant at first, however the bytes come."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from shared.connections import HttpConnection
from shared.errors import CallError
from shared.settings import UpstreamSettings
from tests.machine import scaled
from worker.transports.http_client import HttpPool
from worker.transports.http_endpoint import HttpEndpoint


def _response(body: bytes, status: str = "200 OK", fields: bytes = b"") -> bytes:
    return b"HTTP/1.1 %b\r\nContent-Type: application/json\r\n%bContent-Length: %d\r\n\r\n%b" % (
        status.encode(), fields, len(body), body,
    )  # fmt: skip


ONE, TWO = _response(b'{"a":1}'), _response(b'{"b":2}')
LONGER = _response(b'{"a":12}')
CODED = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\n{}\r\n0\r\n\r\n"
GZIP = _response(b"\x1f\x8b no gzip", fields=b"Content-Encoding: gzip\r\n")
EMPTY = _response(b"", "202 Accepted")
LAST = _response(b'{"c":3}', fields=b"Connection: close\r\n")
EARLY = b"HTTP/1.1 103 Early Hints\r\nContent-Length: 7\r\n\r\n" + ONE
MOVED = b"HTTP/1.1 307 Temporary Redirect\r\nLocation: http://elsewhere.example/\r\nContent-Length: 2\r\n\r\n{}"


class Scripted:
    """A server that answers each request with the next of its parts. A pause is between the parts of one answer."""

    def __init__(self) -> None:
        self.answers: list[tuple[bytes, ...]] = []
        self.connections = 0

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        while await reader.readline():
            while await reader.readline() not in (b"\r\n", b""):
                pass
            if not self.answers:
                break
            first, *rest = self.answers.pop(0)
            writer.write(first)
            for part in rest:
                await asyncio.sleep(0.02)  # so that the parts come in two reads; in one they must mean the same
                writer.write(part)
            await writer.drain()
        writer.close()


class Exchange:
    """What one exchange was told, in its order. ``refuses`` gives up at the first byte of the body."""

    def __init__(self, pool: HttpPool, refuses: bool = False) -> None:
        self.request: bytes | tuple[bytes, ...] = pool.endpoint.head("GET", {}) + b"\r\n"
        self.told: list[object] = []
        self.body = b""
        self.over = asyncio.Event()
        self._pool = pool
        self._refuses = refuses

    def on_headers(self, status: int, headers: dict[bytes, bytes]) -> None:
        self.told.append((status, dict(headers)))

    def on_body(self, data: bytes) -> None:
        self.body += data
        if self._refuses:
            self._pool.cancel(self)
            self.over.set()

    def on_complete(self) -> None:
        self.told.append("complete")
        self.over.set()

    def on_failed(self, error: CallError) -> None:
        self.told.append(error.code)
        self.over.set()


@pytest_asyncio.fixture
async def scripted() -> AsyncIterator[tuple[Scripted, str]]:
    script = Scripted()
    server = await asyncio.start_server(script.serve, "127.0.0.1", 0)
    yield script, f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/mcp"
    server.close()


def _pool(url: str) -> HttpPool:
    return HttpPool(HttpEndpoint(url, HttpConnection(url)), UpstreamSettings())


async def _ask(pool: HttpPool, refuses: bool = False) -> Exchange:
    exchange = Exchange(pool, refuses)
    pool.submit(exchange)
    await asyncio.wait_for(exchange.over.wait(), scaled(10.0))
    return exchange


KINDS: dict[str, tuple[bytes, ...]] = {
    "another body": (TWO,),
    "in two parts": (ONE[:-3], ONE[-3:]),
    "the head alone": (ONE[:-7], ONE[-7:]),
    "another length": (LONGER,),
    "chunked": (CODED,),
    "no gzip": (GZIP,),
    "of a session": (_response(b'{"s":1}', fields=b"Mcp-Session-Id: s\r\n"),),
    "empty": (EMPTY,),
    "the last one": (LAST,),
    "early hints": (EARLY,),
    "moved": (MOVED,),
    "an error": (_response(b'{"e":1}', "500 Internal Server Error"),),
    "more than announced": (ONE + b"more",),
    "two responses": (ONE + ONE,),
}


@pytest.mark.parametrize("kind", KINDS)
async def test_what_is_known_means_what_it_meant_at_first(scripted: tuple[Scripted, str], kind: str) -> None:
    """An answer comes first to a pool that knows nothing, then twice to one that knows an ordinary head."""
    script, url = scripted
    script.answers = [KINDS[kind], (ONE,), (ONE,), KINDS[kind], KINDS[kind], (ONE,)]
    fresh, pool = _pool(url), _pool(url)
    expected = await _ask(fresh)
    fresh.close()
    ordinary = [await _ask(pool) for _ in range(2)]
    assert ordinary[0].told == ordinary[1].told and ordinary[0].body == ordinary[1].body == b'{"a":1}'
    assert len(pool.heads) == 1 and script.connections == 2
    for _ in range(2):
        found = await _ask(pool)
        assert (found.told, found.body) == (expected.told, expected.body)
    assert (await _ask(pool)).told == ordinary[0].told, "what came before leaves nothing behind"
    pool.close()


async def test_what_does_not_come_again_is_not_remembered(scripted: tuple[Scripted, str]) -> None:
    script, url = scripted
    script.answers = [(GZIP,), KINDS["of a session"], (_response(b"{}", fields=b"Set-Cookie: a=b\r\n"),), (CODED,)]
    pool = _pool(url)
    for _ in range(4):
        await _ask(pool)
    assert not pool.heads
    pool.close()


async def test_who_refuses_the_body_of_a_known_head_hears_nothing_more(scripted: tuple[Scripted, str]) -> None:
    script, url = scripted
    script.answers = [(ONE,), (ONE,), (ONE,)]
    pool = _pool(url)
    await _ask(pool)
    refused = await _ask(pool, refuses=True)
    assert [type(one) for one in refused.told] == [tuple]
    assert (await _ask(pool)).told[-1] == "complete" and script.connections == 2
    pool.close()


async def test_heads_are_bounded_and_forgotten(scripted: tuple[Scripted, str]) -> None:
    script, url = scripted
    script.answers = [(_response(b"{}", fields=b"X-Long: %b\r\n" % (b"x" * 1100)),)]
    script.answers += [(_response(b"{}", fields=b"X-N: %d\r\n" % n),) for n in range(300)]
    pool = _pool(url)
    await _ask(pool)
    assert not pool.heads, "a long one is not remembered"
    for _ in range(300):
        await _ask(pool)
    assert len(pool.heads) == 256
    pool.trim()
    assert not pool.heads
    pool.close()
