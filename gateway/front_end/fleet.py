"""The fleet as one front end sees it: the registry's copy, links to workers, client sessions, calls."""

from __future__ import annotations

import asyncio

from gateway.fleet.dispatch import Dispatcher
from gateway.fleet.ejection import Ejection
from gateway.fleet.exchange import InFlightExchange
from gateway.fleet.known_tasks import KnownTasks
from gateway.fleet.own_lists import OwnLists
from gateway.fleet.pool import WorkerPool
from gateway.fleet.registry_view import RegistryView
from gateway.fleet.resource_watches import ResourceWatches
from gateway.fleet.tool_search import ToolSearch
from gateway.fleet_events import FleetEvents
from gateway.front_end.telemetry import FrontEndTelemetry
from gateway.routing.policy import ViewPolicy
from gateway.sessions.table import SessionTable
from shared.registry.members import Members
from shared.registry.store import RegistryStore
from shared.secrets import FleetKey
from shared.settings import Settings
from shared.tasks import spawn


class FrontEndFleet:
    """Makes and holds it. ``frontends`` and ``workers`` are the records of live processes."""

    def __init__(
        self,
        settings: Settings,
        store: RegistryStore,
        key: FleetKey,
        id: str,
        policy: ViewPolicy | None,
        telemetry: FrontEndTelemetry,
    ) -> None:
        calls, routing, ttl_s = settings.calls, settings.routing, settings.fleet.heartbeat_ttl_s
        self.frontends = Members(store, "frontend", ttl_s)
        self.workers = Members(store, "worker", ttl_s)
        self.registry = registry = RegistryView(store, settings, policy)
        self.pool = WorkerPool(self.workers, id, key, settings)
        self.sessions = SessionTable(store, self.frontends, id, key, settings.sessions)
        self.ejection = Ejection(registry, routing, telemetry.tallies.ejections)
        self.dispatcher = Dispatcher(
            registry,
            self.pool,
            self.sessions,
            telemetry.observer,
            calls.max_inflight,
            calls.request_timeout_s,
            self.ejection,
            routing.retry_budget,
        )
        self.watches = ResourceWatches(registry, self.pool, self.dispatcher, settings)
        self.known_tasks = KnownTasks(key, registry)
        self.own_lists = OwnLists(registry, self.dispatcher, routing)
        self.search = ToolSearch(routing.tool_index_bytes)
        self._exchange = InFlightExchange(store, self.frontends, id, registry, routing.inflight_exchange_s)

    def run(self, events: FleetEvents) -> list[asyncio.Task[None]]:
        """Begin to follow the registry and the workers; ``events`` gets their news. Return the tasks that do."""
        return [
            spawn(self.registry.run(events), "follow-changes"),
            spawn(self.pool.run(events), "worker-links"),
            spawn(self.registry.expire_grace(), "catalogue-grace"),
            spawn(self._exchange.run(), "in-flight-exchange"),
            spawn(self.ejection.run(self.dispatcher.under_way), "ejection"),
            spawn(self.watches.keep(), "resource-watches"),
        ]

    async def trim_sessions(self) -> None:
        """Extend the client sessions that are in use, and end those that are over. Raises ``RegistryUnavailable``."""
        await self.sessions.flush()
        for sid, over in (await self.sessions.trim()).items():
            self.pool.end_session(sid, over)

    def close(self) -> None:
        """Close the links, and end searches."""
        self.pool.close()
        self.search.close()
