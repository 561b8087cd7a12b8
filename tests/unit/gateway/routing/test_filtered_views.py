"""``gateway.routing.view``: views that do not show everything, and local tools in views."""

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
from tests.unit.builders import record, tool
from tests.unit.gateway.routing.catalogues import NOW, TWO, catalog_of


def names_in(view: View, kind: Kind = Kind.TOOLS, era: Era = Era.LEGACY) -> list[str]:
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
    return filtered(catalog_of(*(records or SHOWN), page_size=page_size).everything, ("", "few"), _but_secret)


def test_a_filtered_view_is_known_by_its_key_and_does_not_show_everything() -> None:
    whole = catalog_of(*SHOWN).everything
    view = filtered(whole, ("", "few"), _but_secret)
    assert (view.key, view.endpoint, view.whole) == (("", "few"), "", False)
    assert (whole.key, whole.whole) == (("", ""), True)
    assert names_in(whole) == ["read", "write", "secret__read", "leak"], "the view that it is made of is as it was"


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
    assert catalog_of(*SHOWN).everything.find(kind, name) is not None
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
    assert names_in(_everything_but_secret(), kind, era) == names


@pytest.mark.parametrize(("kind", "name"), [(Kind.TOOLS, "leek"), (Kind.TOOLS, "writ"), (Kind.PROMPTS, "tel")])
def test_what_is_filtered_out_is_nowhere_suggested(kind: Kind, name: str) -> None:
    assert catalog_of(*SHOWN).everything.unknown(kind, name).data["closeMatches"]
    assert _everything_but_secret().unknown(kind, name).data["closeMatches"] == []


@pytest.mark.parametrize("uri", ["mem://s", "mem://other", "mem://secret__s", "mem://secret__other"])
def test_what_is_filtered_out_is_asked_for_no_resource(uri: str) -> None:
    assert catalog_of(*SHOWN).everything.locate(uri)
    assert _everything_but_secret().locate(uri) == []


def test_a_template_that_is_filtered_out_leads_nowhere() -> None:
    views = catalog_of(*SHOWN).everything
    view = filtered(views, ("", "x"), lambda kind, name, route: kind is not Kind.TEMPLATES)
    assert view.locate("file:///new") == []
    (route, uri), *others = view.locate("file:///not/of/the/template")
    assert (route.entry.name, uri, others) == ("file:///a", "file:///not/of/the/template", [])


@pytest.mark.parametrize("uri", ["file:///secret", "file://g__/secret"])
def test_a_hidden_resource_is_not_read_by_way_of_a_shown_one_of_its_scheme(uri: str) -> None:
    whole = catalog_of(record("g", resources=["file:///public", "file:///secret"])).everything
    view = filtered(whole, ("", "few"), lambda kind, name, route: name != "file:///secret")
    assert whole.locate(uri)
    assert view.locate(uri) == []
    assert view.locate("file:///public")
    assert view.locate("file:///never/listed"), "others of the scheme are still asked for"


def test_a_hidden_resource_that_a_shown_template_makes_stays_hidden() -> None:
    whole = catalog_of(record("g", resources=["db://secret"], templates=["db://{id}"])).everything
    view = filtered(whole, ("", "few"), lambda kind, name, route: name != "db://secret")
    assert view.locate("db://secret") == []
    assert [route.entry.name for route, _ in view.locate("db://other")] == ["db://{id}"]


def test_a_group_without_entries_is_hidden_unless_it_is_kept() -> None:
    broken = record("broken", sequence=8, status=ServerStatus.ERROR, error="no route to db.internal")
    quiet = record("quiet", sequence=9, instructions="for insiders")
    catalog = catalog_of(*SHOWN, broken, quiet)

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
    view = filtered(catalog_of(*SHOWN).everything, ("", "x"), lambda kind, name, route: route.group == "open")
    assert list(view.groups) == ["open"]
    assert view.missing_groups() == {}
    assert "_meta" not in json.loads(view.page(Kind.TOOLS, Era.LEGACY, None, NOW))
    assert _everything_but_secret().missing_groups() == {"down": "unavailable"}


@pytest.mark.parametrize(("endpoint", "passes"), [("open", True), ("secret", False)])
def test_unknown_methods_pass_only_to_a_group_of_which_something_is_shown(endpoint: str, passes: bool) -> None:
    whole = catalog_of(*SHOWN).view(endpoint)
    assert whole.passthrough is not None
    view = filtered(whole, (endpoint, "few"), _but_secret)
    assert (view.passthrough is not None) is passes
    assert names_in(view) == (["read"] if passes else [])


@pytest.mark.parametrize("size", [1, 2, 3, 7])
def test_pages_of_a_filtered_view_are_its_own_list_once_in_order(size: int) -> None:
    kept = [f"t{number}" for number in range(10) if number % 3]
    catalog = catalog_of(
        record("a", sequence=1, tools=[f"t{number}" for number in range(5)]),
        record("b", sequence=2, tools=[f"t{number}" for number in range(5, 10)]),
        page_size=size,
    )
    view = filtered(catalog.everything, ("", "x"), lambda kind, name, route: name in kept)
    assert names_in(view) == kept
    assert len(names_in(catalog.everything)) == 10


def test_a_cursor_of_one_view_goes_on_at_the_same_place_in_another() -> None:
    """Cursors say places, which all views share: who gets more or fewer rights between two pages misses nothing."""
    catalog = catalog_of(record("a", tools=["x", "hidden", "y", "z"]), page_size=2)
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

    catalog = catalog_of(record("a", tools=["x"], prompts=["p"]), record("b", sequence=2, tools=["y"]))
    before = shown(catalog)
    catalog.rebuild({one.spec.id: one for one in records}, NOW)
    assert changed(before, shown(catalog)) == expected


# ---- local tools


def _local(name: str, answer: bytes = b"{}") -> LocalTool:
    call: Callable[[Raw], bytes] = lambda arguments: answer  # noqa: E731
    return LocalTool(name, json.dumps(tool(name, description="the gateway's own")).encode(), call)


def test_local_tools_are_listed_first_and_lead_to_themselves() -> None:
    mine, other = _local("gw_search"), _local("gw_help")
    whole = catalog_of(*TWO).everything
    view = with_local_tools(whole, ("", "x"), [mine, other])
    for era in Era:
        assert names_in(view, era=era) == ["gw_search", "gw_help", *names_in(whole, era=era)]
    route = view.find(Kind.TOOLS, "gw_search")
    assert route is not None and route.local is mine
    assert route.replicas == () and not route.binds
    found = view.find(Kind.TOOLS, "fetch")
    assert found is not None and found.local is None
    assert whole.find(Kind.TOOLS, "gw_search") is None and view.whole, "nothing of the groups is hidden"


@pytest.mark.parametrize("endpoint", ["", "alpha"])
def test_a_local_tool_hides_others_of_its_name(endpoint: str) -> None:
    mine = _local("search")
    view = with_local_tools(catalog_of(*TWO).view(endpoint), (endpoint, "x"), [mine])
    assert names_in(view).count("search") == 1 and names_in(view)[0] == "search"
    route = view.find(Kind.TOOLS, "search")
    assert route is not None and route.local is mine
    shown = json.loads(view.page(Kind.TOOLS, Era.MODERN, None, NOW))["tools"][0]
    assert shown["description"] == "the gateway's own"


@pytest.mark.parametrize("size", [1, 2, 3])
def test_pages_go_on_from_local_tools_to_the_others(size: int) -> None:
    whole = catalog_of(*TWO, page_size=size).everything
    view = with_local_tools(whole, ("", "x"), [_local("l0"), _local("l1"), _local("l2")])
    assert names_in(view) == ["l0", "l1", "l2", *names_in(whole)]


def test_local_tools_are_suggested_and_filtered_like_others() -> None:
    view = with_local_tools(catalog_of(*TWO).everything, ("", "x"), [_local("gw_help"), _local("gw_admin")])
    assert view.unknown(Kind.TOOLS, "gw_hepl").data["closeMatches"] == ["gw_help"]
    fewer = filtered(view, ("", "y"), lambda kind, name, route: name != "gw_admin")
    assert fewer.find(Kind.TOOLS, "gw_admin") is None and "gw_admin" not in names_in(fewer)
    assert fewer.find(Kind.TOOLS, "gw_help") is not None


def test_that_local_tools_appear_is_a_change_of_the_tools() -> None:
    whole = catalog_of(*TWO).everything
    assert changed(whole, with_local_tools(whole, ("", "x"), [_local("l")])) == {TOOLS_CHANGED}
    assert changed(whole, with_local_tools(whole, ("", "x"), [])) == set()
