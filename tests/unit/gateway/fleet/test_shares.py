"""``gateway.fleet.shares``: one caller never has all places of a front end."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from gateway.fleet.shares import Shares
from shared.errors import NotDelivered

MOST = 100


class Bench:
    """A front end with ``MOST`` places, and the time."""

    def __init__(self) -> None:
        self.shares = Shares(MOST)
        self.under_way: list[Any] = []
        self.now = 0.0

    def begin(self, principal: str, session: str = "") -> bool:
        """Begin a call, as the dispatcher does, and return whether there was a place."""
        if len(self.under_way) >= self.shares.enough:
            try:
                self.shares.check(self.under_way, principal or session, self.now)
            except NotDelivered as error:
                assert error.code == "overloaded" and "maxInflight" in str(error)
                return False
        call = SimpleNamespace(principal=principal, session=SimpleNamespace(sid=session) if session else None)
        self.under_way.append(SimpleNamespace(call=call))
        return True

    def begin_all(self, *principals: str) -> dict[str, int]:
        """Begin calls of these callers in turns until none gets a place. Return how many each has."""
        going = list(principals)
        while going:
            going = [one for one in going if self.begin(one)]
        return {one: sum(call.call.principal == one for call in self.under_way) for one in principals}


@pytest.mark.parametrize("callers", [("hog",), ("a", "b"), ("a", "b", "c", "d")])
def test_callers_leave_as_many_places_as_each_of_them_has(callers: tuple[str, ...]) -> None:
    bench = Bench()
    share = MOST // (len(callers) + 1)
    assert all(abs(held - share) <= 1 for held in bench.begin_all(*callers).values())
    assert bench.begin("late"), "whoever comes finds room"


def test_sessions_without_a_principal_are_callers_and_what_has_neither_shares_what_there_is() -> None:
    bench = Bench()
    while bench.begin("", "s1"):
        pass
    assert len(bench.under_way) == MOST // 2 and bench.begin("", "s2")
    bench = Bench()
    assert [bench.begin("") for _ in range(MOST + 1)] == [True] * MOST + [False]


def test_places_that_are_given_back_are_counted_again() -> None:
    bench = Bench()
    bench.begin_all("hog")
    del bench.under_way[: MOST // 4]
    bench.now += 1.0
    assert bench.begin_all("hog") == {"hog": MOST // 2}
