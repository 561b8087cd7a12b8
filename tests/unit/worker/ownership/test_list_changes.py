"""``worker.ownership.list_changes``: when names were added, and what changed under a name."""

from __future__ import annotations

import json
from typing import Any

from shared.mcp.listings import Kind
from shared.registry.records import ListedCatalog
from worker.ownership.list_changes import ListChanges


def _lists(*tools: dict[str, Any]) -> dict[Kind, bytes]:
    return {Kind.TOOLS: json.dumps(tools).encode()}


def test_names_of_the_first_listing_count_from_registration_and_later_ones_from_when_they_came() -> None:
    changes = ListChanges("up")
    changes.note(_lists({"name": "a"}))
    assert changes.added == {}
    changes.note(_lists({"name": "a"}, {"name": "b"}))
    (since,) = changes.added["tools"].values()
    assert set(changes.added["tools"]) == {"b"} and since > 1e9
    changes.note(_lists({"name": "a"}, {"name": "b"}, {"name": "c"}))
    assert changes.added["tools"]["b"] == since <= changes.added["tools"]["c"]
    changes.note(_lists({"name": "c"}))
    assert set(changes.added["tools"]) == {"c"}
    assert not changes.notes


def test_a_worker_that_takes_an_upstream_over_compares_with_what_was_listed_before() -> None:
    before = ListedCatalog("d", _lists({"name": "a"}), 0.0, ("other",), {"tools": {"x": 5.0}})
    changes = ListChanges("up", before)
    changes.note(_lists({"name": "a"}, {"name": "x"}))
    assert changes.added["tools"]["x"] > 5.0  # it was gone, and came again
    assert not changes.notes


def test_what_changed_under_a_name_is_said_and_kept() -> None:
    changes = ListChanges("up")
    changes.note(_lists({"name": "a", "description": "reads", "inputSchema": {}}, {"name": "b"}))
    changes.note(_lists({"name": "a", "description": "reads all", "inputSchema": {"x": 1}}, {"name": "b"}))
    (said,) = changes.notes
    assert said.startswith("tool 'a' changed: description, inputSchema (20")
    again = ListChanges("up", ListedCatalog("d", _lists({"name": "a"}), 0.0, ("flaw", said)))
    assert list(again.notes) == [said]
    changes.note(_lists(*({"name": f"n{n}"} for n in range(30))))
    changes.note(_lists(*({"name": f"n{n}", "title": "x"} for n in range(30))))
    assert "25 more entries of tools changed" in changes.notes[-1] and len(changes.notes) <= 20
