"""One upstream in this worker: which session carries which call.

The session depends on the era (a client is served in its own era if the upstream speaks it) and on isolation
(``shared.isolation``). Sessions are opened when first needed, closed when idle, and bounded in number.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Callable
from typing import Protocol

from msgspec import structs

from shared.choices import EraChoice
from shared.errors import CallError, NotDelivered, Refused
from shared.isolation import FOR_ALL, SessionUse, era_for, session_use
from shared.mcp import jsonrpc
from shared.mcp.listings import CHANGES, KINDS, Kind
from shared.mcp.methods import LISTEN, RESOURCE_UPDATED, ROOTS_CHANGED
from shared.mcp.versions import Era
from shared.models import UpstreamSpec
from shared.registry.records import ListedCatalog
from shared.settings import Settings
from shared.tasks import spawn
from shared.transports import traits
from worker.calls.call import Call
from worker.calls.client_facts import NOBODY, ClientFacts
from worker.calls.concurrency import Fixed, Learned
from worker.calls.gate import Gate
from worker.calls.observer import CallObserver, Traffic
from worker.credentials.source import Credentials
from worker.ownership.own_lists import OwnLists
from worker.sessions.context import SessionContext, UnsolicitedPath, UpstreamSession
from worker.sessions.resource_subscriptions import ResourceSubscriptions
from worker.sessions.session import Session
from worker.transports import DRIVERS
from worker.transports.transport import Pool, UpstreamFacts

_log = logging.getLogger(__name__)
_INQUIRY_S = 2.0
"""The seconds that front ends have to answer that the client of an idle upstream session has a stream open."""
PoolKey = tuple[str, bytes]


class UpstreamEvents(Protocol):
    """Is notified of news about an upstream (``worker.ownership.inventory``)."""

    def announced(self, method: str) -> None:
        """Handle that the upstream announced a changed list, on any of its sessions."""

    def trouble(self, error: CallError) -> None:
        """Handle that a call found the upstream gone."""

    def look(self) -> None:
        """Have the lists read again; clients are told only of what differs."""

    def listed(self) -> ListedCatalog:
        """Return the lists as they were read last, by any worker."""


class Upstream:
    """One upstream and its sessions. ``observer`` is notified of each call."""

    def __init__(
        self,
        spec: UpstreamSpec,
        settings: Settings,
        incarnation: str,
        events: UpstreamEvents,
        unsolicited: UnsolicitedPath,
        log_line: Callable[[str], None],
        observer: CallObserver | None = None,
        credentials: Credentials | None = None,
    ) -> None:
        self.spec = spec
        self.settings = settings
        self._log_line = log_line
        self.context = SessionContext(
            spec, settings, incarnation, _SessionListener(self), unsolicited, self._logged, credentials
        )
        self.facts: UpstreamFacts | None = None
        self.subscriptions = ResourceSubscriptions(
            spec.id, settings.upstreams.max_subscriptions, self._session_to_watch
        )
        self.own_lists = OwnLists(settings, events, unsolicited)
        self._events = events
        self._loop = asyncio.get_running_loop()
        self._pool: Pool | None = None
        self._shared: dict[Era, Session] = {}
        self._for_all: list[Session | None] = [None, None]  # by a call's era: the session for all such calls, if any
        self._by_client: dict[str, Session] = {}
        self._leases: dict[PoolKey, list[Session]] = {}
        self._for_legacy: list[Call] = []
        self._trying_legacy: asyncio.Task[None] | None = None
        self._legacy_tried = False
        self._closed = False
        self._gate = self._make_gate()
        self.traffic = Traffic(observer, spec.id, spec.name, self._gate.left if self._gate is not None else None)

    @property
    def waiting(self) -> int | None:
        """How many calls wait for a place, ``None`` where any number may be under way."""
        return self._gate.waiting if self._gate is not None else None

    def _make_gate(self) -> Gate | None:
        """Return the gate through which calls come, or ``None`` if any number may be under way."""
        limits = self.settings.upstreams
        if limits.concurrency != "adaptive" and not limits.max_concurrency:
            return None
        learned = limits.concurrency == "adaptive"
        concurrency = Learned(limits.max_concurrency) if learned else Fixed(limits.max_concurrency)
        waiting, clock = limits.max_pending, self._loop.time
        return Gate(self.spec.id, concurrency, waiting, limits.max_queue_wait_s, clock, self._let_in)

    def join(self, whole: Upstream) -> None:
        """Be a part of another upstream, which counts calls and lets them in."""
        self.traffic, self._gate = whole.traffic, None

    def _logged(self, line: str) -> None:
        self.context.last_line = line
        self._log_line(line)

    # ---- facts

    def adopt(self, facts: UpstreamFacts, session: Session | None = None) -> None:
        """Serve by these facts from now on. ``session`` is the one that the probe left open, for a stdio child."""
        kind = traits(facts.transport)
        if facts.transport not in DRIVERS:
            return  # the facts were found by a worker of a newer release
        if type(self.spec.connection) is not kind.connection:
            return  # the facts were found before the entry was changed
        if self.facts is not None and (facts.transport, facts.url) != (self.facts.transport, self.facts.url):
            self._leave(facts)
        if self._pool is None:
            self._pool = DRIVERS[facts.transport].make_pool(self.context, facts)
        if session is not None and kind.runs_once:
            self._shared[session.era] = session
        self.facts = facts
        self._legacy_tried = False
        self._for_all = [None, None]

    def _leave(self, facts: UpstreamFacts) -> None:
        """Close everything that is open, because the upstream is now at another URL or speaks another transport."""
        gone = NotDelivered("upstream_unavailable", f"upstream {self.spec.id!r} is reached by {facts.transport} now")
        sessions, pool = self._take_all()
        for session in sessions:
            session.lost(gone)
        spawn(_close_all(sessions, pool), "close-upstream-sessions")

    def _take_all(self) -> tuple[list[Session], Pool | None]:
        """Remove and return all sessions and the pool, so that no call finds them any more."""
        leased = [session for pool in self._leases.values() for session in pool]
        sessions = [*self._shared.values(), *self._by_client.values(), *leased]
        pool, self._pool = self._pool, None
        self._shared, self._by_client, self._leases = {}, {}, {}
        self._for_all = [None, None]
        return sessions, pool

    # ---- calls

    def submit(self, call: Call) -> None:
        """Carry ``call``, which is answered or failed exactly once."""
        if self._gate is not None and call.observer is None:
            self._gate.enter(call, caller_of(call))
            return
        session = self._for_all[call.era]
        if session is None or session.closed:
            session = self._carrier(call)
            if session is None:
                return
        if call.observer is None:
            call.observer = self.traffic
            self.traffic.begun(call)
        session.submit(call)

    def _let_in(self, call: Call) -> None:
        """Carry a call that got its place. It has the place until it is over."""
        call.observer = self.traffic
        self.traffic.begun(call)
        self.submit(call)

    def _carrier(self, call: Call) -> Session | None:
        """Return the session for ``call``, or ``None`` if the call has failed or waits until its era is known."""
        facts = self.facts
        if facts is None or self._closed:
            call.fail(NotDelivered("not_delivered", f"upstream {self.spec.id!r} is not connected here yet"))
            return None
        if call.era == Era.LEGACY and self._may_speak_legacy(facts):
            self._try_legacy(call, facts.transport)
            return None
        use = session_use(
            self.spec.isolation, facts.transport, facts.eras, facts.sessionful, call.era, bool(call.session)
        )
        try:
            session = self._session_for(use, era_for(call.era, facts.eras), call)
        except CallError as error:
            call.fail(error)
            return None
        if use in FOR_ALL:
            self._for_all[call.era] = session
        return session

    def list_for(self, kind: Kind, call: Call) -> None:
        """Answer ``call`` with what the client's own session lists, or null if all clients see the same."""
        facts = self.facts
        if facts is None or self._closed:
            call.fail(NotDelivered("not_delivered", f"upstream {self.spec.id!r} is not connected here yet"))
        elif not call.session or self._use_of_session(facts) is not SessionUse.CLIENT or not _may_list(kind, facts):
            call.complete(False, b"null")
        else:
            spawn(self._list_for(kind, call), "list-for-client")

    async def _list_for(self, kind: Kind, call: Call) -> None:
        async def session() -> Session:
            if self.facts is not None and self._may_speak_legacy(self.facts):
                await asyncio.wait({self._begin_legacy(self.facts.transport)})
            if self.facts is None:
                raise NotDelivered("upstream_unavailable", f"upstream {self.spec.id!r} is not connected any more")
            own = self._client_session(era_for(Era.LEGACY, self.facts.eras), call.session, call.client)
            if not own.ready:
                await own.open()
            return own

        try:
            document = await self.own_lists.read(kind, call.session, call.client, session)
        except CallError as error:
            call.fail(error)
        else:
            call.complete(False, b"null" if document is None else document)

    def listen(self, call: Call) -> None:
        """Carry a client's own ``subscriptions/listen``. Such a call has no end, so it does not count as a call in
        flight."""
        try:
            session = self._session_to_watch("", NOBODY)
        except CallError as error:
            call.fail(error)
            return
        if session.era is Era.MODERN:
            session.submit(call)
        else:
            call.fail(Refused("method_unknown", f"upstream {self.spec.id!r} knows no {LISTEN}"))

    def _may_speak_legacy(self, facts: UpstreamFacts) -> bool:
        """Whether the legacy era is still to be tried. A child locks to the era of its first request, so the probe
        found only one."""
        return (
            traits(facts.transport).locks_era
            and facts.eras == (Era.MODERN.word,)
            and self.spec.era is EraChoice.AUTO
            and not self._legacy_tried
        )

    def _try_legacy(self, call: Call, transport: str) -> None:
        """Serve a legacy client by a second child in the legacy era, if the server has that era. The child is started
        lazily."""
        self._for_legacy.append(call)
        self._begin_legacy(transport)

    def _begin_legacy(self, transport: str) -> asyncio.Task[None]:
        if self._trying_legacy is None:
            self._trying_legacy = spawn(self._open_legacy(transport), f"second era of {self.spec.id}")
        return self._trying_legacy

    async def _open_legacy(self, transport: str) -> None:
        """Open the second session, and carry the waiting calls, whatever became of the upstream meanwhile."""
        listener = _SessionListener(self, tentative=True)
        context = self.context.with_events(listener)
        session = DRIVERS[transport].make_session(context, Era.LEGACY, self._pool)
        with contextlib.suppress(CallError):
            await session.open()
        if session.ready and self.facts is not None:
            listener.tentative = False
            self._shared[Era.LEGACY] = session
            self.facts = structs.replace(self.facts, eras=(Era.LEGACY.word, Era.MODERN.word))
            self._for_all = [None, None]
        else:  # the server has no such era, or the session was closed meanwhile
            await session.close()
        self._legacy_tried, self._trying_legacy = True, None
        waiting, self._for_legacy = self._for_legacy, []
        for call in waiting:
            if not call.done:
                call.connected_at = self._loop.time()
                self.submit(call)

    def _session_for(self, use: SessionUse, era: Era, call: Call) -> Session:
        """Return the session for a call. Raises ``CallError`` if there is no room for another one."""
        if use in FOR_ALL:
            return self._shared_session(era)
        if use is SessionUse.CLIENT:
            return self._client_session(era, call.session, call.client)
        return self._lease(call, era)

    def _shared_session(self, era: Era) -> Session:
        shared = self._shared.get(era)
        if shared is None or shared.closed:
            shared = self._shared[era] = self._make(era)
        return shared

    def _client_session(self, era: Era, sid: str, client: ClientFacts) -> Session:
        own = self._by_client.get(sid)
        if own is None or own.closed:
            self._check_room()
            own = self._by_client[sid] = self._make(era, client, sid)
        return own

    def _session_to_watch(self, sid: str, client: ClientFacts) -> Session:
        """Return the session on which subscriptions live: the client's own if it has one, else the shared one. Raises
        ``CallError``."""
        facts = self.facts
        if facts is None or self._closed:
            raise NotDelivered("not_delivered", f"upstream {self.spec.id!r} is not connected here yet")
        if sid and self._use_of_session(facts) is SessionUse.CLIENT:
            return self._client_session(era_for(Era.LEGACY, facts.eras), sid, client)
        return self._shared_session(era_for(Era.MODERN, facts.eras))

    def modern_session(self) -> Session | None:
        """Return the session that carries calls of all clients in the modern era, or ``None`` if the upstream has no
        such era, or each client gets a process of its own."""
        facts = self.facts
        if facts is None or self._closed or Era.MODERN.word not in facts.eras:
            return None
        use = session_use(self.spec.isolation, facts.transport, facts.eras, facts.sessionful, Era.MODERN, False)
        return self._shared_session(Era.MODERN) if use in FOR_ALL else None

    def _use_of_session(self, facts: UpstreamFacts) -> SessionUse:
        """Return how calls of a client session use sessions of this upstream."""
        return session_use(self.spec.isolation, facts.transport, facts.eras, facts.sessionful, Era.LEGACY, True)

    def _lease(self, call: Call, era: Era) -> Session:
        """Return an idle session of the same principal, or a new one, or at the pool's limit the least used one."""
        call.learn_client()
        pool = self._leases.setdefault((call.client.principal, call.client.capabilities), [])
        for session in pool:
            if not session.active and not session.closed:
                return session
        pool[:] = [session for session in pool if not session.closed]
        if len(pool) >= self.settings.upstreams.session_pool:
            return min(pool, key=lambda session: session.active)
        self._check_room()
        session = self._make(era, call.client)
        pool.append(session)
        return session

    def _check_room(self) -> None:
        limit = self.settings.upstreams.max_upstream_sessions
        if len(self._by_client) + sum(map(len, self._leases.values())) >= limit:
            raise NotDelivered(
                "overloaded",
                f"upstream {self.spec.id!r} has {limit} sessions open here, the limit (maxUpstreamSessions)",
            )

    def _make(self, era: Era, client: ClientFacts = NOBODY, sid: str = "") -> Session:
        assert self.facts is not None
        return DRIVERS[self.facts.transport].make_session(self.context, era, self._pool, client, sid)

    # ---- events of sessions

    def session_announced(self, session: UpstreamSession, method: str, params: bytes) -> None:
        """Handle that the upstream announced a change of what it offers."""
        if method == RESOURCE_UPDATED:
            self.subscriptions.updated(session.sid_of_client, params)
        elif session.sid_of_client:
            self.own_lists.announced(session, method)
        else:
            self._events.announced(method)

    def session_reopened(self, session: UpstreamSession) -> None:
        """Renew subscriptions and lists after a lost session was opened again. The upstream may have been restarted,
        and offer something else."""
        self.subscriptions.renew(session)
        self.own_lists.reopened(session)
        for method in CHANGES:
            self._events.announced(method)

    def session_forgotten(self, session: UpstreamSession) -> None:
        """Open a session again at once that the upstream has forgotten, if resources are subscribed on it."""
        if self.subscriptions.live_on(session):
            session.start()

    def session_lost(self, session: UpstreamSession, error: CallError) -> None:
        """Forget a session that has ended, and make its subscriptions again."""
        self.subscriptions.renew(session)
        self.own_lists.end_client(session.sid_of_client)
        self._by_client = {sid: own for sid, own in self._by_client.items() if own is not session}
        for pool in self._leases.values():
            pool[:] = [one for one in pool if one is not session]
        if error.data.get("certain"):
            self._events.trouble(error)

    # ---- housekeeping

    def was_cut_off(self) -> None:
        """Handle that this worker reached nobody for a while."""
        leased = [session for pool in self._leases.values() for session in pool]
        for session in (*self._shared.values(), *self._by_client.values(), *leased):
            session.was_cut_off()

    def roots_changed(self, sid: str) -> None:
        """Notify the client's own session only: the others have no roots."""
        session = self._by_client.get(sid)
        if session is not None and session.ready and session.era is Era.LEGACY and session.has_room():
            session.send_notification(jsonrpc.notification(ROOTS_CHANGED))

    def notify(self, sid: str, client: ClientFacts, message: bytes) -> None:
        """Carry a client's notification that the gateway does not know, on the client's own session or on the shared
        one."""
        facts = self.facts
        if facts is None or self._closed:
            return
        era = era_for(Era.LEGACY, facts.eras)
        if era is not Era.LEGACY:
            return  # a modern upstream takes only notifications about a request (2026-07-28, basic)
        own = self._use_of_session(facts) is SessionUse.CLIENT
        try:
            session = self._client_session(era, sid, client) if own else self._shared_session(era)
            session.notify(message)
        except CallError as error:
            _log.debug("%s: a client's notification is dropped: %s", self.spec.id, error)

    def alive(self, sid: str) -> None:
        """Note that the client has a stream open, on which it may be waiting, so its session is not idle."""
        session = self._by_client.get(sid)
        if session is not None:
            session.last_used, session.inquired_at = self._loop.time(), 0.0

    def end_client(self, sid: str) -> None:
        """Close what a client session had here, because the client session is over."""
        self.subscriptions.end_client(sid)
        self.own_lists.end_client(sid)
        session = self._by_client.pop(sid, None)
        if session is not None:
            spawn(session.close(), "close-upstream-session")

    def trim(self) -> None:
        """Close what has been idle for too long. Called about once a second."""
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
                self.context.unsolicited.inquire(sid)
            elif session.inquired_at < self._loop.time() - _INQUIRY_S:
                session.notify_state_lost()
                self.end_client(sid)
        for key, pool in list(self._leases.items()):
            for session in [s for s in pool if not s.active and s.last_used < deadline]:
                pool.remove(session)
                spawn(session.close(), "close-upstream-session")
            if not pool:
                del self._leases[key]

    @property
    def holds_state(self) -> bool:
        """Whether moving this upstream away would lose calls or state of a client."""
        return bool(self.traffic.in_flight) or self.keeps_state

    @property
    def keeps_state(self) -> bool:
        """Whether clients have sessions or subscriptions here."""
        return bool(self._by_client or any(self._leases.values()) or self.subscriptions)

    @property
    def busy(self) -> bool:
        """Whether clients have anything here, or calls under way on sessions that they share."""
        return self.keeps_state or any(session.active for session in self._shared.values())

    def has_client(self, sid: str) -> bool:
        """Whether a client session has an upstream session of its own here."""
        return sid in self._by_client

    async def close_sessions(self) -> None:
        """Close every session. Calls in flight fail, and a stdio child ends."""
        self.facts = None  # before the first await, so that a call that comes meanwhile opens no session
        for own in self._by_client.values():
            own.notify_state_lost()
        sessions, pool = self._take_all()
        await self.subscriptions.close()
        await _close_all(sessions, pool)

    async def close(self) -> None:
        """Close everything, because this worker does not own the upstream any more."""
        self._closed = True
        await self.close_sessions()


def _may_list(kind: Kind, facts: UpstreamFacts) -> bool:
    """Whether the upstream says that it has such a list. Some do not say so of tools, and are asked for them."""
    return kind is Kind.TOOLS or isinstance(facts.capabilities.get(KINDS[kind].capability), dict)


def caller_of(call: Call) -> str:
    """Return whose call it is, for a fair share of an upstream: the principal's, else the client session's."""
    return call.client.principal or call.session


async def _close_all(sessions: list[Session], pool: Pool | None) -> None:
    await asyncio.gather(*(session.close() for session in sessions), return_exceptions=True)
    if pool is not None:
        pool.close()


class _SessionListener:
    """The listener of an upstream's sessions (``worker.sessions.context.SessionEvents``).

    ``tentative``: the loss of a session is ignored, because the session only tries whether the upstream speaks its era.
    """

    def __init__(self, upstream: Upstream, tentative: bool = False) -> None:
        self._upstream = upstream
        self.tentative = tentative

    def announced(self, session: UpstreamSession, method: str, params: bytes) -> None:
        self._upstream.session_announced(session, method, params)

    def lost(self, session: UpstreamSession, error: CallError) -> None:
        if not self.tentative:
            self._upstream.session_lost(session, error)

    def reopened(self, session: UpstreamSession) -> None:
        self._upstream.session_reopened(session)

    def forgotten(self, session: UpstreamSession) -> None:
        self._upstream.session_forgotten(session)

    def modern(self) -> Session | None:
        return self._upstream.modern_session()
