"""``gateway.routing.catalog``: pages of lists, and which rebuilds change them."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.errors import Refused
from shared.mcp.listings import Kind
from shared.mcp.methods import PROMPTS_CHANGED, RESOURCES_CHANGED, TOOLS_CHANGED
from shared.mcp.versions import Era
from shared.registry.records import UpstreamRecord
from tests.unit.builders import record, tool
from tests.unit.gateway.routing.catalogues import ERROR, HIDDEN, NOW, catalog_of, names_at, page_of, rebuild_with

# ---- pages


def _many(*counts: int) -> list[UpstreamRecord]:
    return [
        record(f"u{n}", sequence=n + 1, tools=[f"u{n}-t{index}" for index in range(count)])
        for n, count in enumerate(counts)
    ]


@given(
    st.lists(st.integers(0, 7), min_size=1, max_size=4),
    st.integers(1, 9),
    st.sampled_from(Era),
    st.sampled_from(["", "u0"]),
)
def test_pages_together_are_the_whole_list_once_in_order(counts: list[int], size: int, era: Era, endpoint: str) -> None:
    records = _many(*counts)
    paged, whole = catalog_of(*records, page_size=size), catalog_of(*records)
    assert names_at(paged, endpoint, era) == names_at(whole, endpoint, era)
    assert len(names_at(whole, endpoint, era)) == (sum(counts) if not endpoint else counts[0])
    assert len(page_of(paged, endpoint, era)["tools"]) <= size


@pytest.mark.parametrize(("count", "size", "pages"), [(4, 2, 2), (5, 2, 3), (1, 2, 1), (0, 2, 1), (2, 2, 1)])
def test_there_is_no_page_more_than_needed(count: int, size: int, pages: int) -> None:
    catalog, cursor, seen = catalog_of(*_many(count), page_size=size), None, 0
    while seen == 0 or cursor is not None:
        cursor = page_of(catalog, cursor=cursor).get("nextCursor")
        seen += 1
    assert seen == pages


def test_a_page_of_hidden_tools_leads_nowhere() -> None:
    hidden = [{**HIDDEN, "name": f"hidden{n}"} for n in range(5)]
    catalog = catalog_of(record("a", tools=["x", *hidden]), page_size=1)
    assert page_of(catalog) == {"tools": [tool("x")]}
    catalog = catalog_of(record("a", tools=[*hidden, "x", *hidden, "y"]), page_size=1)
    assert names_at(catalog) == ["x", "y"]


@pytest.mark.parametrize("cursor", ["x", "!!!!", "é", "AAAA", "MQ", "MS4y4", "MS54", "a" * 10_000, "LjE", "MS4"])
@pytest.mark.parametrize("endpoint", ["", "u0", "nobody"])
def test_a_bad_cursor_is_invalid_params(cursor: str, endpoint: str) -> None:
    catalog = catalog_of(*_many(3), page_size=1)
    with pytest.raises(Refused, match="is not one of ours; list again without it") as caught:
        catalog.view(endpoint).page(Kind.TOOLS, Era.LEGACY, cursor, NOW)
    assert caught.value.code == "invalid_params"
    assert len(str(caught.value)) < 200


@given(st.text(min_size=1, max_size=30))
def test_no_cursor_raises_anything_but_refused(cursor: str) -> None:
    catalog = catalog_of(*_many(3), page_size=1)
    try:
        page_of(catalog, cursor=cursor)
    except Refused as error:
        assert error.code == "invalid_params"


def test_an_empty_cursor_is_the_first_page() -> None:
    catalog = catalog_of(*_many(3), page_size=1)
    assert page_of(catalog, cursor="") == page_of(catalog, cursor=None)


def test_a_cursor_goes_on_after_its_entry_when_a_later_group_appears() -> None:
    first, second, third = _many(3, 2, 2)
    catalog = catalog_of(first, second, page_size=2)
    cursor = page_of(catalog)["nextCursor"]
    rebuild_with(catalog, first, second, third)
    assert [one["name"] for one in page_of(catalog, cursor=cursor)["tools"]] == ["u0-t2", "u1-t0"]


def test_a_page_is_the_same_however_often_and_in_whatever_order_it_is_asked_for() -> None:
    catalog = catalog_of(*_many(5), page_size=2)
    cursors: list[str | None] = [None]
    while (cursor := page_of(catalog, cursor=cursors[-1]).get("nextCursor")) is not None:
        cursors.append(cursor)
    assert len(cursors) == 3
    for turn in (cursors, cursors[::-1], cursors):
        shown = {cursor: [one["name"] for one in page_of(catalog, cursor=cursor)["tools"]] for cursor in turn}
        assert [shown[cursor] for cursor in cursors] == [["u0-t0", "u0-t1"], ["u0-t2", "u0-t3"], ["u0-t4"]]


def test_pages_are_fresh_after_a_rebuild() -> None:
    catalog = catalog_of(record("a", tools=["x"]))
    assert names_at(catalog) == ["x"]
    rebuild_with(catalog, record("a", tools=["y"]))
    assert names_at(catalog) == ["y"]
    assert names_at(catalog, endpoint="a") == ["y"]


# ---- changes


def test_a_rebuild_tells_whether_the_list_changed() -> None:
    catalog = catalog_of(record("a", tools=["x"]))
    generation = catalog.generation
    assert rebuild_with(catalog, record("a", tools=["x"], weight=9)) == set()
    assert catalog.generation == generation + 1
    assert rebuild_with(catalog, record("a", tools=["x", "y"])) == {TOOLS_CHANGED}
    assert rebuild_with(catalog, record("a", tools=[tool("x", description="new"), "y"])) == {TOOLS_CHANGED}
    assert rebuild_with(catalog, record("a", tools=[tool("x", description="new"), "y"])) == set()
    assert rebuild_with(catalog) == {TOOLS_CHANGED}


CHANGED = {"prompts": PROMPTS_CHANGED, "resources": RESOURCES_CHANGED, "templates": RESOURCES_CHANGED}


@pytest.mark.parametrize("kind", ["tools", *CHANGED])
def test_a_rebuild_names_exactly_the_kinds_that_changed(kind: str) -> None:
    method = CHANGED.get(kind, TOOLS_CHANGED)
    everything: dict[str, Any] = {"tools": ["t"], "prompts": ["p"], "resources": ["x:r"], "templates": ["x:{t}"]}
    catalog = catalog_of(record("a", **everything))
    for entries in ([*everything[kind], "x:more"], ["x:more"], []):
        assert rebuild_with(catalog, record("a", **{**everything, kind: entries})) == {method}
    assert rebuild_with(catalog, record("a", **everything)) == {method}


def test_a_rebuild_names_every_kind_that_comes_or_goes_with_an_upstream() -> None:
    both = record("b", sequence=2, prompts=["p"], templates=["x:{t}"])
    catalog = catalog_of(record("a", tools=["t"]))
    assert rebuild_with(catalog, record("a", tools=["t"]), both) == {PROMPTS_CHANGED, RESOURCES_CHANGED}
    assert rebuild_with(catalog, both) == {TOOLS_CHANGED}
    down = record("b", sequence=2, prompts=["p"], templates=["x:{t}"], status=ERROR, status_since=NOW)
    assert rebuild_with(catalog, down) == set()
    assert rebuild_with(catalog, down, wall_s=NOW + 3600) == {PROMPTS_CHANGED, RESOURCES_CHANGED}


def test_what_collides_is_named_as_changed() -> None:
    second = record("b", sequence=2, prompts=["p"], resources=["x:r"])
    catalog = catalog_of(record("a", sequence=1, prompts=["p"]), second)
    assert rebuild_with(catalog, second) == {PROMPTS_CHANGED}
