"""Streamable HTTP of the handshake era, without ``POST``: a session's standing ``GET`` stream, resuming, ``DELETE``.

It serves 2025-03-26 to 2025-11-25, and 2024-11-05 clients that use this transport. A connection that drops does not
cancel a call: only ``notifications/cancelled``, DELETE, expiry or the timeout do.
"""

from __future__ import annotations

import asyncio

from aiohttp import web
from msgspec import structs

from gateway.admission.request_head import RequestHead
from gateway.calls.events import Failure, Resumed
from gateway.fleet.pool import WorkerPool
from gateway.protocol import answers
from gateway.protocol.answers import Answer
from gateway.protocol.call_stream import Resumable, show
from gateway.protocol.carrying import Started
from gateway.protocol.serving import Serving
from gateway.sessions.session import ClientSession
from gateway.sessions.table import SessionTable
from gateway.streams.standing_streams import StandingStreams
from shared.errors import CallError, NotDelivered, Refused, RegistryUnavailable
from shared.mcp.versions import Era

_CALL_ID_DOTS = 3
"""The dots in the event ids of calls. Ids of standing streams have fewer."""


class SessionEndpoint:
    """Serves ``GET`` and ``DELETE`` of ``/mcp`` and ``/servers/{name}/mcp``."""

    def __init__(
        self,
        serving: Serving,
        sessions: SessionTable,
        streams: StandingStreams,
        pool: WorkerPool,
        retry_ms: int,
    ) -> None:
        self._serving = serving
        self._sessions = sessions
        self._streams = streams
        self._pool = pool
        self._retry_ms = retry_ms

    async def get(self, request: web.BaseRequest, head: RequestHead) -> web.StreamResponse:
        """Show the session's standing stream, or resume the stream of the call that ``Last-Event-ID`` names."""
        if head.refusal is None and "text/event-stream" not in request.headers.get("Accept", ""):
            wrong = Refused("invalid_request", "GET opens an event stream: send Accept: text/event-stream")
            return answers.failure(wrong, b"null", status=406).to_response()
        try:
            caller = await self._serving.admitted(head)
        except CallError as error:
            return answers.failure(error, b"null").to_response()
        if caller.era is Era.MODERN:
            return _not_allowed("this protocol version has no GET stream; use subscriptions/listen")
        session = caller.session
        if session is None:
            return _not_allowed("a GET stream belongs to a session: send initialize first")
        last = request.headers.get("Last-Event-ID", "")
        if last.count(".") == _CALL_ID_DOTS:
            return await self._resume(request, session, last)
        try:
            return await self._streams.standing_get(request, session, caller, last)
        except NotDelivered as error:
            return answers.failure(error, b"null", status=503).to_response()

    async def _resume(self, request: web.BaseRequest, session: ClientSession, last: str) -> web.StreamResponse:
        """Resume the stream of a call, whichever front end began it ("Resumability and Redelivery").

        ``last`` is the id of the last event that the client got.
        """
        worker, frontend, number, sequence = last.split(".")
        link = self._pool.links.get(worker)
        numeric = all(one.isascii() and one.isdecimal() for one in (number, sequence))
        if link is None or not link.ready or not numeric or not frontend.isascii():
            return _cannot_resume("this stream can no longer be resumed")
        in_flight = link.resume(session.sid, frontend, int(number[:15]), int(sequence[:15]))
        try:
            event = await in_flight.next()
            if isinstance(event, Failure):
                return _cannot_resume(event.message)
            assert isinstance(event, Resumed)
            self._serving.carrier.adopt(in_flight, event, session)
            started = Started(event.request, Era.LEGACY, in_flight, await in_flight.next())
            resumable = Resumable(in_flight, session.version, self._retry_ms, resumed=True)
            return await show(request, self._serving.carrier, started, resumable, session.wants_warnings)
        except (asyncio.CancelledError, ConnectionError):
            self._serving.carrier.leave(in_flight)
            raise

    async def delete(self, request: web.BaseRequest, head: RequestHead) -> web.StreamResponse:
        """End the session, and answer when every live front end knows that it has ended."""
        try:
            caller = await self._serving.admitted(structs.replace(head, era=Era.LEGACY))
            session = caller.session
            if session is None:
                return _not_allowed("DELETE ends a session: send its Mcp-Session-Id")
            for in_flight in session.calls:
                in_flight.cancel("the client ended its session")
            await self._sessions.end(session.sid)
        except CallError as error:
            return answers.failure(error, b"null").to_response()
        except RegistryUnavailable as error:
            return answers.failure(error, b"null", status=503).to_response()
        return Answer((b"{}",)).to_response()


def _not_allowed(text: str) -> web.StreamResponse:
    return answers.failure(Refused("invalid_request", text), b"null", status=405).to_response()


def _cannot_resume(text: str) -> web.StreamResponse:
    return answers.failure(Refused("invalid_request", text), b"null").to_response()
