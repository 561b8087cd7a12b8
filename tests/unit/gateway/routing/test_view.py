"""``gateway.routing.view``: names lead where they are shown, and what a view does not show does not exist in it."""

from __future__ import annotations

import pytest

from shared.mcp.listings import Kind
from shared.registry.records import UpstreamRecord
from tests.unit.builders import record
from tests.unit.gateway.routing.catalogues import TWO, catalog_of

# ---- names

ODD = (
    record("first", sequence=1, tools=["list", "a.b"]),
    record("Azure MCP Server", sequence=2, tools=["list", "a.b", "only.here"]),
    record("my__server", sequence=3, tools=["list"], resources=["urn:a"]),
)


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("Azure_MCP_Server__list", ("Azure MCP Server", "list")),
        ("Azure_MCP_Server__a_b", ("Azure MCP Server", "a.b")),
        ("Azure_MCP_Server__only_here", ("Azure MCP Server", "only.here")),  # listed bare; composed it works as well
        ("Azure MCP Server__only.here", ("Azure MCP Server", "only.here")),
        ("my__server__list", ("my__server", "list")),
    ],
)
def test_groups_with_odd_names_are_found_by_what_is_composed_and_by_their_own_name(
    name: str, expected: tuple[str, str]
) -> None:
    route = catalog_of(*ODD).everything.find(Kind.TOOLS, name)
    assert route is not None
    assert (route.group, route.entry.name) == expected


def test_a_resource_of_a_group_with_the_separator_in_its_name_is_located() -> None:
    [(route, uri)] = catalog_of(*ODD).everything.locate("my__server__urn:zzz")
    assert (route.group, uri) == ("my__server", "urn:zzz")


def test_an_alias_that_may_mean_two_entries_means_none() -> None:
    catalog = catalog_of(record("a", sequence=1, tools=["b__x", "q"]), record("a__b", sequence=2, tools=["x", "q"]))
    assert catalog.everything.find(Kind.TOOLS, "a__b__x") is None
    assert catalog.everything.find(Kind.TOOLS, "a__b__q") is not None


@pytest.mark.parametrize(
    ("name", "endpoint", "expected"),
    [
        ("search", "", ("alpha", "search")),
        ("fetch", "", ("beta", "fetch")),
        ("beta__fetch", "", ("beta", "fetch")),
        ("alpha__search", "", ("alpha", "search")),
        ("beta__search", "", ("beta", "search")),  # that form can always be called
        ("alpha__beta__search", "", ("alpha", "beta__search")),
        ("search", "beta", ("beta", "search")),
        ("search", "alpha", ("alpha", "search")),
    ],
)
def test_a_called_name_leads_to_its_group_and_own_name(name: str, endpoint: str, expected: tuple[str, str]) -> None:
    route = catalog_of(*TWO).view(endpoint).find(Kind.TOOLS, name)
    assert route is not None
    assert (route.group, route.entry.name) == expected


@pytest.mark.parametrize(
    ("name", "endpoint"),
    [
        ("nothing", ""),
        ("beta__nothing", ""),
        ("nobody__search", ""),
        ("__search", ""),
        ("search__", ""),
        ("", ""),
        ("Search", ""),
        ("beta__fetch", "beta"),
        ("fetch", "alpha"),
        ("search", "nobody"),
    ],
)
def test_an_unknown_tool_is_invalid_params(name: str, endpoint: str) -> None:
    view = catalog_of(*TWO).view(endpoint)
    assert view.find(Kind.TOOLS, name) is None
    refused = view.unknown(Kind.TOOLS, name)
    assert refused.code == "tool_unknown"
    assert refused.wire.rpc == -32602
    assert refused.data["tool"] == name


@pytest.mark.parametrize(
    ("name", "endpoint", "close"),
    [
        ("serch", "", "search"),
        ("fetsh", "", "fetch"),
        ("fetsh", "beta", "fetch"),
        ("alpha_search", "", "search"),
    ],
)
def test_close_matches_are_told(name: str, endpoint: str, close: str) -> None:
    told = catalog_of(*TWO).view(endpoint).unknown(Kind.TOOLS, name).data["closeMatches"]
    assert close in told
    assert len(told) <= 3


def test_no_more_than_three_close_matches_are_told() -> None:
    catalog = catalog_of(record("a", tools=[f"search{n}" for n in range(9)]))
    assert len(catalog.everything.unknown(Kind.TOOLS, "search").data["closeMatches"]) == 3


@pytest.mark.parametrize("endpoint", ["alpha", "nobody"])
def test_close_matches_never_leave_the_endpoint(endpoint: str) -> None:
    assert catalog_of(*TWO).view(endpoint).unknown(Kind.TOOLS, "fetsh").data["closeMatches"] == []


def test_close_matches_are_of_the_kind_that_was_asked_for() -> None:
    catalog = catalog_of(record("a", tools=["summarise"], prompts=["summary"]))
    refused = catalog.everything.unknown(Kind.PROMPTS, "sumary")
    assert refused.data == {"prompt": "sumary", "closeMatches": ["summary"]}
    assert str(refused) == "unknown prompt 'sumary'"


def test_a_huge_name_is_not_repeated_back() -> None:
    refused = catalog_of(*TWO).everything.unknown(Kind.TOOLS, "x" * 100_000)
    assert len(str(refused)) < 200
    assert len(refused.data["tool"]) == 128


# ---- prompts and resources

OTHERS = (
    record("alpha", sequence=1, prompts=["ask"], resources=["file:///a", "urn:a"], templates=["file:///{x}"]),
    record("beta", sequence=2, prompts=["ask"], resources=["file:///a", "urn:a"], templates=["file:///{x}"]),
)


@pytest.mark.parametrize(
    ("kind", "name", "endpoint", "expected"),
    [
        (Kind.PROMPTS, "ask", "", ("alpha", "ask")),
        (Kind.PROMPTS, "beta__ask", "", ("beta", "ask")),
        (Kind.PROMPTS, "alpha__ask", "", ("alpha", "ask")),
        (Kind.PROMPTS, "ask", "beta", ("beta", "ask")),
        (Kind.RESOURCES, "file:///a", "", ("alpha", "file:///a")),
        (Kind.RESOURCES, "file://beta__/a", "", ("beta", "file:///a")),
        (Kind.RESOURCES, "file://alpha__/a", "", ("alpha", "file:///a")),
        (Kind.RESOURCES, "beta__urn:a", "", ("beta", "urn:a")),
        (Kind.RESOURCES, "file:///a", "beta", ("beta", "file:///a")),
        (Kind.TEMPLATES, "file://beta__/{x}", "", ("beta", "file:///{x}")),
        (Kind.TEMPLATES, "file://alpha__/{x}", "", ("alpha", "file:///{x}")),
        (Kind.TOOLS, "ask", "", None),
        (Kind.PROMPTS, "file:///a", "", None),
        (Kind.RESOURCES, "ask", "", None),
        (Kind.RESOURCES, "file:///{x}", "", None),
        (Kind.RESOURCES, "beta__file:///a", "", None),
        (Kind.RESOURCES, "http://beta__/a", "", None),
        (Kind.RESOURCES, "file://beta__/a", "beta", None),
        (Kind.RESOURCES, "file:///a", "nobody", None),
    ],
)
def test_each_kind_is_found_by_its_own_names(
    kind: Kind, name: str, endpoint: str, expected: tuple[str, str] | None
) -> None:
    route = catalog_of(*OTHERS).view(endpoint).find(kind, name)
    assert (route and (route.group, route.entry.name)) == expected
    assert route is None or route.entry.kind is kind


def _readers(uri: str, *records: UpstreamRecord, endpoint: str = "") -> list[tuple[str, str]]:
    return [(route.group, route.entry.name) for route, _ in catalog_of(*records).view(endpoint).locate(uri)]


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
    assert _readers("file:///logs/a/b", *records, endpoint="broad") == [("broad", "file:///{+path}")]
    assert _readers("file:///logs/a/b", *records, endpoint="last") == [("last", "file:///etc/{name}")]
    assert _readers("file:///logs/a/b", *records, endpoint="never") == []
    assert _readers("file:///logs/a/b", *records, endpoint="nobody") == []
    assert _readers("ftp:///logs", *records) == []


def test_equally_specific_templates_are_asked_in_the_order_of_registration() -> None:
    records = [record(name, sequence=at, templates=["x://{y}"]) for at, name in enumerate(("c", "a", "b"))]
    assert [group for group, _ in _readers("x://1", *records)] == ["c", "a", "b"]


def test_a_group_is_asked_once_through_its_most_specific_template() -> None:
    one = record("g", sequence=1, resources=["file:///r"], templates=["file:///{+p}", "file:///a/{p}", "file:///b"])
    other = record("h", sequence=2, resources=["file:///r"], templates=["file:///z"])
    assert _readers("file:///a/1", one, other) == [("g", "file:///a/{p}"), ("h", "file:///r")]


def test_what_passes_through_may_go_to_every_replica_of_the_group() -> None:
    catalog = catalog_of(record("g1", "g", 1, tools=["t"]), record("g2", "g", 2), record("h", sequence=3))
    route = catalog.view("g").passthrough
    assert route is not None
    assert (route.group, [one.id for one in route.replicas]) == ("g", ["g1", "g2"])
    assert not route.entry.repeatable
    assert route.balancer is catalog.groups["g"].balancer
    assert catalog.view("nobody").passthrough is None and catalog.everything.passthrough is None
