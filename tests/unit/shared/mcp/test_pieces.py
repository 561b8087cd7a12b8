"""``shared.mcp.pieces``: as one, whatever the pieces were, few or many, small or large."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from shared.mcp.pieces import Pieces

SIZES = st.lists(st.sampled_from([0, 1, 7, 300_000, 900_000]), max_size=6)


@given(SIZES, SIZES)
def test_what_is_taken_is_all_that_was_added(first: list[int], second: list[int]) -> None:
    pieces = Pieces()
    for sizes in (first, second):
        parts = [bytes([65 + number]) * size for number, size in enumerate(sizes)]
        for part in parts:
            pieces.add(part)
        assert pieces.size == sum(sizes)
        assert pieces.take() == b"".join(parts)
        assert pieces.size == 0


def test_what_was_taken_does_not_change_any_more() -> None:
    pieces = Pieces()
    for _ in range(5):
        pieces.add(b"a" * 500_000)
    taken = pieces.take()
    pieces.add(b"b")
    assert taken == b"a" * 2_500_000 and pieces.take() == b"b"


def test_what_is_dropped_is_gone() -> None:
    pieces = Pieces()
    pieces.add(b"a")
    pieces.drop()
    assert pieces.take() == b""
