"""Views in which tools are searched: when there are such views, what they list, and where their names lead."""

from __future__ import annotations

import json
from typing import Any

import pytest

from gateway.routing.catalog import Catalog
from gateway.routing.derived import filtered
from gateway.routing.discovery import SearchView, discovered, tokens
from gateway.routing.endpoints import asking, named, split
from gateway.routing.entries import Entry
from gateway.routing.policy import ViewPolicy
from gateway.routing.steps import Steps
from gateway.routing.view import View, changed
from gateway.routing.views import Views
from shared.choices import Discovery
from shared.errors import Refused
from shared.mcp.listings import Kind
from shared.mcp.methods import TOOLS_CHANGED
from shared.mcp.versions import Era
from shared.settings import RoutingSettings
from shared.virtual_servers import read
from tests.unit.builders import record, tool

SAFE = tool("safe", annotations={"readOnlyHint": True})


def catalog(settings: RoutingSettings | None = None, **servers: dict[str, Any]) -> Catalog:
    made = Catalog(settings or RoutingSettings())
    made.take_virtual({name: read(name, document) for name, document in servers.items()})
    made.rebuild(
        {
            "a": record(
                "a", sequence=1, tools=["one", "two", "call_tool", SAFE], transport="stdio", isolation="client"
            ),
            "b": record("b", sequence=2, tools=["two"], prompts=["greet"]),
        },
        0.0,
    )
    return made


def names(view: View) -> list[str]:
    return [one["name"] for one in json.loads(view.page(Kind.TOOLS, Era.MODERN, None, 0.0))["tools"]]


def searchable(view: View) -> list[str]:
    assert isinstance(view, SearchView)
    return [one.name for one in view.searchable]


BOTH = ["search_tools", "call_tool"]


def test_whoever_asks_for_it_searches_and_others_get_the_list() -> None:
    views = Views(catalog())
    assert names(views.of("", "")) == ["one", "two", "call_tool", "safe", "b__two"]
    asked = views.of(asking("", "search"), "")
    assert names(asked) == BOTH and searchable(asked) == ["one", "two", "a__call_tool", "safe", "b__two"]
    assert views.of(asking("", "search"), "") is asked and views.of("", "") is views.of("", "")
    assert names(views.of(asking("", "list"), "")) == names(views.of("", ""))
    assert names(views.of(asking("b", "search"), "")) == BOTH
    assert views.of(asking("nowhere", "search"), "").groups == {}


def test_names_lead_where_they_did_and_the_two_to_themselves() -> None:
    views = Views(catalog())
    plain, asked = views.of("", ""), views.of(asking("", "search"), "")
    for name in ("one", "two", "b__two", "b__greet"):
        assert asked.find(Kind.TOOLS, name) is plain.find(Kind.TOOLS, name)
    for name in BOTH:
        route = asked.find(Kind.TOOLS, name)
        assert route is not None and route.local is not None and route.local.call is None
    theirs = asked.find(Kind.TOOLS, "a__call_tool")
    assert theirs is not None and (theirs.group, theirs.entry.name) == ("a", "call_tool")
    assert asked.find(Kind.PROMPTS, "greet") is not None and asked.key == ("\x1fsearch", "")


def test_a_virtual_server_says_how_and_what_is_listed_all_the_same() -> None:
    views = Views(
        catalog(
            desk={"discovery": "search", "alwaysListed": ["b/*", {"readOnlyHint": True}], "synonyms": [["uno", "one"]]},
            bare={"discovery": "list"},
        )
    )
    desk = views.of("desk", "")
    assert names(desk) == [*BOTH, "safe", "b__two"] and isinstance(desk, SearchView)
    assert desk.synonyms == (("uno", "one"),)
    assert "one" in names(views.of(asking("desk", "list"), "")) and "one" in names(views.of("bare", ""))
    assert searchable(views.of(asking("bare", "search"), ""))


def test_auto_goes_by_the_length_of_the_list() -> None:
    length = tokens(catalog().everything.lists[Kind.TOOLS])
    for threshold, how in ((length, View), (length - 1, SearchView)):
        settings = RoutingSettings(discovery=Discovery.AUTO, discovery_threshold=threshold)
        assert type(Views(catalog(settings)).of("", "")) is how


@pytest.mark.parametrize("discovery", [Discovery.SEARCH, Discovery.AUTO])
def test_a_setting_is_for_every_endpoint_that_does_not_say_otherwise(discovery: Discovery) -> None:
    settings = RoutingSettings(discovery=discovery, discovery_threshold=0)
    views = Views(catalog(settings, bare={"discovery": "list"}, other={"tools": ["*"]}))
    for endpoint in ("", "a", "other"):
        assert names(views.of(endpoint, "")) == BOTH
    assert "one" in names(views.of("bare", "")) and views.lasting == {("", "")}


class OnlyOne(ViewPolicy):
    """Shows tools called ``one``."""

    def applying(self, view: View, policy_class: str) -> Steps[View]:
        yield
        return filtered(view, (view.endpoint, policy_class), lambda kind, name, route: name == "one")


def test_rules_hide_from_search_what_they_hide_from_lists() -> None:
    made = catalog()
    views = Views(made, OnlyOne())
    asked = views.of(asking("", "search"), "c")
    assert asked.key == (asking("", "search"), "c")
    assert searchable(asked) == ["one"] and asked.find(Kind.TOOLS, "two") is None
    entries = [Entry(Kind.TOOLS, name, b'{"name":"%b"}' % name.encode(), None) for name in ("one", "own")]
    own = {"a": {Kind.TOOLS: entries}}
    assert searchable(Views(made).with_own((asking("a", "search"), ""), own)) == ["one", "own"]
    assert searchable(views.with_own((asking("a", "search"), "c"), own)) == ["one"]


def test_what_upstreams_add_changes_no_list_of_tools() -> None:
    made = catalog()
    views = Views(made)
    asked = views.of(asking("", "search"), "")
    views.watch(asked)
    made.rebuild({"a": record("a", tools=["one", "three"])}, 0.0)
    changes = views.advance({"a": {TOOLS_CHANGED}})
    assert TOOLS_CHANGED in changes["", ""] and TOOLS_CHANGED not in changes.get(asked.key, set())
    assert changed(asked, views.of(asking("", "search"), "")) == {"notifications/prompts/list_changed"}
    assert searchable(views.of(asking("", "search"), "")) == ["one", "three"]


def test_a_plain_view_is_not_made_anew() -> None:
    view = catalog().everything
    assert discovered(view, None, None) is view


def test_endpoints_are_named_whatever_was_asked() -> None:
    made = catalog(desk={})
    for endpoint, is_one_group in (("", False), ("a", True), ("desk", False)):
        for one in (endpoint, asking(endpoint, "search")):
            assert named(one) == endpoint and made.serves(one) and made.is_of_one_group(one) is is_one_group
    assert split(asking("a", "auto")) == ("a", Discovery.AUTO) and split("a\x1fnonsense") == ("a\x1fnonsense", None)
    with pytest.raises(Refused, match="is not one of list, search, auto"):
        asking("", "guess")
