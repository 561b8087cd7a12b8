"""Heads of requests: what the express lane reads itself, aiohttp reads as well, and not otherwise."""

from __future__ import annotations

import asyncio
from typing import Any

from aiohttp.base_protocol import BaseProtocol
from aiohttp.http_exceptions import HttpProcessingError
from aiohttp.http_parser import HttpRequestParser
from aiohttp.streams import EMPTY_PAYLOAD

from gateway.admission.dns_rebinding import RebindingGuard
from gateway.listener.heads import MAX_HEAD_BYTES, FramedHead, read_head
from shared.settings import build
from tests.fuzz.engine import fuzz

GUARD = RebindingGuard(build())
WORDS = [
    b"POST /mcp HTTP/1.1\r\n",
    b"GET ",
    b"HTTP/1.0",
    b"/mcp",
    b"http://localhost/mcp",
    b"Host: localhost\r\n",
    b"Content-Length: 2\r\n",
    b"Content-Length: 0\r\n",
    b"Content-Length:",
    b"Transfer-Encoding: chunked\r\n",
    b"Transfer-Encoding",
    b"Connection: close\r\n",
    b"Connection: keep-alive\r\n",
    b"Content-Type: application/json\r\n",
    b"Mcp-Session-Id: x\r\n",
    b"Authorization: Bearer x\r\n",
    b"Expect: 100-continue\r\n",
    b"Upgrade: h2c\r\n",
    b"\r\n",
    b"\n",
    b"\r",
    b"\r\n\r\n",
    b"\n\n",
    b" ",
    b"\t",
    b"\x0b",
    b"\x00",
    b":",
    b"+",
    b"-",
    b"0x",
    b"_",
    b"\xff",
    b"0\r\n\r\n",
    b"{}",
    b"5;a=b\r\n",
]  # fmt: skip


def _of_express(stream: bytes) -> tuple[list[tuple[FramedHead, bytes]], int]:
    """Return the requests that the express lane frames in ``stream``, and how many bytes these are."""
    found, at = [], 0
    while True:
        end = stream.find(b"\r\n\r\n", at, at + MAX_HEAD_BYTES)
        head = read_head(stream[at : end + 4], GUARD, 1024 * 1024) if end >= 0 else None
        if head is None or len(stream) - at < head.size + head.length:
            return found, at
        assert head.size == end + 4 - at
        found.append((head, stream[at + head.size : at + head.size + head.length]))
        at += head.size + head.length
        if not head.keep_alive:
            return found, at


def _of_aiohttp(stream: bytes, loop: asyncio.AbstractEventLoop) -> list[tuple[Any, bytes]]:
    parser = HttpRequestParser(BaseProtocol(loop), loop, 2**20, max_line_size=16 * 1024, max_field_size=32 * 1024)
    messages, _, tail = parser.feed_data(stream)
    assert not tail
    return [(message, b"" if payload is EMPTY_PAYLOAD else b"".join(payload._buffer)) for message, payload in messages]


async def test_the_express_lane_and_aiohttp_read_the_same_requests() -> None:
    loop = asyncio.get_running_loop()
    framed = 0

    def check(stream: bytes) -> None:
        nonlocal framed
        ours, size = _of_express(stream)
        if not ours:
            return
        framed += len(ours)
        at = 0
        for head, _ in ours:
            if head.plain:
                assert len(_of_aiohttp(stream[at : at + head.size + head.length], loop)) == 1
            at += head.size + head.length
        try:
            theirs = _of_aiohttp(stream[:size], loop)
        except HttpProcessingError:
            return  # one of these that are not plain, and so are aiohttp's
        assert len(theirs) == len(ours), "one reader sees more requests than the other"
        for (head, body), (message, read) in zip(ours, theirs, strict=True):
            assert read == body
            if not head.plain:
                continue  # aiohttp gets these bytes
            headers = message.headers
            assert (message.method, message.path) == ("POST", "/mcp") and message.version == (1, 1)
            assert message.chunked is False and message.upgrade is False and message.compression is None
            assert message.should_close is not head.keep_alive
            assert headers.getall("Host") == [headers["Host"]]
            assert head.head.session == headers.get("Mcp-Session-Id")
            if "X-API-Key" not in headers:
                assert head.head.authorization == headers.get("Authorization")

    fuzz("heads", WORDS, check)
    assert framed > 1000, "most inputs are worth nothing"
