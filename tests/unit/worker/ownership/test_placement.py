"""``worker.ownership.placement``: workers that see the same agree without asking, and come to rest."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from shared.choices import Duty
from shared.registry.records import UpstreamRecord
from shared.rendezvous import rank
from tests.unit.builders import record
from tests.unit.worker.ownership.placement_records import up
from worker.ownership.placement import JOIN_GRACE_S, PlacementPlan, decide, slots_of

NOW = 10_000.0
OLD = NOW - 100


def _flawed(id: str, owners: Mapping[int, str] | None = None) -> UpstreamRecord:
    sound = up(id, owners)
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
    assert slots_of(up("u", transport=transport), workers, spread) == expected


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
    records = [up("a"), up("b", transport="stdio"), up("c", transport="sse")]
    plan = decide(records, _workers("w1"), "w1", 2, NOW)
    assert plan == PlacementPlan([("a", 0), ("b", 0), ("c", 0)], [], [])


def test_free_slots_go_to_the_best_ranked_each_to_another() -> None:
    first, second, _ = rank("u", ["w1", "w2", "w3"])
    assert _claims([up("u")], _workers("w1", "w2", "w3")) == {("u", 0): first, ("u", 1): second}
    assert _claims([up("u", transport="stdio")], _workers("w1", "w2", "w3")) == {("u", 0): first}


def test_who_has_a_slot_gets_no_second_one() -> None:
    first, second, third = rank("u", ["w1", "w2", "w3"])
    workers = _workers("w1", "w2", "w3")
    assert _claims([up("u", {0: first})], workers) == {("u", 1): second}
    assert _claims([up("u", {1: first})], workers) == {("u", 0): second}
    assert _claims([up("u", {0: second})], workers) == {("u", 1): first}
    assert _claims([up("u", {0: first, 1: third})], workers) == {}


def test_a_dead_owner_is_replaced() -> None:
    first, second = rank("u", ["w1", "w2"])
    workers = _workers("w1", "w2")
    assert _claims([up("u", {0: "dead"}, "stdio")], workers) == {("u", 0): first}
    assert _claims([up("u", {0: "dead", 1: first})], workers) == {("u", 0): second}
    assert _claims([up("u", {0: "dead", 1: "dead too"})], workers) == {("u", 0): first, ("u", 1): second}


def test_the_last_worker_takes_the_lead_and_drops_its_other_slot() -> None:
    plan = decide([up("u", {0: "dead", 1: "w1"})], _workers("w1"), "w1", 2, NOW)
    assert plan == PlacementPlan([("u", 0)], [("u", 1)], [])


def test_what_a_leaving_worker_has_is_not_claimed_and_it_gets_nothing() -> None:
    records = [up("a", {0: "old", 1: "older"}), up("b", {0: "old"}, "stdio"), up("c", transport="stdio")]
    plan = decide(records, _workers("new"), "new", 2, NOW, ("old", "older"))
    assert plan == PlacementPlan([("c", 0)], [], [])


def test_while_workers_leave_nothing_moves_for_the_sake_of_even_shares() -> None:
    records = [up(f"u{n}", {0: "w1"}, "stdio") for n in range(20)]
    assert len(decide(records, _workers("w1", "w2"), "w1", 2, NOW).moves) > 3
    assert decide(records, _workers("w1", "w2"), "w1", 2, NOW, ("old",)).moves == []


def test_owners_keep_what_they_have() -> None:
    workers = _workers("w1", "w2")
    first, second = rank("u", workers)
    for me, plan in _plans([up("u", {0: first, 1: second}), up("u", {0: second, 1: first})], workers).items():
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
    assert decide([up("u", owners, transport)], _workers("w1", "w2"), "w1", 2, NOW).releases == released


def test_a_joined_worker_gets_what_it_ranks_first_for_and_nothing_else() -> None:
    before = [up(f"u{n}", {0: rank(f"u{n}", ["w1", "w2"])[0]}, "stdio") for n in range(60)]
    workers = _workers("w1", "w2", "w3")
    moves = [move for plan in _plans(before, workers).values() for move in plan.moves]
    assert {id for id, _, _ in moves} == {f"u{n}" for n in range(60) if rank(f"u{n}", workers)[0] == "w3"}
    assert {heir for _, _, heir in moves} == {"w3"}
    assert 10 <= len(moves) <= 30


def test_a_worker_that_just_came_gets_nothing_yet() -> None:
    workers = {"w1": OLD, "w2": NOW - JOIN_GRACE_S + 0.1}
    records = [up(f"u{n}", {0: "w1"}, "stdio") for n in range(20)]
    assert decide(records, workers, "w1", 2, NOW).moves == []
    assert len(decide(records, workers, "w1", 2, NOW + 0.1).moves) > 3


def test_a_worker_that_just_came_does_not_give_away_what_it_has() -> None:
    id = next(f"u{n}" for n in range(99) if rank(f"u{n}", ["w1", "w2"])[0] == "w2")
    assert decide([up(id, {0: "w2"}, "stdio")], _workers("w1", "w2", young=("w2",)), "w2", 2, NOW).moves == []


def test_nothing_moves_to_who_has_a_slot_already() -> None:
    first, second, third = rank("u", ["w1", "w2", "w3"])
    workers = _workers("w1", "w2", "w3")
    assert decide([up("u", {0: third, 1: first})], workers, third, 2, NOW).moves == [("u", 0, second)]
    assert decide([up("u", {0: third, 1: first})], workers, first, 2, NOW).moves == []


def test_shares_are_about_even() -> None:
    workers = _workers("w1", "w2", "w3", "w4")
    claims = _claims([up(f"u{n}", transport="stdio") for n in range(400)], workers)
    assert all(70 <= count <= 130 for count in Counter(claims.values()).values())


IDS = ["w1", "w2", "w3", "w4"]


@st.composite
def fleets(draw: st.DrawFn, most_spread: int = 3) -> tuple[list[UpstreamRecord], dict[str, float], int]:
    """Any state that crashes, joins and races may have left behind."""
    workers = {id: draw(st.sampled_from([OLD, NOW - 1])) for id in draw(st.sets(st.sampled_from(IDS), min_size=1))}
    records = [
        up(
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
