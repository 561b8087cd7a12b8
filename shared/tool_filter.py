"""Which tools of an upstream may be seen and called: what its registration includes and excludes. Pure.

A pattern is a tool's name, in which ``*`` stands for any text. Counterparts: ``gateway.routing.catalog``, which leaves
hidden tools out, and ``shared.registry.records``, which does so in what people are shown.
"""

from __future__ import annotations

from collections.abc import Sequence
from fnmatch import fnmatchcase
from typing import Any


def shows(name: str, include: Sequence[str] | None, exclude: Sequence[str]) -> bool:
    """Whether a tool is shown: ``include`` has it (``None``: all are), and ``exclude`` does not."""
    return (include is None or _any(name, include)) and not _any(name, exclude)


def _any(name: str, patterns: Sequence[str]) -> bool:
    return any(name == one or ("*" in one and fnmatchcase(name, _only_stars(one))) for one in patterns)


def _only_stars(pattern: str) -> str:
    return pattern.replace("[", "[[]").replace("?", "[?]")


def parse_patterns(value: Any) -> tuple[str, ...]:
    """Return what a user gave as a list of tools. Raises ``ValueError`` for anything that is no list of texts: what is
    not understood must not show what it was to hide."""
    if isinstance(value, str):
        return (value,)
    if not isinstance(value, list | tuple) or not all(isinstance(one, str) for one in value):
        raise ValueError("must be a list of names of tools")
    return tuple(value)
