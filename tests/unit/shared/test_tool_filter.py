"""``shared.tool_filter``: what is hidden is hidden, and what is not understood hides nothing by accident."""

from __future__ import annotations

from typing import Any

import pytest

from shared.tool_filter import parse_patterns, shows


@pytest.mark.parametrize(
    ("name", "include", "exclude", "expected"),
    [
        ("a", None, (), True),
        ("a", (), (), False),
        ("a", ("a", "b"), (), True),
        ("c", ("a", "b"), (), False),
        ("a", ("*",), (), True),
        ("get_x", ("get_*",), (), True),
        ("set_x", ("get_*",), (), False),
        ("a", None, ("a",), False),
        ("a", ("a",), ("a",), False),
        ("b", None, ("a",), True),
        ("del_x", ("*",), ("del_*",), False),
        ("a[b]", ("a[b]*",), (), True),
        ("ab", ("a?",), (), False),
        ("A", ("a",), (), False),
        ("A", ("a*",), (), False),
    ],
)
def test_a_tool_is_shown_when_it_is_included_and_not_excluded(
    name: str, include: tuple[str, ...] | None, exclude: tuple[str, ...], expected: bool
) -> None:
    assert shows(name, include, exclude) is expected


@pytest.mark.parametrize(("value", "expected"), [(["a"], ("a",)), ((), ()), ("a", ("a",))])
def test_patterns_are_a_list_of_names(value: Any, expected: tuple[str, ...]) -> None:
    assert parse_patterns(value) == expected


@pytest.mark.parametrize("value", [None, 5, {"a": False}, [1], [["a"]], True])
def test_what_is_no_list_of_names_is_refused(value: Any) -> None:
    with pytest.raises(ValueError, match="must be a list of names"):
        parse_patterns(value)
