"""``worker.ownership.placement.Placement``: when the driver looks at which upstreams."""

from __future__ import annotations

import functools
import time
from collections.abc import AsyncIterator, Iterable
from typing import Any

import pytest
import pytest_asyncio

from shared.errors import RegistryUnavailable
from shared.registry.records import UpstreamRecord
from shared.rendezvous import rank
from shared.settings import build
from shared.tasks import cancel, spawn
from tests.fleet import eventually
from tests.unit.worker.ownership.placement_records import up
from worker.ownership.inventory import Inventory
from worker.ownership.placement import Placement, PlacementPlan, decide
from worker.ownership.reconciliation import Reconciliation


class _Fleet:
    """What ``Placement`` asks and tells (``ownership.placement.Held``, and its part of ``RegistryStore`` and
    ``Members``), and how often it has looked through the records."""

    def __init__(self) -> None:
        self.looked = 0
        self.asked = 0
        self.joined = {"me": 0.0}
        self.claimed: list[tuple[str, int]] = []
        self.released: list[tuple[str, int]] = []
        self.known = {"u": up("u", {0: "me"})}

    @property
    def records(self) -> dict[str, UpstreamRecord]:
        self.looked += 1
        return self.known

    async def alive(self) -> dict[str, dict[str, str]]:
        self.asked += 1
        return {id: {"joined_at": str(joined)} for id, joined in self.joined.items()}

    def movable(self, id: str) -> bool:
        return False

    async def hand_over(self, id: str) -> None:
        raise AssertionError("nothing is movable")

    async def stopped(self, id: str) -> None:
        raise AssertionError("nobody leaves")

    async def claim(self, id: str, slot: int, worker: str, runs_once: bool = False) -> None:
        self.claimed.append((id, slot))
        self.known[id] = up(id, {slot: worker})

    async def release(self, id: str, slot: int, worker: str, heir: str = "") -> None:
        self.released.append((id, slot))
        self.known[id] = up(id)


@pytest_asyncio.fixture
async def placed() -> AsyncIterator[tuple[Placement, _Fleet]]:
    fleet: Any = _Fleet()
    placement = Placement(
        fleet, fleet, fleet, "me", build(overrides={"heartbeat_s": 0.001, "heartbeat_ttl_s": 0.001}), lambda: True
    )
    task = spawn(placement.run(), "placement")
    yield placement, fleet
    await cancel(task)


async def _rounds(fleet: _Fleet, count: int) -> None:
    wanted = fleet.asked + count
    await eventually(lambda: fleet.asked >= wanted)


async def test_a_fleet_at_rest_is_not_looked_through_again(placed: tuple[Placement, _Fleet]) -> None:
    placement, fleet = placed
    await _rounds(fleet, 2)
    before = fleet.looked
    await _rounds(fleet, 3)
    assert fleet.looked == before
    fleet.known["new"] = up("new")
    placement.wake.set()
    await eventually(lambda: fleet.claimed == [("new", 0)])
    await _rounds(fleet, 2)
    before = fleet.looked
    fleet.joined["other"] = 0.0
    await _rounds(fleet, 2)
    assert fleet.looked > before


async def test_a_worker_that_is_alone_does_not_ask_again_and_again_who_is_there() -> None:
    fleet: Any = _Fleet()
    settings = build(overrides={"heartbeat_s": 0.001, "heartbeat_ttl_s": 60.0})
    rounds = 0

    def available() -> bool:
        nonlocal rounds
        rounds += 1
        return True

    placement = Placement(fleet, fleet, fleet, "me", settings, available)
    task = spawn(placement.run(), "placement")
    await eventually(lambda: rounds > 20)
    assert fleet.asked == 1
    fleet.joined["other"] = 0.0
    placement.look()
    await _rounds(fleet, 3)
    await cancel(task)


async def test_of_many_upstreams_only_those_that_changed_are_looked_at_again(
    placed: tuple[Placement, _Fleet], monkeypatch: pytest.MonkeyPatch
) -> None:
    placement, fleet = placed
    fleet.known |= {f"u{number}": up(f"u{number}", {0: "me"}) for number in range(100)}
    looked: list[int] = []

    def counting(records: Iterable[UpstreamRecord], *rest: Any) -> PlacementPlan:
        looked.append(len(of := list(records)))
        return decide(of, *rest)

    monkeypatch.setattr("worker.ownership.placement.decide", counting)

    def is_claimed(id: str) -> bool:
        return (id, 0) in fleet.claimed

    placement.wake.set()
    await eventually(lambda: sum(looked) >= 100)
    looked.clear()
    for number in range(5):
        fleet.known[f"new{number}"] = up(f"new{number}")
        placement.wake.set()
        await eventually(functools.partial(is_claimed, f"new{number}"))
    await _rounds(fleet, 2)
    assert sum(looked) < 30
    fleet.joined["other"] = 0.0
    placement.look()
    await eventually(lambda: sum(looked) > 100, what="who should have what depends on all workers")


async def test_nothing_is_taken_from_an_owner_that_had_no_chance_to_say_that_it_lives(
    placed: tuple[Placement, _Fleet], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Redis was emptied, or took no heartbeats: the records of all workers are gone, and come back one by one."""
    placement, fleet = placed
    monkeypatch.setattr("worker.ownership.placement.JOIN_GRACE_S", 0.5)
    fleet.known["theirs"] = up("theirs", {0: "other"})
    fleet.known["shared"] = up("shared", {0: "other", 1: "me"})
    placement.settle()
    fleet.known["theirs"] = up("theirs")  # what is written back first has no owner, or only one of two
    fleet.known["shared"] = up("shared", {1: "me"})
    fleet.known["free"] = up("free")
    placement.wake.set()
    await eventually(lambda: fleet.claimed == [("free", 0)], what="nobody else can have that")
    await _rounds(fleet, 3)
    assert fleet.claimed == [("free", 0)] and not fleet.released
    await eventually(lambda: {("theirs", 0), ("shared", 0)} <= set(fleet.claimed), what="it did not come back")


async def test_who_came_is_looked_after_until_it_has_settled(placed: tuple[Placement, _Fleet]) -> None:
    _, fleet = placed
    fleet.joined["young"] = time.time() + 1000
    await _rounds(fleet, 2)
    before = fleet.looked
    await _rounds(fleet, 3)
    assert fleet.looked >= before + 2


async def test_a_change_in_the_middle_of_a_round_is_not_lost(placed: tuple[Placement, _Fleet]) -> None:
    placement, fleet = placed
    await _rounds(fleet, 2)
    alive = fleet.alive

    async def alive_with_news() -> dict[str, dict[str, str]]:
        if "new" not in fleet.known:
            fleet.known["new"] = up("new")
            placement.wake.set()
        return await alive()

    fleet.alive = alive_with_news  # type: ignore[method-assign]
    await eventually(lambda: fleet.claimed == [("new", 0)])


class _LostStore:
    """What is asked of a ``RegistryStore`` after a gap; it is lost again in the middle."""

    async def load_all(self) -> dict[str, UpstreamRecord]:
        raise RegistryUnavailable("it took too long")

    async def be_known(self) -> None:
        """This worker's record is there."""


async def test_what_a_snapshot_brought_is_placed_though_the_rest_of_it_failed() -> None:
    fleet: Any = _Fleet()
    store: Any = _LostStore()
    settings = build(overrides={"heartbeat_s": 0.001, "heartbeat_ttl_s": 0.001})
    inventory = Inventory(store, "me", settings, store)
    placement = Placement(fleet, fleet, inventory, "me", settings, lambda: True)
    reconciliation = Reconciliation(store, inventory, store.be_known, placement.wake.set)
    reconciliation.snapshot({})
    task = spawn(placement.run(), "placement")
    await _rounds(fleet, 2)
    reconciliation.snapshot({"new": up("new")})
    await eventually(lambda: ("new", 0) in fleet.claimed)
    await reconciliation.close()
    await cancel(task)


class _Draining(_Fleet):
    """A fleet in which another worker ranks first for the only upstream, a child, and may drain."""

    def __init__(self) -> None:
        super().__init__()
        self.id = next(id for id in map(str, range(100)) if rank(id, ["me", "other"])[0] == "other")
        self.known = {self.id: up(self.id, {0: "me"}, "stdio")}
        self.draining: set[str] = set()

    async def alive(self) -> dict[str, dict[str, str]]:
        found = await super().alive()
        return {id: {**facts, "draining": "1"} if id in self.draining else facts for id, facts in found.items()}

    def movable(self, id: str) -> bool:
        return True

    def busy(self, id: str) -> bool:
        return False

    async def hand_over(self, id: str) -> None:
        """It can be moved."""

    async def release(self, id: str, slot: int, worker: str, heir: str = "") -> None:
        self.released.append((id, slot))
        self.known[id] = up(id, {slot: heir}, "stdio")


def _placement(fleet: Any, heartbeat_s: float) -> Placement:
    return Placement(fleet, fleet, fleet, "me", build(overrides={"heartbeat_s": heartbeat_s}), lambda: True)


async def test_nothing_moves_to_a_worker_that_drains_although_it_was_not_known_to(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("worker.ownership.placement.JOIN_GRACE_S", 0.3)
    fleet = _Draining()
    fleet.joined["other"] = time.time()  # too young to get anything yet
    placement = _placement(fleet, heartbeat_s=1000.0)  # who is there is not asked again by itself
    placement.wake.set()
    task = spawn(placement.run(), "placement")
    try:
        await eventually(lambda: fleet.asked == 1)
        fleet.draining.add("other")

        def asked_again() -> bool:
            placement.wake.set()
            return fleet.asked > 1

        await eventually(asked_again, what="it asks before it moves anything")
        for _ in range(3):
            placement.wake.set()
            await eventually(lambda: not placement.wake.is_set())
        assert not fleet.released
    finally:
        await cancel(task)


async def test_a_child_that_comes_back_to_a_worker_that_drains_goes_again() -> None:
    fleet = _Draining()
    fleet.joined["other"] = 0.0
    fleet.draining.add("me")
    task = spawn(_placement(fleet, heartbeat_s=0.001).leave_children(), "leave-children")
    try:
        for times in (1, 2):
            await eventually(lambda times=times: len(fleet.released) == times)  # type: ignore[misc]
            await eventually(lambda: fleet.known[fleet.id].owners == ((0, "other"),))
            looked = fleet.looked
            await eventually(lambda looked=looked: fleet.looked > looked + 5)  # type: ignore[misc]
            fleet.known[fleet.id] = up(fleet.id, {0: "me"}, "stdio")
    finally:
        await cancel(task)
