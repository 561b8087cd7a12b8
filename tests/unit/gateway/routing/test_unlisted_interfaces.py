"""Interfaces of tools (MCP Apps) that their server lists nowhere: they can be read, and are in no list."""

from __future__ import annotations

import json

from gateway.routing.catalog import Catalog
from gateway.routing.view import changed
from shared.mcp.listings import Kind
from shared.mcp.methods import RESOURCES_CHANGED
from shared.mcp.versions import Era
from shared.registry.records import UpstreamRecord
from shared.settings import RoutingSettings
from tests.unit.builders import record, tool

APP = {"ui": {"resourceUri": "ui://app"}}


def catalog_of(*records: UpstreamRecord) -> Catalog:
    catalog = Catalog(RoutingSettings())
    catalog.rebuild({one.spec.id: one for one in records}, 0.0)
    return catalog


def listed(catalog: Catalog, kind: Kind) -> list[dict[str, object]]:
    page = json.loads(catalog.everything.page(kind, Era.MODERN, None, 0.0))
    return list(page[kind.value])


def test_it_is_found_and_not_listed() -> None:
    catalog = catalog_of(record("a", tools=[tool("t", _meta=APP)], resources=["file:///x"]))
    [(route, own)] = catalog.everything.locate("ui://app")
    assert (route.group, own) == ("a", "ui://app")
    assert [one["uri"] for one in listed(catalog, Kind.RESOURCES)] == ["file:///x"]


def test_two_groups_with_one_name_for_it_keep_their_own() -> None:
    catalog = catalog_of(
        record("a", sequence=1, tools=[tool("t", _meta=APP)]),
        record("b", sequence=2, tools=[tool("u", _meta=APP)]),
    )
    metas = [one["_meta"] for one in listed(catalog, Kind.TOOLS)]
    uris = [meta["ui"]["resourceUri"] for meta in metas if isinstance(meta, dict)]
    assert uris[0] == "ui://app" != uris[1]
    found = [catalog.everything.locate(uri) for uri in uris]
    assert [[(route.group, own) for route, own in one] for one in found] == [[("a", "ui://app")], [("b", "ui://app")]]
    assert listed(catalog, Kind.RESOURCES) == []


def test_clients_are_not_told_of_it() -> None:
    before = catalog_of(record("a", tools=[tool("t")])).everything
    after = catalog_of(record("a", tools=[tool("t", _meta=APP)])).everything
    assert RESOURCES_CHANGED not in changed(before, after)
