"""Catalogues of a few upstreams, and what they list."""

from __future__ import annotations

import json
from typing import Any

from gateway.routing.catalog import Catalog
from gateway.routing.view import changed
from shared.mcp.listings import Kind
from shared.mcp.versions import Era
from shared.models import ServerStatus
from shared.registry.records import UpstreamRecord
from shared.settings import RoutingSettings
from tests.unit.builders import record, tool

NOW = 1_000_000.0
CONNECTED, ERROR, REGISTERED = ServerStatus.CONNECTED, ServerStatus.ERROR, ServerStatus.REGISTERED


def catalog_of(*records: UpstreamRecord, wall_s: float = NOW, **settings: Any) -> Catalog:
    catalog = Catalog(RoutingSettings(**settings))
    rebuild_with(catalog, *records, wall_s=wall_s)
    return catalog


def rebuild_with(catalog: Catalog, *records: UpstreamRecord, wall_s: float = NOW) -> set[str]:
    """The catalogue takes these records; the result is what changed for those who see everything."""
    before = catalog.everything
    catalog.rebuild({one.spec.id: one for one in records}, wall_s)
    return changed(before, catalog.everything)


def page_of(catalog: Catalog, endpoint: str = "", era: int = Era.LEGACY, cursor: str | None = None) -> Any:
    return json.loads(catalog.view(endpoint).page(Kind.TOOLS, era, cursor, NOW))


def names_at(catalog: Catalog, endpoint: str = "", era: int = Era.LEGACY) -> list[str]:
    """Every name, through all pages."""
    names: list[str] = []
    cursor = None
    while True:
        page = page_of(catalog, endpoint, era, cursor)
        names += [one["name"] for one in page["tools"]]
        cursor = page.get("nextCursor")
        if cursor is None:
            return names
        assert page["tools"], "an empty page that leads on"


HIDDEN = tool("hidden")
"""A tool that no client may see, since its annotation for a header is invalid."""
HIDDEN["inputSchema"] = {"type": "object", "properties": {"a": {"type": "object", "x-mcp-header": "A"}}}


TWO = (
    record("alpha", sequence=1, tools=["search", "beta__search"]),
    record("beta", sequence=2, tools=["search", "fetch"]),
)
