"""Answers of the ordinary lane: a whole JSON answer in one write, and large bodies as they come.

``web.Response`` costs about 15 µs more than ``JsonAnswer``, which has just what aiohttp's request handler needs of a
response (``prepare``, ``write_eof``, ``keep_alive`` and what its access log reads).
"""

from __future__ import annotations

from collections.abc import Mapping

from aiohttp import web
from aiohttp.abc import AbstractStreamWriter
from multidict import CIMultiDict

from gateway.http.heads import Process, json_head
from shared.rpc.connection import BodyStream

_INLINE = 64 * 1024
"""After a body of more bytes than this, wait until the client has read enough."""


class JsonAnswer(web.StreamResponse):
    """A whole JSON answer in one write: ``body`` in parts, the HTTP ``status``, and ``extra`` headers."""

    def __init__(self, *body: bytes, status: int = 200, extra: Mapping[str, str] | None = None) -> None:
        # Deliberately not web.StreamResponse.__init__: it builds header dictionaries that nothing here reads.
        self._answer = body
        self._status_code = status
        self._extra = extra
        self._keep = True
        self._closes = status == 408  # RFC 9110 section 15.5.9

    def close(self) -> JsonAnswer:
        """End the connection after the answer."""
        self._closes = True
        return self

    def force_close(self) -> None:
        """End the connection after the answer (aiohttp's name for it)."""
        self._closes = True

    def add_headers(self, extra: Mapping[str, str]) -> None:
        """Send these headers as well."""
        self._extra = {**(self._extra or {}), **extra}

    @property
    def status(self) -> int:
        """The HTTP status."""
        return self._status_code

    @property
    def keep_alive(self) -> bool | None:
        """Whether the connection stays open after the answer; decided by ``prepare``."""
        return self._keep

    @property
    def body_length(self) -> int:
        """The length of the body in bytes."""
        return sum(map(len, self._answer))

    @property
    def headers(self) -> CIMultiDict[str]:
        """The extra headers, for access logs."""
        return CIMultiDict(self._extra or {})

    @property
    def prepared(self) -> bool:
        """Always False: ``prepare`` writes the whole answer at once."""
        return False

    async def prepare(self, request: web.BaseRequest) -> AbstractStreamWriter | None:
        """Write the whole answer. Raises ``ConnectionResetError`` if the client is gone."""
        self._keep = request.keep_alive and not (Process.draining or self._closes)
        body = self._answer
        size = self.body_length
        head = json_head(self._status_code, size, self._keep)
        if self._extra is not None:
            more = "".join(f"{name}: {value}\r\n" for name, value in self._extra.items())
            head += more.encode("utf-8", "surrogateescape")
        if self._keep and request.version == (1, 0):
            head += b"Connection: keep-alive\r\n"
        transport = request.transport
        if transport is None:
            raise ConnectionResetError("the client is gone")
        transport.write(b"%b\r\n%b" % (head, body[0]))
        if len(body) > 1:
            transport.writelines(body[1:])
        if size > _INLINE:
            await request.protocol._drain_helper()
        return None

    async def write_eof(self, data: bytes = b"") -> None:
        """Do nothing: ``prepare`` wrote everything."""


def accepted() -> JsonAnswer:
    """Return the 202 for notifications and responses, without a body (streamable-http, "Sending Messages")."""
    return JsonAnswer(b"", status=202)


async def large_answer(
    request: web.BaseRequest, prefix: bytes, stream: BodyStream, suffix: bytes
) -> web.StreamResponse:
    """Write a JSON answer whose body comes in chunks, at the pace at which the client reads, and return the answer.

    ``prefix`` and ``suffix`` are the JSON-RPC envelope around the body.
    """
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
