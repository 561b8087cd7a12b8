"""Links from front ends: both ends prove membership, then calls come in. Answers go back on the same link.

Counterpart: ``gateway.fleet.worker_link``. This module knows frames and ``LinkCall``, and not how upstreams work.
"""

from __future__ import annotations

import asyncio
import logging
import socket
import ssl
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from shared.errors import CallError, NotDelivered, OutcomeUnknown
from shared.mcp import jsonrpc
from shared.mcp.listings import Kind
from shared.mcp.methods import LISTEN, OWN_LIST
from shared.mcp.tasks import METHODS as TASK_METHODS
from shared.mcp.versions import Era
from shared.metrics.links import LinkTraffic
from shared.rpc import messages as rpc
from shared.rpc.connection import SLACK, BodyStream, Link
from shared.rpc.framing import CHUNK
from shared.rpc.handshake import HandshakeError, WorkerSide
from shared.rpc.joining import Joining, of_tls
from shared.rpc.link_tls import Arriving, of_worker
from shared.rpc.peer_credentials import place
from shared.secrets import FleetKey
from shared.settings import Settings
from shared.tasks import Deadlines, spawn
from worker.calls.client_facts import NOBODY, ClientFacts
from worker.calls.link_call import LinkCall
from worker.calls.own_call import UpstreamError
from worker.front_ends import FrontEnds
from worker.input.broker import InputBroker
from worker.input.unsolicited import Question, UnsolicitedMessages
from worker.ownership.inventory import Inventory

_log = logging.getLogger(__name__)
_PROOF_S = 5.0
"""The seconds within which a peer must prove membership, else its link is dropped."""
_MAX_JOINING = 256
"""The links that may be without proof at once. With more, the oldest is dropped: a front end needs milliseconds."""
_SAY_AGAIN_S = 10.0
_MAX_FACTS = 1000
STALL_S = 2.0
"""If the loop stood still for longer (seconds), unread frames are dropped, because their callers have given up on this
worker."""


class FrontEndPeer:
    """The front end at the other end of one link, which has proved itself. ``HANDLERS`` maps each frame to a method."""

    def __init__(self, server: RpcServer, name: str) -> None:
        self.server = server
        self.name = name
        self.last_call = 0
        self.sessions: dict[str, ClientFacts] = {}
        self.calls: dict[int, LinkCall] = {}
        self.link: Link | None = None

    # ---- shared.rpc.connection.Peer

    def on_connected(self, link: Link) -> None:
        self.link = link
        self.server.front_ends.add(self)
        if self.server.draining:
            link.send(rpc.GoAway(0))

    def on_frame(self, link: Link, head: rpc.Head, body: bytes) -> None:
        handler = HANDLERS.get(type(head))
        if handler is not None:
            handler(self, link, head, body)

    def stream_body(self, link: Link, head: rpc.Head, stream: BodyStream) -> bool:
        return False  # a request is needed whole, because the envelope with its id is written around it

    def on_closed(self, link: Link, error: Exception | None) -> None:
        self.server.front_ends.discard(self)
        self.server.inventory.forget_watcher(self)
        # The front end has ended, and with it the HTTP request of each modern call. A legacy call continues up to its
        # timeout, because its client can resume the stream at another front end.
        for call in list(self.calls.values()):
            if call.era:
                call.stop("the front end is gone")
                call.fail(NotDelivered("cancelled", "the front end is gone"))
            elif call.session:
                call.keep()
                self.server.front_ends.orphans.add(call)

    # ---- calls

    def _call(self, link: Link, head: rpc.Call, body: bytes) -> None:
        server = self.server
        limits = server.inventory.limits(head.upstream)
        call = LinkCall(self, link, head, body, limits.request_timeout_s, server.broker)
        self.calls[head.call] = call
        if server.draining and not head.retry:
            call.fail(NotDelivered("not_delivered", "the worker is shutting down"))
            return
        if head.call > self.last_call:  # a large call is complete later than calls sent after it
            self.last_call = head.call
        if head.session:
            facts = self.sessions.get(head.session)
            if facts is not None:
                call.client = facts
        elif head.principal:
            call.client = ClientFacts(head.principal)
        endless = head.method == LISTEN and head.era == Era.MODERN
        if not endless:
            call.started_at = now = server.clock()
            call.hard_limit = now + limits.request_timeout_max_s
            call.expires_at = min(now + call.timeout_s, call.hard_limit)
            server.deadlines.add(call)
        try:
            if endless:
                server.inventory.listen(head.upstream, call)
            elif head.method == OWN_LIST:
                server.inventory.list_for(head.upstream, Kind(head.name), call)
            elif head.retry and server.broker.take(call):
                pass  # it goes on with the call that waits here, also while the worker drains
            elif server.draining:
                call.fail(NotDelivered("not_delivered", "the worker is shutting down"))
            elif head.confirm and not head.retry:  # the state of a retry shows that it was confirmed
                server.broker.confirm(call, head.confirm, partial(server.inventory.submit, head.upstream, call))
            else:
                if not (head.method in TASK_METHODS and head.era and server.broker.tasks.take(call)):
                    server.inventory.submit(head.upstream, call)
        except CallError as error:
            call.fail(error)
        except Exception as error:  # a call that cannot be handled must not end the link of the others
            _log.exception("a call to %s", head.upstream)
            call.fail(OutcomeUnknown("internal", f"the gateway failed: {type(error).__name__}"))

    def _cancel(self, link: Link, head: rpc.Cancel, body: bytes) -> None:
        call = self.calls.get(head.call)
        link.abandon(head.call)
        if call is not None:
            call.stop(head.reason)
            call.fail(NotDelivered("cancelled", "cancelled by the client"))

    def _detach(self, link: Link, head: rpc.Detach, body: bytes) -> None:
        call = self.calls.get(head.call)
        if call is None:
            return
        if not call.session and call.carrier is None:  # nobody can resume it, and it was not sent yet
            call.stop("the client is gone")
            call.fail(NotDelivered("cancelled", "the client is gone"))
        else:
            call.keep()

    def _resume(self, link: Link, head: rpc.Resume, body: bytes) -> None:
        """Send a client that resumes a call's stream the messages that it missed. Messages to come go to this link."""
        replay = self.server.broker.replays.find((head.frontend, head.before), head.session)
        if replay is None:
            text = "this stream can no longer be resumed"
            link.send(rpc.Failed(head.call, "invalid_request", text, True))
            return
        call = replay.call
        link.send(rpc.Resumed(head.call, replay.request, replay.name, replay.listed_name))
        for sequence, message in replay.after(head.sequence):
            link.send(rpc.Interim(head.call, sequence=sequence), message)
        self.server.broker.replays.name(replay, (self.name, head.call))
        if isinstance(call, LinkCall):
            call.move(self, link, head.call)
        elif replay.outcome is not None:
            replay.outcome.send(link, head.call)

    def _ping(self, link: Link, head: rpc.Ping, body: bytes) -> None:
        link.send(rpc.Pong(head.number))

    # ---- client sessions

    def _open_session(self, link: Link, head: rpc.OpenSession, body: bytes) -> None:
        facts = self.sessions.get(head.session)
        if facts is None:
            same = self.server.shared
            capabilities, info = same(head.capabilities), same(head.client_info)
            facts = ClientFacts(head.principal, head.version, capabilities, info)
            facts.alone = head.alone
            self.sessions[head.session] = facts
        facts.log_level = head.log_level

    def _end_session(self, link: Link, head: rpc.EndSession, body: bytes) -> None:
        self.sessions.pop(head.session, None)
        if head.over:
            self.server.end_session(head.session)

    def _cancel_request(self, link: Link, head: rpc.CancelRequest, body: bytes) -> None:
        self.server.cancel_request(head.session, head.request)

    def _reply(self, link: Link, head: rpc.Reply, body: bytes) -> None:
        self.server.broker.reply(head.question_id, head.session, head.is_error, body)

    def _question_news(self, link: Link, head: rpc.QuestionNews, body: bytes) -> None:
        self.server.question_news(head.question_id, head.session, body)

    def _roots_changed(self, link: Link, head: rpc.RootsChanged, body: bytes) -> None:
        self.server.inventory.roots_changed(head.session)

    def _alive(self, link: Link, head: rpc.Alive, body: bytes) -> None:
        self.server.inventory.alive(head.session)

    def _notice(self, link: Link, head: rpc.Notice, body: bytes) -> None:
        client = self.sessions.get(head.session, NOBODY)
        self.server.inventory.notify(head.upstream, head.session, client, body)

    # ---- resources

    def _watch(self, link: Link, head: rpc.Watch, body: bytes) -> None:
        task = self._start_watching(link, head) if head.on else self._stop_watching(head)
        spawn(task, "watch")  # tasks start in the order of the frames

    async def _start_watching(self, link: Link, head: rpc.Watch) -> None:
        client = self.sessions.get(head.session, NOBODY)
        try:
            await self.server.inventory.watch(self, head.upstream, head.uri, head.session, client)
        except CallError as error:
            raw = error.raw if isinstance(error, UpstreamError) else b""
            if not raw or len(raw) > CHUNK:
                raw = jsonrpc.error_object(error.wire.rpc, error.message[:2000], {"code": error.code})
            link.send(rpc.Watched(head.number, False), raw)
        else:
            if link.closed:
                self.server.inventory.unwatch(self, head.upstream, head.uri, head.session)
            link.send(rpc.Watched(head.number))

    async def _stop_watching(self, head: rpc.Watch) -> None:
        self.server.inventory.unwatch(self, head.upstream, head.uri, head.session)

    def updated(self, upstream: str, uri: str, session: str, params: bytes) -> None:
        """Notify this front end that a resource which it watches changed. On a congested link the notification is
        dropped."""
        if self.link is not None and not self.link.congested and len(params) <= CHUNK:
            self.link.send(rpc.Updated(upstream, uri, session), params)


FrameHandler = Callable[[FrontEndPeer, Link, Any, bytes], None]
HANDLERS: dict[type[rpc.Head], FrameHandler] = {
    rpc.Call: FrontEndPeer._call,
    rpc.Cancel: FrontEndPeer._cancel,
    rpc.Detach: FrontEndPeer._detach,
    rpc.Resume: FrontEndPeer._resume,
    rpc.Ping: FrontEndPeer._ping,
    rpc.OpenSession: FrontEndPeer._open_session,
    rpc.EndSession: FrontEndPeer._end_session,
    rpc.CancelRequest: FrontEndPeer._cancel_request,
    rpc.Reply: FrontEndPeer._reply,
    rpc.QuestionNews: FrontEndPeer._question_news,
    rpc.RootsChanged: FrontEndPeer._roots_changed,
    rpc.Alive: FrontEndPeer._alive,
    rpc.Notice: FrontEndPeer._notice,
    rpc.Watch: FrontEndPeer._watch,
}
"""The method for each frame of a front end. Other frames are ignored."""


class RpcServer:
    """Listens on a Unix socket (and on TCP, if configured) for front ends."""

    def __init__(
        self,
        worker: str,
        key: FleetKey,
        settings: Settings,
        front_ends: FrontEnds,
        broker: InputBroker,
        unsolicited: UnsolicitedMessages,
        inventory: Inventory,
        deadlines: Deadlines,
    ) -> None:
        self.worker = worker
        self.key = key
        self.settings = settings
        self.front_ends = front_ends
        self.broker = broker
        self.unsolicited = unsolicited
        self.inventory = inventory
        self.deadlines = deadlines
        self.draining = False
        self.traffic = LinkTraffic()
        self.loop = asyncio.get_running_loop()
        self.clock: Callable[[], float] = self.loop.time
        self._alive_at = self.clock()
        self._facts: dict[bytes, bytes] = {}
        self._joining: dict[Joining | Arriving, None] = {}
        self.tls = of_worker(settings.link) if settings.service.rpc_bind else None
        self._refused_at = -60.0
        self._servers: list[asyncio.Server] = []
        self.path: Path | None = None
        self.tcp_address = ""
        """Where it listens on TCP as the registry has it (``host:port``). Front ends dial this, and proofs name it."""

    @property
    def unix_address(self) -> str:
        """The same for the Unix socket, ``unix:/path``."""
        return f"unix:{self.path}"

    async def start(self, path: Path) -> None:
        """Listen on the Unix socket ``path``, and on TCP if ``rpcBind`` is set."""
        loop = asyncio.get_running_loop()
        self.path = path
        self._servers.append(await loop.create_unix_server(lambda: self._link(self.unix_address)[1], str(path)))
        path.chmod(0o600)
        if self.settings.service.rpc_bind:
            host, _, port = self.settings.service.rpc_bind.rpartition(":")
            server = await loop.create_server(self._arrive, host.strip("[]") or "127.0.0.1", int(port))
            advertised = self.settings.service.rpc_advertise or socket.gethostname()
            self.tcp_address = f"{advertised}:{server.sockets[0].getsockname()[1]}"
            self._servers.append(server)

    def shared(self, fact: bytes) -> bytes:
        """Return one copy of facts that many clients state alike. With ten thousand clients, calls touch less memory
        that way."""
        if len(self._facts) >= _MAX_FACTS:
            self._facts.clear()
        return self._facts.setdefault(fact, fact)

    @property
    def offer(self) -> str:
        """How it takes links over TCP, as the registry has it: ``auto``, ``required``, or empty without TLS."""
        return "" if self.tls is None else "required" if self.tls.required else "auto"

    def _arrive(self) -> asyncio.BaseProtocol:
        if self.tls is None:
            return self._link(self.tcp_address)[1]
        arriving = Arriving(self.tls, self, _PROOF_S)
        self._enter(arriving)
        return arriving

    def _enter(self, newcomer: Joining | Arriving) -> None:
        if len(self._joining) >= _MAX_JOINING:
            oldest = next(iter(self._joining))
            del self._joining[oldest]
            oldest.abort()
        self._joining[newcomer] = None

    # ---- shared.rpc.link_tls.Arrivals

    def link_on(
        self, arriving: Arriving, transport: asyncio.Transport, channel: bytes
    ) -> tuple[Link, Callable[[BaseException | None], None]]:
        self._joining.pop(arriving, None)
        joining, link = self._link(self.tcp_address, channel)
        joining.transport = transport

        def failed(error: BaseException | None) -> None:
            self._joining.pop(joining, None)
            joining.abort()
            if isinstance(error, ssl.SSLError):
                self._refused(place(None, transport.get_extra_info("peername")), of_tls(error))

        return link, failed

    def left(self, arriving: Arriving, error: HandshakeError | None) -> None:
        self._joining.pop(arriving, None)
        if error is not None:
            self._refused(arriving.place, error)

    # ---- links

    def _link(self, address: str, channel: bytes = b"") -> tuple[Joining, Link]:
        side = WorkerSide(self.key, self.worker, address, channel=channel)

        def proven(link: Link) -> None:
            self._joining.pop(joining, None)
            link.hand_over(FrontEndPeer(self, side.frontend), self.settings.calls.max_body_bytes + SLACK)

        def failed(error: HandshakeError | None) -> None:
            self._joining.pop(joining, None)
            if error is not None:
                self._refused(joining.place, error)

        joining = Joining(side, _PROOF_S, proven, failed)
        self._enter(joining)
        return joining, Link(joining, 0, self.stalled, self.traffic)

    def _refused(self, place: str, error: HandshakeError) -> None:
        """Log that a peer did not prove itself; not for every attempt, because anybody can make any number."""
        now = self.clock()
        if now - self._refused_at > _SAY_AGAIN_S:
            self._refused_at = now
            _log.warning("refusing a link to worker %s from %s: %s", self.worker, place, error)

    # ---- client sessions

    def cancel_request(self, sid: str, request: bytes) -> None:
        """Stop a request that its session cancelled."""
        for call in self.front_ends.calls_of(sid):
            if call.request == request:
                call.stop("cancelled by the client")
                call.fail(OutcomeUnknown("cancelled", "cancelled by the client"))

    def question_news(self, question_id: str, sid: str, progress: bytes) -> None:
        """Note that a question was sent on a stream that the client has open, or pass on the client's progress with the
        answer."""
        if progress:
            self.broker.progressed(question_id, sid, progress)
        elif isinstance(question := self.broker.asker(question_id, sid), Question):
            self.unsolicited.shown(question)

    def end_session(self, sid: str) -> None:
        """End all calls of a client session that is over, and forget what was kept for it."""
        for call in self.front_ends.calls_of(sid):
            call.stop("the client's session ended")
            call.fail(OutcomeUnknown("cancelled", "the client's session ended"))
        self.front_ends.forget_session(sid)
        self.broker.replays.end_session(sid)
        self.unsolicited.end_session(sid)
        self.inventory.end_client(sid)

    # ---- life

    def alive(self) -> None:
        """Note that the loop runs. Called a few times a second."""
        self._alive_at = self.clock()
        self.broker.replays.trim()

    def stalled(self) -> bool:
        """Whether the loop stood still for longer than ``STALL_S``."""
        return self.clock() - self._alive_at > STALL_S

    def go_away(self) -> None:
        """Take no more calls, and announce to front ends which ones were taken."""
        self.draining = True
        for peer in self.front_ends.peers:
            if peer.link is not None:
                peer.link.send(rpc.GoAway(peer.last_call))
            for call in [call for call in peer.calls.values() if call.method == LISTEN]:  # would never end by itself
                call.stop("the worker is shutting down")
                call.fail(OutcomeUnknown("cancelled", "the worker is shutting down"))

    async def close(self) -> None:
        """Stop listening and end the links."""
        for server in self._servers:
            server.close()
        for joining in self._joining:
            joining.abort()
        self._joining.clear()
        self.front_ends.close()
        if self.path is not None:
            self.path.unlink(missing_ok=True)
