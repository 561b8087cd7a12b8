"""One upstream in this worker: which session carries which call.

By era (a client is served in its own where the upstream speaks it) and by isolation
(``shared.isolation``). Sessions are opened when first needed, closed when idle, and bounded.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Callable
from copy import copy

from msgspec import structs

from shared.errors import CallError, NotDelivered, Refused
from shared.isolation import FOR_ALL, SessionUse, era_for, session_use
from shared.mcp import jsonrpc
from shared.mcp.listings import CHANGES
from shared.mcp.methods import LISTEN, RESOURCE_UPDATED, ROOTS_CHANGED, SUBSCRIBE
from shared.mcp.versions import Era
from shared.models import EraChoice, HttpConnection, StdioConnection, UpstreamSpec
from shared.settings import Settings
from shared.tasks import spawn
from worker.calls.calls import NOBODY, Call, ClientFacts, OwnCall
from worker.sessions.context import SessionContext
from worker.sessions.resource_subscriptions import ResourceSubscriptions
from worker.sessions.session import Session
from worker.transports.http_client import HttpEndpoint, HttpPool
from worker.transports.http_sse import SseSession
from worker.transports.probe import Facts
from worker.transports.stdio import StdioSession
from worker.transports.streamable_http import LegacyHttp, ModernHttp

_log = logging.getLogger(__name__)
_INQUIRY_S = 2.0
"""How long front ends have to say that the client of an idle upstream session has a stream open."""
PoolKey = tuple[str, bytes]


class Upstream:
    """See the module. ``on_trouble`` hears of failures that say something about the upstream's health."""

    def __init__(
        self, spec: UpstreamSpec, settings: Settings, incarnation: str, log_line: Callable[[str], None]
    ) -> None:
        self.spec = spec
        self.settings = settings
        self.context = SessionContext(
            spec, settings, incarnation, self._announced, self._lost, log_line, self._reopened, self._forgotten
        )
        self.facts: Facts | None = None
        self.calls = 0
        self.last_call = 0.0
        self.subscriptions = ResourceSubscriptions(
            spec.id, settings.upstreams.max_subscriptions, self._session_to_watch
        )
        self.on_announced: Callable[[str], None] = lambda method: None
        self.on_trouble: Callable[[CallError], None] = lambda error: None
        self._loop = asyncio.get_running_loop()
        self._pool: HttpPool | None = None
        self._shared: dict[Era, Session] = {}
        self._for_all: list[Session | None] = [None, None]  # by a call's era: what carries all such calls, once chosen
        self._by_client: dict[str, Session] = {}
        self._leases: dict[PoolKey, list[Session]] = {}
        self._for_legacy: list[Call] = []
        self._legacy_tried = False
        self._closed = False

    # ---- facts

    def adopt(self, facts: Facts, session: Session | None = None) -> None:
        """Serve by these facts from now on. ``session``: the one the probe left open, for a stdio child."""
        if facts.transport != "stdio" and isinstance(self.spec.connection, StdioConnection):
            return  # found before the entry was changed
        if self.facts is not None and (facts.transport, facts.url) != (self.facts.transport, self.facts.url):
            self._leave(facts)
        if facts.transport != "stdio" and self._pool is None:
            connection = self.spec.connection
            assert isinstance(connection, HttpConnection)
            self._pool = HttpPool(HttpEndpoint(facts.url, connection.headers), self.settings.upstreams)
        if session is not None and facts.transport == "stdio":
            self._shared[session.era] = session
        self.facts = facts
        self._legacy_tried = False
        self._for_all = [None, None]

    def _leave(self, facts: Facts) -> None:
        """The upstream was found elsewhere, or speaks by another transport: what was open to it is of no use."""
        gone = NotDelivered("upstream_unavailable", f"upstream {self.spec.id!r} is reached by {facts.transport} now")
        sessions, pool = self._take_all()
        for session in sessions:
            session.lost(gone)
        spawn(_close_all(sessions, pool), "close-upstream-sessions")

    def _take_all(self) -> tuple[list[Session], HttpPool | None]:
        """Everything that is open, which nobody finds here any more."""
        leased = [session for pool in self._leases.values() for session in pool]
        sessions = [*self._shared.values(), *self._by_client.values(), *leased]
        pool, self._pool = self._pool, None
        self._shared, self._by_client, self._leases = {}, {}, {}
        self._for_all = [None, None]
        return sessions, pool

    # ---- calls

    def submit(self, call: Call) -> None:
        """Carry ``call``; it is answered or failed exactly once."""
        session = self._for_all[call.era]
        if session is None or session.closed:
            session = self._carrier(call)
            if session is None:
                return
        self.calls += 1
        self.last_call = self._loop.time()
        call.on_done = self._done
        session.submit(call)

    def _carrier(self, call: Call) -> Session | None:
        """The session for ``call``; none: it has failed, or waits until it is known which era carries it."""
        facts = self.facts
        if facts is None or self._closed:
            call.fail(NotDelivered("upstream_unavailable", f"upstream {self.spec.id!r} is not connected here yet"))
            return None
        if call.era == Era.LEGACY and self._may_speak_legacy(facts):
            self._try_legacy(call)
            return None
        use = session_use(
            self.spec.isolation, facts.transport, facts.eras, facts.sessionful, call.era, bool(call.session)
        )
        try:
            session = self._session_for(call, use, era_for(call.era, facts.eras))
        except CallError as error:
            call.fail(error)
            return None
        if use in FOR_ALL:
            self._for_all[call.era] = session
        return session

    def listen(self, call: Call) -> None:
        """Carry a client's own ``subscriptions/listen``, which has no end: nothing waits for it to be over."""
        try:
            session = self._session_to_watch("", NOBODY)
        except CallError as error:
            call.fail(error)
            return
        if session.era is Era.MODERN:
            session.submit(call)
        else:
            call.fail(Refused("method_unknown", f"upstream {self.spec.id!r} knows no {LISTEN}"))

    def _may_speak_legacy(self, facts: Facts) -> bool:
        """A child locks to the era of its first request; whether it has the other one too is not known yet."""
        return (
            facts.transport == "stdio"
            and facts.eras == (Era.MODERN.word,)
            and self.spec.era is EraChoice.AUTO
            and not self._legacy_tried
        )

    def _try_legacy(self, call: Call) -> None:
        """Serve a legacy client in its own era by a second child, started lazily, if the server has that era."""
        self._for_legacy.append(call)
        if len(self._for_legacy) == 1:
            spawn(self._open_legacy(), f"second era of {self.spec.id}")

    async def _open_legacy(self) -> None:
        context = copy(self.context)
        context.on_lost = lambda session, error: None  # not to have that era is no trouble
        session = StdioSession(context, Era.LEGACY)
        with contextlib.suppress(CallError):
            await session.open()
        if session.ready and self.facts is not None:
            context.on_lost = self._lost
            self._shared[Era.LEGACY] = session
            self.facts = structs.replace(self.facts, eras=(Era.LEGACY.word, Era.MODERN.word))
            self._for_all = [None, None]
        else:  # it has no such era, or was closed meanwhile
            await session.close()
        self._legacy_tried = True
        waiting, self._for_legacy = self._for_legacy, []
        for call in waiting:
            if not call.done:
                self.submit(call)

    def _session_for(self, call: Call, use: SessionUse, era: Era) -> Session:
        if use in FOR_ALL:
            shared = self._shared.get(era)
            if shared is None or shared.closed:
                shared = self._shared[era] = self._make(era, None)
            return shared
        if use is SessionUse.CLIENT:
            own = self._by_client.get(call.session)
            if own is None or own.closed:
                self._check_room()
                own = self._by_client[call.session] = self._make(era, call)
                own.sid_of_client = call.session
            return own
        return self._lease(call, era)

    def _session_to_watch(self, sid: str, client: ClientFacts) -> Session:
        """Where subscriptions live: the client's own session where it has one, else the shared one. ``CallError``."""
        facts = self.facts
        if facts is None or self._closed:
            raise NotDelivered("upstream_unavailable", f"upstream {self.spec.id!r} is not connected here yet")
        stub = OwnCall(SUBSCRIBE, b"")
        stub.session, stub.client = sid, client
        if sid:
            use = session_use(self.spec.isolation, facts.transport, facts.eras, facts.sessionful, Era.LEGACY, True)
            if use is SessionUse.CLIENT:
                return self._session_for(stub, use, era_for(Era.LEGACY, facts.eras))
        return self._session_for(stub, SessionUse.SHARED, era_for(Era.MODERN, facts.eras))

    def _lease(self, call: Call, era: Era) -> Session:
        """A session of the same principal that nobody uses; a new one; or the least used at the pool's limit."""
        call.learn_client()
        pool = self._leases.setdefault((call.client.principal, call.client.capabilities), [])
        for session in pool:
            if not session.active and not session.closed:
                return session
        pool[:] = [session for session in pool if not session.closed]
        if len(pool) >= self.settings.upstreams.session_pool:
            return min(pool, key=lambda session: session.active)
        self._check_room()
        session = self._make(era, call)
        pool.append(session)
        return session

    def _check_room(self) -> None:
        limit = self.settings.upstreams.max_upstream_sessions
        if len(self._by_client) + sum(map(len, self._leases.values())) >= limit:
            raise NotDelivered(
                "overloaded",
                f"upstream {self.spec.id!r} has {limit} sessions open here, the limit (maxUpstreamSessions)",
            )

    def _make(self, era: Era, call: Call | None) -> Session:
        assert self.facts is not None
        context = self.context
        client = (call.client,) if call is not None else ()
        if self.facts.transport == "stdio":
            return StdioSession(context, era, *client)
        assert self._pool is not None
        if self.facts.transport == "sse":
            return SseSession(context, self._pool, *client)
        if era is Era.MODERN:
            return ModernHttp(context, self._pool)
        return LegacyHttp(context, self._pool, *client)

    def _done(self, call: Call) -> None:
        self.calls -= 1

    # ---- what sessions say

    def _announced(self, session: Session, method: str, params: bytes) -> None:
        if method == RESOURCE_UPDATED:
            self.subscriptions.updated(session.sid_of_client, params)
        else:
            self.on_announced(method)

    def _reopened(self, session: Session) -> None:
        """A session was lost and opened anew: the upstream may have been restarted, and offer something else."""
        self.subscriptions.renew(session)
        for method in CHANGES:
            self.on_announced(method)

    def _forgotten(self, session: Session) -> None:
        if self.subscriptions.live_on(session):
            session.start()

    def _lost(self, session: Session, error: CallError) -> None:
        self.subscriptions.renew(session)
        self._by_client = {sid: own for sid, own in self._by_client.items() if own is not session}
        for pool in self._leases.values():
            if session in pool:
                pool.remove(session)
        if error.data.get("certain"):
            self.on_trouble(error)

    # ---- housekeeping

    def roots_changed(self, sid: str) -> None:
        """Told on the client's own session only: the others know no roots."""
        session = self._by_client.get(sid)
        if session is not None and session.ready and session.era is Era.LEGACY and session.has_room():
            session.send_notification(jsonrpc.notification(ROOTS_CHANGED))

    def notify(self, sid: str, client: ClientFacts, message: bytes) -> None:
        """A client's notification that we do not know: on its own session, or on the one that clients share."""
        facts = self.facts
        if facts is None or self._closed:
            return
        use = session_use(self.spec.isolation, facts.transport, facts.eras, facts.sessionful, Era.LEGACY, True)
        era = era_for(Era.LEGACY, facts.eras)
        if era is not Era.LEGACY:
            return  # a modern upstream takes no notifications that are about no request (2026-07-28, basic)
        stub = OwnCall(method="", params=b"")
        stub.session, stub.client = sid, client
        try:
            self._session_for(stub, use, era).notify(message)
        except CallError as error:
            _log.debug("%s: a client's notification is dropped: %s", self.spec.id, error)

    def alive(self, sid: str) -> None:
        """The client has a stream open, on which it may be waiting for something."""
        session = self._by_client.get(sid)
        if session is not None:
            session.last_used, session.inquired_at = self._loop.time(), 0.0

    def end_client(self, sid: str) -> None:
        """The client session is over: so is what it had here."""
        self.subscriptions.end_client(sid)
        session = self._by_client.pop(sid, None)
        if session is not None:
            spawn(session.close(), "close-upstream-session")

    def trim(self) -> None:
        """Close what has been idle for too long (about once a second)."""
        if self._pool is not None:
            self._pool.trim()
        if not self._by_client and not self._leases:
            return
        deadline = self._loop.time() - self.settings.upstreams.upstream_session_idle_s
        for sid, session in list(self._by_client.items()):
            if session.active or session.last_used >= deadline or self.subscriptions.uses(sid):
                session.inquired_at = 0.0
            elif not session.inquired_at:
                session.inquired_at = self._loop.time()
                self.context.aside.inquire(sid)
            elif session.inquired_at < self._loop.time() - _INQUIRY_S:
                session.tell_state_lost()
                self.end_client(sid)
        for key, pool in list(self._leases.items()):
            for session in [s for s in pool if not s.active and s.last_used < deadline]:
                pool.remove(session)
                spawn(session.close(), "close-upstream-session")
            if not pool:
                del self._leases[key]

    @property
    def holds_state(self) -> bool:
        """Moving this upstream away would lose something of a client's."""
        return bool(self.calls or self._by_client or any(self._leases.values()) or self.subscriptions)

    async def close_sessions(self) -> None:
        """Close every session; calls in flight fail. A stdio child ends here."""
        self.facts = None  # before anything is waited for: a call that comes meanwhile opens nothing
        for own in self._by_client.values():
            own.tell_state_lost()
        sessions, pool = self._take_all()
        await self.subscriptions.close()
        await _close_all(sessions, pool)

    async def close(self) -> None:
        """The upstream is no longer ours."""
        self._closed = True
        await self.close_sessions()


async def _close_all(sessions: list[Session], pool: HttpPool | None) -> None:
    await asyncio.gather(*(session.close() for session in sessions), return_exceptions=True)
    if pool is not None:
        pool.close()
