"""The admin API of a front end, and its figures."""

from __future__ import annotations

from gateway.admin.access import AccessApi
from gateway.admin.commands import Commands
from gateway.admin.events import EventLog
from gateway.admin.pins import PinsApi
from gateway.admin.queries import Queries
from gateway.admin.restarting import Restarting
from gateway.admin.virtual_servers import VirtualServersApi
from gateway.front_end.access import FrontEndAccess
from gateway.front_end.fleet import FrontEndFleet
from gateway.front_end.presence import Presence
from gateway.front_end.telemetry import FrontEndTelemetry
from gateway.http.bodies import BodyReader
from gateway.telemetry.figures import FrontEndFigures
from gateway.telemetry.pin_news import PinNews
from shared.access.rules import AccessRules
from shared.mcp.listings import Kind
from shared.metrics.families import Family
from shared.metrics.publisher import Publisher
from shared.registry.api_keys import KeyStore
from shared.registry.audit import AuditStore
from shared.registry.pins import PinStore
from shared.registry.store import RegistryStore
from shared.registry.virtual_servers import VirtualServerStore
from shared.settings import Settings


class FrontEndAdmin:
    """Makes and holds it. ``figures`` publishes what this front end counts."""

    def __init__(
        self,
        settings: Settings,
        store: RegistryStore,
        id: str,
        rules: AccessRules,
        telemetry: FrontEndTelemetry,
        fleet: FrontEndFleet,
        presence: Presence,
        reader: BodyReader,
        access: FrontEndAccess,
    ) -> None:
        self._telemetry = telemetry
        self._fleet = fleet
        registry, audit, pins = fleet.registry, telemetry.audit, PinStore(store)
        figures = FrontEndFigures(
            telemetry.counters,
            presence.holds,
            settings.calls.max_inflight,
            lambda: registry.records.values(),
            lambda: len(registry.catalog.everything.routes[Kind.TOOLS]),
            lambda upstream: len(registry.catalog.pinning.differing.get(upstream, ())),
            self._families,
        )
        ttl_s = settings.fleet.heartbeat_ttl_s
        self.figures = Publisher("frontend", id, figures.counted, figures.known, store, ttl_s)
        self.events = EventLog(registry, fleet.frontends, fleet.workers, PinNews(pins, audit).tell)
        self.queries = Queries(
            store,
            registry,
            fleet.dispatcher,
            fleet.sessions,
            self.figures,
            fleet.frontends,
            fleet.workers,
            id,
            presence.facts,
            lambda: presence.ready,
            fleet.ejection,
            settings.service.name,
            self.events,
            telemetry.failed,
        )
        self.commands = Commands(store, fleet.sessions)
        authentication = access.authentication
        self.access = AccessApi(rules, KeyStore(store), AuditStore(store), registry, reader, audit, authentication)
        self.virtual = VirtualServersApi(VirtualServerStore(store), registry, reader)
        self.pins = PinsApi(pins, registry, reader)
        self.restarting = Restarting(store)

    def _families(self) -> list[Family]:
        fleet, audit = self._fleet, self._telemetry.audit
        waiting = audit.waiting if audit is not None else None
        return [
            *self._telemetry.tallies.families(fleet.ejection.ejected_of_groups(), fleet.search, waiting),
            *fleet.dispatcher.hedging.families(),
            *fleet.pool.traffic.families("frontend"),
        ]
