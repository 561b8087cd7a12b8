"""Resources that clients of this front end subscribed to, each watched at one worker.

A *listener* is an open stream (``streams.standing_stream``), or stands in for one at another front end. A *watch* is
one resource that the worker watches for this front end, however many listeners it has. When the replica or the worker
of a watch is gone, another takes over. Listeners then get ``updated``, because changes in between may have been missed.

Counterpart: ``worker.sessions.resource_subscriptions``.
"""

from __future__ import annotations

import asyncio
from typing import Protocol

import msgspec

from gateway.fleet.dispatch import Dispatcher
from gateway.fleet.pool import WorkerPool
from gateway.fleet.registry_view import RegistryView
from gateway.fleet.worker_link import WorkerLink
from gateway.routing.routes import Replica, Route
from gateway.sessions.session import ClientSession
from shared.mcp import jsonrpc
from shared.settings import Settings
from shared.tasks import spawn

_LOOK_AGAIN_S, _IDLE_S = 1.0, 60.0
_UNAVAILABLE = -31001
WatchKey = tuple[str, str, str]
"""(group, URI at the upstream, id of the client session if it has an upstream session of its own, else empty)."""


class Listener(Protocol):
    """A stream that is notified of changed resources, until it is ``gone``."""

    gone: bool

    def resource_updated(self, uri: str, own: str, params: bytes) -> None:
        """Called when a resource changed: ``uri`` to the client, ``own`` at its upstream.

        ``params`` are those of the upstream's notification.
        """


class _Watch:
    def __init__(self, key: WatchKey, route: Route, own: str, session: ClientSession | None) -> None:
        self.key = key
        self.route = route
        self.own = own
        self.session = session
        self.listeners: dict[tuple[Listener, str], None] = {}  # each with the URI by which its client subscribed
        self.replica = ""
        self.client: WorkerLink | None = None
        self.placing = asyncio.Lock()

    @property
    def sid(self) -> str:
        """The id of the client session, or empty, as frames carry it."""
        return self.session.sid if self.session is not None else ""


class ResourceWatches:
    """All watches of this front end; its length is their number."""

    def __init__(self, registry: RegistryView, pool: WorkerPool, dispatcher: Dispatcher, settings: Settings) -> None:
        self._registry = registry
        self._pool = pool
        self._dispatcher = dispatcher
        self._timeout_s = settings.calls.request_timeout_s
        self._watches: dict[WatchKey, _Watch] = {}
        self._by_listener: dict[Listener, dict[str, WatchKey]] = {}

    def __len__(self) -> int:
        return len(self._watches)

    async def add(self, listener: Listener, uri: str, route: Route, own: str, session: ClientSession | None) -> bytes:
        """Notify ``listener`` of changes of ``uri`` (``own`` at its upstream) from now on.

        Return empty bytes if the upstream agreed, else the JSON of the error.
        """
        bound = session if session is not None and route.binds else None
        key = (route.group, own, bound.sid if bound is not None else "")
        watch = self._watches.get(key)
        if watch is None:
            watch = self._watches[key] = _Watch(key, route, own, bound)
        if self._by_listener.get(listener, {}).get(uri, key) != key:
            self.remove(listener, uri)  # the URI leads to another resource now
        watch.listeners[listener, uri] = None
        self._by_listener.setdefault(listener, {})[uri] = key
        error = await self._place(watch)
        if error:
            self.remove(listener, uri)
        return error

    def remove(self, listener: Listener, uri: str) -> None:
        """Notify ``listener`` of changes of ``uri`` no longer."""
        mine = self._by_listener.get(listener, {})
        key = mine.pop(uri, None)
        if not mine:
            self._by_listener.pop(listener, None)
        watch = self._watches.get(key) if key is not None else None
        if key is None or watch is None:
            return
        watch.listeners.pop((listener, uri), None)
        if not watch.placing.locked():
            self._tidy(watch)

    def drop(self, listener: Listener) -> None:
        """Remove a listener that is gone from all watches."""
        for uri in list(self._by_listener.get(listener, ())):
            self.remove(listener, uri)

    # ---- where it is watched

    def _tidy(self, watch: _Watch) -> None:
        """Remove a watch that has no listeners any more.

        A watch that is being placed is removed only after that. Else a new watch of the same resource could be placed
        at the same worker meanwhile, and lifting the old one would end the new one.
        """
        if not watch.listeners:
            if self._watches.get(watch.key) is watch:
                del self._watches[watch.key]
            self._lift(watch)

    def _lift(self, watch: _Watch) -> None:
        client, watch.client = watch.client, None
        if client is not None:
            client.unwatch(watch.replica, watch.own, watch.sid)

    def _holds(self, watch: _Watch) -> bool:
        """Whether the worker and the replica of a watch can still watch."""
        client, replica = watch.client, self._registry.catalog.replica(watch.replica)
        return (
            client is not None
            and client.ready
            and not client.draining
            and replica is not None
            and replica.available(self._dispatcher.now())
            and any(owner == client.worker for _, owner in replica.record.owners)
        )

    async def _place(self, watch: _Watch) -> bytes:
        """Have a worker watch the resource. Return empty bytes, or the JSON of the error."""
        async with watch.placing:
            try:
                return await self._placed(watch)
            finally:
                self._tidy(watch)  # its listeners may have left meanwhile

    async def _placed(self, watch: _Watch) -> bytes:
        if self._holds(watch) or not watch.listeners:
            return b""
        self._lift(watch)
        group = self._registry.catalog.groups.get(watch.route.group)
        replica = await self._dispatcher.targets.replica_for(watch.route, watch.session) if group is not None else None
        client = self._link(replica, watch) if replica is not None else None
        if watch.session is not None and watch.session.ended:
            return jsonrpc.error_object(_UNAVAILABLE, "the session has ended")
        if replica is None or client is None:
            return jsonrpc.error_object(_UNAVAILABLE, f"no healthy replica of {watch.route.group!r}")
        facts = self._dispatcher.facts(watch.session) if watch.session is not None else None
        try:
            error = await client.watch(replica.id, watch.own, facts, self._timeout_s)
        except (TimeoutError, ConnectionError) as failure:
            client.unwatch(replica.id, watch.own, watch.sid)
            text = str(failure) or "the upstream did not answer in time"
            return jsonrpc.error_object(_UNAVAILABLE, f"upstream {replica.id!r}: {text}")
        except asyncio.CancelledError:
            client.unwatch(replica.id, watch.own, watch.sid)
            raise
        if error is None:
            watch.replica, watch.client = replica.id, client
        return error or b""

    def _link(self, replica: Replica, watch: _Watch) -> WorkerLink | None:
        return self._pool.link_for(replica, watch.sid) if watch.sid else self._pool.leader_of(replica)

    async def keep(self) -> None:
        """Move watches that lost their worker or replica, until cancelled."""
        while True:
            await self._registry.wait_change(_LOOK_AGAIN_S if self._watches else _IDLE_S)
            for watch in [watch for watch in self._watches.values() if not self._holds(watch)]:
                if not watch.placing.locked():
                    spawn(self._move(watch), "move-subscription")

    async def _move(self, watch: _Watch) -> None:
        if not await self._place(watch):
            self._notify(watch, msgspec.json.encode({"uri": watch.own}))

    # ---- what happens

    def updated(self, upstream: str, own: str, sid: str, params: bytes) -> None:
        """Pass on to listeners that a watched resource changed."""
        replica = self._registry.catalog.replica(upstream)
        watch = self._watches.get((replica.record.spec.name, own, sid)) if replica is not None else None
        if watch is not None:
            self._notify(watch, params)

    def _notify(self, watch: _Watch, params: bytes) -> None:
        for listener, uri in list(watch.listeners):
            listener.resource_updated(uri, watch.own, params)
