"""HTTP+SSE: ``GET /sse`` opens the stream for everything to the client, ``POST /messages`` takes the client's messages.

Any version of the handshake era can be negotiated over this transport, not only 2024-11-05. The answer to a POST at
another front end goes through the front end that holds the GET stream. A session ends when its GET stream ends.
"""

from __future__ import annotations

from urllib.parse import quote

from aiohttp import web
from msgspec import structs

from gateway.admission.caller import Caller
from gateway.admission.request_head import RequestHead
from gateway.http.bodies import BodyReader
from gateway.http.event_stream import EventStream
from gateway.http.prefix import public_prefix
from gateway.http.responses import accepted
from gateway.protocol import answers
from gateway.protocol.batches import check_batch, few_at_once
from gateway.protocol.client_messages import ClientMessages, check
from gateway.protocol.large_bodies import LargeBodies
from gateway.protocol.serving import Serving
from gateway.routing.endpoints import split
from gateway.sessions.session import ClientSession
from gateway.sessions.table import SessionTable
from gateway.streams.standing_streams import StandingStreams
from shared.errors import CallError, NotDelivered, Refused, RegistryUnavailable
from shared.mcp.jsonrpc import Message
from shared.mcp.methods import INITIALIZE
from shared.mcp.versions import LATEST_LEGACY, Era
from shared.tasks import spawn


class SseEndpoint:
    """Serves ``/sse`` and ``/messages``, also below ``/servers/{name}``.

    ``frontend`` is this front end's id. ``public_url`` is where clients see the gateway, or empty.
    """

    def __init__(
        self,
        serving: Serving,
        messages: ClientMessages,
        sessions: SessionTable,
        streams: StandingStreams,
        frontend: str,
        bodies: BodyReader,
        large: LargeBodies,
        public_url: str = "",
    ) -> None:
        self._public_url = public_url
        self._serving = serving
        self._messages = messages
        self._sessions = sessions
        self._streams = streams
        self._frontend = frontend
        self._bodies = bodies
        self._large = large

    async def get(self, request: web.BaseRequest, head: RequestHead) -> web.StreamResponse:
        """Open a session and its stream; the stream's first event names where messages go."""
        try:
            caller = await self._serving.admitted(structs.replace(head, era=Era.LEGACY, session=None))
        except CallError as error:
            return answers.failure(error, b"null").to_response()
        endpoint = caller.view.endpoint
        session = await self._sessions.open(
            LATEST_LEGACY, caller.principal.id, endpoint, b"{}", b"", self._frontend, head.peer
        )
        try:
            stream = self._streams.attach(session, caller.view, caller.principal)
        except NotDelivered as error:
            return answers.failure(error, b"null", status=503).to_response()
        try:
            events = EventStream()
            await events.open(request)
            prefix = public_prefix(self._public_url, request.headers.get("X-Forwarded-Prefix"))
            name, asked = split(endpoint)
            prefix += f"/servers/{quote(name, safe='')}" if name else ""
            query = f"session_id={session.sid}" + (f"&discovery={asked}" if asked is not None else "")
            await events.send(f"{prefix}/messages?{query}".encode(), name="endpoint")
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

    async def post(self, request: web.BaseRequest, head: RequestHead) -> web.StreamResponse:
        """Take one message or a batch. The POST is answered with 202; answers go to the stream as they come."""
        session_id = request.query.get("session_id", "")
        head = structs.replace(head, era=Era.LEGACY, session=session_id, has_body=False)  # read below
        try:
            caller = await self._serving.admitted(head)
        except Refused as error:
            if error.code == "session_unknown":
                error = Refused("session_unknown", "unknown or ended session; open /sse again")
            return answers.failure(error, b"null").to_response()
        session = caller.session
        assert session is not None
        if not session.initialized:
            await self._sessions.refresh(session)
        if not self._streams.reaches(session):
            text = "this session's stream is on another front end, and Redis, which leads there, does not answer"
            return answers.failure(RegistryUnavailable(text), b"null", status=503).to_response()
        try:
            body = await self._bodies.read(request)
            batch = body.lstrip()[:1] == b"["
            messages = await self._large.decode_batch(body) if batch else [await self._large.decode(body)]
            if batch:
                check_batch(session.version, messages)
            for message in messages:
                if not message.is_request:
                    check(message)
        except CallError as error:
            return answers.failure(error, b"null").to_response()
        async for message in few_at_once(messages):
            await self._handle(head, caller, session, message)
        return accepted()

    async def _handle(self, head: RequestHead, caller: Caller, session: ClientSession, message: Message) -> None:
        if not message.is_request:
            await self._messages.take(caller, message)
            return
        serving = self._serving.serve_to(_Down(self._streams, session), head, message, caller)
        if message.method == INITIALIZE:
            await serving  # later messages depend on what the client says of itself here
        else:
            spawn(serving, "sse-request")


class _Down:
    """Sends a call's messages down the session's stream, whichever front end holds it; implements ``serving.Taker``."""

    def __init__(self, streams: StandingStreams, session: ClientSession) -> None:
        self._streams = streams
        self._session = session

    async def send(self, message: bytes, dropped: int) -> None:
        """Send a message, or the answer; ``dropped`` is how many notifications before it were dropped."""
        await self._streams.deliver(self._session, message, dropped)

    finish = send

    async def comment(self) -> None:
        """Do nothing: ``StandingStreams.keep_alive`` shows signs of life on the stream."""
