"""JSON-RPC batches (2025-03-26, basic, "Batching"; 2024-11-05 over HTTP+SSE): who may send one, and its answer.

The answer is an array. Once something is to be said before it is whole (progress, a question that a call waits for), it
becomes an event stream with each response as an event of its own ("Sending Messages to the Server").
"""

from __future__ import annotations

import asyncio

from aiohttp import web

from gateway.http.responses import EventStream, answer
from shared.errors import Refused
from shared.mcp.jsonrpc import Message
from shared.mcp.methods import INITIALIZE


def check_batch(version: str, messages: list[Message]) -> None:
    """Raise ``Refused`` unless this version has batches, and such ones."""
    if version not in ("2024-11-05", "2025-03-26"):
        raise Refused("invalid_request", f"protocol version {version} has no batches; send one message")
    if any(message.method == INITIALIZE for message in messages):
        raise Refused("invalid_request", "initialize must not be part of a batch")


class BatchAnswer:
    """See the module. ``hears_warnings``: the client asked for log messages, so it is told in one what it missed."""

    def __init__(self, request: web.BaseRequest, hears_warnings: bool) -> None:
        self._request = request
        self._hears_warnings = hears_warnings
        self._events: EventStream | None = None
        self._whole: list[bytes] = []
        self._writing = asyncio.Lock()

    async def send(self, message: bytes, dropped: int) -> None:
        """Something before the answers; ``dropped``: so many before it were dropped."""
        async with self._writing:
            events = await self._opened()
            if dropped:
                await events.tell_dropped(dropped, self._hears_warnings)
            await events.send(message)

    async def _opened(self) -> EventStream:
        if self._events is None:
            events = EventStream()
            await events.open(self._request)
            self._events = events
            for body in self._whole:
                await events.send(body)
        return self._events

    async def finish(self, body: bytes, dropped: int) -> None:
        """One of the responses."""
        if dropped or self._events is not None:
            await self.send(body, dropped)
        else:
            self._whole.append(body)

    async def comment(self) -> None:
        """A sign of life."""
        async with self._writing:
            await (await self._opened()).comment()

    async def end(self) -> web.StreamResponse:
        """Everything is said."""
        if self._events is not None:
            return await self._events.end()
        return answer(b"[" + b",".join(self._whole) + b"]")
