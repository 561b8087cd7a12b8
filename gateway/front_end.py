"""The composition root of a front-end process: it builds all parts, and starts, drains and closes them."""

from __future__ import annotations

import asyncio
import json
import os
import secrets
import socket
from collections.abc import Callable

from gateway.access.api_keys import ApiKeys
from gateway.access.client_certificate import Certificates
from gateway.access.limits import Limits
from gateway.access.trusted_proxy import TrustedProxy
from gateway.access.used_states import UsedStates
from gateway.admin.access import AccessApi
from gateway.admin.commands import Commands
from gateway.admin.events import EventLog
from gateway.admin.pins import PinsApi
from gateway.admin.queries import Queries
from gateway.admin.restarting import Restarting
from gateway.admin.virtual_servers import VirtualServersApi
from gateway.admission.admit import Admission
from gateway.admission.authentication import Authentication
from gateway.admission.dns_rebinding import RebindingGuard
from gateway.admission.peers import Peers
from gateway.admission.principals import Everybody, Principals
from gateway.admission.suspects import Suspects
from gateway.connect.dance import Dance
from gateway.fleet.dispatch import Dispatcher
from gateway.fleet.ejection import Ejection
from gateway.fleet.exchange import InFlightExchange
from gateway.fleet.heartbeat import Heartbeat
from gateway.fleet.known_tasks import KnownTasks
from gateway.fleet.own_lists import OwnLists
from gateway.fleet.pool import WorkerPool
from gateway.fleet.registry_view import RegistryView
from gateway.fleet.resource_watches import ResourceWatches
from gateway.fleet.tool_search import ToolSearch
from gateway.fleet_events import FleetEvents
from gateway.http.bodies import Bodies, BodyReader
from gateway.http.heads import Process
from gateway.live_rules import LiveRules, policy_of, rules_now
from gateway.protocol.batches import Batches
from gateway.protocol.carrying import Carrier
from gateway.protocol.client_messages import ClientMessages
from gateway.protocol.endpoint import PostEndpoint
from gateway.protocol.http_sse import SseEndpoint
from gateway.protocol.large_bodies import LargeBodies
from gateway.protocol.legacy import SessionEndpoint
from gateway.protocol.methods import Methods
from gateway.protocol.offers import Offers
from gateway.protocol.serving import Serving
from gateway.protocol.tool_discovery import ToolDiscovery
from gateway.routing.policy import ViewPolicy
from gateway.sessions.table import SessionTable
from gateway.streams.open_streams import OpenStreams
from gateway.streams.outbox import Outbox
from gateway.streams.standing_streams import StandingStreams
from gateway.streams.subscriptions import StreamSubscriptions
from gateway.streams.unsolicited import UnsolicitedDelivery
from gateway.telemetry import access_log
from gateway.telemetry.audit import AuditLog
from gateway.telemetry.counters import Counters
from gateway.telemetry.elicitations import Elicitations
from gateway.telemetry.failed_calls import FailedCalls
from gateway.telemetry.figures import FrontEndFigures
from gateway.telemetry.observer import CallObserver, Observers
from gateway.telemetry.pin_news import PinNews
from gateway.telemetry.tallies import Tallies
from gateway.telemetry.traces import Traces
from shared import logs
from shared.access.methods import ApiKeyMethod, ClientCertificateMethod, TrustedProxyMethod
from shared.egress import Egress
from shared.errors import RegistryUnavailable
from shared.live_rules import Board
from shared.mcp.listings import Kind
from shared.metrics.families import Family
from shared.metrics.publisher import Publisher
from shared.models import now_s
from shared.registry.api_keys import KeyStore
from shared.registry.audit import AuditStore
from shared.registry.credentials import CredentialStore
from shared.registry.failed_calls import FailedCallStore
from shared.registry.members import RETIRING, Members
from shared.registry.pins import PinStore
from shared.registry.store import RegistryStore
from shared.registry.used_states import StateMarks
from shared.registry.virtual_servers import VirtualServerStore
from shared.secrets import FleetKey
from shared.settings import Settings
from shared.tasks import cancel, spawn
from shared.tracing.tracing import FLUSH_S, audit_exporter, tracing
from shared.version import VERSION

_STREAMS_END_S = 2.0
"""How long standing streams have to end when the process drains."""


class FrontEnd:
    """One front end. ``close`` also closes ``store``; ``key`` is the fleet's; ``policy`` hides entries from callers."""

    def __init__(
        self,
        settings: Settings,
        store: RegistryStore,
        key: FleetKey,
        principals: Principals | None = None,
        policy: ViewPolicy | None = None,
    ) -> None:
        self.settings = settings
        self.id = secrets.token_hex(6)
        self._started_at = now_s()
        self._store = store
        self.replaced = False
        """Whether another front end serves the same address from now on. Known once this one drains."""
        self._tasks: list[asyncio.Task[None]] = []
        calls, kept = settings.calls, settings.sessions
        retry_ms = int(kept.stream_retry_s * 1000)
        self._members = frontends = Members(store, "frontend", settings.fleet.heartbeat_ttl_s)
        workers = Members(store, "worker", settings.fleet.heartbeat_ttl_s)

        board = Board.inherited() if policy is None else None
        self.rules = rules = rules_now(settings, board)
        policy = policy or policy_of(rules)

        # The fleet: the registry's copy, links to workers, client sessions, calls.
        self._failed = FailedCalls(FailedCallStore(store), self.id, settings.telemetry.trace_url)
        self._counters = Counters(settings.telemetry.metrics_max_tools, self._failed.note)
        self._tallies = tallies = Tallies(settings.telemetry.metrics_max_tools)
        self._audit = self._exported = None
        if rules.audit is not None:
            self._exported = audit_exporter(settings.service.name, self.id) if rules.audit.otlp else None
            self._audit = AuditLog(rules.audit, AuditStore(store), self.id, tallies.audited, self._exported)
        self.registry = registry = RegistryView(store, settings, policy)
        self._pool = pool = WorkerPool(workers, self.id, key, settings)
        self._sessions = sessions = SessionTable(store, frontends, self.id, key, kept)
        self._tracing = tracing(settings, "frontend", self.id)
        traces = Traces(self._tracing, self._counters) if self._tracing is not None else None
        observers: list[CallObserver] = [traces or self._counters]
        if self._audit is not None:
            observers.append(self._audit)
        self._lines = logs.Lines("gateway.access", *access_log.NAMES)
        observer = observers[0] if len(observers) == 1 else Observers(*observers)
        if settings.telemetry.access_log:
            observer = access_log.AccessLog(self._lines, observer)
        self._ejection = ejection = Ejection(registry, settings.routing, tallies.ejections)
        self._dispatcher = dispatcher = Dispatcher(
            registry,
            pool,
            sessions,
            observer,
            calls.max_inflight,
            calls.request_timeout_s,
            ejection,
            settings.routing.retry_budget,
        )
        self._watches = ResourceWatches(registry, pool, dispatcher, settings)
        self._exchange = InFlightExchange(store, frontends, self.id, registry, settings.routing.inflight_exchange_s)
        self._heartbeat = Heartbeat(frontends, self.id, self.facts, settings.fleet.heartbeat_s)

        # Standing streams.
        self._open = OpenStreams(kept)
        outbox = Outbox(store, self.id)
        known_tasks = KnownTasks(key, registry)
        subscriptions = StreamSubscriptions(
            registry, dispatcher, self._watches, sessions, self._open, outbox, settings, known_tasks
        )
        self._streams = streams = StandingStreams(
            self._open, outbox, self.id, registry, pool, subscriptions, sessions, kept
        )
        unsolicited = UnsolicitedDelivery(sessions, streams, pool, kept.stream_buffer, kept.replay_bytes)

        # The protocol.
        self.guard = RebindingGuard(settings)
        key_method = rules.method(ApiKeyMethod)
        self._keys = ApiKeys(KeyStore(store), key_method, self._revoked) if key_method is not None else None
        proxied = rules.method(TrustedProxyMethod)
        certified = rules.method(ClientCertificateMethod)
        proxy = TrustedProxy(proxied) if proxied is not None else None
        forwards = proxy.forwards if proxy is not None else None
        self.peers = Peers(proxy, Certificates(certified, forwards) if certified is not None else None)
        self.suspects = Suspects(settings.clients.max_wrong_credentials_per_peer)
        self.authentication: Authentication | None = None
        self._limits = Limits(rules, store, self.id, tallies.limited)
        if principals is None and (rules.authentication or rules.roles or rules.limits or rules.audit):
            self.authentication = Authentication(
                rules,
                self._keys,
                self._catch_up_keys,
                self.guard.owns,
                self.suspects,
                self._limits,
                self._audit,
                tallies.authentications,
                Egress(settings.upstreams.egress_allow, settings.upstreams.egress_deny),
            )
        self.principals = principals = principals or self.authentication or Everybody()
        admission = Admission(principals, registry.views, sessions)
        offers = Offers(settings.service.name, VERSION)
        own_lists = OwnLists(registry, dispatcher, settings.routing)
        self._search = ToolSearch(settings.routing.tool_index_bytes)
        discovery = ToolDiscovery(dispatcher, self._search)
        used = UsedStates(StateMarks(store))
        methods = Methods(offers, dispatcher, subscriptions, sessions, key, own_lists, known_tasks, discovery, used)
        elicitations = Elicitations(self._audit) if self._audit is not None else None
        carrier = Carrier(dispatcher, elicitations)
        self.serving = serving = Serving(
            admission, principals, methods, carrier, registry, sessions, own_lists, self._audit, traces
        )
        messages = ClientMessages(dispatcher, pool, elicitations)
        self.bodies = Bodies(settings.clients, calls.max_body_bytes)
        self.reader = BodyReader(self.bodies, calls.max_body_bytes)
        large = LargeBodies(settings.clients.max_body_values)
        self.posts = PostEndpoint(serving, messages, Batches(serving, messages), streams, self.reader, large, retry_ms)
        self.session_streams = SessionEndpoint(serving, sessions, streams, pool, retry_ms)
        public_url = settings.service.public_url
        self.sse = SseEndpoint(serving, messages, sessions, streams, self.id, self.reader, large, public_url)

        self.dance = Dance(settings, registry, CredentialStore(store, key))

        # The admin API.
        figures = FrontEndFigures(
            self._counters,
            self._holds,
            calls.max_inflight,
            lambda: registry.records.values(),
            self._tools_listed,
            lambda upstream: len(registry.catalog.pinning.differing.get(upstream, ())),
            self._families,
        )
        self.figures = Publisher(
            "frontend", self.id, figures.counted, figures.known, store, settings.fleet.heartbeat_ttl_s
        )
        self._log = EventLog(registry, frontends, workers, PinNews(PinStore(store), self._audit).tell)
        self.queries = Queries(
            store,
            registry,
            dispatcher,
            sessions,
            self.figures,
            frontends,
            workers,
            self.id,
            self.facts,
            lambda: self.ready,
            ejection,
            settings.service.name,
            self._log,
            self._failed,
        )
        self.commands = Commands(store, sessions)
        self.access = AccessApi(rules, KeyStore(store), AuditStore(store), registry, self.reader, self._audit)
        self.virtual = VirtualServersApi(VirtualServerStore(store), registry, self.reader)
        self.pins = PinsApi(PinStore(store), registry, self.reader)
        self.restarting = Restarting(store)
        self._live_rules = None
        if board is not None and self.authentication is not None:
            others = (self, self.access)
            self._live_rules = LiveRules(
                board, settings, self.authentication, self._keys, self._limits, registry, self._open, others
            )
        self._events = FleetEvents(
            self._keys,
            registry,
            pool,
            sessions,
            streams,
            self._open,
            subscriptions,
            self._watches,
            unsolicited,
            self._heartbeat,
            own_lists,
            self._log,
        )

    async def start(self) -> None:
        """Join the fleet, and return when requests can be served. Raises ``RegistryUnavailable`` without Redis."""
        self._tasks = [
            spawn(self.registry.run(self._events), "follow-changes"),
            spawn(self._pool.run(self._events), "worker-links"),
            spawn(self.registry.expire_grace(), "catalogue-grace"),
            spawn(self._streams.follow_wakeups(), "wake-ups"),
            spawn(self._streams.keep_alive(), "stream-keepalive"),
            spawn(self._exchange.run(), "in-flight-exchange"),
            spawn(self._ejection.run(self._dispatcher.under_way), "ejection"),
            spawn(self._watches.keep(), "resource-watches"),
            spawn(self._failed.run(), "failed-calls"),
            spawn(self._tick(), "tick"),
        ]
        if self._audit is not None:
            if self._exported is not None:
                self._exported.start()
            self._tasks.append(spawn(self._audit.run(), "audit"))
        if self.authentication is not None:
            self._tasks.append(spawn(self._limits.run(), "limits"))
        if self._live_rules is not None:
            self._tasks.append(spawn(self._live_rules.run(), "live-rules"))
        await self.registry.begin()
        if self._keys is not None:
            await self._keys.load(self.registry.place[0])
        self._streams.begin()
        await self._heartbeat.join()
        self._tasks.append(spawn(self._heartbeat.run(), "heartbeat"))
        self.figures.start()
        if self._tracing is not None:
            self._tracing.exporter.start()
        self._tasks.append(spawn(self._log.run(), "events"))

    def tell_of_dropped_sessions(self, listener: Callable[[str], None]) -> None:
        """Call ``listener`` with the id of each client session that this front end does not know any more."""
        self._sessions.tell_of_dropped(listener)

    def facts(self) -> dict[str, str]:
        """Return what this front end publishes with its heartbeat."""
        counters = self._counters
        return {
            "pid": str(os.getpid()),
            "host": socket.gethostname(),
            "started_at": str(self._started_at),
            "supervisor": os.environ.get("GATEWAY_SUPERVISOR_PID", ""),
            "master": str(os.getppid()),
            "version": VERSION,
            "calls": str(counters.calls),
            "errors": str(counters.errors),
            "retries": str(counters.retries),
            "failures": json.dumps(counters.failures),
            "seconds": str(round(counters.seconds, 6)),
            "buckets": json.dumps(counters.buckets),
            "ejected": json.dumps(self._ejection.ejected()),
            "in_flight": str(len(self._dispatcher.under_way)),
            "streams": str(len(self._open)),
            "sessions": str(len(self._sessions.known)),
            "workers": str(len(self._pool.links)),
            "seen": str(self.registry.follower.applied),
        }

    async def _catch_up_keys(self) -> None:
        """Wait until this front end knows the API keys that Redis holds now."""
        await self.registry.catch_up()
        if self._keys is not None:
            await self._keys.settled()

    def _revoked(self, principal: str) -> None:
        """Forget a principal whose key was revoked, and close its streams."""
        if self.authentication is not None:
            self.authentication.revoked(principal)
        self._open.end_expired(now_s())

    def _holds(self) -> tuple[int, int, int, int]:
        return len(self._dispatcher.under_way), len(self._open), len(self._sessions.known), len(self._pool.links)

    def _tools_listed(self) -> int:
        return len(self.registry.catalog.everything.routes[Kind.TOOLS])

    def _families(self) -> list[Family]:
        waiting = self._audit.waiting if self._audit is not None else None
        kept_from_calls = self._ejection.ejected_of_groups()
        return [
            *self._tallies.families(kept_from_calls, self._search, waiting),
            *self._dispatcher.hedging.families(),
        ]

    @property
    def ready(self) -> bool:
        """Whether this front end should get traffic."""
        if self.replaced:
            return True  # it is the address that is asked about
        if Process.draining or not self.registry.follower.ready.is_set():
            return False
        return bool(self._pool.links)

    async def _tick(self) -> None:
        """Once a second: renew the Date header, show signs of life on silent calls, extend and drop client sessions."""
        while True:
            await asyncio.sleep(1.0)
            Process.tick()
            self._dispatcher.show_life(self.settings.calls.keepalive_comment_s)
            self._open.end_expired(now_s())
            try:
                await self._sessions.flush()
                for sid, over in (await self._sessions.trim()).items():
                    self._pool.end_session(sid, over)
            except RegistryUnavailable:
                pass

    async def say_goodbye(self) -> None:
        """Begin to drain: connections end with their next answer from now on. Return when no connection is to be
        accepted any more: after ``drain_delay_s``, for which ``/readyz`` says 503, or at once if another front end has
        the same address."""
        try:
            self.replaced = await self._members.marked(self.id, RETIRING) == "1"
        except RegistryUnavailable:
            pass
        Process.draining = True
        if not self.replaced:
            await asyncio.sleep(self.settings.fleet.drain_delay_s)

    async def drain(self) -> None:
        """End standing streams, and wait until running calls are over, but no longer than ``drain_timeout_s``."""
        loop = asyncio.get_running_loop()
        deadline = loop.time() + self.settings.fleet.drain_timeout_s
        await self._streams.drain(_STREAMS_END_S)
        dispatcher = self._dispatcher
        while (dispatcher.under_way or dispatcher.waiting) and loop.time() < deadline:
            await asyncio.sleep(0.02)

    async def close(self) -> None:
        """Leave the fleet, and close links and connections."""
        await cancel(*self._tasks)
        self._lines.flush()
        if self._tracing is not None:
            await self._tracing.exporter.close(min(FLUSH_S, self.settings.fleet.drain_timeout_s))
        await self.figures.stop()
        await self._heartbeat.leave()
        self._pool.close()
        self._search.close()
        await self.registry.follower.close()
        await self._store.close()
