"""``worker.ownership.listing``: what a page of a list says."""

from __future__ import annotations

import json
from typing import Any

import pytest

from shared.errors import OutcomeUnknown
from shared.mcp.listings import KINDS, Kind
from worker.ownership.listing import _Pages


@pytest.mark.parametrize("kind", list(Kind))
def test_a_page_has_entries_a_cursor_and_a_time(kind: Kind) -> None:
    facts, pages = KINDS[kind], _Pages()
    first = {"x": 1, facts.member: [{"name": "a"}, 5], "nextCursor": "c", "ttlMs": 500.5, "_meta": {}}
    assert pages.add(facts, json.dumps(first).encode()) == "c"
    assert pages.add(facts, json.dumps({facts.member: [{"name": "b"}], "ttlMs": 90}).encode()) is None
    assert [bytes(one) for one in pages.entries] == [b'{"name": "a"}', b"5", b'{"name": "b"}']
    assert pages.ttl_ms == 90 and pages.size > 100
    for empty in (b"{}", b'{"%b": null}' % facts.member.encode()):
        assert pages.add(facts, empty) is None and len(pages.entries) == 3


@pytest.mark.parametrize(
    ("cursor", "read"), [(5, 5), ("", None), (None, None), ([], None), ({"a": 1}, None), (True, True)]
)
def test_a_cursor_is_text_or_a_number(cursor: Any, read: Any) -> None:
    assert _Pages().add(KINDS[Kind.TOOLS], json.dumps({"tools": [], "nextCursor": cursor}).encode()) == read


@pytest.mark.parametrize(
    ("ttl", "read"),
    [(10**400, 1e12), (-(10**400), 0.0), (5, 5.0), (True, None), ("5", None)],
    ids=["endless", "long over", "5 ms", "no number", "text"],
)
def test_a_time_of_any_size_is_read(ttl: Any, read: float | None) -> None:
    pages = _Pages()
    pages.add(KINDS[Kind.TOOLS], json.dumps({"tools": [], "ttlMs": ttl}).encode())
    assert pages.ttl_ms == read


@pytest.mark.parametrize("page", [b"[]", b"5", b'{"tools":5}', b'{"tools":{}}', b"{", b"[" * 100_000])
def test_what_is_no_list_is_named(page: bytes) -> None:
    with pytest.raises(OutcomeUnknown, match=r"its tools/list is not a list of tools"):
        _Pages().add(KINDS[Kind.TOOLS], page)
