"""Writing answers: head and body of a JSON answer in one write; event streams; large bodies as they come.

``web.Response`` costs about 15 µs more than ``JsonAnswer``, which has just what aiohttp's request handler asks of a
response (``prepare``, ``write_eof``, ``keep_alive`` and what its access log reads).
"""

from __future__ import annotations

import email.utils
from collections.abc import Mapping
from http import HTTPStatus
from typing import Any

from aiohttp import web
from aiohttp.abc import AbstractStreamWriter
from multidict import CIMultiDict

from shared.errors import CallError, GatewayError
from shared.mcp import jsonrpc, sse
from shared.mcp.methods import LOGGED
from shared.rpc.connection import BodyStream

_REASONS = {status.value: status.phrase.encode() for status in HTTPStatus}
_INLINE = 64 * 1024


class Process:
    """What every answer of this process shares: the ``Date`` header (RFC 9110 section 6.6.1), made once a second,
    and whether connections are being ended because the process drains."""

    date = email.utils.formatdate(usegmt=True).encode()
    draining = False

    @classmethod
    def tick(cls) -> None:
        """Called about once a second."""
        cls.date = email.utils.formatdate(usegmt=True).encode()


def json_head(status: int, length: int, keep_alive: bool) -> bytes:
    """Status line and headers of a JSON answer, without the empty line."""
    return b"HTTP/1.1 %d %b\r\nContent-Type: application/json\r\nContent-Length: %d\r\nDate: %b\r\n%b" % (
        status,
        _REASONS.get(status, b""),
        length,
        Process.date,
        b"" if keep_alive else b"Connection: close\r\n",
    )


class JsonAnswer(web.StreamResponse):
    """A whole answer in one write."""

    def __init__(self, body: bytes, status: int = 200, extra: Mapping[str, str] | None = None) -> None:
        # Deliberately not web.StreamResponse.__init__: it builds header dictionaries that nothing here reads.
        self._answer = body
        self._status_code = status
        self._extra = extra
        self._keep = True

    def add_headers(self, extra: Mapping[str, str]) -> None:
        """Send these as well."""
        self._extra = {**(self._extra or {}), **extra}

    @property
    def status(self) -> int:
        """HTTP status."""
        return self._status_code

    @property
    def keep_alive(self) -> bool | None:
        """Whether the connection stays open; settled by ``prepare``."""
        return self._keep

    @property
    def body_length(self) -> int:
        """Bytes of the body."""
        return len(self._answer)

    @property
    def headers(self) -> CIMultiDict[str]:
        """For access logs."""
        return CIMultiDict(self._extra or {})

    @property
    def prepared(self) -> bool:
        """It is written at once; nobody asks before."""
        return False

    async def prepare(self, request: web.BaseRequest) -> AbstractStreamWriter | None:
        """Write everything."""
        self._keep = request.keep_alive and not Process.draining
        body = self._answer
        head = json_head(self._status_code, len(body), self._keep)
        if self._extra is not None:
            head += "".join(f"{name}: {value}\r\n" for name, value in self._extra.items()).encode()
        if self._keep and request.version == (1, 0):
            head += b"Connection: keep-alive\r\n"
        transport = request.transport
        if transport is None:
            raise ConnectionResetError("the client is gone")
        transport.write(b"%b\r\n%b" % (head, body))
        if len(body) > _INLINE:
            await request.protocol._drain_helper()
        return None

    async def write_eof(self, data: bytes = b"") -> None:
        """Nothing is left."""


def answer(body: bytes, status: int = 200, extra: Mapping[str, str] | None = None) -> JsonAnswer:
    """A JSON answer."""
    return JsonAnswer(body, status, extra)


def accepted(extra: Mapping[str, str] | None = None) -> JsonAnswer:
    """202 for notifications and responses: no body (streamable-http, "Sending Messages")."""
    return JsonAnswer(b"", 202, extra)


def problem(error: GatewayError, id: bytes = b"null", status: int | None = None) -> JsonAnswer:
    """A JSON-RPC error answer with the error's own HTTP status, or another."""
    return JsonAnswer(error_body(error, id), error.wire.http if status is None else status)


def error_body(error: GatewayError, id: bytes) -> bytes:
    """The JSON-RPC error response for one of our errors."""
    data: dict[str, Any] = {"code": error.code}
    if isinstance(error, CallError):
        data.update(error.data)
    return jsonrpc.error_response(id, jsonrpc.error_object(error.wire.rpc, str(error), data))


class EventStream:
    """A ``text/event-stream`` answer."""

    def __init__(self, extra: Mapping[str, str] | None = None) -> None:
        self._response = web.StreamResponse(
            headers={
                "Content-Type": "text/event-stream",
                "Cache-Control": "no-cache, no-transform",
                "X-Accel-Buffering": "no",
                **(extra or {}),
            }
        )

    async def open(self, request: web.BaseRequest) -> web.StreamResponse:
        """Send the head."""
        await self._response.prepare(request)
        return self._response

    async def send(self, message: bytes, id: str | None = None, name: str = "message") -> None:
        """One event, waiting while the client does not read."""
        await self._response.write(sse.write(message, id, name))

    async def comment(self) -> None:
        """A sign of life."""
        await self._response.write(sse.COMMENT)

    async def tell_dropped(self, count: int, in_words: bool) -> None:
        """The client missed ``count`` notifications because it read too slowly: a comment, which is for people who look
        at the stream, and ``in_words`` a log message (2025-11-25, server/utilities/logging)."""
        text = f"{count} older notifications were dropped: this stream was read too slowly"
        await self._response.write(b": %b\r\n\r\n" % text.encode())
        if in_words:
            params = {"level": "warning", "logger": "gateway", "data": text}
            await self.send(jsonrpc.notification(LOGGED, jsonrpc.assemble(params)))

    async def prime(self, id: str, retry_ms: int) -> None:
        """An empty event that gives the client an id to come back with, and how long to wait before it does."""
        await self._response.write(b"id: %b\r\nretry: %d\r\ndata: \r\n\r\n" % (id.encode(), retry_ms))

    async def send_large(self, prefix: bytes, stream: BodyStream, suffix: bytes) -> None:
        """One event whose data comes in chunks; line breaks between JSON members become spaces."""
        await self._response.write(b"event: message\r\ndata: " + prefix)
        while chunks := await stream.next():
            for chunk in chunks:
                await self._response.write(chunk.replace(b"\r", b" ").replace(b"\n", b" "))
        await self._response.write(suffix + b"\r\n\r\n")

    async def end(self) -> web.StreamResponse:
        """Close the stream in good order."""
        await self._response.write_eof()
        return self._response


async def large_answer(
    request: web.BaseRequest, prefix: bytes, stream: BodyStream, suffix: bytes
) -> web.StreamResponse:
    """A JSON answer whose body comes in chunks, at the pace at which the client reads."""
    response = web.StreamResponse(headers={"Content-Type": "application/json"})
    response.content_length = len(prefix) + stream.size + len(suffix)
    await response.prepare(request)
    await response.write(prefix)
    while chunks := await stream.next():
        for chunk in chunks:
            await response.write(chunk)
    await response.write(suffix)
    await response.write_eof()
    return response
