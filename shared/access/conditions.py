"""Conditions of rules, in CEL, the Common Expression Language (https://github.com/google/cel-spec).

The library is imported with the first condition, so that a gateway without conditions does not load it.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

_BINDS = re.compile(r"\.(?:all|exists|exists_one|filter|map)\(\s*([A-Za-z_]\w*)\s*,")
"""The macros of CEL that bind a variable of their own."""


class Condition:
    """One compiled expression. ``text`` is what the operator wrote."""

    __slots__ = ("_program", "text")

    def __init__(self, text: str) -> None:
        """Compile ``text``. Raises ``ValueError`` that says what is wrong with it."""
        import cel

        self.text = text
        try:
            self._program = cel.compile(text)
        except Exception as error:  # the parser panics on some inputs, which arrives as a class of its own
            raise ValueError(f"{text!r} is no CEL expression: {_first_line(error)}") from error

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Condition) and other.text == self.text

    def __hash__(self) -> int:
        return hash(self.text)

    def unknown(self, variables: frozenset[str]) -> set[str]:
        """Return the variables that the expression uses and ``variables`` does not have."""
        bound = set(_BINDS.findall(self.text))
        return set(self._program.variables()) - variables - bound

    def holds(self, variables: Mapping[str, Any]) -> bool | None:
        """Return whether the expression is true, or ``None`` if it cannot be evaluated, as when a member is missing."""
        try:
            return self._program.execute(dict(variables)) is True
        except Exception:
            return None


def _first_line(error: BaseException) -> str:
    lines = [line for line in str(error).splitlines() if line.strip()]
    return lines[0].partition("ERROR: ")[2] or lines[0] if lines else type(error).__name__
