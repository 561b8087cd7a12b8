"""Which upstreams this worker owns. ``decide`` is pure; ``Placement`` claims, hands over and releases.

A free slot is claimed by the worker to which rendezvous hashing points. Owners keep what they have while they live. A
worker that joined gets its share by handover, idle upstreams first, one a second, and only once it has been up for a
while, so that a worker that restarts again and again does not restart everyone's children. There is no lease for each
upstream: only the worker's own record expires.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Collection, Iterable, Mapping
from typing import Protocol

from msgspec import Struct

from shared.choices import Duty
from shared.errors import RegistryUnavailable
from shared.registry.members import LEAVING, RETIRING, Members
from shared.registry.records import UpstreamRecord
from shared.registry.store import RegistryStore
from shared.rendezvous import rank
from shared.settings import Settings
from shared.tasks import next_tick
from shared.transports import traits
from worker.ownership.incumbents import Incumbents

_log = logging.getLogger(__name__)
JOIN_GRACE_S = 3.0
"""A worker younger than this (seconds) gets no handovers. After Redis was away, a slot is not claimed from its owner
for as long."""

_LOOK_S = 0.02
"""How often a worker that drains looks whether calls have ended."""
_FRESH_S = 0.1
"""How old the list of workers may be for an upstream to be moved to one of them."""
_AT_ONCE = 32
"""How many upstreams are handed over at once."""
_CLAIMED_AT_ONCE = 256
"""How many slots are claimed at once. They go to Redis together (``shared.registry.batches``)."""


class PlacementPlan(Struct, frozen=True):
    """What to do now: slots to claim, slots to give up, and slots to hand over to another worker."""

    claims: list[tuple[str, int]]
    releases: list[tuple[str, int]]
    moves: list[tuple[str, int, str]]


def slots_of(record: UpstreamRecord, workers: int, spread: int) -> int:
    """Return how many workers carry this upstream: one for stdio, up to ``spread`` for HTTP, and none for an entry that
    cannot be run or is disabled.

    An upstream with a number of calls that it takes (``maxConcurrency``) has one: only then that number, and turns
    between callers, are exact.
    """
    if record.spec.problem or record.duty is Duty.DISABLED:
        return 0
    once = traits(record.spec.transport).runs_once or bool(record.spec.settings.get("maxConcurrency"))
    return 1 if once else max(1, min(spread, workers))


def decide(
    records: Iterable[UpstreamRecord],
    workers: Mapping[str, float],
    me: str,
    spread: int,
    now: float,
    leaving: Collection[str] = (),
) -> PlacementPlan:
    """Return what the worker ``me`` has to do. ``workers`` maps the ids of live workers to the Unix time at which each
    joined. Those that are ``leaving`` are not among them: they keep what they have until they hand it over, and until
    they have gone nothing moves for the sake of even shares."""
    plan = PlacementPlan([], [], [])
    settled = [id for id, started in workers.items() if now - started >= JOIN_GRACE_S or id == me]
    for record in records:
        id = record.spec.id
        count = slots_of(record, len(workers) + len(leaving), spread)
        owners = {slot: worker for slot, worker in record.owners if worker in workers}
        kept = {slot for slot, worker in record.owners if worker in leaving}
        held = {slot for slot in owners if slot < count}
        busy = {owners[slot] for slot in held}
        held |= kept
        ranked = rank(id, workers)
        free = [slot for slot in range(count) if slot not in held]
        if 0 in free and me in busy and len(busy) >= len(workers):
            plan.claims.append((id, 0))  # every worker carries the upstream, and none leads it
        else:
            for slot, candidate in zip(free, [w for w in ranked if w not in busy], strict=False):
                if candidate == me:
                    plan.claims.append((id, slot))
        mine = [slot for slot, worker in owners.items() if worker == me]
        for slot in mine:
            if slot >= count or any(lower < slot for lower in mine):
                plan.releases.append((id, slot))
            elif not leaving and me not in (ideal := rank(id, settled)[:count]):
                heir = next((worker for worker in ideal if worker not in busy), None)
                if heir is not None:
                    plan.moves.append((id, slot, heir))
    return plan


class Held(Protocol):
    """What placement needs of the inventory."""

    records: dict[str, UpstreamRecord]

    def movable(self, id: str) -> bool:
        """Whether a handover of the upstream now would interrupt no client."""

    async def hand_over(self, id: str) -> None:
        """Stop an upstream that must not run twice (a stdio child) before its slot gets another owner."""

    def busy(self, id: str) -> bool:
        """Whether a call is under way at the upstream."""

    async def stopped(self, id: str) -> None:
        """Handle that no worker is left to run the upstream."""


class Placement:
    """Carries the plan out, about once a second and whenever something changes."""

    def __init__(
        self,
        store: RegistryStore,
        members: Members,
        held: Held,
        worker: str,
        settings: Settings,
        available: Callable[[], bool],
    ) -> None:
        self._store = store
        self._members = members
        self._held = held
        self._worker = worker
        self._drain_s = settings.fleet.drain_timeout_s
        self._spread = 1 if settings.upstreams.max_concurrency else settings.upstreams.spread
        self._tick_s, self._ttl_s = settings.fleet.heartbeat_s, settings.fleet.heartbeat_ttl_s
        self._available = available
        self._settling_since = float("-inf")
        self._incumbents = Incumbents()  # while that lasts: the owners before
        self.wake = asyncio.Event()
        self.workers: dict[str, float] = {}
        self._leaving: frozenset[str] = frozenset()
        self._going = False
        self._at_rest: dict[str, float] | None = None  # the workers for which, once settled, the plan was empty
        self._settled: dict[str, UpstreamRecord] = {}  # records of which nothing follows, for the workers in ``_for``
        self._for: tuple[object, ...] = ()
        self._members_changed = True
        self._asked_at = 0.0

    def settle(self) -> None:
        """Give owners time to say that they live, and to write back what they own, before any worker claims that:
        Redis was away, was emptied, or took no heartbeats. What Redis says meanwhile may be half of it."""
        if not self._settling:
            self._incumbents.forget()
        self._incumbents.note(self._held.records.values())
        self._settling_since = time.monotonic()
        self._members_changed = True

    def look(self) -> None:
        """Make a plan at once, because a worker joined or left."""
        self._members_changed = True
        self.wake.set()

    @property
    def _settling(self) -> bool:
        return time.monotonic() - self._settling_since < JOIN_GRACE_S

    async def run(self) -> None:
        """Make and carry out plans until cancelled."""
        while True:
            if self.wake.is_set():
                self._at_rest = None
                self.wake.clear()
            if self._available():
                try:
                    await self._once()
                except RegistryUnavailable as error:
                    _log.debug("placement waits: %s", error)
                except Exception:  # missing a round is better than never claiming again
                    _log.exception("a round of placement failed")
            try:
                async with asyncio.timeout_at(next_tick(self._tick_s)):
                    await self.wake.wait()
            except TimeoutError:
                continue
            await asyncio.sleep(0.02)  # let a burst of changes arrive

    async def _once(self) -> None:
        # Who joins or leaves says so; only the record of another worker may end without a word.
        alone = len(self.workers) == 1 and not self._leaving and not self._settling
        ask_s = self._ttl_s if alone else self._tick_s
        if self._members_changed or time.monotonic() - self._asked_at > ask_s - self._tick_s / 2:
            self._members_changed, self._asked_at = False, 0.0  # until there is an answer
            await self._ask()
        if self._going:
            await self._leave_idle_children()
        if self._worker not in self.workers:
            self._members_changed = True
            return  # it retires, or the heartbeat of this worker has to be written first
        if self._at_rest == self.workers:
            return  # no worker and no record has changed
        now = time.time()
        settled = all(now - joined >= JOIN_GRACE_S for joined in self.workers.values())
        plan = self._plan(now)
        if plan.moves and time.monotonic() - self._asked_at > _FRESH_S:
            await self._ask()  # the heir may drain by now, and would give it back
            plan = self._plan(now)
        nothing = not (plan.claims or plan.releases or plan.moves)
        self._at_rest = dict(self.workers) if settled and nothing else None
        settling = self._settling
        claims = [one for one in plan.claims if not settling or self._is_free(*one)]
        for start in range(0, len(claims), _CLAIMED_AT_ONCE):
            await asyncio.gather(*(self._claim(*one) for one in claims[start : start + _CLAIMED_AT_ONCE]))
        if settling:
            return
        for id, slot in plan.releases:
            if self._calls_go_on(self._held.records.get(id), now):
                continue
            await self._store.release(id, slot, self._worker)
        for id, slot, heir in plan.moves:
            if self._held.movable(id):
                _log.info("handing upstream %s over to worker %s, which joined", id, heir)
                await self._held.hand_over(id)
                await self._store.release(id, slot, self._worker, heir)
                break  # one a second

    def _calls_go_on(self, record: UpstreamRecord | None, now: float) -> bool:
        """Whether calls are under way at a child that was disabled: they may end, for as long as a worker drains."""
        return (
            record is not None
            and record.duty is Duty.DISABLED
            and traits(record.spec.transport).runs_once
            and self._held.busy(record.spec.id)
            and now - record.status_since < self._drain_s
        )

    def _plan(self, now: float) -> PlacementPlan:
        """Return what to do now. Records of which nothing followed are looked at again when they have changed, or the
        workers have: with thousands of upstreams, each of which is registered, claimed, connected and listed, looking
        at all after each change would take most of the worker's time."""
        records = self._held.records
        old_enough = tuple(id for id, joined in self.workers.items() if now - joined >= JOIN_GRACE_S)
        view = (dict(self.workers), self._leaving, old_enough)
        if view != self._for or len(self._settled) > 2 * len(records):
            self._for = view
            self._settled.clear()
        changed = [record for id, record in records.items() if self._settled.get(id) is not record]
        plan = decide(changed, self.workers, self._worker, self._spread, now, self._leaving)
        at_work = {one[0] for part in (plan.claims, plan.releases, plan.moves) for one in part}
        self._settled.update((one.spec.id, one) for one in changed if one.spec.id not in at_work)
        return plan

    def _is_free(self, id: str, slot: int) -> bool:
        """Whether a slot has no owner that may just not have said yet that it lives."""
        record = self._held.records.get(id)
        owner = (record.owner(slot) if record is not None else None) or self._incumbents.of(id, slot)
        return owner is None or owner == self._worker or self._incumbents.has_ended(owner)

    async def _claim(self, id: str, slot: int) -> None:
        record = self._held.records.get(id)
        if record is not None:  # else it was unregistered meanwhile
            await self._store.claim(id, slot, self._worker, traits(record.spec.transport).runs_once)

    async def _ask(self) -> None:
        self._note(await self._members.alive())
        self._asked_at = time.monotonic()

    def _note(self, alive: dict[str, dict[str, str]]) -> None:
        """Note the live workers. One that drains, or is about to be replaced, keeps what it has for a moment, but gets
        nothing new. Where all are about to be replaced, none is yet."""
        self._incumbents.meet(alive)
        here = {id: facts for id, facts in alive.items() if facts.get("draining") != "1"}
        staying = {id: facts for id, facts in here.items() if facts.get(RETIRING) != "1"} or here
        self.workers = {id: float(facts.get("joined_at", "0")) for id, facts in staying.items()}
        self._leaving = frozenset(alive) - frozenset(staying)
        self._going = self._worker in self._leaving and alive[self._worker].get(LEAVING) == "1"

    # ---- before and at drain

    async def _leave_idle_children(self) -> None:
        """Hand over the stdio upstreams at which no call is under way, before this worker drains. It still takes calls:
        where a long one is under way, short ones need not wait for its end."""
        idle = [record for record in self._held.records.values() if self._is_idle_child(record)]
        await asyncio.gather(*(self._pass_on(record, list(self.workers)) for record in idle))

    async def leave(self, all_of_them: bool = True) -> None:
        """Hand slots over to the next worker in rank: all, or only those of upstreams that another worker may run while
        this one still has calls there."""
        others = await self._others()
        if not all_of_them and not others:
            return
        leaving = [
            record
            for record in self._held.records.values()
            if self._slots(record) and (all_of_them or not traits(record.spec.transport).runs_once)
        ]
        for start in range(0, len(leaving), _AT_ONCE):
            await asyncio.gather(*(self._pass_on(record, others) for record in leaving[start : start + _AT_ONCE]))

    async def leave_children(self) -> None:
        """Hand each stdio upstream over as soon as no call is under way at it, until cancelled. Its calls are not cut
        short, and those of other upstreams do not keep it. New calls wait in the front ends meanwhile."""
        passed: set[str] = set()
        while True:
            # What has gone and come back, from a worker that did not know yet that this one drains, goes again.
            passed = {id for id in passed if id in self._held.records and self._slots(self._held.records[id])}
            idle = [
                record for id, record in self._held.records.items() if id not in passed and self._is_idle_child(record)
            ]
            try:
                others = await self._others() if idle else []
                if others:
                    passed.update(record.spec.id for record in idle)
                    await asyncio.gather(*(self._pass_on(record, others) for record in idle))
            except RegistryUnavailable as error:
                _log.debug("handing over waits: %s", error)
                passed.difference_update(record.spec.id for record in idle)
            await asyncio.sleep(_LOOK_S if not idle or others else self._tick_s)

    def _is_idle_child(self, record: UpstreamRecord) -> bool:
        once = traits(record.spec.transport).runs_once
        return once and bool(self._slots(record)) and not self._held.busy(record.spec.id)

    def _slots(self, record: UpstreamRecord) -> list[int]:
        return [slot for slot, owner in record.owners if owner == self._worker]

    async def _others(self) -> list[str]:
        await self._ask()
        return [worker for worker in self.workers if worker != self._worker]

    async def _pass_on(self, record: UpstreamRecord, others: list[str]) -> None:
        """Hand the slots of one upstream over. Raises ``RegistryUnavailable``."""
        id = record.spec.id
        taken = {worker for _, worker in record.owners}
        heirs = [worker for worker in rank(id, others) if worker not in taken]
        for slot in self._slots(record):
            await self._held.hand_over(id)
            heir = heirs.pop(0) if heirs else ""
            if slot == 0 and not heir and not taken - {self._worker}:
                await self._held.stopped(id)
            await self._store.release(id, slot, self._worker, heir)
