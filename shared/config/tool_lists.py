"""Which tools of a server an entry includes and excludes, as clients write it: lists, maps by name, filters. Pure.

What is not understood is a problem of the entry, never ignored: it would show what was to be hidden.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any

from shared.config import spellings

_NOT_UNDERSTOOD = "must be a list of names of tools"
_APPROVAL = re.compile(r"always|auto|appro|trust|confirm|ask|permission")
_ABOUT = ("title", "description", "tags", "meta", "annotations", "icon", "icons", "timeout")
"""Members of a tool in a map that say something about it, and restrict nothing."""
_OFF = ("deny", "denied", "disable", "disabled", "off", "never", "block", "blocked", "hidden", "false", "no")
_ON = ("allow", "allowed", "ask", "auto", "always", "approve", "prompt", "confirm", "enabled", "on", "true", "yes")
Patterns = tuple[str, ...]


def tools_of(entry: Mapping[str, Any], problem: Callable[[str, str], None]) -> tuple[Patterns | None, Patterns]:
    """Return which tools an entry includes (``None``: all) and excludes. ``problem`` is told what is not understood."""
    include: Patterns | None = None
    exclude: Patterns = ()
    for key in (*spellings.INCLUDE, *spellings.EXCLUDE):
        value = entry.get(key)
        if value is None or (key in ("available_tools", "availableTools") and value == []):  # Goose: none means all
            continue
        names = _names(value)
        if key in spellings.INCLUDE and _has_switches(value):
            names = _switched_off(value)
            exclude += names or ()
        elif names is not None and key in spellings.EXCLUDE:
            exclude += names
        elif names is not None:
            include = both(include, names)
        if names is None:
            problem(key, _NOT_UNDERSTOOD)
    for key in spellings.FILTERS:
        if entry.get(key) is None:
            continue
        found = _filtered(entry[key])
        if found is None:
            problem(key, "is not understood here: use 'includeTools' and 'excludeTools'")
        else:
            include, exclude = include if found[0] is None else both(include, found[0]), exclude + found[1]
    return (None if include is not None and "*" in include else include), exclude


def both(one: Patterns | None, other: Patterns | None) -> Patterns | None:
    """Return what two lists of included tools have in common. ``None`` has all."""
    if one is None or "*" in one or other is None:
        return one if other is None else other
    return one if "*" in other else tuple(name for name in other if name in one)


def _names(value: Any) -> Patterns | None:
    """Return the names in a list, or ``None`` if it is none of names."""
    if isinstance(value, str):
        return ("*",) if value == "all" else tuple(one.strip() for one in value.split(","))
    if isinstance(value, list) and value and all(_is_described(one) for one in value):
        value = [one["name"] for one in value]
    fits = isinstance(value, list) and all(isinstance(one, str) for one in value)
    return tuple(value) if fits else None


def _is_described(one: Any) -> bool:
    return isinstance(one, dict) and isinstance(one.get("name"), str) and set(one) <= {"name", *_ABOUT}


def _has_switches(value: Any) -> bool:
    return isinstance(value, dict) or (
        isinstance(value, list)
        and bool(value)
        and all(isinstance(one, dict) and isinstance(one.get("name"), str) for one in value)
        and not all(map(_is_described, value))
    )


def _switched_off(tools: Any) -> Patterns | None:
    """Return the tools that a map by name, or a list of objects, turns off. ``None`` if it says anything else of one
    that may restrict it."""
    if isinstance(tools, list):
        tools = {one["name"]: {key: said for key, said in one.items() if key != "name"} for one in tools}
    off = []
    for name, value in tools.items():
        on = is_on(value)
        if on is None:
            return None
        if not on:
            off.append(str(name))
    return tuple(off)


def is_on(value: Any) -> bool | None:
    """Whether what a map says of a tool lets it be used: ``true``, ``"ask"``, ``{"enabled": true, "description": …}``.
    ``None`` if that is not understood."""
    if isinstance(value, bool):
        return value
    if isinstance(value, str):
        word = spellings.plain(value)
        return False if word in _OFF else True if word in _ON else None
    if not isinstance(value, dict):
        return None
    on = True
    for key, one in value.items():
        if key in spellings.SWITCHES and isinstance(one, bool):
            on = on and one is not key.startswith("disable")
        elif _APPROVAL.search(str(key).lower()):
            on = on and spellings.plain(one) not in _OFF
        elif key not in _ABOUT and not spellings.is_comment(str(key)):
            return None
    return on


def _filtered(value: Any) -> tuple[Patterns | None, Patterns] | None:
    """Return what a filter includes and excludes: ``{"mode": "allow", "list": […]}``, or ``{"allowed_tool_names": […],
    "blocked_tool_names": […]}``, or a list of what is allowed. ``None`` if it is another one."""
    if isinstance(value, list):
        names = _names(value)
        return None if names is None else (names, ())
    if not isinstance(value, dict):
        return None
    if set(value) == {"mode", "list"}:
        names, mode = _names(value["list"]), spellings.plain(value["mode"])
        if names is None or mode not in ("allow", "include", "whitelist", "block", "deny", "exclude", "blacklist"):
            return None
        return (names, ()) if mode in ("allow", "include", "whitelist") else (None, names)
    if not value or not set(value) <= {"allowed_tool_names", "blocked_tool_names"}:
        return None
    allowed, blocked = value.get("allowed_tool_names"), value.get("blocked_tool_names")
    included = None if allowed is None else _names(allowed)
    excluded = () if blocked is None else _names(blocked)
    if (included is None and allowed is not None) or excluded is None:
        return None
    return included, excluded
