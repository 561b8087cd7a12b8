"""HTTP answers that are server-sent events (``text/event-stream``)."""

from __future__ import annotations

from collections.abc import Mapping

from aiohttp import web

from shared.mcp import jsonrpc, sse
from shared.mcp.methods import LOGGED
from shared.rpc.connection import BodyStream


class EventStream:
    """One ``text/event-stream`` answer; ``extra`` are more headers. Writing waits while the client does not read."""

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
        """Send the status line and the headers."""
        await self._response.prepare(request)
        return self._response

    async def send(self, message: bytes, id: str | None = None, name: str = "message") -> None:
        """Send one event: ``message`` as its data, ``id`` as its event id, and ``name`` as its type."""
        await self._response.write(sse.write(message, id, name))

    async def comment(self) -> None:
        """Send a comment as a sign of life."""
        await self._response.write(sse.COMMENT)

    async def report_dropped(self, count: int, as_log_message: bool) -> None:
        """Report that ``count`` notifications were dropped because the client read too slowly.

        The report is a comment, for people who look at the stream, and with ``as_log_message`` also a log message
        (2025-11-25, server/utilities/logging).
        """
        text = f"{count} older notifications were dropped: this stream was read too slowly"
        await self._response.write(b": %b\r\n\r\n" % text.encode())
        if as_log_message:
            params = {"level": "warning", "logger": "gateway", "data": text}
            await self.send(jsonrpc.notification(LOGGED, jsonrpc.assemble(params)))

    async def prime(self, id: str, retry_ms: int) -> None:
        """Send an empty event with an id for resuming the stream, and the time to wait before reconnecting."""
        await self._response.write(b"id: %b\r\nretry: %d\r\ndata: \r\n\r\n" % (id.encode(), retry_ms))

    async def send_large(self, prefix: bytes, stream: BodyStream, suffix: bytes) -> None:
        """Send one event whose data comes in chunks. Line breaks, which JSON has only between tokens, become spaces."""
        await self._response.write(b"event: message\r\ndata: " + prefix)
        while chunks := await stream.next():
            for chunk in chunks:
                await self._response.write(chunk.replace(b"\r", b" ").replace(b"\n", b" "))
        await self._response.write(suffix + b"\r\n\r\n")

    async def end(self) -> web.StreamResponse:
        """End the answer properly, so that the client sees that nothing is missing."""
        await self._response.write_eof()
        return self._response
