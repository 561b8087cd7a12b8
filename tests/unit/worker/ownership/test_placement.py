"""``worker.ownership.placement``: workers that see the same agree without asking, and come to rest."""

from __future__ import annotations

import functools
import time
from collections import Counter
from collections.abc import AsyncIterator, Iterable, Mapping
from typing import Any

import pytest
import pytest_asyncio
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from shared.choices import Duty
from shared.errors import RegistryUnavailable
from shared.registry.records import UpstreamRecord
from shared.rendezvous import rank
from shared.settings import build
from shared.tasks import cancel, spawn
from tests.fleet import eventually
from tests.unit.builders import record
from worker.ownership.inventory import Inventory
from worker.ownership.placement import JOIN_GRACE_S, Placement, PlacementPlan, decide, slots_of
from worker.ownership.reconciliation import Reconciliation

NOW = 10_000.0
OLD = NOW - 100


def _up(id: str, owners: Mapping[int, str] | None = None, transport: str = "http") -> UpstreamRecord:
    return record(id, owners=sorted((owners or {}).items()), transport=transport)


def _flawed(id: str, owners: Mapping[int, str] | None = None) -> UpstreamRecord:
    sound = _up(id, owners)
    return replace(sound, spec=replace(sound.spec, problem="variable K is not set"))


def _workers(*ids: str, young: tuple[str, ...] = ()) -> dict[str, float]:
    return {id: NOW - 1 if id in young else OLD for id in ids}


def _plans(records: list[UpstreamRecord], workers: Mapping[str, float], spread: int = 2) -> dict[str, PlacementPlan]:
    return {me: decide(records, workers, me, spread, NOW) for me in workers}


def _claims(records: list[UpstreamRecord], workers: Mapping[str, float], spread: int = 2) -> dict[tuple[str, int], str]:
    """Who claims what; fails when two workers plan the same claim."""
    found: dict[tuple[str, int], str] = {}
    for me, plan in _plans(records, workers, spread).items():
        for claim in plan.claims:
            assert claim not in found, f"{me} and {found[claim]} both plan {claim}"
            found[claim] = me
    return found


@pytest.mark.parametrize(
    ("transport", "workers", "spread", "expected"),
    [
        ("stdio", 5, 3, 1),
        ("stdio", 0, 3, 1),
        ("http", 5, 3, 3),
        ("http", 2, 3, 2),
        ("http", 1, 3, 1),
        ("http", 0, 3, 1),
        ("sse", 5, 1, 1),
        ("sse", 5, 2, 2),
    ],
)
def test_stdio_has_one_slot_and_http_up_to_the_spread(transport: str, workers: int, spread: int, expected: int) -> None:
    assert slots_of(_up("u", transport=transport), workers, spread) == expected


def test_an_upstream_with_a_limit_has_one_worker_that_counts() -> None:
    limited = record("u", settings={"maxConcurrency": 3})
    assert slots_of(limited, 5, 3) == 1
    assert slots_of(record("u", settings={"maxConcurrency": 0}), 5, 3) == 3


def test_nobody_claims_an_entry_that_cannot_be_run_and_who_has_it_gives_it_up() -> None:
    flawed = [_flawed("a"), _flawed("b", {0: "w1"})]
    plans = _plans(flawed, _workers("w1", "w2"))
    assert {id: (plan.claims, plan.moves) for id, plan in plans.items()} == {"w1": ([], []), "w2": ([], [])}
    assert plans["w1"].releases == [("b", 0)]


def test_nobody_claims_a_disabled_upstream_and_who_has_it_gives_it_up() -> None:
    off = [record("a", owners=(), duty=Duty.DISABLED), record("b", owners=((0, "w1"),), duty=Duty.DISABLED)]
    plans = _plans(off, _workers("w1", "w2"))
    assert {id: (plan.claims, plan.moves) for id, plan in plans.items()} == {"w1": ([], []), "w2": ([], [])}
    assert plans["w1"].releases == [("b", 0)]
    assert _plans([record("a", owners=((0, "w1"),), duty=Duty.DRAINING)], _workers("w1"))["w1"].releases == []


def test_one_worker_claims_everything_once() -> None:
    records = [_up("a"), _up("b", transport="stdio"), _up("c", transport="sse")]
    plan = decide(records, _workers("w1"), "w1", 2, NOW)
    assert plan == PlacementPlan([("a", 0), ("b", 0), ("c", 0)], [], [])


def test_free_slots_go_to_the_best_ranked_each_to_another() -> None:
    first, second, _ = rank("u", ["w1", "w2", "w3"])
    assert _claims([_up("u")], _workers("w1", "w2", "w3")) == {("u", 0): first, ("u", 1): second}
    assert _claims([_up("u", transport="stdio")], _workers("w1", "w2", "w3")) == {("u", 0): first}


def test_who_has_a_slot_gets_no_second_one() -> None:
    first, second, third = rank("u", ["w1", "w2", "w3"])
    workers = _workers("w1", "w2", "w3")
    assert _claims([_up("u", {0: first})], workers) == {("u", 1): second}
    assert _claims([_up("u", {1: first})], workers) == {("u", 0): second}
    assert _claims([_up("u", {0: second})], workers) == {("u", 1): first}
    assert _claims([_up("u", {0: first, 1: third})], workers) == {}


def test_a_dead_owner_is_replaced() -> None:
    first, second = rank("u", ["w1", "w2"])
    workers = _workers("w1", "w2")
    assert _claims([_up("u", {0: "dead"}, "stdio")], workers) == {("u", 0): first}
    assert _claims([_up("u", {0: "dead", 1: first})], workers) == {("u", 0): second}
    assert _claims([_up("u", {0: "dead", 1: "dead too"})], workers) == {("u", 0): first, ("u", 1): second}


def test_the_last_worker_takes_the_lead_and_drops_its_other_slot() -> None:
    plan = decide([_up("u", {0: "dead", 1: "w1"})], _workers("w1"), "w1", 2, NOW)
    assert plan == PlacementPlan([("u", 0)], [("u", 1)], [])


def test_what_a_leaving_worker_has_is_not_claimed_and_it_gets_nothing() -> None:
    records = [_up("a", {0: "old", 1: "older"}), _up("b", {0: "old"}, "stdio"), _up("c", transport="stdio")]
    plan = decide(records, _workers("new"), "new", 2, NOW, ("old", "older"))
    assert plan == PlacementPlan([("c", 0)], [], [])


def test_while_workers_leave_nothing_moves_for_the_sake_of_even_shares() -> None:
    records = [_up(f"u{n}", {0: "w1"}, "stdio") for n in range(20)]
    assert len(decide(records, _workers("w1", "w2"), "w1", 2, NOW).moves) > 3
    assert decide(records, _workers("w1", "w2"), "w1", 2, NOW, ("old",)).moves == []


def test_owners_keep_what_they_have() -> None:
    workers = _workers("w1", "w2")
    first, second = rank("u", workers)
    for me, plan in _plans([_up("u", {0: first, 1: second}), _up("u", {0: second, 1: first})], workers).items():
        assert plan == PlacementPlan([], [], []), me


@pytest.mark.parametrize(
    ("owners", "transport", "released"),
    [
        ({0: "w1", 1: "w1"}, "http", [("u", 1)]),
        ({0: "w1", 1: "w2", 2: "w1"}, "http", [("u", 2)]),
        ({0: "w2", 2: "w1"}, "http", [("u", 2)]),
        ({0: "w2", 1: "w1"}, "stdio", [("u", 1)]),
    ],
)
def test_slots_too_many_are_given_up(owners: dict[int, str], transport: str, released: list[tuple[str, int]]) -> None:
    assert decide([_up("u", owners, transport)], _workers("w1", "w2"), "w1", 2, NOW).releases == released


def test_a_joined_worker_gets_what_it_ranks_first_for_and_nothing_else() -> None:
    before = [_up(f"u{n}", {0: rank(f"u{n}", ["w1", "w2"])[0]}, "stdio") for n in range(60)]
    workers = _workers("w1", "w2", "w3")
    moves = [move for plan in _plans(before, workers).values() for move in plan.moves]
    assert {id for id, _, _ in moves} == {f"u{n}" for n in range(60) if rank(f"u{n}", workers)[0] == "w3"}
    assert {heir for _, _, heir in moves} == {"w3"}
    assert 10 <= len(moves) <= 30


def test_a_worker_that_just_came_gets_nothing_yet() -> None:
    workers = {"w1": OLD, "w2": NOW - JOIN_GRACE_S + 0.1}
    records = [_up(f"u{n}", {0: "w1"}, "stdio") for n in range(20)]
    assert decide(records, workers, "w1", 2, NOW).moves == []
    assert len(decide(records, workers, "w1", 2, NOW + 0.1).moves) > 3


def test_a_worker_that_just_came_does_not_give_away_what_it_has() -> None:
    id = next(f"u{n}" for n in range(99) if rank(f"u{n}", ["w1", "w2"])[0] == "w2")
    assert decide([_up(id, {0: "w2"}, "stdio")], _workers("w1", "w2", young=("w2",)), "w2", 2, NOW).moves == []


def test_nothing_moves_to_who_has_a_slot_already() -> None:
    first, second, third = rank("u", ["w1", "w2", "w3"])
    workers = _workers("w1", "w2", "w3")
    assert decide([_up("u", {0: third, 1: first})], workers, third, 2, NOW).moves == [("u", 0, second)]
    assert decide([_up("u", {0: third, 1: first})], workers, first, 2, NOW).moves == []


def test_shares_are_about_even() -> None:
    workers = _workers("w1", "w2", "w3", "w4")
    claims = _claims([_up(f"u{n}", transport="stdio") for n in range(400)], workers)
    assert all(70 <= count <= 130 for count in Counter(claims.values()).values())


IDS = ["w1", "w2", "w3", "w4"]


@st.composite
def fleets(draw: st.DrawFn, most_spread: int = 3) -> tuple[list[UpstreamRecord], dict[str, float], int]:
    """Any state that crashes, joins and races may have left behind."""
    workers = {id: draw(st.sampled_from([OLD, NOW - 1])) for id in draw(st.sets(st.sampled_from(IDS), min_size=1))}
    records = [
        _up(
            f"u{number}",
            draw(st.dictionaries(st.integers(0, 3), st.sampled_from([*IDS, "dead"]), max_size=4)),
            draw(st.sampled_from(["stdio", "http", "sse"])),
        )
        for number in range(draw(st.integers(1, 3)))
    ]
    return records, workers, draw(st.integers(1, most_spread))


@given(fleets())
def test_never_two_workers_plan_the_same_claim(
    fleet: tuple[list[UpstreamRecord], dict[str, float], int],
) -> None:
    records, workers, spread = fleet
    live = {(one.spec.id, slot) for one in records for slot, owner in one.owners if owner in workers}
    for (id, slot), _ in _claims(records, workers, spread).items():
        assert (id, slot) not in live, "a live owner's slot is not for the taking"
        assert slot < slots_of(next(one for one in records if one.spec.id == id), len(workers), spread)


@given(fleets())
def test_only_what_is_mine_is_given_away_and_only_to_the_living(
    fleet: tuple[list[UpstreamRecord], dict[str, float], int],
) -> None:
    records, workers, spread = fleet
    owned = {(one.spec.id, slot): owner for one in records for slot, owner in one.owners}
    for me, plan in _plans(records, workers, spread).items():
        given_away = [*plan.releases, *((id, slot) for id, slot, _ in plan.moves)]
        assert all(owned[what] == me for what in given_away)
        assert len(set(given_away)) == len(given_away)
        assert all(heir in workers and heir != me for _, _, heir in plan.moves)


def _carry_out(owners: dict[str, dict[int, str]], workers: Mapping[str, float], me: str, plan: PlacementPlan) -> None:
    """As the registry's scripts do: a claim wins a free slot or a dead owner's, a release only one's own."""
    for id, slot in plan.claims:
        if owners[id].get(slot) not in workers:
            owners[id][slot] = me
    for id, slot in plan.releases:
        if owners[id].get(slot) == me:
            del owners[id][slot]
    for id, slot, heir in plan.moves[:1]:
        if owners[id].get(slot) == me:
            owners[id][slot] = heir


@given(fleets(most_spread=2), st.booleans())
def test_a_fleet_comes_to_rest_with_every_slot_on_its_best_worker(
    fleet: tuple[list[UpstreamRecord], dict[str, float], int], at_once: bool
) -> None:
    records, workers, spread = fleet
    later = NOW + 10  # everybody has settled
    owners = {one.spec.id: dict(one.owners) for one in records}
    for _ in range(40):
        before = {id: dict(slots) for id, slots in owners.items()}

        for me in workers:
            seen = before if at_once else owners
            now_owned = [replace(one, owners=tuple(sorted(seen[one.spec.id].items()))) for one in records]
            _carry_out(owners, workers, me, decide(now_owned, workers, me, spread, later))
        if owners == before:
            break
    else:
        raise AssertionError(f"no rest: {owners}")
    for one in records:
        count = slots_of(one, len(workers), spread)
        held = {slot: owner for slot, owner in owners[one.spec.id].items() if owner in workers}
        assert set(held) == set(range(count))
        assert set(held.values()) == set(rank(one.spec.id, workers)[:count])


class _Fleet:
    """What ``Placement`` asks and tells (``ownership.placement.Held``, and its part of ``RegistryStore`` and
    ``Members``), and how often it has looked through the records."""

    def __init__(self) -> None:
        self.looked = 0
        self.asked = 0
        self.joined = {"me": 0.0}
        self.claimed: list[tuple[str, int]] = []
        self.released: list[tuple[str, int]] = []
        self.known = {"u": _up("u", {0: "me"})}

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
        self.known[id] = _up(id, {slot: worker})

    async def release(self, id: str, slot: int, worker: str, heir: str = "") -> None:
        self.released.append((id, slot))
        self.known[id] = _up(id)


@pytest_asyncio.fixture
async def placed() -> AsyncIterator[tuple[Placement, _Fleet]]:
    fleet: Any = _Fleet()
    placement = Placement(fleet, fleet, fleet, "me", build(overrides={"heartbeat_s": 0.001}), lambda: True)
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
    fleet.known["new"] = _up("new")
    placement.wake.set()
    await eventually(lambda: fleet.claimed == [("new", 0)])
    await _rounds(fleet, 2)
    before = fleet.looked
    fleet.joined["other"] = 0.0
    await _rounds(fleet, 2)
    assert fleet.looked > before


async def test_of_many_upstreams_only_those_that_changed_are_looked_at_again(
    placed: tuple[Placement, _Fleet], monkeypatch: pytest.MonkeyPatch
) -> None:
    placement, fleet = placed
    fleet.known |= {f"u{number}": _up(f"u{number}", {0: "me"}) for number in range(100)}
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
        fleet.known[f"new{number}"] = _up(f"new{number}")
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
    fleet.known["theirs"] = _up("theirs", {0: "other"})
    fleet.known["shared"] = _up("shared", {0: "other", 1: "me"})
    placement.settle()
    fleet.known["theirs"] = _up("theirs")  # what is written back first has no owner, or only one of two
    fleet.known["shared"] = _up("shared", {1: "me"})
    fleet.known["free"] = _up("free")
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
            fleet.known["new"] = _up("new")
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
    settings = build(overrides={"heartbeat_s": 0.001})
    inventory = Inventory(store, "me", settings, store)
    placement = Placement(fleet, fleet, inventory, "me", settings, lambda: True)
    reconciliation = Reconciliation(store, inventory, store.be_known, placement.wake.set)
    reconciliation.snapshot({})
    task = spawn(placement.run(), "placement")
    await _rounds(fleet, 2)
    reconciliation.snapshot({"new": _up("new")})
    await eventually(lambda: ("new", 0) in fleet.claimed)
    await reconciliation.close()
    await cancel(task)


class _Draining(_Fleet):
    """A fleet in which another worker ranks first for the only upstream, a child, and may drain."""

    def __init__(self) -> None:
        super().__init__()
        self.id = next(id for id in map(str, range(100)) if rank(id, ["me", "other"])[0] == "other")
        self.known = {self.id: _up(self.id, {0: "me"}, "stdio")}
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
        self.known[id] = _up(id, {slot: heir}, "stdio")


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
            fleet.known[fleet.id] = _up(fleet.id, {0: "me"}, "stdio")
    finally:
        await cancel(task)
