"""``gateway.balancers``: each strategy's promise, also while candidates come and go."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable
from itertools import pairwise

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from msgspec import Struct

from gateway.balancers import BalancerStrategy, make
from gateway.balancers.adaptive import Adaptive
from gateway.balancers.least_connections import LeastConnections
from gateway.balancers.random_choice import RandomChoice
from gateway.balancers.round_robin import RoundRobin
from gateway.balancers.weighted import Weighted


class One(Struct, frozen=True):
    """A candidate."""

    id: str
    sequence: int = 0
    weight: int = 1
    load: int = 0
    latency_s: float = 0.0


def _row(count: int) -> list[One]:
    return [One(f"u{number}", sequence=10 + 3 * number) for number in range(count)]


@pytest.mark.parametrize(
    ("strategy", "kind"),
    [
        (BalancerStrategy.ROUND_ROBIN, RoundRobin),
        (BalancerStrategy.LEAST_CONNECTIONS, LeastConnections),
        (BalancerStrategy.WEIGHTED, Weighted),
        (BalancerStrategy.RANDOM, RandomChoice),
        (BalancerStrategy.ADAPTIVE, Adaptive),
    ],
)
def test_every_strategy_has_its_balancer_and_each_group_its_own(
    strategy: BalancerStrategy, kind: Callable[[], object]
) -> None:
    first, second = make(strategy), make(strategy)
    assert type(first) is kind
    assert first is not second


def test_no_strategy_is_without_a_balancer() -> None:
    for strategy in BalancerStrategy:
        assert make(strategy).choose(_row(1)).id == "u0"


@pytest.mark.parametrize("strategy", list(BalancerStrategy))
@given(picks=st.lists(st.sets(st.integers(0, 5), min_size=1), min_size=1, max_size=20))
def test_only_a_candidate_is_ever_chosen(strategy: BalancerStrategy, picks: list[set[int]]) -> None:
    row, balancer = _row(6), make(strategy)
    for pick in picks:
        candidates = [row[index] for index in sorted(pick)]
        assert balancer.choose(candidates) in candidates


@given(st.integers(1, 7), st.integers(0, 40))
def test_round_robin_alternates_strictly_in_registration_order(count: int, calls: int) -> None:
    row, balancer = _row(count), RoundRobin()
    assert [balancer.choose(row) for _ in range(calls)] == [row[number % count] for number in range(calls)]


def test_round_robin_goes_on_where_it_was_when_replicas_come_and_go() -> None:
    a, b, c, d = _row(4)
    balancer = RoundRobin()
    turns = [
        [a, b, c],
        [a, b, c],
        [a, c],
        [a, c],
        [a, b, c],
        [a, b, c, d],
        [a, b, c, d],
        [b, d],
        [a, b, c, d],
    ]
    assert "".join("abcd"[_row(4).index(balancer.choose(turn))] for turn in turns) == "abcabcdbc"


@given(st.lists(st.sets(st.integers(0, 4), min_size=2), min_size=2, max_size=30))
def test_round_robin_never_gives_one_replica_two_calls_in_a_row_while_there_are_others(
    picks: list[set[int]],
) -> None:
    row, balancer = _row(5), RoundRobin()
    chosen = [balancer.choose([row[index] for index in sorted(pick)]) for pick in picks]
    assert all(one is not following for one, following in pairwise(chosen))


@given(st.lists(st.integers(1, 9), min_size=1, max_size=6), st.integers(1, 4))
def test_weighted_shares_are_exact_over_every_round(weights: list[int], rounds: int) -> None:
    row = [One(f"u{index}", weight=weight) for index, weight in enumerate(weights)]
    balancer = Weighted()
    for _ in range(rounds):
        counts = Counter(balancer.choose(row).id for _ in range(sum(weights)))
        assert [counts[one.id] for one in row] == weights


@pytest.mark.parametrize(
    ("weights", "expected"), [((3, 1), "aabaaaba"), ((1, 1), "abab"), ((5, 1, 1), "aabacaa"), ((1, 2), "bab")]
)
def test_weighted_is_smooth(weights: tuple[int, ...], expected: str) -> None:
    row = [One("abc"[index], weight=weight) for index, weight in enumerate(weights)]
    balancer = Weighted()
    assert "".join(balancer.choose(row).id for _ in expected) == expected


@given(st.lists(st.integers(1, 9), min_size=2, max_size=5), st.integers(1, 100))
def test_weighted_is_never_a_whole_round_off_its_share(weights: list[int], calls: int) -> None:
    row = [One(f"u{index}", weight=weight) for index, weight in enumerate(weights)]
    balancer = Weighted()
    counts: Counter[str] = Counter()
    for number in range(1, calls + 1):
        counts[balancer.choose(row).id] += 1
        assert all(abs(counts[one.id] - number * one.weight / sum(weights)) < len(row) for one in row)


@given(st.integers(1, 30), st.integers(1, 30))
def test_a_replica_that_was_away_owes_and_is_owed_nothing(before: int, without: int) -> None:
    a, b = One("a", weight=3), One("b", weight=1)
    balancer = Weighted()
    for _ in range(before):
        balancer.choose([a, b])
    for _ in range(without):
        assert balancer.choose([a]) is a
    counts = Counter(balancer.choose([a, b]).id for _ in range(40))
    assert 29 <= counts["a"] <= 31


def test_a_changed_weight_counts_from_the_next_call() -> None:
    balancer = Weighted()
    before = Counter(balancer.choose([One("a", weight=1), One("b", weight=1)]).id for _ in range(20))
    after = Counter(balancer.choose([One("a", weight=4), One("b", weight=1)]).id for _ in range(20))
    assert (before, after) == (Counter(a=10, b=10), Counter(a=16, b=4))


@given(st.lists(st.integers(0, 5), min_size=1, max_size=8))
def test_least_connections_takes_the_least_loaded(loads: list[int]) -> None:
    row = [One(f"u{index}", load=load) for index, load in enumerate(loads)]
    assert LeastConnections().choose(row).load == min(loads)


@given(st.lists(st.integers(0, 2), min_size=2, max_size=5), st.integers())
def test_least_connections_spreads_ties_over_all_of_them(loads: list[int], seed: int) -> None:
    row = [One(f"u{index}", load=load) for index, load in enumerate(loads)]
    tied = {one.id for one in row if one.load == min(loads)}
    assume(len(tied) > 1)
    random.seed(seed)
    balancer = LeastConnections()
    counts = Counter(balancer.choose(row).id for _ in range(400))
    assert set(counts) == tied
    assert min(counts.values()) > 400 / len(tied) / 3


def test_random_is_about_even() -> None:
    random.seed(7)
    balancer, row = RandomChoice(), _row(4)
    counts = Counter(balancer.choose(row).id for _ in range(4000))
    assert len(counts) == 4
    assert all(850 < count < 1150 for count in counts.values())


def test_adaptive_takes_the_better_of_two_by_latency_and_calls_in_flight() -> None:
    balancer = Adaptive()
    slow, fast = One("slow", 1, latency_s=1.0), One("fast", 2, latency_s=0.1)
    assert {balancer.choose([slow, fast]).id for _ in range(50)} == {"fast"}
    busy = One("busy", 3, latency_s=0.1, load=20)
    assert {balancer.choose([slow, busy]).id for _ in range(50)} == {"slow"}
    assert balancer.likely([slow, fast, busy])[0] is fast


def test_adaptive_never_chooses_the_worst_of_three_and_gives_a_new_replica_its_chance() -> None:
    random.seed(1)
    row = [One("a", 1, latency_s=0.1), One("b", 2, latency_s=0.1), One("worst", 3, latency_s=5.0)]
    seen = Counter(Adaptive().choose(row).id for _ in range(300))
    assert seen.keys() == {"a", "b"} and min(seen.values()) > 100
    new = [One("new", 1), One("known", 2, latency_s=0.2, load=1)]
    assert Adaptive().choose(new).id == "new"
    loaded = [One("new", 1, load=3), One("known", 2, latency_s=0.2, load=1)]
    assert Adaptive().choose(loaded).id == "known"
