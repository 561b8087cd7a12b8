"""A call from choosing a replica to its first event, with the retries that certainty of delivery allows.

The path of a call makes no Redis round trip: catalogue, health and links are in memory. Only the first call of a client
session to a group with sessions of its own asks Redis for the replica that the session is bound to.
"""

from __future__ import annotations

import asyncio
from typing import cast

from msgspec import Struct

from gateway.calls.in_flight import Event, Failure, InFlight
from gateway.fleet.pool import WorkerPool
from gateway.fleet.registry_view import RegistryView
from gateway.fleet.worker_link import WorkerLink
from gateway.routing import router
from gateway.routing.catalog import Replica, Route
from gateway.routing.retry import ATTEMPTS, may_repeat
from gateway.sessions.table import ClientSession, SessionTable
from gateway.telemetry.counters import Counters
from shared.errors import CallError, NotDelivered, OutcomeUnknown, Refused
from shared.mcp.versions import Era
from shared.request_state import RequestState
from shared.rpc import messages as rpc

SUSPECT_S = 1.0
"""A replica that refused one of our calls is left out for this long, unless the registry says otherwise first."""
WAKE_S = 3.0
"""How long a call waits for a replica that is starting or changing hands."""


class Outgoing(Struct, gc=False):
    """What a door wants sent. ``params`` is JSON in the upstream's own names, ``id`` the client's request id, ``retry``
    the state by which an earlier answer asked for input."""

    method: str
    params: bytes | memoryview
    era: int
    route: Route
    id: bytes = b""
    name: str = ""
    session: ClientSession | None = None
    principal: str = ""
    token: bytes = b""
    headers: dict[str, str] | None = None
    retry: RequestState | None = None
    begun: InFlight | None = None
    listed: str = ""


class Dispatcher:
    """See the module."""

    def __init__(
        self,
        watcher: RegistryView,
        pool: WorkerPool,
        sessions: SessionTable,
        stats: Counters,
        max_in_flight: int,
        timeout_s: float = 30.0,
    ) -> None:
        self._watcher = watcher
        self._pool = pool
        self._sessions = sessions
        self._stats = stats
        self._max_in_flight = max_in_flight
        self._timeout_s = timeout_s
        self._loop = asyncio.get_running_loop()
        self.under_way: dict[InFlight, None] = {}

    def now(self) -> float:
        """Loop time, by which replicas are judged available."""
        return self._loop.time()

    def begin(self, call: Outgoing) -> InFlight | None:
        """Send ``call`` if it is plain where to; ``None`` when something has to be waited for or told first."""
        session = call.session
        if len(self.under_way) >= self._max_in_flight:
            return None
        now = self._loop.time()
        if session is not None and self.is_bound(call.route, session):
            replica = self._watcher.catalog.replica(session.pins.get(call.route.group, ""))
            if replica is None or replica not in call.route.replicas or not replica.available(now):
                return None
        else:
            replica = router.choose(call.route, (), now)
        client = self._pool.link_for(replica, session.sid if session is not None else "") if replica else None
        if replica is None or client is None:
            return None
        return self._start(call, replica, client)

    def _start(self, call: Outgoing, replica: Replica, client: WorkerLink) -> InFlight:
        session = call.session
        in_flight = client.call(replica, self._head(call, replica), call.params, session, self.facts)
        in_flight.modern = bool(call.era)
        self.under_way[in_flight] = None
        if session is not None:
            in_flight.register(session, call.id)
        return in_flight

    async def send(self, call: Outgoing) -> tuple[InFlight, Event]:
        """Send ``call``; its first event. Raises ``CallError`` when it failed for good."""
        if len(self.under_way) >= self._max_in_flight and call.begun is None:
            raise NotDelivered("overloaded", f"{self._max_in_flight} calls are in flight here already (maxInflight)")
        tried: set[str] = set()
        last: CallError | None = None
        wait_until = 0.0
        attempt = 0
        deadline = self._loop.time() + self._timeout_s
        while attempt < max(ATTEMPTS, len(call.route.replicas)):
            replica: Replica | None
            client: WorkerLink | None
            if call.begun is not None:
                replica, client = cast(Replica, call.begun.replica), call.begun.client
            else:
                replica, client = await self._target(call, tried)
                if call.session is not None and call.session.ended:  # while we looked: nobody would ever end this call
                    raise Refused("session_unknown", "the session has ended")
            if replica is None or client is None:
                if replica is not None:
                    tried.add(replica.id)
                    if router.choose(call.route, tried, self._loop.time()) is not None:
                        continue
                now = self._loop.time()
                wait_until = wait_until or now + WAKE_S
                if now >= wait_until or not (replica is not None or router.might_come(call.route)):
                    if last is not None and last.code == "overloaded":
                        raise last  # a limit was reached: nobody is unhealthy
                    raise router.unavailable(call.route, last)
                await self._watcher.wait_change(wait_until - now)
                tried.clear()
                call = self._renewed(call)
                continue
            attempt += 1
            if attempt > 1:
                self._stats.retries += 1
            in_flight, call.begun = call.begun or self._start(call, replica, client), None
            try:
                event = await in_flight.next()
            except asyncio.CancelledError:
                self.release(in_flight)
                raise Abandoned(in_flight) from None
            if not isinstance(event, Failure):
                return in_flight, event
            self.release(in_flight)
            last = self._judge(event, replica, tried)
            repeatable = call.route.entry.repeatable and call.retry is None
            if self._loop.time() >= deadline or not may_repeat(event.delivered, event.code, call.method, repeatable):
                raise last
            if event.code == "not_delivered" and len(call.route.replicas) == 1:
                tried.clear()
                await self._watcher.wait_change(0.2)  # it is changing hands
                call = self._renewed(call)
        assert last is not None
        raise last

    async def _target(self, call: Outgoing, tried: set[str]) -> tuple[Replica | None, WorkerLink | None]:
        """Who gets the call, and over which link."""
        if call.retry is not None:
            replica = self._watcher.catalog.replica(call.retry.upstream)
            client = self._pool.clients.get(call.retry.worker)
            if call.retry.parked:
                if replica is None or client is None or not client.ready:
                    raise Refused("invalid_params", "the worker that kept this call is gone; send it anew")
                return replica, client
            if replica is not None and replica.id not in tried and replica.available(self._loop.time()):
                return replica, self._pool.link_for(replica, "")
        chosen = await self._choose(call, tried)
        sid = call.session.sid if call.session is not None else ""
        return chosen, self._pool.link_for(chosen, sid) if chosen is not None else None

    def _judge(self, event: Failure, replica: Replica, tried: set[str]) -> CallError:
        tried.add(replica.id)
        if event.code == "upstream_unavailable":
            replica.suspect_until = self._loop.time() + SUSPECT_S
            replica.suspected = event.message
        data = {**event.data, "upstream": replica.id, "group": replica.record.spec.name}
        kind = OutcomeUnknown if event.delivered else NotDelivered
        return kind(event.code, f"upstream {replica.id!r}: {event.message}", data)

    def _renewed(self, call: Outgoing) -> Outgoing:
        """The same call on the route as it is now (the catalogue may have been rebuilt while we waited)."""
        group = self._watcher.catalog.groups.get(call.route.group)
        entry = call.route.entry
        route = group.routes[entry.kind].get(entry.name) if group else None
        if route is not None:
            call.route = route
        return call

    async def _choose(self, call: Outgoing, tried: set[str]) -> Replica | None:
        """The replica for this call; where isolation resolves to the client, the one its session is bound to."""
        now = self._loop.time()
        session = call.session
        if session is None or not self.is_bound(call.route, session):
            return router.choose(call.route, tried, now)
        group = call.route.group
        pinned = session.pins.get(group)
        if pinned is not None and pinned not in tried:
            replica = self._watcher.catalog.replica(pinned)
            if replica is not None and replica in call.route.replicas and replica.available(now):
                return replica
        choice = router.choose(call.route, tried, now)
        if choice is None:
            return None
        id = await self._sessions.pin(session, group, choice.id, instead_of=pinned)
        replica = self._watcher.catalog.replica(id)
        if replica is None or id in tried or replica not in call.route.replicas or not replica.available(now):
            await self._sessions.pin(session, group, choice.id, instead_of=id)
            return choice
        return replica

    async def replica_for(self, route: Route, session: ClientSession | None) -> Replica | None:
        """The replica that a call of this session to this route would go to now."""
        return await self._choose(self._renewed(Outgoing("", b"", Era.LEGACY, route, session=session)), set())

    async def notify(self, route: Route, session: ClientSession, message: bytes) -> None:
        """Send a notification to where a call of this session would go; dropped when there is nobody."""
        replica = await self.replica_for(route, session)
        client = self._pool.link_for(replica, session.sid) if replica is not None else None
        if replica is not None and client is not None:
            client.notify(replica.id, self.facts(session), message)

    def facts(self, session: ClientSession) -> rpc.OpenSession:
        """What a worker is told of a client session."""
        return rpc.OpenSession(
            session.sid,
            session.principal,
            session.version,
            session.capabilities,
            session.client_info,
            session.log_level,
            bool(session.scope),
        )

    def tell_again(self, session: ClientSession) -> None:
        """What workers know of a session has changed."""
        for client in self._pool.clients.values():
            client.announce_again(self.facts(session))

    def is_bound(self, route: Route, session: ClientSession | None) -> bool:
        """Whether calls of this session to this route use an upstream session of its own."""
        return session is not None and route.binds

    def _head(self, call: Outgoing, replica: Replica) -> rpc.Call:
        return rpc.Call(
            0,
            replica.id,
            call.method,
            call.era,
            call.session.sid if call.session is not None else "",
            call.principal,
            call.name,
            call.token,
            call.headers,
            retry=call.retry is not None,
            request=call.id if call.session is not None else b"",
            listed=call.listed if call.session is not None else "",
        )

    def settle(self, begun: InFlight) -> None:
        """The request for which this call was begun is answered: without it, if nobody took it over."""
        if begun in self.under_way:
            self.release(begun)
            if not begun.done:
                begun.cancel("nobody waits for it")

    def release(self, in_flight: InFlight) -> None:
        """The door has its last event."""
        self.under_way.pop(in_flight, None)

    def hush(self, older_than_s: float) -> None:
        """Wake the doors of calls that have been silent for this long (called about once a second)."""
        now = self._loop.time()
        for in_flight in self.under_way:
            if in_flight.started_at > now - older_than_s:
                break  # they are in order of their start
            if in_flight.hushed_at <= now - older_than_s:
                in_flight.hush(now)


class Abandoned(asyncio.CancelledError):
    """The client went away before the first event; carries the call so that the door can cancel or keep it."""

    def __init__(self, in_flight: InFlight) -> None:
        super().__init__()
        self.in_flight = in_flight
