"""Where a call goes, or what is missing for that. ``dispatch`` sends it there."""

from __future__ import annotations

import asyncio
from collections.abc import Collection
from typing import final

from msgspec import Struct

from gateway.fleet.outgoing import Affinity, Anywhere, Bound, Exact, Only, Outgoing, affinity
from gateway.fleet.pool import WorkerPool
from gateway.fleet.registry_view import RegistryView
from gateway.fleet.worker_link import WorkerLink
from gateway.routing import router
from gateway.routing.routes import Replica, Route
from gateway.sessions.session import ClientSession
from gateway.sessions.table import SessionTable
from shared.errors import CallError, NotDelivered, Refused


@final
class Target(Struct, gc=False):
    """Where a call goes: the replica, and the link to one of its workers."""

    replica: Replica
    link: WorkerLink


@final
class Unbound(Struct, gc=False):
    """The session has to be bound to a replica first, which takes a Redis round trip.

    ``instead_of`` is the replica that the session was bound to and that cannot take calls now, or ``None``.
    """

    session: ClientSession
    instead_of: str | None


@final
class Unlinked(Struct, gc=False):
    """The replica that should get the call has no worker that this front end can reach."""

    replica: Replica


class Targets:
    """Finds out where calls go, from what this front end knows of the fleet."""

    def __init__(self, registry: RegistryView, pool: WorkerPool, sessions: SessionTable) -> None:
        self._registry = registry
        self._pool = pool
        self._sessions = sessions
        self._loop = asyncio.get_running_loop()

    def find(self, call: Outgoing, tried: Collection[str], now: float) -> Target | Unbound | Unlinked | None:
        """Return where ``call`` goes, or what is missing for that, or ``None`` if no replica can take the call.

        Replicas in ``tried`` are left out; ``now`` is loop time.
        """
        where = call.affinity
        replica: Replica | Unbound | None
        if type(where) is Anywhere:
            replica = router.choose(call.route, tried, now)
        elif type(where) is Only:
            if where.worker:
                return self._kept(where.upstream, where.worker, "task")
            replica = self._only(where, tried, now)
        else:
            if type(where) is Exact:
                exact = self._exact(where, tried, now)
                if exact is not None:
                    return exact
            replica = self._replica(call.route, where, tried, now)
        if replica is None or type(replica) is Unbound:
            return replica
        link = self._pool.link_for(replica, call.session.sid if call.session is not None else "")
        return Target(replica, link) if link is not None else Unlinked(replica)

    def _exact(self, where: Exact, tried: Collection[str], now: float) -> Target | Unlinked | None:
        replica = self._registry.catalog.replica(where.upstream)
        if where.parked:
            return self._kept(where.upstream, where.worker, "call")
        if replica is None or replica.id in tried or not replica.available(now):
            return None  # another replica may take the call
        link = self._pool.link_for(replica, "")
        return Target(replica, link) if link is not None else Unlinked(replica)

    def _kept(self, upstream: str, worker: str, what: str) -> Target:
        """Return where something is kept. Raises ``Refused`` if it is gone."""
        replica, link = self._registry.catalog.replica(upstream), self._pool.links.get(worker)
        if replica is None or link is None or not link.ready:
            again = "it" if what == "call" else "its call"
            raise Refused("invalid_params", f"the worker that kept this {what} is gone; send {again} anew")
        return Target(replica, link)

    def _only(self, where: Only, tried: Collection[str], now: float) -> Replica | None:
        replica = self._registry.catalog.replica(where.upstream)
        if replica is None:
            raise Refused("invalid_params", f"the upstream that had this task, {where.upstream!r}, is not registered")
        return None if replica.id in tried or not replica.available(now) else replica

    def _replica(self, route: Route, where: Affinity, tried: Collection[str], now: float) -> Replica | Unbound | None:
        """Return the replica for a call, or ``None`` if there is none.

        Under ``Bound`` it is the one that the client session is bound to, or ``Unbound`` if it has to be bound first.
        """
        if type(where) is not Bound:
            return router.choose(route, tried, now)
        bound = where.session.pins.get(route.group)
        if bound is not None and bound not in tried:
            replica = self._registry.catalog.replica(bound)
            if replica is not None and replica in route.replicas and replica.available(now):
                failing = replica.watch is not None and replica.watch.failing
                if not failing or router.choose(route, (bound, *tried), now) is None:
                    return replica  # also a slow one: the session's state is there
        return Unbound(where.session, bound)

    async def _bind(self, route: Route, unbound: Unbound, tried: Collection[str]) -> Replica | None:
        """Bind a session to a replica; return the one that all front ends use, or ``None`` if none can take calls."""
        session, now = unbound.session, self._loop.time()
        choice = router.choose(route, tried, now)
        if choice is None:
            return None
        id = await self._sessions.pin(session, route.group, choice.id, instead_of=unbound.instead_of)
        replica = self._registry.catalog.replica(id)
        if replica is None or id in tried or replica not in route.replicas or not replica.available(now):
            await self._sessions.pin(session, route.group, choice.id, instead_of=id)
            return choice
        return replica

    async def replica_for(self, route: Route, session: ClientSession | None) -> Replica | None:
        """Return the replica that would get a call of this session on this route now, or ``None`` if there is none."""
        route = self.current(route)
        found = self._replica(route, affinity(route, session), (), self._loop.time())
        return await self._bind(route, found, ()) if isinstance(found, Unbound) else found

    def current(self, route: Route) -> Route:
        """Return the route as it is in the latest catalogue, or ``route`` itself if it is not there any more."""
        group = self._registry.catalog.groups.get(route.group)
        return (group.routes[route.entry.kind].get(route.entry.name) if group is not None else None) or route

    async def reach(self, call: Outgoing, tried: Collection[str]) -> Target | Unlinked | None:
        """Return what ``find`` returns, after binding the session to a replica if it has to be bound.

        Raises ``Refused`` when the session has ended.
        """
        target = self.find(call, tried, self._loop.time())
        if type(target) is Unbound:
            replica = await self._bind(call.route, target, tried)
            if replica is None:
                target = None
            else:
                link = self._pool.link_for(replica, target.session.sid)
                target = Target(replica, link) if link is not None else Unlinked(replica)
        if call.session is not None and call.session.ended:  # its end cancelled its calls before this one was there
            raise Refused("session_unknown", "the session has ended")
        return target


def lost_task(call: Outgoing, last: CallError | None) -> CallError:
    """Return the error for a request about a task whose upstream cannot take it now."""
    assert isinstance(call.affinity, Only)
    upstream = call.affinity.upstream
    text = f"upstream {upstream!r}, which has this task, is not available; no other replica knows the task"
    data = {"upstream": upstream, "group": call.group}
    return NotDelivered("upstream_unavailable", f"{text} ({last.message})" if last is not None else text, data)
