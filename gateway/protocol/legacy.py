"""The legacy door: 2025-03-26 to 2025-11-25 over Streamable HTTP (and 2024-11-05 clients that post here).

``initialize`` mints a session; any front end serves it; an unknown or ended session is 404, never 400. A request
without
a session is served statelessly where that can work. JSON-RPC errors are HTTP 200: a 404 would drop the client's
session. A connection that drops does not cancel: only ``notifications/cancelled``, DELETE, expiry or the timeout do.
"""

from __future__ import annotations

import asyncio
from typing import Protocol

import msgspec
from aiohttp import web
from msgspec import Struct

from gateway.admission.dns_rebinding import RebindingGuard
from gateway.calls.in_flight import Answered, Failure, InFlight, Interim, Resumed
from gateway.fleet.dispatch import Abandoned
from gateway.fleet.pool import WorkerPool
from gateway.http.responses import accepted, answer, error_body, problem
from gateway.protocol.batches import BatchAnswer, check_batch
from gateway.protocol.call_stream import Resumable, relay, show
from gateway.protocol.methods import Caller, Ready, Requests, Started, readdress
from gateway.sessions.table import ClientSession, SessionTable
from gateway.streams.standing_streams import StandingStreams
from shared.errors import CallError, OutcomeUnknown, Refused, RegistryUnavailable
from shared.mcp import jsonrpc
from shared.mcp.jsonrpc import Message, Params
from shared.mcp.methods import CANCELLED, INITIALIZE, INITIALIZED, PROGRESS, ROOTS_CHANGED
from shared.mcp.versions import DEFAULT_WITHOUT_HEADER, LEGACY_VERSIONS, Era, negotiate_legacy

SESSION_HEADER = "Mcp-Session-Id"
_CALL_ID_DOTS = 3
"""In the event ids of calls; those of standing streams have fewer."""
_MAX_CLIENT_FACTS = 16 * 1024


class Initialize(Struct, frozen=True):
    """What ``initialize`` says of a client; capabilities and info are JSON."""

    version: str
    capabilities: bytes
    client_info: bytes


def read_initialize(message: Message) -> Initialize:
    """Raises ``Refused`` (-32602) when the request is not one."""
    parts = jsonrpc.members(message.params)
    requested = jsonrpc.text(parts.get("protocolVersion", jsonrpc.ABSENT), "protocolVersion")
    capabilities = bytes(parts.get("capabilities", b"{}"))
    info = bytes(parts.get("clientInfo", b""))
    if capabilities[:1] != b"{" or len(capabilities) + len(info) > _MAX_CLIENT_FACTS:
        raise Refused("invalid_params", f"params.capabilities must be an object of at most {_MAX_CLIENT_FACTS} bytes")
    return Initialize(negotiate_legacy(requested), capabilities, info)


class Taker(Protocol):
    """Where the messages of a call go, in order; ``dropped``: so many before this one were dropped."""

    async def send(self, message: bytes, dropped: int) -> None:
        """One that comes before the answer."""

    async def finish(self, body: bytes, dropped: int) -> None:
        """The answer."""

    async def comment(self) -> None:
        """Nothing came for a while."""


class LegacyDoor:
    """See the module."""

    def __init__(
        self,
        guard: RebindingGuard,
        requests: Requests,
        sessions: SessionTable,
        streams: StandingStreams,
        pool: WorkerPool,
        retry_s: float,
    ) -> None:
        self._guard = guard
        self._requests = requests
        self._sessions = sessions
        self._streams = streams
        self._pool = pool
        self._retry_ms = int(retry_s * 1000)

    # ---- POST

    async def post(
        self,
        request: web.BaseRequest,
        message: Message,
        params: Params,
        scope: str | None,
        begun: InFlight | None = None,
    ) -> web.StreamResponse:
        """One legacy message; ``begun``: the call that the express lane began for it."""
        id = bytes(message.id)
        try:
            if message.method == INITIALIZE and id:
                return await self._initialize(message, scope)
            session = await self._session(request, scope)
            if not message.method or not id:
                await self.notice(session, message)
                return accepted()
            caller = self._caller(request, session, scope)
            caller.begun = begun
            reply = await self._requests.serve(message, params, caller)
        except Abandoned as gone:
            gone.in_flight.leave()
            raise  # the call runs on up to its timeout: a connection that drops does not cancel
        except CallError as error:
            return problem(error, id or b"null", 404 if error.code == "session_unknown" else 200)
        if type(reply) is Ready:
            return answer(reply.body)
        assert isinstance(reply, Started)
        try:
            resumable = Resumable(reply.in_flight, session.version, self._retry_ms) if session is not None else None
            hears = session is not None and session.hears_warnings
            return await show(request, self._requests, reply, resumable, hears)
        except (asyncio.CancelledError, ConnectionError):
            reply.in_flight.leave()
            self._requests.abandon(reply.in_flight)
            raise

    async def _initialize(self, message: Message, scope: str | None) -> web.StreamResponse:
        facts = read_initialize(message)
        session = await self._sessions.open(facts.version, "", scope or "", facts.capabilities, facts.client_info)
        result = self._requests.initialize(facts.version, scope)
        return answer(jsonrpc.response(bytes(message.id), result), 200, {SESSION_HEADER: session.sid})

    async def _session(self, request: web.BaseRequest, scope: str | None) -> ClientSession | None:
        sid = request.headers.get(SESSION_HEADER)
        if sid is None:
            return None
        session = self._sessions.cached(sid) or await self._sessions.find(sid)
        if session is None or session.scope != (scope or ""):
            raise Refused("session_unknown", "unknown or ended session; send initialize again")
        return session

    def admit(self, sid: str, version: str | None, found: ClientSession | None = None) -> Caller | None:
        """Who asks, if that is known here without asking Redis. ``found``: the session, as it was known before."""
        if not sid:
            return Caller(Era.LEGACY, version or DEFAULT_WITHOUT_HEADER)
        session = found if found is not None and self._sessions.again(found) else self._sessions.cached(sid)
        if session is None or session.scope:
            return None
        return Caller(Era.LEGACY, session.version, None, session, session.principal)

    @staticmethod
    def status(ready: Ready) -> int:
        """JSON-RPC errors are HTTP 200 here."""
        return 200

    def _caller(self, request: web.BaseRequest, session: ClientSession | None, scope: str | None) -> Caller:
        if session is not None:
            return Caller(Era.LEGACY, session.version, scope, session, session.principal)
        return Caller(Era.LEGACY, request.headers.get("MCP-Protocol-Version") or DEFAULT_WITHOUT_HEADER, scope)

    async def notice(self, session: ClientSession | None, message: Message) -> None:
        """A notification or a response from the client: accepted; a cancel is carried out, an answer passed on, and so
        is a notification that we do not know, where it is plain to whom."""
        if session is not None and not message.method and message.id:
            self._answered(session, message)
        if session is None or not message.method:
            return
        if message.method == CANCELLED:
            self._cancelled(session, message)
        elif message.method == PROGRESS:
            self._progressed(session, message)
        elif message.method == ROOTS_CHANGED:
            self._pool.roots_changed(session.sid)
        elif session.scope and message.method != INITIALIZED:
            await self._requests.notify(session, message)

    def _cancelled(self, session: ClientSession, message: Message) -> None:
        try:
            parts = jsonrpc.members(message.params)
        except Refused:
            return  # "Invalid cancellation notifications SHOULD be ignored" (Cancellation, "Error Handling")
        id = bytes(parts.get("requestId", b""))
        if len(id) <= jsonrpc.MAX_ID and not self._cancel(session.sid, id):
            self._pool.cancel_request(session.sid, id)

    def _answered(self, session: ClientSession, message: Message) -> None:
        """The client answers a question that an upstream asked during one of its calls."""
        ask = msgspec.json.decode(message.id)
        if isinstance(ask, str):
            is_error = bool(message.error)
            self._pool.reply(ask, session.sid, is_error, bytes(message.error if is_error else message.result))

    def _progressed(self, session: ClientSession, message: Message) -> None:
        """The client tells how far it is with something that an upstream asked of it."""
        try:
            ask = jsonrpc.text(jsonrpc.members(message.params).get("progressToken", jsonrpc.ABSENT), "progressToken")
        except Refused:
            return  # a token that no upstream's question had
        self._pool.news(ask, session.sid, bytes(message.params))

    def _cancel(self, sid: str, id: bytes) -> bool:
        session = self._sessions.known.get(sid)
        in_flight = session.call(id) if session is not None else None
        if in_flight is None:
            return False
        in_flight.cancel("cancelled by the client")
        return True

    # ---- batches

    async def batch(self, request: web.BaseRequest, messages: list[Message], scope: str | None) -> web.StreamResponse:
        """A JSON-RPC batch; see ``doors.batches``."""
        try:
            session = await self._session(request, scope)
            version = (
                session.version if session else request.headers.get("MCP-Protocol-Version", DEFAULT_WITHOUT_HEADER)
            )
            check_batch(version, messages)
        except CallError as error:
            return problem(error, status=error.wire.http)
        caller = self._caller(request, session, scope)
        wanted = [message for message in messages if message.is_request]
        for message in messages:
            if not message.is_request:
                await self.notice(session, message)
        if not wanted:
            return accepted()
        taker = BatchAnswer(request, session is not None and session.hears_warnings)
        try:
            async with asyncio.TaskGroup() as group:
                for message in wanted:
                    group.create_task(self.serve_to(taker, message, caller))
        except* ConnectionError as gone:  # of the client; the rest was cancelled with it
            raise gone.exceptions[0] from None
        return await taker.end()

    async def serve_to(self, taker: Taker, message: Message, caller: Caller) -> None:
        """Serve one request, and give ``taker`` what comes of it."""
        id = bytes(message.id)
        try:
            reply = await self._requests.serve(message, jsonrpc.decode_params(message), caller)
        except Abandoned as gone:
            gone.in_flight.leave()
            raise
        except CallError as error:
            await taker.finish(error_body(error, id), 0)
            return
        if isinstance(reply, Ready):
            await taker.finish(reply.body, 0)
            return
        in_flight = reply.in_flight

        def dropped() -> int:
            count, in_flight.dropped = in_flight.dropped, 0
            return count

        async def interim(event: Interim) -> None:
            await taker.send(event.message, dropped())

        async def finish(body: bytes) -> None:
            await taker.finish(body, dropped())

        async def large(answered: Answered) -> None:
            assert answered.stream is not None
            write = jsonrpc.error_response if answered.is_error else jsonrpc.response
            await finish(write(id, await answered.stream.whole()))

        try:
            await relay(self._requests, reply, interim, finish, taker.comment, large)
        except asyncio.CancelledError:
            in_flight.leave()
            raise
        except ConnectionError:  # the worker that sends the answer is gone, or the taker; the latter raises again
            in_flight.leave()
            await finish(error_body(OutcomeUnknown("outcome_unknown", "the worker that sent the answer is gone"), id))
        finally:
            self._requests.abandon(in_flight)

    # ---- GET, DELETE, OPTIONS

    def refusal(self, request: web.BaseRequest) -> web.StreamResponse | None:
        """403 for a foreign Host or Origin."""
        text = self._guard.refusal(request.headers.get("Host"), request.headers.get("Origin"))
        return problem(Refused("forbidden", text)) if text is not None else None

    async def get(self, request: web.BaseRequest, scope: str | None) -> web.StreamResponse:
        """Open the session's standing stream."""
        refused = self.refusal(request)
        if refused is not None:
            return refused
        if "text/event-stream" not in request.headers.get("Accept", ""):
            return problem(
                Refused("invalid_request", "GET opens an event stream: send Accept: text/event-stream"),
                status=406,
            )
        if request.headers.get("MCP-Protocol-Version", DEFAULT_WITHOUT_HEADER) not in LEGACY_VERSIONS:
            return _not_allowed("this protocol version has no GET stream; use subscriptions/listen")
        try:
            session = await self._session(request, scope)
        except CallError as error:
            return problem(error)
        if session is None:
            return _not_allowed("a GET stream belongs to a session: send initialize first")
        last = request.headers.get("Last-Event-ID", "")
        if last.count(".") == _CALL_ID_DOTS:
            return await self._resume(request, session, last)
        return await self._streams.standing_get(request, session, last)

    async def _resume(self, request: web.BaseRequest, session: ClientSession, last: str) -> web.StreamResponse:
        """Go on with the stream of a call, whichever front end began it ("Resumability and Redelivery")."""
        worker, frontend, number, sequence = last.split(".")
        client = self._pool.clients.get(worker)
        numeric = all(one.isascii() and one.isdecimal() for one in (number, sequence))
        if client is None or not client.ready or not numeric or not frontend.isascii():
            return problem(Refused("invalid_request", "this stream can no longer be resumed"))
        in_flight = client.resume(session.sid, frontend, int(number[:15]), int(sequence[:15]))
        try:
            event = await in_flight.next()
            if isinstance(event, Failure):
                return problem(Refused("invalid_request", event.message))
            assert isinstance(event, Resumed)
            self._requests.adopt(in_flight)
            in_flight.register(session, event.request)
            in_flight.readdress = readdress(event.name, event.listed) if event.listed else None
            started = Started(event.request, in_flight, await in_flight.next())
            resumable = Resumable(in_flight, session.version, self._retry_ms, resumed=True)
            return await show(request, self._requests, started, resumable, session.hears_warnings)
        except (asyncio.CancelledError, ConnectionError):
            in_flight.leave()
            self._requests.abandon(in_flight)
            raise

    async def delete(self, request: web.BaseRequest, scope: str | None) -> web.StreamResponse:
        """End the session; answers when every live front end knows."""
        refused = self.refusal(request)
        if refused is not None:
            return refused
        try:
            session = await self._session(request, scope)
            if session is None:
                return _not_allowed("DELETE ends a session: send its Mcp-Session-Id")
            for in_flight in session.calls:
                in_flight.cancel("the client ended its session")
            await self._sessions.end(session.sid)
        except CallError as error:
            return problem(error)
        except RegistryUnavailable as error:
            return problem(error, status=503)
        return answer(b"{}", 200)


def _not_allowed(text: str) -> web.StreamResponse:
    return problem(Refused("invalid_request", text), status=405)
