"""``gateway.routing.router``: from a route to a replica, and words for when there is none."""

from __future__ import annotations

from typing import Any

import pytest

from gateway.routing import router
from gateway.routing.catalog import Catalog
from gateway.routing.routes import Route
from shared.choices import Duty
from shared.errors import CallError, NotDelivered, OutcomeUnknown
from shared.mcp.listings import Kind
from shared.models import ServerStatus
from shared.registry.records import UpstreamRecord
from shared.settings import RoutingSettings
from tests.unit.builders import record


def _route(*replicas: UpstreamRecord) -> Route:
    catalog = Catalog(RoutingSettings())
    catalog.rebuild({one.spec.id: one for one in replicas}, 0.0)
    return catalog.everything.routes[Kind.TOOLS]["t"]


def _replica(id: str, sequence: int, **facts: Any) -> UpstreamRecord:
    return record(id, "g", sequence=sequence, tools=["t"], **facts)


def test_only_available_replicas_that_were_not_tried_are_chosen() -> None:
    route = _route(
        _replica("a", 1),
        _replica("b", 2, status=ServerStatus.ERROR),
        _replica("c", 3, owners=()),
        _replica("d", 4),
        _replica("e", 5),
    )
    by_id = {replica.id: replica for replica in route.replicas}
    by_id["e"].suspect_until = 20.0
    chosen = [router.choose(route, set(), 10.0) for _ in range(4)]
    assert [one.id for one in chosen if one is not None] == ["a", "d", "a", "d"]
    assert router.choose(route, {"a"}, 10.0) is by_id["d"]
    assert router.choose(route, {"a", "d"}, 10.0) is None
    assert router.choose(route, {"a", "d"}, 20.0) is by_id["e"]


def test_who_drains_or_is_disabled_gets_no_call_that_is_bound_to_nobody() -> None:
    draining, disabled = _replica("a", 1, duty=Duty.DRAINING), _replica("b", 2, duty=Duty.DISABLED)
    route = _route(draining, disabled, _replica("c", 3))
    assert [one.id for one in route.replicas] == ["a", "c"], "a disabled one has nothing"
    assert {getattr(router.choose(route, (), 0.0), "id", None) for _ in range(4)} == {"c"}
    assert route.replicas[0].available(0.0), "the sessions that it has already may go on"
    alone = _route(draining)
    assert router.choose(alone, (), 0.0) is None
    assert not router.might_come(alone, 0.0, 0.0)
    assert "it is draining" in str(router.unavailable(alone, None))


@pytest.mark.parametrize(
    ("facts", "expected"),
    [
        ({"status": ServerStatus.REGISTERED}, True),
        ({"status": ServerStatus.CONNECTING}, True),
        ({"status": ServerStatus.CONNECTED, "owners": ()}, True),
        ({"status": ServerStatus.CONNECTED}, False),
        ({"status": ServerStatus.ERROR}, False),
        ({"status": ServerStatus.ERROR, "owners": ()}, False),
        ({"status": ServerStatus.STOPPED}, False),
    ],
)
def test_waiting_helps_only_while_a_replica_is_starting_or_changing_hands(
    facts: dict[str, Any], expected: bool
) -> None:
    down = _replica("z", 9, status=ServerStatus.ERROR)
    assert router.might_come(_route(_replica("a", 1, **facts), down), 0.0, 0.0) is expected


@pytest.mark.parametrize(
    ("transport", "before", "age_s", "expected"),
    [
        ("stdio", ServerStatus.CONNECTED, 1.0, True),
        ("stdio", ServerStatus.CONNECTED, 5.0, False),
        ("stdio", ServerStatus.CONNECTING, 1.0, False),
        ("http", ServerStatus.CONNECTED, 1.0, False),
    ],
)
def test_a_child_that_was_there_until_just_now_may_come_back_and_what_never_came_may_not(
    transport: str, before: ServerStatus, age_s: float, expected: bool
) -> None:
    catalog = Catalog(RoutingSettings())
    for status in (before, ServerStatus.ERROR):
        one = _replica("a", 1, transport=transport, status=status, status_since=100.0)
        catalog.rebuild({"a": one}, 100.0)
    route = catalog.everything.routes[Kind.TOOLS]["t"]
    assert router.might_come(route, 0.0, 100.0 + age_s) is expected


@pytest.mark.parametrize(
    ("last", "expected"),
    [
        (None, {"a": "refused", "b": "error"}),
        (OutcomeUnknown("timeout", "too slow"), {"a": "refused", "b": "too slow"}),
        (OutcomeUnknown("timeout", "too slow", {"upstream": "a"}), {"a": "refused", "b": "error"}),
    ],
)
def test_the_last_word_names_the_group_and_each_replicas_reason(last: CallError | None, expected: Any) -> None:
    route = _route(
        _replica("a", 1, status=ServerStatus.ERROR, error="refused"),
        _replica("b", 2, status=ServerStatus.ERROR),
    )
    error = router.unavailable(route, last)
    assert isinstance(error, NotDelivered)
    assert error.code == "upstream_unavailable"
    assert error.data == {"group": "g", "replicas": expected}
    assert str(error).startswith("no healthy replica of 'g' (a: refused; b: ")


def test_a_replica_that_refused_the_call_itself_is_not_said_to_be_unhealthy() -> None:
    last = NotDelivered("upstream_protocol", "it answered HTTP 413, no MCP answer", {"upstream": "a", "http": "413"})
    text = str(router.unavailable(_route(_replica("a", 1)), last))
    assert text == "no replica of 'g' took the call (a: it answered HTTP 413, no MCP answer)"


def test_a_large_group_does_not_make_a_large_message() -> None:
    replicas = [_replica(f"r{n}", n, status=ServerStatus.ERROR) for n in range(50)]
    error = router.unavailable(_route(*replicas), None)
    assert "r2: error" in str(error)
    assert "r3" not in str(error)
    assert len(error.data["replicas"]) == 50
