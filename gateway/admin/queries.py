"""What the admin API shows, as values. Counterpart: ``commands``, which makes changes.

The handlers (``routes``) read the front end only through this module.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, TypeVar

import msgspec
import orjson
from msgspec import Struct, structs

from gateway.admin.events import EventLog
from gateway.admin.explaining import Explaining
from gateway.admin.overview import open_files, statuses, topology, traffic
from gateway.admin.schemas import (
    Conflict,
    Diagnosis,
    Explanation,
    FrontEndState,
    ListedTool,
    Overview,
    QuarantinedTool,
    ShownFailure,
    Topology,
    Traffic,
    WorkerState,
)
from gateway.fleet.dispatch import Dispatcher
from gateway.fleet.ejection import Ejection
from gateway.fleet.pins import public_entry
from gateway.fleet.registry_view import RegistryView
from gateway.routing.entries import interface_of
from gateway.sessions.table import SessionTable
from gateway.telemetry.failed_calls import FailedCalls
from shared.choices import Pin
from shared.errors import EntryNotFound, RegistryUnavailable
from shared.mcp.listings import Kind
from shared.metrics.publisher import Publisher
from shared.models import HealthCheckResult, ServerEntry, UpstreamSpec
from shared.registry.condition import condition
from shared.registry.members import Members
from shared.registry.records import UpstreamRecord
from shared.registry.store import RegistryStore
from shared.settings import suggestion
from shared.version import VERSION

_Item = TypeVar("_Item")


class Page(Struct, frozen=True):
    """Which part of a list is wanted: what has ``search`` in its name, from ``offset`` on, at most ``limit``."""

    search: str = ""
    offset: int = 0
    limit: int | None = None

    def of(self, found: list[_Item]) -> list[_Item]:
        """Return the part of ``found``."""
        return found[self.offset : None if self.limit is None else self.offset + self.limit]


MemberFacts = dict[str, str]
_Member = TypeVar("_Member", FrontEndState, WorkerState)


class Queries:
    """Reads what the admin API shows.

    ``frontend`` is this front end's id. ``facts`` returns what this front end publishes with its heartbeat. ``ready``
    returns whether this front end should get traffic.
    """

    def __init__(
        self,
        store: RegistryStore,
        registry: RegistryView,
        dispatcher: Dispatcher,
        sessions: SessionTable,
        figures: Publisher,
        frontends: Members,
        workers: Members,
        frontend: str,
        facts: Callable[[], MemberFacts],
        ready: Callable[[], bool],
        ejection: Ejection,
        name: str,
        events: EventLog,
        failed: FailedCalls,
    ) -> None:
        self._failed = failed
        self._name = name
        self.events = events
        self._store = store
        self._registry = registry
        self._sessions = sessions
        self._figures = figures
        self._frontends = frontends
        self._workers = workers
        self._frontend = frontend
        self._facts = facts
        self._explaining = Explaining(store, registry, dispatcher, ejection, figures)
        self.ready = ready

    @property
    def redis_available(self) -> bool:
        """Whether Redis answers."""
        return self._registry.available

    # ---- the registry

    def record(self, id: str) -> UpstreamRecord:
        """Return a registered upstream. Raises ``EntryNotFound``."""
        record = self._registry.records.get(id)
        if record is None:
            raise self.unknown(id)
        return record

    def spec(self, id: str) -> UpstreamSpec | None:
        """Return the specification of an upstream, or ``None`` if it is not known here (yet)."""
        record = self._registry.records.get(id)
        return record.spec if record is not None else None

    def unknown(self, id: str) -> EntryNotFound:
        """Return the error for an id that nobody registered."""
        near = suggestion(id, self._registry.records)
        return EntryNotFound(f"no upstream {id!r}{near}; see 'gateway servers list'")

    async def servers(self, limit: int = 0, after: str = "") -> tuple[list[ServerEntry], str]:
        """Return upstreams in registration order, each without its tools, and the id after which the next page begins.

        There are ``limit`` on a page, or all (0); the page begins behind the upstream ``after``. The id is empty on the
        last page. Raises ``EntryNotFound`` if ``after`` is not registered.
        """
        await self._registry.catch_up()
        records = sorted(self._registry.records.values(), key=lambda one: one.sequence)
        if after:
            behind = self.record(after).sequence
            records = [one for one in records if one.sequence > behind]
        page = records[:limit] if limit else records
        try:  # the copy has everything but the results of probes, which are not announced one by one
            healths = await self._store.healths([one.spec.id for one in page])
        except RegistryUnavailable:
            healths = {}
        entries = [
            structs.replace(one.entry(with_tools=False), last_health_check=healths.get(one.spec.id) or one.health)
            for one in page
        ]
        return entries, page[-1].spec.id if len(page) < len(records) else ""

    @property
    def registered(self) -> int:
        """How many upstreams are registered, as far as this front end knows."""
        return len(self._registry.records)

    def page_of_servers(self, page: Page, status: str = "") -> tuple[list[ServerEntry], int]:
        """Return a page of upstreams, each without its tools, from this front end's copy, and how many there are."""
        wanted = page.search.lower()
        found = [
            record
            for record in self._registry.records.values()
            if (not status or record.status.value == status)
            and (not wanted or wanted in record.spec.id.lower() or wanted in record.spec.name.lower())
        ]
        found.sort(key=lambda one: one.sequence)
        return [record.entry(with_tools=False) for record in page.of(found)], len(found)

    async def server(self, id: str) -> ServerEntry:
        """Return one upstream with its tools, and which of them are not as they were approved. Raises
        ``EntryNotFound``."""
        return public_entry(await self._registered(id), self._registry.pins.known)

    async def _registered(self, id: str) -> UpstreamRecord:
        """Return an upstream as Redis holds it. Raises ``EntryNotFound``."""
        record = (await self._as_of_now(id)).get(id)
        if record is None:
            raise self.unknown(id)
        return record

    async def _as_of_now(self, *ids: str) -> dict[str, UpstreamRecord]:
        """Return the records of ``ids``, or of all upstreams if there are no ``ids``, as Redis holds them.

        This front end's copy may be older: results of probes are written in batches and not announced one by one. The
        copy is brought up to date before this returns, so that later calls are routed by what the answer shows.
        While Redis is away, the records come from the copy.
        """
        try:
            found = await (self._store.load(ids) if ids else self._store.load_all())
        except RegistryUnavailable:
            return dict(self._registry.records)
        await self._registry.catch_up()
        return {id: record for id, record in found.items() if record is not None}

    async def logs(self, id: str) -> list[str]:
        """Return the last stderr lines of a stdio upstream. Raises ``EntryNotFound``."""
        return await self._store.logs((await self._registered(id)).spec.id)

    def tools(self, group: str | None, page: Page, schemas: bool = True) -> tuple[list[ListedTool], int]:
        """Return a page of the tools under the names that clients see at ``/mcp``, or only those of ``group``, and how
        many there are."""
        wanted = page.search.lower()
        routes = [
            (listed, route)
            for listed, route in self._registry.catalog.everything.routes[Kind.TOOLS].items()
            if (group is None or route.group == group) and (not wanted or wanted in listed.lower())
        ]
        found: list[ListedTool] = []
        for listed, route in page.of(routes):
            plain = orjson.loads(route.entry.modern)
            replicas = [replica.id for replica in route.replicas]
            schema = (plain.get("inputSchema") or {}) if schemas else {}
            words = plain.get("description")
            found.append(
                ListedTool(listed, route.group, route.entry.name, replicas, words, schema, interface_of(plain))
            )
        return found, len(routes)

    def conflicts(self) -> list[Conflict]:
        """Return the names of tools that several groups have."""
        found: dict[str, dict[str, str]] = {}
        for listed, route in self._registry.catalog.everything.routes[Kind.TOOLS].items():
            found.setdefault(route.entry.name, {})[route.group] = listed
        return [Conflict(name, groups) for name, groups in sorted(found.items()) if len(groups) > 1]

    def quarantine(self) -> list[QuarantinedTool]:
        """Return the tools of pinned upstreams that are not as they were approved."""
        records = self._registry.records
        return [
            QuarantinedTool(id, records[id].spec.name, tool, state, records[id].spec.pin is Pin.BLOCK)
            for id, differing in sorted(self._registry.catalog.pinning.differing.items())
            if id in records
            for tool, state in sorted(differing.items())
        ]

    async def errors(self, limit: int, wanted: Mapping[str, str]) -> list[ShownFailure]:
        """Return the newest calls that failed whose fields are as ``wanted``, newest first."""
        found = await self._failed.latest(limit, **wanted)
        return [ShownFailure(**structs.asdict(one), link=self._failed.link(one)) for one in found]

    # ---- the fleet

    async def health(self) -> list[HealthCheckResult]:
        """Return the last health check of each upstream."""
        records = await self._as_of_now()
        return [record.health for record in records.values() if record.health is not None]

    async def workers(self) -> list[WorkerState]:
        """Return each live worker."""
        return [_member(id, facts, WorkerState) for id, facts in (await self._workers.alive()).items()]

    async def frontends(self) -> list[FrontEndState]:
        """Return each live front end."""
        alive = {**await self._frontends.alive(), self._frontend: self._facts()}
        return [_member(id, facts, FrontEndState) for id, facts in alive.items()]

    async def topology(self) -> Topology:
        """Return which live worker carries which upstream. Raises ``RegistryUnavailable``."""
        return topology(await self.frontends(), await self.workers(), self._registry.records.values())

    async def restarts(self) -> dict[str, int]:
        """Return how often each supervised process was replaced."""
        return await self._store.restarts()

    async def overview(self) -> Overview:
        """Return the state of the gateway in one answer. While Redis is away, of the processes only this one."""
        try:
            frontends, workers = await self.frontends(), await self.workers()
            restarts = await self.restarts()
        except RegistryUnavailable:
            frontends, workers, restarts = [_member(self._frontend, self._facts(), FrontEndState)], [], {}
        return Overview(
            self._name,
            VERSION,
            self.redis_available,
            self._frontend,
            frontends,
            workers,
            restarts,
            statuses(self._registry.records.values()),
            len(self._registry.catalog.everything.routes[Kind.TOOLS]),
        )

    async def diagnosis(self) -> Diagnosis:
        """Return how Redis and the processes are doing."""
        try:
            redis = await condition(self._store)
        except RegistryUnavailable:
            redis = None
        return Diagnosis(redis, open_files(await self._figures.added()))

    async def traffic(self) -> Traffic:
        """Return what was called how often, by all live processes."""
        return traffic(await self._figures.added())

    async def sessions(self) -> list[dict[str, Any]]:
        """Return the live client sessions, with shortened ids: a whole id is enough to act as the client."""
        return await self._sessions.listing()

    async def metrics(self, fleet: bool = False) -> bytes:
        """Return the figures of this instance, or of the whole ``fleet``, as Prometheus text. Those of the fleet raise
        ``RegistryUnavailable`` while Redis is away."""
        return await (self._figures.fleet() if fleet else self._figures.instance())

    # ---- explaining

    async def explain(self, tool: str, server: str = "") -> Explanation:
        """Return where a call of ``tool`` would go, and why. Raises ``EntryNotFound``."""
        return await self._explaining.explain(tool, server)


def _member(id: str, facts: MemberFacts, kind: type[_Member]) -> _Member:
    """Return a heartbeat's texts with their types. A fact that another version writes in another way has its
    default."""
    found: dict[str, Any] = {}
    for field in msgspec.structs.fields(kind):
        text = facts.get(field.name)
        if text is None:
            continue
        try:
            documents = (dict[str, int], dict[str, str], list[int])
            value = orjson.loads(text) if field.type in documents else text or None
            found[field.name] = msgspec.convert(value if field.type is not str else text, field.type, strict=False)
        except (msgspec.ValidationError, ValueError):
            continue
    return kind(id=id, **found)
