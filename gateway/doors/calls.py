"""Showing a started call on an HTTP response: as JSON when its answer comes in chunks, else as an event stream."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping

from aiohttp import web

from gateway.doors.requests import Requests, Started
from gateway.doors.responses import EventStream, large_answer
from gateway.fleet.worker_client import Answered, Failure, Interim

_RESULT = (b'{"jsonrpc":"2.0","id":%b,"result":', b"}")
_ERROR = (b'{"jsonrpc":"2.0","id":%b,"error":', b"}")


async def show(
    request: web.BaseRequest, requests: Requests, started: Started, extra: Mapping[str, str] | None = None
) -> web.StreamResponse:
    """Write the rest of a call to ``request``. A client that leaves cancels the coroutine."""
    event = started.event
    if isinstance(event, Answered) and event.stream is not None and started.in_flight.readdress is None:
        before, after = _ERROR if event.is_error else _RESULT
        requests.release(started.id, started.in_flight, event.is_error)
        try:
            return await large_answer(request, before % started.id, event.stream, after, extra)
        except (asyncio.CancelledError, ConnectionError):
            started.in_flight.client.refuse_body(started.in_flight)
            raise
    stream = EventStream(extra)
    await stream.open(request)

    async def send_large(answered: Answered) -> None:
        before, after = _ERROR if answered.is_error else _RESULT
        assert answered.stream is not None
        await stream.send_large(before % started.id, answered.stream, after)

    try:
        await relay(requests, started, stream.send, stream.send, stream.comment, send_large)
    except (asyncio.CancelledError, ConnectionError):
        if started.in_flight.done:
            started.in_flight.client.refuse_body(started.in_flight)
        raise
    return await stream.end()


async def relay(
    requests: Requests,
    started: Started,
    send: Callable[[bytes], Awaitable[None]],
    finish: Callable[[bytes], Awaitable[None]],
    comment: Callable[[], Awaitable[None]],
    send_large: Callable[[Answered], Awaitable[None]],
) -> None:
    """Every event of a call as JSON-RPC messages, as they come; the answer by ``finish`` or ``send_large``."""
    event = started.event
    in_flight = started.in_flight
    while True:
        if isinstance(event, Interim):
            await send(event.message)
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
        else:
            await comment()
        event = await in_flight.next()
