"""JSON-RPC batches (2025-03-26, basic, "Batching"; 2024-11-05 over HTTP+SSE): which are allowed, and their answers.

The answer is an array. If a message has to be sent before all responses are there (progress, or a question that a call
waits for), the answer becomes an event stream with one event for each response ("Sending Messages to the Server").
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterable

from aiohttp import web
from msgspec import structs

from gateway.admission.request_head import RequestHead
from gateway.http.event_stream import EventStream
from gateway.http.responses import JsonAnswer, accepted
from gateway.protocol import answers
from gateway.protocol.client_messages import ClientMessages, check
from gateway.protocol.serving import Serving
from shared.errors import CallError, Refused
from shared.mcp.jsonrpc import Message
from shared.mcp.methods import INITIALIZE
from shared.mcp.versions import Era

_AT_ONCE = 20
"""So many messages of a batch are taken in one turn of the loop: that takes some 2 ms, and others wait."""


_UNDER_WAY = 50
"""So many requests of a batch are under way at once: one request of a client is not to take a front end's places."""


async def few_at_once(messages: Iterable[Message]) -> AsyncIterator[Message]:
    """Yield messages in their order. After a few of them the loop belongs to others for a turn."""
    for number, message in enumerate(messages, 1):
        yield message
        if number % _AT_ONCE == 0:
            await asyncio.sleep(0)


def check_batch(version: str, messages: list[Message]) -> None:
    """Raise ``Refused`` unless the protocol version has batches and this one is allowed."""
    if version not in ("2024-11-05", "2025-03-26"):
        raise Refused("invalid_request", f"protocol version {version} has no batches; send one message")
    if any(message.method == INITIALIZE for message in messages):
        raise Refused("invalid_request", "initialize must not be part of a batch")


class Batches:
    """Serves batches that clients ``POST`` to an MCP endpoint."""

    def __init__(self, serving: Serving, messages: ClientMessages) -> None:
        self._serving = serving
        self._messages = messages

    async def post(self, request: web.BaseRequest, head: RequestHead, messages: list[Message]) -> web.StreamResponse:
        """Serve a batch, its requests concurrently."""
        head = structs.replace(head, era=Era.LEGACY, has_body=False)  # the modern era has no batches
        try:
            caller = await self._serving.admitted(head)
            check_batch(caller.version, messages)
            for message in messages:
                if not message.is_request:
                    check(message)
        except CallError as error:
            return answers.failure(error, b"null").to_response()
        async for message in few_at_once(messages):
            if not message.is_request:
                await self._messages.take(caller, message)
        wanted = [message for message in messages if message.is_request]
        if not wanted:
            return accepted()
        taker = BatchAnswer(request, caller.session is not None and caller.session.wants_warnings)
        places = asyncio.Semaphore(_UNDER_WAY)

        async def serve(message: Message) -> None:
            async with places:
                await self._serving.serve_to(taker, head, message, caller)

        try:
            async with asyncio.TaskGroup() as group:
                async for message in few_at_once(wanted):
                    group.create_task(serve(message))
        except* ConnectionError as gone:  # the client is gone; the task group has cancelled the other requests
            raise gone.exceptions[0] from None
        return await taker.end()


class BatchAnswer:
    """The answer to a batch: an array, or an event stream. Implements ``serving.Taker``.

    ``wants_warnings``: the client wants log messages, so dropped notifications are also reported in one.
    """

    def __init__(self, request: web.BaseRequest, wants_warnings: bool) -> None:
        self._request = request
        self._hears_warnings = wants_warnings
        self._events: EventStream | None = None
        self._whole: list[bytes] = []
        self._writing = asyncio.Lock()

    async def send(self, message: bytes, dropped: int) -> None:
        """Send a message that is not a response; ``dropped`` is how many notifications before it were dropped."""
        async with self._writing:
            events = await self._opened()
            if dropped:
                await events.report_dropped(dropped, self._hears_warnings)
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
        """Add one of the responses; ``dropped`` is how many notifications before it were dropped."""
        if dropped or self._events is not None:
            await self.send(body, dropped)
        else:
            self._whole.append(body)

    async def comment(self) -> None:
        """Send a comment as a sign of life."""
        async with self._writing:
            await (await self._opened()).comment()

    async def end(self) -> web.StreamResponse:
        """End the answer after the last response, and return it."""
        if self._events is not None:
            return await self._events.end()
        return JsonAnswer(b"[" + b",".join(self._whole) + b"]")
