"""``gateway.balancers``: a strategy is a class and its registration, and nobody else has to know of it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import pytest

from gateway.balancers import Balancer, make, strategy
from gateway.balancers.base import BALANCERS, C
from gateway.balancers.least_connections import LeastConnections
from gateway.balancers.random_choice import RandomChoice
from gateway.balancers.round_robin import RoundRobin
from gateway.balancers.weighted import Weighted
from gateway.routing import router
from gateway.routing.catalog import Catalog
from shared.choices import STRATEGIES
from shared.errors import ConfigError
from shared.mcp.listings import Kind
from shared.models import make_spec
from shared.settings import RoutingSettings, build
from tests.unit.builders import record


class Youngest(Balancer):
    """Always the replica that was registered last; the strategy of these tests."""

    def choose(self, candidates: Sequence[C]) -> C:
        """See the class."""
        return max(candidates, key=lambda one: one.sequence)


def _forget(name: str) -> None:
    BALANCERS.pop(name, None)
    STRATEGIES.pop(name, None)


@pytest.fixture
def youngest() -> Iterator[str]:
    """The name of a strategy that is registered for one test."""
    strategy("youngest", "the replica that was registered last")(Youngest)
    yield "youngest"
    _forget("youngest")


def _catalog(name: str | None, default: str = "round-robin") -> Catalog:
    """A group of three replicas, the second of which names a strategy."""
    catalog = Catalog(RoutingSettings(balancer=default))
    rows = {
        id: record(id, "g", sequence, tools=["t"], balancer=name if id == "g2" else None)
        for sequence, id in enumerate(("g1", "g2", "g3"), 1)
    }
    catalog.rebuild(rows, 0.0)
    return catalog


def test_registering_gives_the_class_back_and_a_fresh_balancer_for_each_group(youngest: str) -> None:
    assert strategy(youngest, "again")(Youngest) is Youngest
    assert type(make(youngest)) is Youngest and make(youngest) is not make(youngest)
    assert STRATEGIES[youngest] == "again"


def test_a_catalogue_uses_the_strategy_that_a_record_names(youngest: str) -> None:
    route = _catalog(youngest).everything.routes[Kind.TOOLS]["t"]
    assert type(route.balancer) is Youngest
    chosen = [router.choose(route, (), 0.0) for _ in range(3)]
    assert [one.id for one in chosen if one is not None] == ["g3", "g3", "g3"]
    beside = router.choose(route, {"g3"}, 0.0)
    assert beside is not None and beside.id == "g2"


def test_a_catalogue_uses_the_strategy_that_settings_name(youngest: str) -> None:
    assert type(_catalog(None, youngest).everything.routes[Kind.TOOLS]["t"].balancer) is Youngest


def test_a_strategy_that_is_registered_may_be_written_wherever_one_is_named(youngest: str) -> None:
    assert make_spec("a", {"command": "x"}, balancer=youngest).balancer == youngest
    assert build({"balancer": youngest}).routing.balancer == youngest
    assert build(environment={"GATEWAY_BALANCER": youngest}).routing.balancer == youngest
    assert build(overrides={"balancer": youngest}).routing.balancer == youngest


def test_a_strategy_that_is_not_registered_is_refused_with_the_choices() -> None:
    choices = "'youngest' is not one of adaptive, least-connections, random, round-robin, weighted"
    with pytest.raises(ConfigError, match=choices):
        make_spec("a", {"command": "x"}, balancer="youngest")
    with pytest.raises(ConfigError, match=choices):
        build({"balancer": "youngest"})
    with pytest.raises(KeyError):
        make("youngest")


def test_a_record_of_another_version_is_balanced_as_configured(youngest: str) -> None:
    """The record was written where the strategy is registered; here it is not any more."""
    named = _catalog(youngest)
    _forget(youngest)
    catalog = Catalog(RoutingSettings(balancer="weighted"))
    catalog.rebuild({one.id: one.record for one in named.replicas}, 0.0)
    assert type(catalog.everything.routes[Kind.TOOLS]["t"].balancer) is Weighted


def test_a_balancer_explains_itself(youngest: str) -> None:
    replicas = list(_catalog(youngest).replicas)
    likely, why = make(youngest).likely(replicas)
    assert likely is replicas[2]
    assert why.startswith("of g1, g2, g3 it is its turn at this front end (Youngest)")


@pytest.mark.parametrize(
    ("kind", "loads", "likely", "why"),
    [
        (RoundRobin, (0, 0, 0), "g1", "it is its turn at this front end (RoundRobin)"),
        (Weighted, (0, 0, 0), "g1", "it is its turn at this front end (Weighted)"),
        (LeastConnections, (2, 1, 1), "g2", "it has the fewest calls in flight"),
        (RandomChoice, (0, 0, 0), None, "one of g1, g2, g3, at random"),
    ],
)
def test_to_ask_what_is_likely_changes_nothing(
    kind: type[Balancer], loads: tuple[int, ...], likely: str | None, why: str
) -> None:
    replicas: list[Any] = list(_catalog(None).replicas)
    for replica, load in zip(replicas, loads, strict=True):
        replica.in_flight_elsewhere = load
    balancer = kind()
    for _ in range(3):
        chosen, reason = balancer.likely(replicas)
        assert (chosen and chosen.id) == likely
        assert why in reason
    if kind in (RoundRobin, Weighted):
        assert balancer.choose(replicas).id == likely
        following, _ = balancer.likely(replicas)
        assert following is not None and following.id == "g2"


def test_only_strategies_that_read_loads_make_front_ends_exchange_them() -> None:
    assert [name for name in STRATEGIES if make(name).counts_calls] == ["least-connections"]
    assert not Youngest.counts_calls
