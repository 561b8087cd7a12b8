"""Limits of principals at one front end. The store is a bucket in memory that can go away."""

from __future__ import annotations

from typing import Any, cast

import pytest
from msgspec import Struct

from gateway.access.limits import Limits
from gateway.access.principal import Principal
from shared.access import rules as access_rules
from shared.errors import Limited, RegistryUnavailable
from shared.registry.store import RegistryStore


class Call(Struct):
    """What limits look at."""

    group: str = "search"
    name: str = "find"
    method: str = "tools/call"


class Store:
    """One bucket for all keys, and one set of slots; ``away``: Redis does not answer. Tokens do not come back."""

    def __init__(self, frontends: int = 2) -> None:
        self.frontends = frontends
        self.away = False
        self.asked = 0
        self.left: dict[str, float] = {}
        self.held: dict[str, dict[str, int]] = {}

    async def run_script(self, name: str, key: str, most: float, *rest: Any) -> list[Any]:
        if self.away:
            raise RegistryUnavailable("away")
        self.asked += 1
        if name == "TAKE_TOKENS":
            left = self.left.setdefault(key, most)
            granted = min(int(left), rest[1])
            self.left[key] -= granted
            return [granted, 0 if self.left[key] else 9000, self.frontends]
        frontend, wanted = rest
        held = self.held.setdefault(key, {})
        held[frontend] = max(0, min(wanted, int(most) - sum(n for who, n in held.items() if who != frontend)))
        return [held[frontend], self.frontends]


def limits(store: Store, frontend: str = "f1", **written: Any) -> Limits:
    rules = access_rules.read({"roles": {"r": {"allow": ["*"]}}, "limits": {"r": written}})
    return Limits(rules, cast(RegistryStore, store), frontend)


ANN, BOB = Principal("ann", "user", "r"), Principal("bob", "user", "r")


async def allowed(of: Limits, principal: Principal, calls: int, call: Any = None, release: bool = True) -> int:
    """How many of so many calls are allowed."""
    quota = of.quota(principal)
    assert quota is not None
    good = 0
    for _ in range(calls):
        one = call or Call()
        try:
            if not quota.take(one):
                await quota.acquire(one)
        except Limited:
            continue
        good += 1
        if release:
            quota.release(one)
    return good


async def test_a_rate_is_what_it_says_over_all_front_ends_and_for_each_principal() -> None:
    store = Store()
    first, second = limits(store, "f1", calls="30/min"), limits(store, "f2", calls="30/min")
    assert await allowed(first, ANN, 20) + await allowed(second, ANN, 20) == 30
    assert await allowed(second, BOB, 40) == 30


async def test_a_shared_rate_is_one_for_all() -> None:
    one = limits(Store(), calls="30/min", shared=True)
    assert await allowed(one, ANN, 20) + await allowed(one, BOB, 20) == 30


async def test_most_calls_of_a_high_rate_cost_no_round_trip() -> None:
    store = Store()
    assert await allowed(limits(store, calls="10000/min"), ANN, 2000) == 2000
    assert store.asked <= 2000 / (10000 / 50) * 2 + 2


async def test_a_limit_on_a_tool_counts_its_calls_only() -> None:
    one = limits(Store(), perTool={"search/reindex": "3/min", "prompts:search/*": "2/min"})
    assert await allowed(one, ANN, 10, Call(name="reindex")) == 3
    assert await allowed(one, ANN, 10, Call(name="find")) == 10
    assert await allowed(one, ANN, 10, Call(name="ask", method="prompts/get")) == 2


async def test_calls_under_way_are_limited_over_all_front_ends_and_slots_come_back() -> None:
    store = Store()
    first, second = limits(store, "f1", concurrent=4), limits(store, "f2", concurrent=4)
    assert await allowed(first, ANN, 3, release=False) == 3
    assert await allowed(second, ANN, 3, release=False) == 1
    quota = first.quota(ANN)
    assert quota is not None
    quota.release(Call())
    assert await allowed(first, ANN, 1, release=False) == 1, "a slot that came back is used again"


async def test_a_refused_call_says_which_limit_and_when_and_costs_nothing_else() -> None:
    one = limits(Store(), calls="100/min", perTool={"search/find": "2/min"}, concurrent=50)
    assert await allowed(one, ANN, 5) == 2
    quota = one.quota(ANN)
    assert quota is not None
    with pytest.raises(Limited, match=r"the limit 'r.search/find' is reached; try again in \d+ s") as caught:
        quota.take(Call())
    assert caught.value.retry_after_s > 0 and caught.value.wire.http == 429
    assert await allowed(one, ANN, 97, Call(name="other")) == 97, "refused calls did not count"


async def test_while_redis_is_away_each_front_end_has_its_share() -> None:
    store = Store(frontends=2)
    one = limits(store, calls="40/h", concurrent=6)
    assert await allowed(one, ANN, 1) == 1
    store.away = True
    assert 19 <= await allowed(one, BOB, 60) <= 22
    assert await allowed(limits_of_slots(store), ANN, 9, release=False) == 6


def limits_of_slots(store: Store) -> Limits:
    return limits(store, "f3", concurrent=6)  # it never heard how many front ends there are: all of it is its share


def test_whoever_has_no_limits_costs_nothing() -> None:
    assert limits(Store(), calls="1/s").quota(Principal("eve", "user", "")) is None
