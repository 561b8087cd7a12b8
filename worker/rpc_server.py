"""Links from front ends: they prove membership, then send calls; answers go back on the same link.

Counterpart: ``gateway.fleet.worker_link``. Knows frames and ``LinkCall``; nothing of how upstreams work.
"""

from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import Callable
from pathlib import Path

from shared.errors import CallError, NotDelivered, OutcomeUnknown
from shared.mcp import jsonrpc
from shared.mcp.methods import LISTEN
from shared.mcp.versions import Era
from shared.rpc import messages as rpc
from shared.rpc.connection import SLACK, BodyStream, Link
from shared.rpc.framing import CHUNK
from shared.secrets import FleetKey
from shared.settings import Settings
from shared.tasks import Deadlines, spawn
from worker.calls.calls import NOBODY, ClientFacts, LinkCall, UpstreamError
from worker.input.broker import InputBroker
from worker.input.unsolicited import Question, UnsolicitedMessages
from worker.ownership.inventory import Inventory

_log = logging.getLogger(__name__)
_PROOF_S = 5.0
"""A peer that has not proved membership by then is dropped."""
_MAX_FACTS = 1000
_MAX_TELLERS = 100_000
STALL_S = 2.0
"""When our loop stood still for longer, unread frames are dropped: their callers have given up on us."""


class _FrontEnd:
    """The peer at one link's other end."""

    def __init__(self, server: RpcServer) -> None:
        self.server = server
        self.nonce = os.urandom(32)
        self.trusted = False
        self.name = "?"
        self.last_call = 0
        self.sessions: dict[str, ClientFacts] = {}
        self.calls: dict[int, LinkCall] = {}
        self.link: Link | None = None

    def on_connected(self, link: Link) -> None:
        self.link = link
        self.server.links.add(self)
        link.send(rpc.Challenge(self.nonce, self.server.worker))
        self.server.loop.call_later(_PROOF_S, self._expect_proof, link)

    def _expect_proof(self, link: Link) -> None:
        if not self.trusted:
            link.abort()

    def on_frame(self, link: Link, head: rpc.Head, body: bytes) -> None:
        kind = type(head)
        if not self.trusted:
            self._welcome(link, head)
        elif kind is rpc.Call:
            self._call(link, head, body)  # type: ignore[arg-type]
        elif kind is rpc.Ping:
            link.send(rpc.Pong(head.number))  # type: ignore[union-attr]
        elif kind is rpc.Cancel:
            call = self.calls.get(head.call)  # type: ignore[union-attr]
            link.abandon(head.call)  # type: ignore[union-attr]
            if call is not None:
                call.stop(head.reason)  # type: ignore[union-attr]
                call.fail(NotDelivered("cancelled", "cancelled by the client"))
        elif kind is rpc.OpenSession:
            assert isinstance(head, rpc.OpenSession)
            facts = self.sessions.get(head.session)
            if facts is None:
                same = self.server.shared
                capabilities, info = same(head.capabilities), same(head.client_info)
                facts = ClientFacts(head.principal, head.version, capabilities, info)
                facts.alone = head.alone
                self.sessions[head.session] = facts
            facts.log_level = head.log_level
        elif kind is rpc.Reply:
            assert isinstance(head, rpc.Reply)
            self.server.needs.reply(head.ask, head.session, head.is_error, body)
        elif kind is rpc.Watch:
            assert isinstance(head, rpc.Watch)
            spawn(self._watch(link, head) if head.on else self._unwatch(head), "watch")  # in the order they came
        elif kind is rpc.EndSession:
            assert isinstance(head, rpc.EndSession)
            self.sessions.pop(head.session, None)
            if head.over:
                self.server.end_session(head.session)
        elif kind is rpc.Detach:
            call = self.calls.get(head.call)  # type: ignore[union-attr]
            if call is not None:
                call.keep()
        elif kind is rpc.CancelRequest:
            assert isinstance(head, rpc.CancelRequest)
            self.server.cancel_request(head.session, head.request)
        elif kind is rpc.RootsChanged:
            self.server.inventory.roots_changed(head.session)  # type: ignore[union-attr]
        elif kind is rpc.Resume:
            assert isinstance(head, rpc.Resume)
            self._resume(link, head)
        elif kind is rpc.Alive:
            self.server.inventory.alive(head.session)  # type: ignore[union-attr]
        elif kind is rpc.QuestionNews:
            assert isinstance(head, rpc.QuestionNews)
            self.server.heard(head.ask, head.session, body)
        elif kind is rpc.Notice:
            assert isinstance(head, rpc.Notice)
            client = self.sessions.get(head.session, NOBODY)
            self.server.inventory.notify(head.upstream, head.session, client, body)

    def _welcome(self, link: Link, head: rpc.Head) -> None:
        if not isinstance(head, rpc.Hello) or not self.server.key.proves(self.nonce, head.proof):
            self.server.refused(link)
            return
        self.trusted = True
        link.max_body = self.server.settings.calls.max_body_bytes + SLACK
        self.name = head.frontend
        link.send(rpc.Welcome())

    def _resume(self, link: Link, head: rpc.Resume) -> None:
        """The client of a call is back: what it missed, and the rest as it comes."""
        replay = self.server.needs.replays.find((head.frontend, head.before), head.session)
        if replay is None:
            text = "this stream can no longer be resumed"
            link.send(rpc.Failed(head.call, "invalid_request", text, True))
            return
        call = replay.call
        link.send(rpc.Resumed(head.call, replay.request, replay.name, replay.listed))
        for sequence, message in replay.after(head.sequence):
            link.send(rpc.Interim(head.call, sequence=sequence), message)
        self.server.needs.replays.name(replay, (self.name, head.call))
        if isinstance(call, LinkCall):
            call.move(self, link, head.call)
        elif replay.outcome is not None:
            replay.outcome.send(link, head.call)

    async def _watch(self, link: Link, head: rpc.Watch) -> None:
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

    async def _unwatch(self, head: rpc.Watch) -> None:
        self.server.inventory.unwatch(self, head.upstream, head.uri, head.session)

    def updated(self, upstream: str, uri: str, session: str, params: bytes) -> None:
        """A resource that this front end watches changed. A front end that does not keep up is told later ones."""
        if self.link is not None and not self.link.congested and len(params) <= CHUNK:
            self.link.send(rpc.Updated(upstream, uri, session), params)

    def _call(self, link: Link, head: rpc.Call, body: bytes) -> None:
        server = self.server
        call = LinkCall(self, link, head, body, server.settings.calls.request_timeout_s, server.needs)
        self.calls[head.call] = call
        if server.draining:
            call.fail(NotDelivered("not_delivered", "the worker is shutting down"))
            return
        if head.call > self.last_call:  # a large call is whole later than those sent after it
            self.last_call = head.call
        if head.session:
            facts = self.sessions.get(head.session)
            if facts is not None:
                call.client = facts
        elif head.principal:
            call.client = ClientFacts(head.principal)
        endless = head.method == LISTEN and head.era == Era.MODERN
        if not endless:
            now = server.clock()
            call.hard_limit = now + server.settings.calls.request_timeout_max_s
            call.expires_at = min(now + call.timeout_s, call.hard_limit)
            server.deadlines.add(call)
        try:
            if endless:
                server.inventory.listen(head.upstream, call)
            elif not (head.retry and server.needs.take(call)):
                server.inventory.submit(head.upstream, call)
        except Exception as error:  # one call that cannot be handled must not cost the others their link
            _log.exception("a call to %s", head.upstream)
            call.fail(OutcomeUnknown("internal", f"the gateway failed: {type(error).__name__}"))

    def stream_body(self, link: Link, head: rpc.Head, stream: BodyStream) -> bool:
        return False  # requests are needed whole: their ids are written into the envelope

    def on_closed(self, link: Link, error: Exception | None) -> None:
        self.server.links.discard(self)
        self.server.inventory.forget_watcher(self)
        self.server.orphans = {call for call in self.server.orphans if not call.done}
        # The front end is gone and with it whoever waited on a modern call; a legacy call runs on
        # (its session lives on another front end) up to its timeout.
        for call in list(self.calls.values()):
            if call.era:
                call.stop("the front end is gone")
                call.fail(NotDelivered("cancelled", "the front end is gone"))
            elif call.session:
                call.keep()
                self.server.orphans.add(call)


class RpcServer:
    """Listens on a Unix socket (and TCP, when configured) for front ends."""

    def __init__(
        self, worker: str, key: FleetKey, settings: Settings, inventory: Inventory, deadlines: Deadlines
    ) -> None:
        self.worker = worker
        self.key = key
        self.settings = settings
        self.inventory = inventory
        self.deadlines = deadlines
        self.needs = InputBroker(worker, key, settings, deadlines)
        self.beside = UnsolicitedMessages(self.needs, deadlines, settings, self.tell_client, self.inquire)
        inventory.aside = self.beside
        self.draining = False
        self.links: set[_FrontEnd] = set()
        self.orphans: set[LinkCall] = set()
        """Calls of sessions whose front end is gone; they run on and can be resumed."""
        self.loop = asyncio.get_running_loop()
        self.clock: Callable[[], float] = self.loop.time
        self._alive_at = self.clock()
        self._facts: dict[bytes, bytes] = {}
        self._tellers: dict[str, _FrontEnd] = {}  # by session: who is told what is for its standing stream
        self._refused_at = -60.0
        self._servers: list[asyncio.Server] = []
        self.path: Path | None = None
        self.tcp_port = 0

    async def start(self, path: Path) -> None:
        """Listen. ``path`` is the Unix socket; TCP follows ``rpcBind``."""
        loop = asyncio.get_running_loop()
        self.path = path
        self._servers.append(await loop.create_unix_server(self._link, str(path)))
        path.chmod(0o600)
        if self.settings.service.rpc_bind:
            host, _, port = self.settings.service.rpc_bind.rpartition(":")
            server = await loop.create_server(self._link, host.strip("[]") or "127.0.0.1", int(port))
            self.tcp_port = server.sockets[0].getsockname()[1]
            self._servers.append(server)

    def shared(self, fact: bytes) -> bytes:
        """One copy of what many clients say of themselves: with ten thousand of them, calls touch less memory."""
        if len(self._facts) >= _MAX_FACTS:
            self._facts.clear()
        return self._facts.setdefault(fact, fact)

    def _link(self) -> Link:
        return Link(_FrontEnd(self), 0, self.stalled)  # no large bodies before the peer has proved who it is

    def refused(self, link: Link) -> None:
        """A peer that does not know the fleet's key; said at most once in ten seconds."""
        now = self.clock()
        if now - self._refused_at > 10.0:
            self._refused_at = now
            _log.warning("refusing links: a peer does not know the fleet's key; is GATEWAY_SECRET the same everywhere?")
        link.abort()

    # ---- client sessions

    def _calls_of(self, sid: str) -> list[LinkCall]:
        self.orphans = {call for call in self.orphans if not call.done}
        everyone = [call for peer in self.links for call in peer.calls.values()]
        return [call for call in [*everyone, *self.orphans] if call.session == sid]

    def cancel_request(self, sid: str, request: bytes) -> None:
        """A session cancelled a request of its own."""
        for call in self._calls_of(sid):
            if call.request == request:
                call.stop("cancelled by the client")
                call.fail(OutcomeUnknown("cancelled", "cancelled by the client"))

    def tell_client(self, sid: str, message: bytes, dropped: int, must: bool) -> bool:
        """Something for a client's standing stream, by a front end that knows the session if there is one; false when
        there is none. Always the same one while it is there, so that things come in order. ``must``: also by one that
        does not keep up."""
        peer = self._tellers.get(sid)
        if peer is None or peer not in self.links:
            peers = [peer for peer in self.links if peer.trusted and peer.link is not None and not peer.link.closed]
            peer = min(peers, key=lambda peer: (sid not in peer.sessions, peer.name), default=None)
            if peer is None:
                return False
            if len(self._tellers) >= _MAX_TELLERS:
                self._tellers.clear()
            self._tellers[sid] = peer
        if peer.link is None or peer.link.closed or (peer.link.congested and not must):
            return False
        peer.link.send(rpc.Unsolicited(sid, dropped=dropped), message)
        return True

    def inquire(self, sid: str) -> None:
        """Ask all front ends whether a session has its stream open there."""
        for peer in self.links:
            if peer.trusted and peer.link is not None and not peer.link.congested:
                peer.link.send(rpc.Alive(sid))

    def heard(self, ask: str, sid: str, progress: bytes) -> None:
        """A client has a question before it, or tells how far it is with the answer."""
        if progress:
            self.needs.progressed(ask, sid, progress)
        elif isinstance(question := self.needs.asker(ask, sid), Question):
            self.beside.shown(question)

    def end_session(self, sid: str) -> None:
        """A client session is over, and everything that was done or kept for it."""
        for call in self._calls_of(sid):
            call.stop("the client's session ended")
            call.fail(OutcomeUnknown("cancelled", "the client's session ended"))
        self._tellers.pop(sid, None)
        self.needs.replays.end_session(sid)
        self.beside.end_session(sid)
        self.inventory.end_client(sid)

    def alive(self) -> None:
        """Called a few times a second: our loop turns."""
        self._alive_at = self.clock()
        self.needs.replays.trim()

    def stalled(self) -> bool:
        """Whether the loop stood still for longer than ``STALL_S``."""
        return self.clock() - self._alive_at > STALL_S

    def drop_links(self) -> None:
        """End every link at once; front ends connect again."""
        for peer in list(self.links):
            if peer.link is not None:
                peer.link.abort()

    def go_away(self) -> None:
        """Take no more calls; say which were taken."""
        self.draining = True
        for peer in self.links:
            if peer.link is not None:
                peer.link.send(rpc.GoAway(peer.last_call))
            for call in [call for call in peer.calls.values() if call.method == LISTEN]:  # it would never end
                call.stop("the worker is shutting down")
                call.fail(OutcomeUnknown("cancelled", "the worker is shutting down"))

    @property
    def in_flight(self) -> int:
        """Calls of front ends under way; what listens is none."""
        return sum(call.method != LISTEN for peer in self.links for call in peer.calls.values())

    async def close(self) -> None:
        """Stop listening and end the links."""
        for server in self._servers:
            server.close()
        for peer in list(self.links):
            if peer.link is not None:
                peer.link.close()
        if self.path is not None:
            self.path.unlink(missing_ok=True)
