"""Showing a started call to its client, event by event.

``show`` writes an HTTP response: JSON if the first event is an answer in chunks, else an event stream. ``relay`` serves
``show``, and batches and HTTP+SSE, which show a call in their own way.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

from aiohttp import web

from gateway.calls.events import Answered, CallEvent, Failure, Interim, Silent
from gateway.calls.in_flight import InFlight
from gateway.http.event_stream import EventStream
from gateway.http.responses import large_answer
from gateway.protocol.carrying import Carrier, Started
from shared.mcp import jsonrpc
from shared.mcp.versions import at_least


async def show(
    request: web.BaseRequest,
    carrier: Carrier,
    started: Started,
    resumable: Resumable | None = None,
    wants_warnings: bool = False,
) -> web.StreamResponse:
    """Write the rest of a call as the response to ``request``, and return the response.

    aiohttp cancels this coroutine when the client leaves. ``wants_warnings``: the client wants log messages, so dropped
    notifications are also reported in one.
    """
    event, in_flight = started.event, started.in_flight
    if isinstance(event, Answered) and event.stream is not None and not in_flight.call.listed_name:
        before, after = jsonrpc.around(started.id, event.is_error)
        carrier.answer_in_chunks(in_flight, event)
        try:
            return await large_answer(request, before, event.stream, after)
        except (asyncio.CancelledError, ConnectionError):
            in_flight.refuse_body()
            raise
    stream = EventStream()
    await stream.open(request)
    if resumable is not None:
        await resumable.begin(stream, event)

    async def report_dropped() -> None:
        dropped, in_flight.dropped = in_flight.dropped, 0
        if dropped:
            await stream.report_dropped(dropped, wants_warnings)

    async def send(interim: Interim) -> None:
        await report_dropped()
        await stream.send(interim.message, resumable.id(interim.sequence) if resumable is not None else None)

    async def finish(body: bytes) -> None:
        await report_dropped()
        await stream.send(body, resumable.id(resumable.last + 1) if resumable is not None else None)

    async def send_large(answered: Answered) -> None:
        before, after = jsonrpc.around(started.id, answered.is_error)
        assert answered.stream is not None
        await stream.send_large(before, answered.stream, after)

    try:
        await relay(carrier, started, send, finish, stream.comment, send_large)
    except (asyncio.CancelledError, ConnectionError):
        if in_flight.done:
            in_flight.refuse_body()
        raise
    return await stream.end()


class Resumable:
    """The event ids of a call of a handshake-era session: ``worker.frontend.call.sequence``.

    Any front end finds the call by such an id (``legacy``), at the worker that keeps the messages
    (``worker.calls.replay``). ``last`` is the highest sequence that was written.
    """

    def __init__(self, in_flight: InFlight, version: str, retry_ms: int, resumed: bool = False) -> None:
        self._in_flight = in_flight
        self._primes = at_least(version, "2025-11-25") and not resumed
        self._resumed = resumed
        self._retry_ms = retry_ms
        self.last = 0

    def id(self, sequence: int) -> str:
        """Return the id of the event with this sequence number."""
        self.last = max(self.last, sequence)
        link = self._in_flight.link
        return f"{link.worker}.{link.frontend}.{self._in_flight.number}.{sequence}"

    async def begin(self, stream: EventStream, first: CallEvent) -> None:
        """Begin the stream: from 2025-11-25 on with a priming event ("Sending Messages to the Server")."""
        if not isinstance(first, Interim) and not self._resumed:
            self._in_flight.detach()  # without an interim message the worker does not know that the client may resume
        if self._primes:
            await stream.prime(self.id(0), self._retry_ms)


async def relay(
    carrier: Carrier,
    started: Started,
    send: Callable[[Interim], Awaitable[None]],
    finish: Callable[[bytes], Awaitable[None]],
    comment: Callable[[], Awaitable[None]],
    send_large: Callable[[Answered], Awaitable[None]],
) -> None:
    """Pass on every event of a call as it comes, until the answer or the failure.

    ``send`` gets JSON-RPC messages, ``finish`` a whole answer, and ``send_large`` an answer in chunks. ``comment`` is
    called for signs of life.
    """
    event = started.event
    in_flight = started.in_flight
    while True:
        if isinstance(event, Interim):
            if event.asks and carrier.elicitations is not None:
                carrier.elicitations.asked(in_flight.call, event.message)
            await send(event)
        elif isinstance(event, Answered):
            if event.stream is not None and in_flight.call.listed_name:
                event = Answered(event.is_error, await event.stream.whole())
            if event.stream is not None:
                carrier.answer_in_chunks(in_flight, event)
                await send_large(event)
            else:
                await finish(carrier.answer(started.id, started.era, in_flight, event).whole)
            return
        elif isinstance(event, Failure):
            await finish(carrier.fail(started.id, started.era, in_flight, event).whole)
            return
        elif isinstance(event, Silent):
            await comment()
        event = await in_flight.next()
