"""``gateway.routing.router``: from a called name to a replica, and words for when there is none."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.routing import router
from gateway.routing.catalog import Catalog, Route
from shared.errors import CallError, NotDelivered, OutcomeUnknown
from shared.mcp.listings import Kind
from shared.models import ServerStatus
from shared.registry.records import UpstreamRecord
from shared.settings import RoutingSettings
from tests.unit.builders import record


def _catalog(*records: UpstreamRecord) -> Catalog:
    catalog = Catalog(RoutingSettings())
    catalog.rebuild({one.spec.id: one for one in records}, 0.0)
    return catalog


TWO = (
    record("alpha", sequence=1, tools=["search", "beta__search"]),
    record("beta", sequence=2, tools=["search", "fetch"]),
)


@pytest.mark.parametrize(
    ("name", "scope", "expected"),
    [
        ("search", None, ("alpha", "search")),
        ("fetch", None, ("beta", "fetch")),
        ("beta__fetch", None, ("beta", "fetch")),
        ("alpha__search", None, ("alpha", "search")),
        ("beta__search", None, ("alpha", "beta__search")),  # a listed name beats an alias
        ("alpha__beta__search", None, ("alpha", "beta__search")),
        ("search", "beta", ("beta", "search")),
        ("search", "alpha", ("alpha", "search")),
    ],
)
def test_a_called_name_leads_to_its_group_and_own_name(name: str, scope: str | None, expected: tuple[str, str]) -> None:
    route = router.find(_catalog(*TWO), Kind.TOOLS, name, scope, "__")
    assert route is not None
    assert (route.group, route.entry.name) == expected


@pytest.mark.parametrize(
    ("name", "scope"),
    [
        ("nothing", None),
        ("beta__nothing", None),
        ("nobody__search", None),
        ("__search", None),
        ("search__", None),
        ("", None),
        ("Search", None),
        ("beta__fetch", "beta"),
        ("fetch", "alpha"),
        ("search", "nobody"),
    ],
)
def test_an_unknown_tool_is_invalid_params(name: str, scope: str | None) -> None:
    catalog = _catalog(*TWO)
    assert router.find(catalog, Kind.TOOLS, name, scope, "__") is None
    refused = router.unknown(catalog, Kind.TOOLS, name, scope)
    assert refused.code == "tool_unknown"
    assert refused.wire.rpc == -32602
    assert refused.data["tool"] == name


@pytest.mark.parametrize(
    ("name", "scope", "close"),
    [
        ("serch", None, "search"),
        ("fetsh", None, "fetch"),
        ("fetsh", "beta", "fetch"),
        ("alpha_search", None, "search"),
    ],
)
def test_close_matches_are_told(name: str, scope: str | None, close: str) -> None:
    told = router.unknown(_catalog(*TWO), Kind.TOOLS, name, scope).data["closeMatches"]
    assert close in told
    assert len(told) <= 3


def test_no_more_than_three_close_matches_are_told() -> None:
    catalog = _catalog(record("a", tools=[f"search{n}" for n in range(9)]))
    assert len(router.unknown(catalog, Kind.TOOLS, "search", None).data["closeMatches"]) == 3


@pytest.mark.parametrize("scope", ["alpha", "nobody"])
def test_close_matches_never_leave_the_scope(scope: str) -> None:
    assert router.unknown(_catalog(*TWO), Kind.TOOLS, "fetsh", scope).data["closeMatches"] == []


def test_close_matches_are_of_the_kind_that_was_asked_for() -> None:
    catalog = _catalog(record("a", tools=["summarise"], prompts=["summary"]))
    refused = router.unknown(catalog, Kind.PROMPTS, "sumary", None)
    assert refused.data == {"prompt": "sumary", "closeMatches": ["summary"]}
    assert str(refused) == "unknown prompt 'sumary'"


def test_a_huge_name_is_not_repeated_back() -> None:
    refused = router.unknown(_catalog(*TWO), Kind.TOOLS, "x" * 100_000, None)
    assert len(str(refused)) < 200
    assert len(refused.data["tool"]) == 128


# ---- prompts and resources


OTHERS = (
    record("alpha", sequence=1, prompts=["ask"], resources=["file:///a", "urn:a"], templates=["file:///{x}"]),
    record("beta", sequence=2, prompts=["ask"], resources=["file:///a", "urn:a"], templates=["file:///{x}"]),
)


@pytest.mark.parametrize(
    ("kind", "name", "scope", "expected"),
    [
        (Kind.PROMPTS, "ask", None, ("alpha", "ask")),
        (Kind.PROMPTS, "beta__ask", None, ("beta", "ask")),
        (Kind.PROMPTS, "alpha__ask", None, ("alpha", "ask")),
        (Kind.PROMPTS, "ask", "beta", ("beta", "ask")),
        (Kind.RESOURCES, "file:///a", None, ("alpha", "file:///a")),
        (Kind.RESOURCES, "file://beta__/a", None, ("beta", "file:///a")),
        (Kind.RESOURCES, "file://alpha__/a", None, ("alpha", "file:///a")),
        (Kind.RESOURCES, "beta__urn:a", None, ("beta", "urn:a")),
        (Kind.RESOURCES, "file:///a", "beta", ("beta", "file:///a")),
        (Kind.TEMPLATES, "file://beta__/{x}", None, ("beta", "file:///{x}")),
        (Kind.TEMPLATES, "file://alpha__/{x}", None, ("alpha", "file:///{x}")),
        (Kind.TOOLS, "ask", None, None),
        (Kind.PROMPTS, "file:///a", None, None),
        (Kind.RESOURCES, "ask", None, None),
        (Kind.RESOURCES, "file:///{x}", None, None),
        (Kind.RESOURCES, "beta__file:///a", None, None),
        (Kind.RESOURCES, "http://beta__/a", None, None),
        (Kind.RESOURCES, "file://beta__/a", "beta", None),
        (Kind.RESOURCES, "file:///a", "nobody", None),
    ],
)
def test_each_kind_is_found_by_its_own_names(
    kind: Kind, name: str, scope: str | None, expected: tuple[str, str] | None
) -> None:
    route = router.find(_catalog(*OTHERS), kind, name, scope, "__")
    assert (route and (route.group, route.entry.name)) == expected
    assert route is None or route.entry.kind is kind


@pytest.mark.parametrize(
    ("template", "uri", "literal"),
    [
        ("file:///{name}", "file:///a", 8),
        ("file:///{name}", "file:///", 8),
        ("file:///{name}", "file:///a/b", None),
        ("file:///{+path}", "file:///a/b", 8),
        ("file:///{name}.txt", "file:///a.txt", 12),
        ("file:///{name}.txt", "file:///a.md", None),
        ("file:///{name}.txt", "file:///axtxt", None),
        ("db://{table}/{id}", "db://users/7", 6),
        ("db://{table}/{id}", "db://users", None),
        ("db://users{/id,part}", "db://users/7/x", 10),
        ("find://all{?q,limit}", "find://all?q=a/b&limit=5", 10),
        ("find://all{?q,limit}", "find://all", 10),
        ("page://x{#part}", "page://x#y", 8),
        ("pic://x{.kind}", "pic://x.png", 7),
        ("exact://x", "exact://x", 9),
        ("exact://x", "exact://x/", None),
        ("a+b://(x)[{y}", "a+b://(x)[1", 10),
        ("a+b://(x)[{y}", "aab://x[1", None),
        ("{+all}", "anything://at/all", 0),
        ("open://{x", "open://{x", 9),
        ("", "", 0),
        ("", "x", None),
    ],
)
def test_a_template_matches_what_can_be_made_of_it(template: str, uri: str, literal: int | None) -> None:
    assert router.matches(template, uri) == literal


@given(st.text(max_size=30), st.text(max_size=30))
def test_no_template_makes_matching_fail(template: str, uri: str) -> None:
    found = router.matches(template, uri)
    assert found is None or 0 <= found <= len(template)


def _readers(uri: str, *records: UpstreamRecord, scope: str | None = None) -> list[tuple[str, str]]:
    return [(route.group, route.entry.name) for route in router.readers(_catalog(*records), uri, scope)]


def test_the_most_specific_template_is_asked_first_then_who_uses_the_scheme() -> None:
    records = (
        record("late", sequence=1, resources=["file:///other"]),
        record("broad", sequence=2, templates=["file:///{+path}"]),
        record("never", sequence=3, resources=["http://x/"], templates=["http://x/{y}"]),
        record("narrow", sequence=4, templates=["file:///logs/{+path}"]),
        record("last", sequence=5, templates=["file:///etc/{name}"]),
    )
    assert _readers("file:///logs/a/b", *records) == [
        ("narrow", "file:///logs/{+path}"),
        ("broad", "file:///{+path}"),
        ("late", "file:///other"),
        ("last", "file:///etc/{name}"),
    ]
    assert _readers("file:///logs/a/b", *records, scope="broad") == [("broad", "file:///{+path}")]
    assert _readers("file:///logs/a/b", *records, scope="last") == [("last", "file:///etc/{name}")]
    assert _readers("file:///logs/a/b", *records, scope="never") == []
    assert _readers("file:///logs/a/b", *records, scope="nobody") == []
    assert _readers("ftp:///logs", *records) == []


def test_equally_specific_templates_are_asked_in_the_order_of_registration() -> None:
    records = [record(name, sequence=at, templates=["x://{y}"]) for at, name in enumerate(("c", "a", "b"))]
    assert [group for group, _ in _readers("x://1", *records)] == ["c", "a", "b"]


def test_a_group_is_asked_once_through_its_most_specific_template() -> None:
    one = record("g", sequence=1, resources=["file:///r"], templates=["file:///{+p}", "file:///a/{p}", "file:///b"])
    other = record("h", sequence=2, resources=["file:///r"], templates=["file:///z"])
    assert _readers("file:///a/1", one, other) == [("g", "file:///a/{p}"), ("h", "file:///r")]


def test_anyone_is_every_replica_of_the_group() -> None:
    catalog = _catalog(record("g1", "g", 1, tools=["t"]), record("g2", "g", 2), record("h", sequence=3))
    route = router.anyone(catalog, "g")
    assert route is not None
    assert (route.group, [one.id for one in route.replicas]) == ("g", ["g1", "g2"])
    assert not route.entry.repeatable
    assert route.balancer is catalog.groups["g"].balancer
    assert router.anyone(catalog, "nobody") is None


# ---- replicas


def _route(*replicas: UpstreamRecord) -> Route:
    return _catalog(*replicas).routes[Kind.TOOLS]["t"]


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
    assert router.might_come(_route(_replica("a", 1, **facts), down)) is expected


@pytest.mark.parametrize(
    ("last", "expected"),
    [
        (None, {"a": "refused", "b": "error"}),
        (OutcomeUnknown("timeout", "too slow"), {"a": "refused", "b": "too slow"}),
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


def test_a_large_group_does_not_make_a_large_message() -> None:
    replicas = [_replica(f"r{n}", n, status=ServerStatus.ERROR) for n in range(50)]
    error = router.unavailable(_route(*replicas), None)
    assert "r2: error" in str(error)
    assert "r3" not in str(error)
    assert len(error.data["replicas"]) == 50
