"""``gateway.routing.view``: names lead where they are shown, and what a view does not show does not exist in it."""

from __future__ import annotations

import json
from collections.abc import Callable

import pytest
from msgspec import Raw

from gateway.routing.catalog import Catalog
from gateway.routing.derived import filtered, with_local_tools
from gateway.routing.local_tools import LocalTool
from gateway.routing.routes import Route
from gateway.routing.view import View, changed
from shared.mcp.listings import KINDS, Kind
from shared.mcp.methods import PROMPTS_CHANGED, RESOURCES_CHANGED, TOOLS_CHANGED
from shared.mcp.versions import Era
from shared.models import ServerStatus
from shared.registry.records import UpstreamRecord
from shared.settings import RoutingSettings
from tests.unit.builders import record, tool

NOW = 1_000_000.0


def _catalog(*records: UpstreamRecord, page_size: int = 200) -> Catalog:
    catalog = Catalog(RoutingSettings(page_size=page_size))
    catalog.rebuild({one.spec.id: one for one in records}, NOW)
    return catalog


def _listed(view: View, kind: Kind = Kind.TOOLS, era: Era = Era.LEGACY) -> list[str]:
    """Every name that the view lists, through all its pages."""
    names: list[str] = []
    cursor = None
    while True:
        page = json.loads(view.page(kind, era, cursor, NOW))
        names += [one[KINDS[kind].key] for one in page[KINDS[kind].member]]
        cursor = page.get("nextCursor")
        if cursor is None:
            return names
        assert page[KINDS[kind].member], "an empty page that leads on"


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
    route = _catalog(*ODD).everything.find(Kind.TOOLS, name)
    assert route is not None
    assert (route.group, route.entry.name) == expected


def test_a_resource_of_a_group_with_the_separator_in_its_name_is_located() -> None:
    [(route, uri)] = _catalog(*ODD).everything.locate("my__server__urn:zzz")
    assert (route.group, uri) == ("my__server", "urn:zzz")


def test_an_alias_that_may_mean_two_entries_means_none() -> None:
    catalog = _catalog(record("a", sequence=1, tools=["b__x", "q"]), record("a__b", sequence=2, tools=["x", "q"]))
    assert catalog.everything.find(Kind.TOOLS, "a__b__x") is None
    assert catalog.everything.find(Kind.TOOLS, "a__b__q") is not None


TWO = (
    record("alpha", sequence=1, tools=["search", "beta__search"]),
    record("beta", sequence=2, tools=["search", "fetch"]),
)


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
    route = _catalog(*TWO).view(endpoint).find(Kind.TOOLS, name)
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
    view = _catalog(*TWO).view(endpoint)
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
    told = _catalog(*TWO).view(endpoint).unknown(Kind.TOOLS, name).data["closeMatches"]
    assert close in told
    assert len(told) <= 3


def test_no_more_than_three_close_matches_are_told() -> None:
    catalog = _catalog(record("a", tools=[f"search{n}" for n in range(9)]))
    assert len(catalog.everything.unknown(Kind.TOOLS, "search").data["closeMatches"]) == 3


@pytest.mark.parametrize("endpoint", ["alpha", "nobody"])
def test_close_matches_never_leave_the_endpoint(endpoint: str) -> None:
    assert _catalog(*TWO).view(endpoint).unknown(Kind.TOOLS, "fetsh").data["closeMatches"] == []


def test_close_matches_are_of_the_kind_that_was_asked_for() -> None:
    catalog = _catalog(record("a", tools=["summarise"], prompts=["summary"]))
    refused = catalog.everything.unknown(Kind.PROMPTS, "sumary")
    assert refused.data == {"prompt": "sumary", "closeMatches": ["summary"]}
    assert str(refused) == "unknown prompt 'sumary'"


def test_a_huge_name_is_not_repeated_back() -> None:
    refused = _catalog(*TWO).everything.unknown(Kind.TOOLS, "x" * 100_000)
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
    route = _catalog(*OTHERS).view(endpoint).find(kind, name)
    assert (route and (route.group, route.entry.name)) == expected
    assert route is None or route.entry.kind is kind


def _readers(uri: str, *records: UpstreamRecord, endpoint: str = "") -> list[tuple[str, str]]:
    return [(route.group, route.entry.name) for route, _ in _catalog(*records).view(endpoint).locate(uri)]


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
    catalog = _catalog(record("g1", "g", 1, tools=["t"]), record("g2", "g", 2), record("h", sequence=3))
    route = catalog.view("g").passthrough
    assert route is not None
    assert (route.group, [one.id for one in route.replicas]) == ("g", ["g1", "g2"])
    assert not route.entry.repeatable
    assert route.balancer is catalog.groups["g"].balancer
    assert catalog.view("nobody").passthrough is None and catalog.everything.passthrough is None


# ---- filtered views

SHOWN = (
    record(
        "open",
        sequence=1,
        tools=["read", "write"],
        prompts=["ask"],
        resources=["file:///a", "file:///b"],
        templates=["file:///{x}"],
    ),
    record(
        "secret", sequence=2, tools=["read", "leak"], prompts=["tell"], resources=["mem://s"], templates=["mem://{s}"]
    ),
    record("down", sequence=3, tools=["late"], status=ServerStatus.ERROR, error="refused"),
)


def _but_secret(kind: Kind, name: str, route: Route) -> bool:
    """Rights to everything but the group ``secret`` and what writes."""
    return route.group != "secret" and name != "write"


def _everything_but_secret(*records: UpstreamRecord, page_size: int = 200) -> View:
    return filtered(_catalog(*(records or SHOWN), page_size=page_size).everything, ("", "few"), _but_secret)


def test_a_filtered_view_is_known_by_its_key_and_does_not_show_everything() -> None:
    whole = _catalog(*SHOWN).everything
    view = filtered(whole, ("", "few"), _but_secret)
    assert (view.key, view.endpoint, view.whole) == (("", "few"), "", False)
    assert (whole.key, whole.whole) == (("", ""), True)
    assert _listed(whole) == ["read", "write", "secret__read", "leak"], "the view that it is made of is as it was"


@pytest.mark.parametrize(
    ("kind", "name"),
    [
        (Kind.TOOLS, "write"),
        (Kind.TOOLS, "open__write"),
        (Kind.TOOLS, "secret__read"),
        (Kind.TOOLS, "leak"),
        (Kind.TOOLS, "secret__leak"),
        (Kind.PROMPTS, "tell"),
        (Kind.PROMPTS, "secret__tell"),
        (Kind.RESOURCES, "mem://s"),
        (Kind.RESOURCES, "mem://secret__s"),
        (Kind.TEMPLATES, "mem://{s}"),
        (Kind.TEMPLATES, "mem://secret__{s}"),
    ],
)
def test_what_is_filtered_out_is_found_by_no_name(kind: Kind, name: str) -> None:
    assert _catalog(*SHOWN).everything.find(kind, name) is not None
    assert _everything_but_secret().find(kind, name) is None


@pytest.mark.parametrize(
    ("kind", "name", "group"),
    [
        (Kind.TOOLS, "read", "open"),
        (Kind.TOOLS, "open__read", "open"),
        (Kind.TOOLS, "late", "down"),
        (Kind.PROMPTS, "open__ask", "open"),
        (Kind.RESOURCES, "file:///a", "open"),
        (Kind.TEMPLATES, "file:///{x}", "open"),
    ],
)
def test_what_is_left_has_the_names_that_it_had(kind: Kind, name: str, group: str) -> None:
    route = _everything_but_secret().find(kind, name)
    assert route is not None and route.group == group


@pytest.mark.parametrize(
    ("kind", "names"),
    [
        (Kind.TOOLS, ["read"]),
        (Kind.PROMPTS, ["ask"]),
        (Kind.RESOURCES, ["file:///a", "file:///b"]),
        (Kind.TEMPLATES, ["file:///{x}"]),
    ],
)
@pytest.mark.parametrize("era", Era)
def test_what_is_filtered_out_is_on_no_page(kind: Kind, names: list[str], era: Era) -> None:
    assert _listed(_everything_but_secret(), kind, era) == names


@pytest.mark.parametrize(("kind", "name"), [(Kind.TOOLS, "leek"), (Kind.TOOLS, "writ"), (Kind.PROMPTS, "tel")])
def test_what_is_filtered_out_is_nowhere_suggested(kind: Kind, name: str) -> None:
    assert _catalog(*SHOWN).everything.unknown(kind, name).data["closeMatches"]
    assert _everything_but_secret().unknown(kind, name).data["closeMatches"] == []


@pytest.mark.parametrize("uri", ["mem://s", "mem://other", "mem://secret__s", "mem://secret__other"])
def test_what_is_filtered_out_is_asked_for_no_resource(uri: str) -> None:
    assert _catalog(*SHOWN).everything.locate(uri)
    assert _everything_but_secret().locate(uri) == []


def test_a_template_that_is_filtered_out_leads_nowhere() -> None:
    views = _catalog(*SHOWN).everything
    view = filtered(views, ("", "x"), lambda kind, name, route: kind is not Kind.TEMPLATES)
    assert view.locate("file:///new") == []
    (route, uri), *others = view.locate("file:///not/of/the/template")
    assert (route.entry.name, uri, others) == ("file:///a", "file:///not/of/the/template", [])


@pytest.mark.parametrize("uri", ["file:///secret", "file://g__/secret"])
def test_a_hidden_resource_is_not_read_by_way_of_a_shown_one_of_its_scheme(uri: str) -> None:
    whole = _catalog(record("g", resources=["file:///public", "file:///secret"])).everything
    view = filtered(whole, ("", "few"), lambda kind, name, route: name != "file:///secret")
    assert whole.locate(uri)
    assert view.locate(uri) == []
    assert view.locate("file:///public")
    assert view.locate("file:///never/listed"), "others of the scheme are still asked for"


def test_a_hidden_resource_that_a_shown_template_makes_stays_hidden() -> None:
    whole = _catalog(record("g", resources=["db://secret"], templates=["db://{id}"])).everything
    view = filtered(whole, ("", "few"), lambda kind, name, route: name != "db://secret")
    assert view.locate("db://secret") == []
    assert [route.entry.name for route, _ in view.locate("db://other")] == ["db://{id}"]


def test_a_group_without_entries_is_hidden_unless_it_is_kept() -> None:
    broken = record("broken", sequence=8, status=ServerStatus.ERROR, error="no route to db.internal")
    quiet = record("quiet", sequence=9, instructions="for insiders")
    catalog = _catalog(*SHOWN, broken, quiet)

    def view(endpoint: str, keep_group: Callable[[str], bool] | None = None) -> View:
        def keep(kind: Kind, name: str, route: Route) -> bool:
            return route.group == "open"

        if keep_group is None:
            return filtered(catalog.view(endpoint), (endpoint, "few"), keep)
        return filtered(catalog.view(endpoint), (endpoint, "few"), keep, keep_group)

    assert list(view("").groups) == ["open"]
    assert view("").missing_groups() == {}
    assert view("quiet").passthrough is None
    assert list(view("", lambda name: name == "quiet").groups) == ["open", "quiet"]
    assert view("quiet", lambda name: name == "quiet").passthrough is not None


def test_groups_of_which_nothing_is_left_are_not_named_anywhere() -> None:
    view = filtered(_catalog(*SHOWN).everything, ("", "x"), lambda kind, name, route: route.group == "open")
    assert list(view.groups) == ["open"]
    assert view.missing_groups() == {}
    assert "_meta" not in json.loads(view.page(Kind.TOOLS, Era.LEGACY, None, NOW))
    assert _everything_but_secret().missing_groups() == {"down": "unavailable"}


@pytest.mark.parametrize(("endpoint", "passes"), [("open", True), ("secret", False)])
def test_unknown_methods_pass_only_to_a_group_of_which_something_is_shown(endpoint: str, passes: bool) -> None:
    whole = _catalog(*SHOWN).view(endpoint)
    assert whole.passthrough is not None
    view = filtered(whole, (endpoint, "few"), _but_secret)
    assert (view.passthrough is not None) is passes
    assert _listed(view) == (["read"] if passes else [])


@pytest.mark.parametrize("size", [1, 2, 3, 7])
def test_pages_of_a_filtered_view_are_its_own_list_once_in_order(size: int) -> None:
    kept = [f"t{number}" for number in range(10) if number % 3]
    catalog = _catalog(
        record("a", sequence=1, tools=[f"t{number}" for number in range(5)]),
        record("b", sequence=2, tools=[f"t{number}" for number in range(5, 10)]),
        page_size=size,
    )
    view = filtered(catalog.everything, ("", "x"), lambda kind, name, route: name in kept)
    assert _listed(view) == kept
    assert len(_listed(catalog.everything)) == 10


def test_a_cursor_of_one_view_goes_on_at_the_same_place_in_another() -> None:
    """Cursors say places, which all views share: who gets more or fewer rights between two pages misses nothing."""
    catalog = _catalog(record("a", tools=["x", "hidden", "y", "z"]), page_size=2)
    view = filtered(catalog.everything, ("", "x"), lambda kind, name, route: name != "hidden")
    cursor = json.loads(catalog.everything.page(Kind.TOOLS, Era.LEGACY, None, NOW))["nextCursor"]
    assert [one["name"] for one in json.loads(view.page(Kind.TOOLS, Era.LEGACY, cursor, NOW))["tools"]] == ["y", "z"]
    cursor = json.loads(view.page(Kind.TOOLS, Era.LEGACY, None, NOW))["nextCursor"]
    page = json.loads(catalog.everything.page(Kind.TOOLS, Era.LEGACY, cursor, NOW))
    assert [one["name"] for one in page["tools"]] == ["z"]


@pytest.mark.parametrize(
    ("records", "expected"),
    [
        ((record("a", tools=["x"], prompts=["p"]), record("b", sequence=2, tools=["y"])), set()),
        ((record("a", tools=["x"], prompts=["p"]), record("b", sequence=2, tools=["y", "z"])), set()),
        ((record("a", tools=["x"], prompts=["p"]),), set()),
        ((record("a", tools=["x", "z"], prompts=["p"]),), {TOOLS_CHANGED}),
        ((record("a", tools=["x"], resources=["x:r"]),), {PROMPTS_CHANGED, RESOURCES_CHANGED}),
        ((record("a", tools=["x", "y"], prompts=["p"]),), {TOOLS_CHANGED}),
    ],
)
def test_a_change_that_is_filtered_out_is_none(records: tuple[UpstreamRecord, ...], expected: set[str]) -> None:
    def shown(catalog: Catalog) -> View:
        return filtered(catalog.everything, ("", "x"), lambda kind, name, route: route.group == "a")

    catalog = _catalog(record("a", tools=["x"], prompts=["p"]), record("b", sequence=2, tools=["y"]))
    before = shown(catalog)
    catalog.rebuild({one.spec.id: one for one in records}, NOW)
    assert changed(before, shown(catalog)) == expected


# ---- local tools


def _local(name: str, answer: bytes = b"{}") -> LocalTool:
    call: Callable[[Raw], bytes] = lambda arguments: answer  # noqa: E731
    return LocalTool(name, json.dumps(tool(name, description="the gateway's own")).encode(), call)


def test_local_tools_are_listed_first_and_lead_to_themselves() -> None:
    mine, other = _local("gw_search"), _local("gw_help")
    whole = _catalog(*TWO).everything
    view = with_local_tools(whole, ("", "x"), [mine, other])
    for era in Era:
        assert _listed(view, era=era) == ["gw_search", "gw_help", *_listed(whole, era=era)]
    route = view.find(Kind.TOOLS, "gw_search")
    assert route is not None and route.local is mine
    assert route.replicas == () and not route.binds
    found = view.find(Kind.TOOLS, "fetch")
    assert found is not None and found.local is None
    assert whole.find(Kind.TOOLS, "gw_search") is None and view.whole, "nothing of the groups is hidden"


@pytest.mark.parametrize("endpoint", ["", "alpha"])
def test_a_local_tool_hides_others_of_its_name(endpoint: str) -> None:
    mine = _local("search")
    view = with_local_tools(_catalog(*TWO).view(endpoint), (endpoint, "x"), [mine])
    assert _listed(view).count("search") == 1 and _listed(view)[0] == "search"
    route = view.find(Kind.TOOLS, "search")
    assert route is not None and route.local is mine
    shown = json.loads(view.page(Kind.TOOLS, Era.MODERN, None, NOW))["tools"][0]
    assert shown["description"] == "the gateway's own"


@pytest.mark.parametrize("size", [1, 2, 3])
def test_pages_go_on_from_local_tools_to_the_others(size: int) -> None:
    whole = _catalog(*TWO, page_size=size).everything
    view = with_local_tools(whole, ("", "x"), [_local("l0"), _local("l1"), _local("l2")])
    assert _listed(view) == ["l0", "l1", "l2", *_listed(whole)]


def test_local_tools_are_suggested_and_filtered_like_others() -> None:
    view = with_local_tools(_catalog(*TWO).everything, ("", "x"), [_local("gw_help"), _local("gw_admin")])
    assert view.unknown(Kind.TOOLS, "gw_hepl").data["closeMatches"] == ["gw_help"]
    fewer = filtered(view, ("", "y"), lambda kind, name, route: name != "gw_admin")
    assert fewer.find(Kind.TOOLS, "gw_admin") is None and "gw_admin" not in _listed(fewer)
    assert fewer.find(Kind.TOOLS, "gw_help") is not None


def test_that_local_tools_appear_is_a_change_of_the_tools() -> None:
    whole = _catalog(*TWO).everything
    assert changed(whole, with_local_tools(whole, ("", "x"), [_local("l")])) == {TOOLS_CHANGED}
    assert changed(whole, with_local_tools(whole, ("", "x"), [])) == set()
