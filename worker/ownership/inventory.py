"""The upstreams that this worker owns: started, updated and stopped as the registry says, with reports to the registry.

The records come from the change log (``shared.registry.changes``) through ``worker.main``. ``Inventory`` is the
``Reporter`` of each ``Owner``. The worker that owns slot 0 of an upstream leads the upstream: it lists and probes.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence

import orjson
from msgspec import structs

from shared.errors import NotDelivered, RegistryUnavailable
from shared.mcp.listings import CHANGES, Kind
from shared.metrics.families import Family
from shared.models import HealthCheckResult, ServerStatus, now_s
from shared.registry.changes import RESTART
from shared.registry.credentials import CredentialStore
from shared.registry.records import ListedCatalog, UpstreamRecord
from shared.registry.store import RegistryStore
from shared.settings import CallSettings, Settings
from shared.tasks import cancel, spawn
from worker.calls.call import Call
from worker.calls.client_facts import ClientFacts
from worker.calls.observer import CallObserver
from worker.ownership.figures import families
from worker.ownership.health import HealthPolicy
from worker.ownership.holding import Holding, is_of
from worker.ownership.owner import Owner
from worker.sessions.context import UnsolicitedPath
from worker.sessions.resource_subscriptions import Watcher
from worker.transports.transport import UpstreamFacts

_log = logging.getLogger(__name__)
_ANNOUNCE_S = 0.25


class Inventory:
    """All upstreams of one worker, and the latest records of the registry."""

    def __init__(
        self,
        store: RegistryStore,
        worker: str,
        settings: Settings,
        unsolicited: UnsolicitedPath,
        observer: CallObserver | None = None,
        credentials: CredentialStore | None = None,
        may_start: Callable[[], Awaitable[bool]] | None = None,
    ) -> None:
        """``may_start`` says whether this worker may start children, or raises ``RegistryUnavailable``."""
        self._may_start = may_start
        self.records: dict[str, UpstreamRecord] = {}
        self._store = store
        self._worker = worker
        self._settings = settings
        self._held: dict[str, Holding] = {}
        self._health: dict[str, tuple[HealthCheckResult, int, int]] = {}
        self._announced_health: dict[str, bool] = {}
        self._unreported: dict[str, tuple[ServerStatus, str | None, UpstreamFacts | None]] = {}
        self._announcing: dict[tuple[str, str], bool] = {}  # hint being announced → whether it was repeated meanwhile
        self._retiring: dict[str, asyncio.Task[None]] = {}
        self._without_children = False
        self._unsolicited = unsolicited
        self._observer = observer
        self._credentials = credentials
        self.draining = False

    # ---- calls

    def submit(self, upstream: str, call: Call) -> None:
        """Carry ``call`` to ``upstream``. The call fails if this worker does not own the upstream."""
        holding = self._held.get(upstream)
        if holding is None or holding.leaving:
            call.fail(NotDelivered("not_delivered", f"upstream {upstream!r} is not held by this worker"))
            return
        holding.upstream.submit(call)

    def list_for(self, upstream: str, kind: Kind, call: Call) -> None:
        """Answer ``call`` with what the client's own session of ``upstream`` lists, or null if all see the same."""
        holding = self._held.get(upstream)
        if holding is None or holding.leaving:
            call.fail(NotDelivered("not_delivered", f"upstream {upstream!r} is not held by this worker"))
        else:
            holding.upstream.list_for(kind, call)

    def listed(self, id: str) -> ListedCatalog:
        """Return the lists of an upstream as they were read last, by any worker."""
        record = self.records.get(id)
        return record.catalog if record is not None else ListedCatalog()

    def limits(self, upstream: str) -> CallSettings:
        """Return the limits of calls to ``upstream``, which its entry may have for itself."""
        holding = self._held.get(upstream)
        return self._settings.calls if holding is None else holding.settings.calls

    def listen(self, upstream: str, call: Call) -> None:
        """Carry a client's own ``subscriptions/listen`` to ``upstream``. The call fails if this worker does not own the
        upstream."""
        holding = self._held.get(upstream)
        if holding is None or holding.leaving:
            call.fail(NotDelivered("not_delivered", f"upstream {upstream!r} is not held by this worker"))
        else:
            holding.upstream.listen(call)

    async def watch(self, watcher: Watcher, upstream: str, uri: str, sid: str, client: ClientFacts) -> None:
        """Subscribe to a resource. Raises ``CallError``."""
        holding = self._held.get(upstream)
        if holding is None or holding.leaving:
            raise NotDelivered("not_delivered", f"upstream {upstream!r} is not held by this worker")
        await holding.upstream.subscriptions.watch(watcher, uri, sid, client)

    def unwatch(self, watcher: Watcher, upstream: str, uri: str, sid: str) -> None:
        """End a watcher's subscription to a resource."""
        holding = self._held.get(upstream)
        if holding is not None:
            holding.upstream.subscriptions.unwatch(watcher, uri, sid)

    def forget_watcher(self, watcher: Watcher) -> None:
        """End all subscriptions of a watcher that is gone."""
        for holding in self._held.values():
            holding.upstream.subscriptions.forget(watcher)

    def was_cut_off(self) -> None:
        """Handle that this worker was counted as dead: perhaps it reached nobody for a while."""
        for holding in self._held.values():
            holding.upstream.was_cut_off()
            if holding.owner is not None:
                holding.owner.was_cut_off()

    def roots_changed(self, sid: str) -> None:
        """Notify the client's own upstream sessions that its roots changed."""
        for holding in self._held.values():
            holding.upstream.roots_changed(sid)

    def alive(self, sid: str) -> None:
        """Note that a client has a stream open."""
        for holding in self._held.values():
            holding.upstream.alive(sid)

    def notify(self, upstream: str, sid: str, client: ClientFacts, message: bytes) -> None:
        """Carry a client's notification to ``upstream``."""
        holding = self._held.get(upstream)
        if holding is not None and not holding.leaving:
            holding.upstream.notify(sid, client, message)

    def end_client(self, sid: str) -> None:
        """Close the upstream sessions of a client session that is over."""
        for holding in self._held.values():
            holding.upstream.end_client(sid)

    @property
    def load(self) -> int:
        """The number of calls under way."""
        return sum(holding.upstream.traffic.in_flight for holding in self._held.values())

    def figures(self) -> list[Family]:
        """Return what ``/metrics`` shows of the upstreams here."""
        most = self._settings.telemetry.metrics_max_tools
        return families((holding.upstream for holding in self._held.values()), most)

    # ---- the registry's follower

    def apply(self, records: dict[str, UpstreamRecord | None]) -> None:
        """Start, update and stop upstreams so that they agree with these records. ``None`` means unregistered."""
        for id, record in records.items():
            if record is None:
                self.records.pop(id, None)
                self._announced_health.pop(id, None)
                self._drop(id)
                continue
            self.records[id] = record
            slots = [slot for slot, worker in record.owners if worker == self._worker and not record.spec.problem]
            holding = self._held.get(id)
            if not slots:
                if holding is not None:
                    self._drop(id)
                continue
            if holding is not None and holding.record.spec != record.spec:
                self._drop(id)
                holding = None
            if holding is None:
                if self.draining:
                    continue
                holding = self._take(record)
            holding.record = record
            if 0 in slots:
                self._lead(holding)
            else:
                self._follow(holding)

    def replace_all(self, records: dict[str, UpstreamRecord]) -> None:
        """Apply a snapshot. Upstreams that are not in it are unregistered."""
        gone: dict[str, UpstreamRecord | None] = {id: None for id in self.records if id not in records}
        self.apply({**gone, **records})

    def _take(self, record: UpstreamRecord) -> Holding:
        holding = Holding(
            record, self._settings, self._worker, self, self._unsolicited, self._observer, self._credentials
        )
        self._held[record.spec.id] = holding
        return holding

    def _lead(self, holding: Holding) -> None:
        if holding.task is not None or holding.leaving or self.draining:
            return
        if self._without_children and holding.runs_once:
            return
        self._follow(holding)
        holding.owner = Owner(holding.upstream, holding.settings, self, holding.record.status, holding.record.catalog)
        holding.task = spawn(self._run(holding.owner, holding), f"upstream {holding.record.spec.id}")

    async def _run(self, owner: Owner, holding: Holding) -> None:
        """Run an upstream until cancelled. A changed stdio entry first waits until its old child has ended."""
        before = self._retiring.get(holding.record.spec.id)
        if before is not None and holding.runs_once:
            await asyncio.wait({before})
        await owner.run()

    def _follow(self, holding: Holding) -> None:
        """Serve calls by the facts that the leader found."""
        record = holding.record
        if holding.task is None and record.eras and is_of(record):
            holding.upstream.adopt(
                UpstreamFacts(
                    record.eras,
                    record.transport_in_use,
                    record.url_in_use,
                    record.sessionful,
                    record.protocol_version or "",
                )
            )

    def _drop(self, id: str) -> None:
        holding = self._held.pop(id, None)
        if holding is not None:
            task = self._retiring[id] = spawn(self._retire(holding), f"retire {id}")
            task.add_done_callback(
                lambda done: self._retiring.pop(id, None) if self._retiring.get(id) is done else None
            )

    async def _retire(self, holding: Holding) -> None:
        """Stop leading at once. Calls in flight on HTTP may finish; a stdio child must end."""
        await cancel(holding.task)
        if not holding.runs_once:
            deadline = asyncio.get_running_loop().time() + self._settings.fleet.drain_timeout_s
            while holding.upstream.traffic.in_flight and asyncio.get_running_loop().time() < deadline:
                await asyncio.sleep(0.05)
        if holding.owner is not None:
            await holding.owner.close()
        await holding.upstream.close()

    def hint_leader(self, kind: str, id: str, method: str) -> None:
        """Send a hint about an upstream to its leader, which may be another worker."""
        if method not in CHANGES and kind not in ("suspect", "look"):
            return
        told = (f"{kind}:{method}", id)
        if told in self._announcing:
            self._announcing[told] = True
        else:
            self._announcing[told] = False
            spawn(self._announce(*told), "tell-leader")

    async def _announce(self, kind: str, id: str) -> None:
        """Announce a hint in the change log. However often it is repeated, the fleet gets it a few times a second at
        most."""
        again = True
        while again:
            self._announcing[kind, id] = False
            try:
                await self._store.run_script("ANNOUNCE", kind, id)
            except RegistryUnavailable:
                pass
            await asyncio.sleep(_ANNOUNCE_S)
            again = self._announcing[kind, id]
        del self._announcing[kind, id]

    def hint(self, kind: str, id: str) -> None:
        """Handle another worker's hint about an upstream that this worker leads, or a user's wish that every worker
        that holds it begins anew with it: a new child, new connections and sessions."""
        holding = self._held.get(id)
        if kind == RESTART and holding is not None and not self.draining:
            self._drop(id)
            self.apply({id: self.records.get(id, holding.record)})
            return
        if holding is None or holding.owner is None:
            return
        what, _, method = kind.partition(":")
        if what == "relist":
            holding.owner.announced(method)
        elif what == "suspect":
            holding.owner.suspect()
        elif what == "look":
            holding.owner.look()

    # ---- placement's view

    @property
    def holds_any(self) -> bool:
        """Whether this worker has upstreams."""
        return bool(self._held)

    def movable(self, id: str) -> bool:
        """Whether a handover of the upstream now would disturb no client."""
        holding = self._held.get(id)
        return holding is not None and holding.movable(asyncio.get_running_loop().time())

    def busy(self, id: str) -> bool:
        """Whether a call is under way at the upstream, also one that waits for its client's input."""
        holding = self._held.get(id)
        return holding is not None and holding.upstream.traffic.in_flight > 0

    async def hand_over(self, id: str) -> None:
        """Stop a stdio child before its slot gets another owner."""
        holding = self._held.get(id)
        if holding is None or not holding.runs_once:
            return
        holding.leaving = True
        await cancel(holding.task)
        if holding.owner is not None and holding.owner.status is ServerStatus.CONNECTED:
            # The next owner finds the status as it is now, and calls wait for what is connecting.
            await self.status(id, ServerStatus.CONNECTING, "moving to another worker", None)
        closing = [holding.upstream.close()]
        if holding.owner is not None:
            closing.append(holding.owner.close())
        await asyncio.gather(*closing)

    async def stopped(self, id: str) -> None:
        """Write the status of an upstream whose last worker leaves, so that no outdated status stays."""
        await self.status(id, ServerStatus.STOPPED, "no worker is running", None)

    # ---- Reporter

    async def still_owned(self, id: str) -> bool:
        """Whether Redis itself says that this worker leads the upstream; the local copy may be old. If Redis does not
        answer, the owner keeps what it has, unless ``stdioOnRedisLoss`` is ``stop``."""
        try:
            if self._may_start is not None and not await self._may_start():
                return False
            return await self._store.is_owner(id, 0, self._worker)
        except RegistryUnavailable:
            return id in self._held and self._settings.upstreams.stdio_on_redis_loss == "keep"

    async def status(self, id: str, status: ServerStatus, error: str | None, facts: UpstreamFacts | None) -> None:
        """Write a status. While Redis does not answer, it is kept for later."""
        fields: dict[str, str] = {}
        if facts is not None:
            fields = {
                "eras": ",".join(facts.eras),
                "sessionful": "1" if facts.sessionful else "0",
                "protocol_version": facts.protocol_version,
                "transport_in_use": facts.transport,
                "url_in_use": facts.url,
                "capabilities": orjson.dumps(facts.capabilities).decode(),
                "instructions": facts.instructions,
            }
        try:
            await self._store.report_status(id, self._worker, status, error, **fields)
            self._unreported.pop(id, None)
        except RegistryUnavailable:
            before = self._unreported.get(id)
            self._unreported[id] = (status, error, facts or (before[2] if before else None))
        if id in self.records and facts is not None:
            self.records[id] = structs.replace(
                self.records[id], status=status, eras=facts.eras, sessionful=facts.sessionful,
                transport_in_use=facts.transport, url_in_use=facts.url, protocol_version=facts.protocol_version,
            )  # fmt: skip

    async def catalog(
        self,
        id: str,
        documents: Mapping[Kind, bytes],
        digest: str,
        announced: Iterable[str],
        ttl_s: float | None = None,
        notes: Sequence[str] = (),
        added: Mapping[str, Mapping[str, float]] | None = None,
    ) -> None:
        """Write the lists of an upstream. If Redis does not answer, ``reassert`` writes them later."""
        if id in self.records:
            since = {kind: dict(names) for kind, names in (added or {}).items()}
            listed = ListedCatalog(digest, dict(documents), now_s(), tuple(notes), since, ttl_s)
            self.records[id] = structs.replace(self.records[id], catalog=listed)
        try:
            await self._store.report_catalog(id, self._worker, documents, digest, announced, ttl_s, notes, added)
        except RegistryUnavailable:
            _log.debug("catalogue of %s is kept until Redis is back", id)

    def health(self, result: HealthCheckResult, policy: HealthPolicy) -> None:
        """Queue a probe's result for the next ``flush``."""
        self._health[result.server_id] = (result, policy.failures, policy.successes)

    async def flush(self) -> None:
        """Write health and log lines in batches (about once a second). Raises ``RegistryUnavailable``."""
        held, self._health = self._health, {}
        batch = {id: result for id, result in held.items() if id in self.records}
        if batch:
            await self._store.report_health(list(batch.values()))
            for id, (result, *_) in batch.items():
                if (
                    self._announced_health.get(id, True) is not result.healthy
                ):  # announce changes of health, not each probe
                    self._announced_health[id] = result.healthy
                    await self._store.run_script("ANNOUNCE", "server", id)
        for id, holding in list(self._held.items()):
            if holding.lines:
                lines = list(holding.lines)
                holding.lines.clear()
                await self._store.append_logs(id, lines, self._settings.upstreams.log_lines)

    def trim(self) -> None:
        """Close idle connections and sessions."""
        for holding in self._held.values():
            holding.upstream.trim()

    # ---- after Redis was away

    async def reassert(self) -> None:
        """Write back what Redis lost: specs, ownership, catalogues and statuses of the upstreams here."""
        held = [(id, holding, self.records.get(id, holding.record)) for id, holding in self._held.items()]
        for id, holding, record in held:  # as they were before the first write, whose news may come back meanwhile
            slots = [slot for slot, worker in holding.record.owners if worker == self._worker]
            since, duty = record.registered_at, record.duty
            await self._store.register(holding.record.spec, "restore", self._worker, slots, since, duty)
            for slot in slots:
                await self._store.claim(id, slot, self._worker)
            if holding.owner is None or holding.leaving:
                continue
            facts = holding.upstream.facts
            await self.status(id, holding.owner.status, record.error, facts)
            if record.catalog.digest:
                lists = record.catalog
                await self.catalog(id, lists.documents, lists.digest, (), lists.ttl_s, lists.notes, lists.added)
        for id, (status, error, facts) in list(self._unreported.items()):
            await self.status(id, status, error, facts)

    async def stop_stdio(self) -> None:
        """End the stdio children rather than risk two of each (``stdioOnRedisLoss: stop``). What is known of their
        upstreams is kept for ``start_stdio``."""
        self._without_children = True
        running = {id: holding for id, holding in self._held.items() if holding.task is not None and holding.runs_once}
        await asyncio.gather(*(self.hand_over(id) for id in running), return_exceptions=True)
        for id, holding in running.items():
            if self._held.get(id) is holding:
                self._take(holding.record)

    def start_stdio(self) -> None:
        """Start the stdio children again that this worker still owns, after Redis is back."""
        if self._without_children:
            self._without_children = False
            self.apply(dict(self.records))

    async def close(self) -> None:
        """Stop all upstreams."""
        holdings, self._held = list(self._held.values()), {}
        await asyncio.gather(*(self._retire(holding) for holding in holdings), return_exceptions=True)
