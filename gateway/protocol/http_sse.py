"""HTTP+SSE: ``GET /sse`` opens the stream that carries everything down, ``POST /messages`` carries messages up.

The transport is not the version: it negotiates any legacy version. A POST that lands on another front end is answered
through the one that holds the GET. Losing the GET ends the session.
"""

from __future__ import annotations

from urllib.parse import quote

from aiohttp import web

from gateway.http.responses import EventStream, accepted, error_body, problem
from gateway.protocol.batches import check_batch
from gateway.protocol.endpoint import read_body
from gateway.protocol.legacy import LegacyDoor, read_initialize
from gateway.protocol.methods import Caller, Requests
from gateway.sessions.table import ClientSession, SessionTable
from gateway.streams.standing_streams import LEGACY_CHANGES, StandingStreams
from shared.errors import CallError, NotDelivered, Refused, RegistryUnavailable
from shared.mcp import jsonrpc
from shared.mcp.jsonrpc import Message
from shared.mcp.methods import INITIALIZE
from shared.mcp.versions import LATEST_LEGACY, Era
from shared.tasks import spawn


class SseDoor:
    """See the module."""

    def __init__(
        self,
        legacy: LegacyDoor,
        requests: Requests,
        sessions: SessionTable,
        streams: StandingStreams,
        frontend: str,
        max_body_bytes: int,
    ) -> None:
        self._legacy = legacy
        self._requests = requests
        self._sessions = sessions
        self._streams = streams
        self._frontend = frontend
        self._max_body = max_body_bytes

    async def get(self, request: web.BaseRequest, scope: str | None) -> web.StreamResponse:
        """Open a session and its stream; its first event names where messages go."""
        refused = self._legacy.refusal(request)
        if refused is not None:
            return refused
        session = await self._sessions.open(LATEST_LEGACY, "", scope or "", b"{}", b"", self._frontend)
        try:
            stream = self._streams.attach(session.sid, LEGACY_CHANGES)
            stream.hears_warnings = lambda: session.hears_warnings
        except NotDelivered as error:
            return problem(error, status=503)
        try:
            events = EventStream()
            await events.open(request)
            prefix = f"/servers/{quote(scope, safe='')}" if scope else ""
            await events.send(f"{prefix}/messages?session_id={session.sid}".encode(), name="endpoint")
            await stream.write_to(events)
            return await events.end()
        finally:
            self._streams.detach(stream)
            for in_flight in session.calls:
                in_flight.cancel("the client closed its stream")
            try:
                await self._sessions.end(session.sid)
            except RegistryUnavailable:
                self._sessions.forget(session.sid)

    async def post(self, request: web.Request, scope: str | None) -> web.StreamResponse:
        """One message, or a batch; 202 now, the answers on the stream as they come."""
        refused = self._legacy.refusal(request)
        if refused is not None:
            return refused
        session = await self._sessions.find(request.query.get("session_id", ""))
        if session is None or session.scope != (scope or ""):
            return problem(Refused("session_unknown", "unknown or ended session; open /sse again"))
        if not session.initialized:
            await self._sessions.refresh(session)
        if not self._streams.reaches(session):
            text = "this session's stream is on another front end, and Redis, which leads there, does not answer"
            return problem(RegistryUnavailable(text), status=503)
        try:
            body = await read_body(request, self._max_body)
            batch = body.lstrip()[:1] == b"["
            messages = jsonrpc.decode_batch(body) if batch else [jsonrpc.decode(body)]
            if batch:
                check_batch(session.version, messages)
        except CallError as error:
            return problem(error)
        for message in messages:
            await self._handle(session, message, scope)
        return accepted()

    async def _handle(self, session: ClientSession, message: Message, scope: str | None) -> None:
        id = bytes(message.id)
        if not message.is_request:
            await self._legacy.notice(session, message)
        elif message.method == INITIALIZE:
            try:
                facts = read_initialize(message)
            except Refused as error:
                await self._streams.deliver(session, error_body(error, id))
                return
            session.version, session.capabilities = facts.version, facts.capabilities
            session.client_info, session.initialized = facts.client_info, True
            await self._sessions.save(session)
            result = self._requests.initialize(facts.version, scope)
            await self._streams.deliver(session, jsonrpc.response(id, result))
        else:
            caller = Caller(Era.LEGACY, session.version, scope, session, session.principal)
            spawn(self._legacy.serve_to(_Down(self._streams, session), message, caller), "sse-request")


class _Down:
    """What comes of a request goes down the session's stream, wherever it is held."""

    def __init__(self, streams: StandingStreams, session: ClientSession) -> None:
        self._streams = streams
        self._session = session

    async def send(self, message: bytes, dropped: int) -> None:
        """At once: it may be a question that the call waits for."""
        await self._streams.deliver(self._session, message, dropped)

    finish = send

    async def comment(self) -> None:
        """The stream is kept alive by other means."""
