"""``shared.config.tool_lists``: what restricts the tools of a server is obeyed, or is a problem."""

from __future__ import annotations

from typing import Any

import pytest

from shared.config.tool_lists import both, tools_of


def _of(entry: dict[str, Any]) -> tuple[Any, Any, list[str]]:
    problems: list[str] = []
    include, exclude = tools_of(entry, lambda key, text: problems.append(key))
    return include, exclude, problems


@pytest.mark.parametrize(
    ("entry", "include", "exclude"),
    [
        ({}, None, ()),
        ({"tools": ["a", "b"]}, ("a", "b"), ()),
        ({"tools": ["*"]}, None, ()),
        ({"tools": []}, (), ()),
        ({"tools": ["a", "b"], "includeTools": ["b", "c"]}, ("b",), ()),
        ({"tools": ["a"], "disabledTools": ["b"]}, ("a",), ("b",)),
        ({"tools": [{"name": "a"}, {"name": "b", "description": "d"}]}, ("a", "b"), ()),
        ({"tools": [{"name": "a", "enabled": False}, {"name": "b", "enabled": True}]}, None, ("a",)),
        # MCPHub
        ({"tools": {"a": {"enabled": True, "description": "d"}, "b": {"enabled": False}}}, None, ("b",)),
        # Codex
        ({"tools": {"a": {"approval_mode": "approve"}, "b": {"approval_mode": "prompt"}}}, None, ()),
        ({"tools": {"a": "ask", "b": "deny", "c": "allow"}}, None, ("b",)),
        ({"tools": {"a": {"permission": "deny"}, "b": {"disabled": True}, "c": {"_note": 1}}}, None, ("a", "b")),
        # mcp-proxy, and the Agents SDK
        ({"toolFilter": {"mode": "allow", "list": ["a"]}}, ("a",), ()),
        ({"toolFilter": {"mode": "block", "list": ["a"]}}, None, ("a",)),
        ({"tool_filter": {"allowed_tool_names": ["a"], "blocked_tool_names": ["b"]}}, ("a",), ("b",)),
        ({"tool_filter": ["a"], "tools": ["a", "b"]}, ("a",), ()),
    ],
)
def test_lists_maps_and_filters_are_obeyed(entry: dict[str, Any], include: Any, exclude: Any) -> None:
    assert _of(entry) == (include, exclude, [])


@pytest.mark.parametrize(
    "entry",
    [
        {"tools": {"a": {"name": "other"}}},
        {"tools": {"a": {"arguments": {"x": {"hide": True}}}}},
        {"tools": {"a": "sometimes"}},
        {"tools": [{"name": "a", "roles": ["admin"]}]},
        {"toolFilter": {"mode": "regex", "list": ["a"]}},
        {"toolFilter": {"mode": "allow", "list": 5}},
        {"toolFilter": {}},
        {"tool_filter": {"allowed_tool_names": 5}},
    ],
)
def test_what_is_not_understood_is_a_problem(entry: dict[str, Any]) -> None:
    assert _of(entry)[2] == list(entry)


def test_two_lists_have_in_common_what_both_have() -> None:
    assert both(None, None) is None
    assert both(None, ("a",)) == ("a",)
    assert both(("a",), None) == ("a",)
    assert both(("a", "b"), ("b", "c")) == ("b",)
    assert both(("*",), ("b",)) == ("b",)
    assert both(("b",), ("*",)) == ("b",)
