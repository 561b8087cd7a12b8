"""``gateway.routing.virtual``: what virtual servers show of the catalogue, and as what."""

from __future__ import annotations

import json
from typing import Any

import pytest
from msgspec import Raw, structs

from gateway.access.policy import RolePolicy
from gateway.routing.catalog import Catalog
from gateway.routing.entries import parse
from gateway.routing.view import View, changed
from shared.access import rules
from shared.choices import Naming
from shared.errors import Refused
from shared.mcp.listings import Kind
from shared.mcp.methods import TOOLS_CHANGED
from shared.mcp.versions import Era
from shared.models import ServerStatus
from shared.registry.records import UpstreamRecord
from shared.settings import RoutingSettings
from shared.virtual_servers import read
from tests.unit.builders import listed, record, tool

SCHEMA = {
    "type": "object",
    "properties": {"q": {"type": "string"}, "limit": {"type": "integer"}, "index": {"type": "string"}},
    "required": ["q", "limit", "index"],
}
SEARCH = record(
    "search",
    sequence=1,
    tools=[
        tool("search_documents", inputSchema=SCHEMA, description="long", annotations={"destructiveHint": True}),
        tool("delete_all"),
        tool("who", annotations={"readOnlyHint": True}),
    ],
    prompts=[listed(Kind.PROMPTS, "ask", arguments=[{"name": "tone", "required": True}, {"name": "about"}])],
    resources=["note:///1", "note:///secret"],
    templates=["note:///{id}", "file:///{path}"],
)
NOTES = record("notes", sequence=2, tools=["who", "find", "read_one"], resources=["note:///1"])


def _catalog(document: dict[str, Any], *records: UpstreamRecord, name: str = "support", **settings: Any) -> Catalog:
    catalog = Catalog(RoutingSettings(**settings))
    catalog.take_virtual({name: read(name, document)})
    catalog.rebuild({one.spec.id: one for one in records or (SEARCH, NOTES)}, 0.0)
    return catalog


def _view(document: dict[str, Any], *records: UpstreamRecord, **settings: Any) -> View:
    return _catalog(document, *records, **settings).view("support")


def _page(view: View, kind: Kind = Kind.TOOLS, era: int = Era.MODERN) -> dict[str, dict[str, Any]]:
    found = json.loads(view.page(kind, era, None, 0.0))
    members = next(value for value in found.values() if isinstance(value, list))
    return {one.get("uriTemplate") or one.get("uri") or one["name"]: one for one in members}


# ---- what is shown


def test_patterns_choose_and_only_the_kinds_that_are_given_are_there() -> None:
    view = _view({"tools": ["search/*", "!*/delete_*"]})
    assert list(_page(view)) == ["search_documents", "who"]
    assert list(view.groups) == ["search"]
    assert not any(_page(view, kind) for kind in (Kind.PROMPTS, Kind.RESOURCES, Kind.TEMPLATES))
    assert view.find(Kind.TOOLS, "delete_all") is None and view.find(Kind.TOOLS, "search__delete_all") is None
    assert view.locate("note:///1") == [] and view.passthrough is None


def test_annotations_choose() -> None:
    assert list(_page(_view({"tools": [{"readOnlyHint": True}]}))) == ["who"]


def test_names_are_composed_only_where_what_is_shown_collides() -> None:
    assert list(_page(_view({}))) == ["search_documents", "delete_all", "who", "notes__who", "find", "read_one"]
    assert list(_page(_view({"tools": ["notes/who"]}))) == ["who"]


def test_resources_are_read_only_where_a_pattern_or_a_named_template_means_them() -> None:
    view = _view({"resources": ["search/note:///{id}", "!search/note:///secret"]})
    assert list(_page(view, Kind.TEMPLATES)) == ["note:///{id}"] and not _page(view, Kind.RESOURCES)
    assert [route.group for route, _ in view.locate("note:///7")] == ["search"]
    for hidden in ("note:///secret", "note:///1", "file:///etc/passwd"):
        assert view.locate(hidden) == [], hidden
    wide = _view({"resources": ["search/note:*"]})
    assert list(_page(wide, Kind.RESOURCES)) == ["note:///1", "note:///secret"]
    assert wide.locate("note:///9") and not wide.locate("file:///x")


def test_a_tools_user_interface_is_shown_with_it() -> None:
    ui = tool("chart", _meta={"ui": {"resourceUri": "ui://chart"}})
    one = record("charts", tools=[ui], resources=["ui://chart", "ui://other"])
    view = _view({"tools": ["charts/chart"]}, one)
    assert list(_page(view, Kind.RESOURCES)) == ["ui://chart"]
    hidden = _view({"tools": ["charts/chart"], "resources": ["!*/ui://*"]}, one)
    assert not _page(hidden, Kind.RESOURCES)


def test_a_group_that_has_listed_nothing_yet_is_said_to_start_if_it_may_be_shown() -> None:
    late = record("late", sequence=3, status=ServerStatus.CONNECTING)
    late = structs.replace(late, catalog=structs.replace(late.catalog, digest=""))
    assert list(_view({"tools": ["late/*"]}, SEARCH, late).groups) == ["late"]
    assert list(_view({"tools": ["search/*"]}, SEARCH, late).groups) == ["search"]


# ---- overrides

OVERRIDE = {
    "name": "find",
    "title": "Find",
    "description": "short",
    "annotations": {"readOnlyHint": True},
    "arguments": {"limit": {"fixed": 10}, "index": {"hidden": True, "default": "kb"}, "q": {"default": "*"}},
}


@pytest.mark.parametrize("era", list(Era))
def test_an_override_says_what_clients_see(era: Era) -> None:
    view = _view({"tools": ["search/*"], "override": {"search/search_documents": OVERRIDE}})
    found = _page(view, era=era)["find"]
    assert (found["title"], found["description"]) == ("Find", "short")
    assert found["annotations"] == {"destructiveHint": True, "readOnlyHint": True}
    assert found["inputSchema"] == {"type": "object", "properties": {"q": {"type": "string", "default": "*"}}}
    route = view.find(Kind.TOOLS, "find")
    assert route is not None and route.entry.name == "search_documents" and route.shape is not None
    assert view.find(Kind.TOOLS, "search_documents") is None


def test_a_given_name_goes_before_that_of_another_group_in_every_naming() -> None:
    document = {"override": {"search/search_documents": {"name": "find"}}}
    names = list(_page(_view(document)))
    assert names[0] == "find" and "notes__find" in names
    prefixed = list(_page(_view(document, naming=Naming.PREFIX)))
    assert prefixed[:2] == ["find", "search__delete_all"]


def test_an_entry_of_the_same_group_makes_way_for_a_given_name() -> None:
    for first, second in (("who", "search_documents"), ("search_documents", "who")):
        view = _view({"tools": ["search/*"], "override": {f"search/{first}": {"name": second}}})
        assert list(_page(view)) == ["delete_all", second] or list(_page(view)) == [second, "delete_all"]
        route = view.find(Kind.TOOLS, second)
        assert route is not None and route.entry.name == first


def test_names_may_be_swapped() -> None:
    swap = {"search/who": {"name": "delete_all"}, "search/delete_all": {"name": "who"}}
    view = _view({"tools": ["search/who", "search/delete_all"], "override": swap})
    assert {name: route.entry.name for name, route in view.routes[Kind.TOOLS].items()} == {
        "who": "delete_all",
        "delete_all": "who",
    }


def test_a_closed_argument_leaves_every_branch_of_a_schema() -> None:
    schema = {
        "type": "object",
        "oneOf": [
            {"properties": {"mode": {"const": "a"}, "x": {}}, "required": ["mode", "x"]},
            {"properties": {"mode": {"const": "b"}}, "required": ["mode"]},
        ],
    }
    one = record("one", tools=[tool("do", inputSchema=schema)])
    view = _view({"override": {"one/do": {"arguments": {"mode": {"fixed": "a"}}}}}, one)
    assert _page(view)["do"]["inputSchema"] == {
        "type": "object",
        "anyOf": [{"properties": {"x": {}}, "required": ["x"]}, {"properties": {}}],
    }


def test_prompts_and_resources_are_overridden_too() -> None:
    override = {
        "prompts:search/ask": {"name": "inquire", "arguments": {"tone": {"fixed": "kind"}}},
        "search/note:///1": {"title": "The first", "description": "d"},
    }
    view = _view({"override": override}, SEARCH)
    assert _page(view, Kind.PROMPTS)["inquire"]["arguments"] == [{"name": "about"}]
    assert _page(view, Kind.RESOURCES)["note:///1"]["title"] == "The first"


def test_the_arguments_that_a_virtual_server_decides_cannot_be_set() -> None:
    route = _view({"override": {"search/search_documents": OVERRIDE}}).find(Kind.TOOLS, "find")
    assert route is not None and route.shape is not None
    sent = route.shape.params(Raw(b'{"name":"find","arguments":{"q":"x"},"_meta":{}}'), "search_documents")
    arguments = {"q": "x", "limit": 10, "index": "kb"}
    assert json.loads(sent) == {"name": "search_documents", "arguments": arguments, "_meta": {}}
    for nothing in (b'{"name":"find"}', b'{"name":"find","arguments":null}'):
        assert json.loads(route.shape.params(Raw(nothing), "s"))["arguments"] == {**arguments, "q": "*"}
    for name in ("limit", "index", "LIMIT", "l\\u0069mit"):
        with pytest.raises(Refused, match="cannot be set here"):
            route.shape.params(Raw(b'{"name":"find","arguments":{"%b":1}}' % name.encode()), "s")


# ---- roles, generations, names of groups


def _role(**role: Any) -> RolePolicy:
    return RolePolicy(rules.read({"roles": {"r": role}}))


def test_roles_apply_on_top_by_the_upstreams_own_names_and_annotations() -> None:
    view = _view({"tools": ["search/*"], "override": {"search/search_documents": OVERRIDE}})
    assert list(_page(_role(allow=["search/*"], deny=["*/search_documents"]).apply(view, "r"))) == ["delete_all", "who"]
    assert list(_page(_role(allow=["*/search_documents"]).apply(view, "r"))) == ["find"]
    reading = _role(allow=[{"match": "*", "tool": "tool.readOnlyHint"}]).apply(view, "r")
    assert list(_page(reading)) == ["who"], "an override does not make a tool harmless"
    assert reading.key == ("support", "r")


def test_a_role_does_not_open_what_a_virtual_server_hides() -> None:
    view = _view({"resources": ["search/note:///1*"]})
    applied = _role(allow=["*"]).apply(view, "r")
    assert applied.locate("note:///12") and not applied.locate("note:///9") and not applied.locate("file:///x")


def test_a_virtual_server_goes_before_a_group_of_its_name() -> None:
    support = record("support", sequence=3, tools=["take_over"])
    catalog = _catalog({"tools": ["search/who"]}, SEARCH, support)
    assert list(_page(catalog.view("support"))) == ["who"]
    assert not catalog.is_of_one_group("support") and catalog.is_of_one_group("search")
    catalog.take_virtual({})
    catalog.rebuild({one.spec.id: one for one in (SEARCH, support)}, 0.0)
    assert list(_page(catalog.view("support"))) == ["take_over"]


def test_only_a_change_of_what_is_shown_makes_a_new_view() -> None:
    catalog = _catalog({"tools": ["search/*"]})
    before = catalog.view("support")
    more = record("notes", sequence=2, tools=["who", "new"])
    catalog.rebuild({one.spec.id: one for one in (SEARCH, more)}, 0.0)
    assert catalog.view("support") is before
    other = record("search", sequence=1, tools=["who", "new"])
    catalog.rebuild({one.spec.id: one for one in (other, more)}, 0.0)
    after = catalog.view("support")
    assert after is not before and changed(before, after) >= {TOOLS_CHANGED}
    catalog.take_virtual({"support": read("support", {"tools": ["search/who"]})})
    catalog.rebuild({one.spec.id: one for one in (other, more)}, 0.0)
    assert list(_page(catalog.view("support"))) == ["who"]


def test_a_document_of_a_virtual_server_that_is_gone_shows_nothing() -> None:
    catalog = _catalog({})
    catalog.take_virtual({})
    catalog.rebuild({"search": SEARCH}, 0.0)
    assert not catalog.view("support").groups


def test_what_one_client_sees_is_shaped_as_well() -> None:
    catalog = _catalog({"tools": ["search/*", "!search/who"], "override": {"search/mine": {"name": "ours"}}})
    own = {"search": {Kind.TOOLS: parse(Kind.TOOLS, json.dumps([tool("mine"), tool("who")]).encode())}}
    view = catalog.view_with("support", own)
    assert list(view.routes[Kind.TOOLS]) == ["ours"]
    assert "ours" not in catalog.view("support").routes[Kind.TOOLS]
