"""``shared.rendezvous``: every process ranks alike; a change moves only what it must."""

from __future__ import annotations

import random
from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from shared.rendezvous import first, rank

NAMES = st.lists(st.text(min_size=1, max_size=8), unique=True, min_size=1, max_size=8)


def test_ranks_are_the_same_on_every_machine() -> None:
    assert rank("upstream", ["w1", "w2", "w3", "w4"]) == ("w3", "w2", "w1", "w4")
    assert rank("x", ["w1", "w2", "w3", "w4"]) == ("w4", "w2", "w1", "w3")


@given(st.text(), NAMES, st.randoms())
def test_the_order_of_candidates_does_not_matter(key: str, names: list[str], order: random.Random) -> None:
    shuffled = list(names)
    order.shuffle(shuffled)
    assert rank(key, shuffled) == rank(key, names)
    assert sorted(rank(key, names)) == sorted(names)
    assert not names or first(key, shuffled) == rank(key, names)[0]


@given(st.text(), NAMES, st.integers(0, 7))
def test_removing_a_candidate_moves_only_what_it_had(key: str, names: list[str], index: int) -> None:
    gone = names[index % len(names)]
    rest = [name for name in names if name != gone]
    assert rank(key, rest) == tuple(name for name in rank(key, names) if name != gone)


def test_keys_are_spread_evenly() -> None:
    workers = [f"worker-{number}" for number in range(4)]
    first = Counter(rank(f"upstream-{number}", workers)[0] for number in range(2000))
    assert set(first) == set(workers)
    assert all(400 < count < 600 for count in first.values())


def test_key_and_candidate_are_kept_apart() -> None:
    pairs = [("a", "bc"), ("ab", "c")]
    others = [f"x{number}" for number in range(200)]
    places = [rank(key, [candidate, *others]).index(candidate) for key, candidate in pairs]
    assert places[0] != places[1]


def test_nobody_ranks_nobody() -> None:
    assert rank("key", []) == ()
