"""Showing a started call on an HTTP response: as JSON when its answer comes in chunks, else as an event stream."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

from aiohttp import web

from gateway.calls.in_flight import Answered, Event, Failure, InFlight, Interim, Silent
from gateway.http.responses import EventStream, large_answer
from gateway.protocol.methods import Requests, Started
from shared.mcp import jsonrpc
from shared.mcp.versions import at_least


async def show(
    request: web.BaseRequest,
    requests: Requests,
    started: Started,
    resumable: Resumable | None = None,
    hears_warnings: bool = False,
) -> web.StreamResponse:
    """Write the rest of a call to ``request``. A client that leaves cancels the coroutine.

    ``hears_warnings``: the client asked for log messages, so it is told in one when it reads too slowly.
    """
    event = started.event
    if isinstance(event, Answered) and event.stream is not None and started.in_flight.readdress is None:
        before, after = jsonrpc.around(started.id, event.is_error)
        requests.release(started.id, started.in_flight, event.is_error)
        try:
            return await large_answer(request, before, event.stream, after)
        except (asyncio.CancelledError, ConnectionError):
            started.in_flight.client.refuse_body(started.in_flight)
            raise
    stream = EventStream()
    await stream.open(request)
    if resumable is not None:
        await resumable.begin(stream, event)

    async def tell_dropped() -> None:
        dropped, started.in_flight.dropped = started.in_flight.dropped, 0
        if dropped:
            await stream.tell_dropped(dropped, hears_warnings)

    async def send(interim: Interim) -> None:
        await tell_dropped()
        await stream.send(interim.message, resumable.id(interim.sequence) if resumable is not None else None)

    async def finish(body: bytes) -> None:
        await tell_dropped()
        await stream.send(body, resumable.id(resumable.last + 1) if resumable is not None else None)

    async def send_large(answered: Answered) -> None:
        before, after = jsonrpc.around(started.id, answered.is_error)
        assert answered.stream is not None
        await stream.send_large(before, answered.stream, after)

    try:
        await relay(requests, started, send, finish, stream.comment, send_large)
    except (asyncio.CancelledError, ConnectionError):
        if started.in_flight.done:
            started.in_flight.client.refuse_body(started.in_flight)
        raise
    return await stream.end()


class Resumable:
    """Event ids of a legacy session's call: ``worker.frontend.call.sequence``, by which any front end finds it."""

    def __init__(self, in_flight: InFlight, version: str, retry_ms: int, resumed: bool = False) -> None:
        self._in_flight = in_flight
        self._primes = at_least(version, "2025-11-25") and not resumed
        self._resumed = resumed
        self._retry_ms = retry_ms
        self.last = 0

    def id(self, sequence: int) -> str:
        """The id of the event with this number."""
        self.last = max(self.last, sequence)
        return f"{self._in_flight.client.worker}.{self._in_flight.client.frontend}.{self._in_flight.number}.{sequence}"

    async def begin(self, stream: EventStream, first: Event) -> None:
        """The stream is open: from 2025-11-25 on a priming event comes first ("Sending Messages to the Server")."""
        if not isinstance(first, Interim) and not self._resumed:
            self._in_flight.detach()  # nothing was said yet: the worker does not know that it must be kept
        if self._primes:
            await stream.prime(self.id(0), self._retry_ms)


async def relay(
    requests: Requests,
    started: Started,
    send: Callable[[Interim], Awaitable[None]],
    finish: Callable[[bytes], Awaitable[None]],
    comment: Callable[[], Awaitable[None]],
    send_large: Callable[[Answered], Awaitable[None]],
) -> None:
    """Every event of a call as JSON-RPC messages, as they come; the answer by ``finish`` or ``send_large``."""
    event = started.event
    in_flight = started.in_flight
    while True:
        if isinstance(event, Interim):
            await send(event)
        elif isinstance(event, Answered):
            if event.stream is not None and in_flight.readdress is not None:
                event = Answered(event.is_error, await event.stream.whole())
            if event.stream is not None:
                requests.release(started.id, in_flight, event.is_error)
                await send_large(event)
            else:
                await finish(requests.finish(started.id, in_flight, event).body)
            return
        elif isinstance(event, Failure):
            await finish(requests.fail(started.id, in_flight, event).body)
            return
        elif isinstance(event, Silent):
            await comment()
        event = await in_flight.next()
