"""Searches of several views: each finds what its view shows, and all indexes together are bounded."""

from __future__ import annotations

import asyncio

import pytest

from gateway.fleet.tool_search import ToolSearch
from gateway.routing.catalog import Catalog
from gateway.routing.derived import filtered
from gateway.routing.discovery import SearchView, searched
from gateway.routing.views import Views
from shared.errors import CallError, NotDelivered
from shared.settings import RoutingSettings
from tests.unit.builders import record


def view(tools: list[str], key: str = "", without: str = "") -> SearchView:
    catalog = Catalog(RoutingSettings())
    catalog.rebuild({"a": record("a", tools=tools)}, 0.0)
    return searched(filtered(catalog.everything, (key, ""), lambda kind, name, route: name != without), None)


async def found(search: ToolSearch, view: SearchView, query: str = "file") -> list[str]:
    return [one.name for one in await search.find(view, query, 5)]


async def test_views_of_one_key_share_an_index_that_has_what_the_view_shows() -> None:
    search = ToolSearch(1 << 30)
    assert await found(search, view(["file_a", "file_b"])) == ["file_a", "file_b"]
    assert await found(search, view(["file_b"])) == ["file_b"]
    assert await found(search, view(["file_a", "file_b"], without="file_a")) == ["file_b"]
    assert search.indexes == 1
    assert await found(search, view(["file_c"], "other")) == ["file_c"] and search.indexes == 2
    search.close()


async def test_searches_at_once_find_each_their_own() -> None:
    search = ToolSearch(1 << 30)
    views = [view([f"file_{number}"], f"v{number % 3}") for number in range(60)]
    answers = await asyncio.gather(*(found(search, one) for one in views))
    assert answers == [[f"file_{number}"] for number in range(60)]
    search.close()


async def test_indexes_that_take_too_much_are_given_up_and_built_again() -> None:
    search = ToolSearch(1)
    for key in ("a", "b", "a"):
        assert await found(search, view([f"file_{key}"], key)) == [f"file_{key}"]
        assert search.indexes == 1
    search.close()


async def test_a_python_without_full_text_search_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gateway.routing.tool_index._TABLE", "CREATE VIRTUAL TABLE tools USING none_such(name)")
    search = ToolSearch(1 << 30)
    with pytest.raises(CallError, match="no such module: none_such"):
        await search.find(view(["file_a"]), "file", 5)
    search.close()


async def test_more_searches_than_may_wait_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gateway.fleet.tool_search._MOST_WAITING", 2)
    search, one = ToolSearch(1 << 30), view(["file_a"])
    answers = await asyncio.gather(*(found(search, one) for _ in range(3)), return_exceptions=True)
    assert answers[:2] == [["file_a"]] * 2 and isinstance(answers[2], NotDelivered)
    assert await found(search, one) == ["file_a"], "there is room again"
    search.close()


async def test_nothing_is_kept_of_a_view_without_tools() -> None:
    """Any name may be asked for at ``/servers/{name}``."""
    search, views = ToolSearch(1 << 20), Views(Catalog(RoutingSettings(), 60.0))
    try:
        for number in range(20):
            view = searched(views.of(f"made-up-{number}", ""), None)
            assert await search.find(view, "x", 5) == []
        assert not search.indexes
    finally:
        search.close()
