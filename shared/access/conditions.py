"""Conditions of rules, in CEL, the Common Expression Language (https://github.com/google/cel-spec).

The library is imported with the first condition, so that a gateway without conditions does not load it.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

_BINDS = re.compile(r"\.(?:all|exists|exists_one|filter|map)\(\s*([A-Za-z_]\w*)\s*,")
"""The macros of CEL that bind a variable of their own."""
_MEMBER = re.compile(
    r"""\s*(?:'(?P<value>[^'"\\\n]+)'|"(?P<other>[^'"\\\n]+)")\s+in\s+claims\.(?P<claim>[A-Za-z_]\w*)\s*"""
)


_READ = re.compile(
    r"""(?<!principal)\.\s*([A-Za-z_]\w*)(?!\w*\s*\()"""
    r"""|\[\s*'([^'\\]+)'\s*\]|\[\s*"([^"\\]+)"\s*\]|'([^'\\]+)'\s+in\b|"([^"\\]+)"\s+in\b"""
)
"""Where an expression names a member: ``args.path``, ``args['path']``, ``'path' in args``; a call is none."""


class Condition:
    """One compiled expression. ``text`` is what the operator wrote, ``reads`` the names of members in it."""

    __slots__ = ("_program", "member", "reads", "text")

    def __init__(self, text: str) -> None:
        """Compile ``text``. Raises ``ValueError`` that says what is wrong with it."""
        import cel

        self.text = text
        found = _MEMBER.fullmatch(text)
        self.member = (found["claim"], found["value"] or found["other"]) if found is not None else None
        """(claim, value) where the expression says that a claim has a value: such ones can be looked up."""
        self.reads = frozenset(next(filter(None, one)) for one in _READ.findall(text))
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

    def holds(self, variables: Mapping[str, Any] | Prepared) -> bool | None:
        """Return whether the expression is true, or ``None`` if it cannot be evaluated, as when a member is missing."""
        try:
            known = variables.context if type(variables) is Prepared else dict(variables)  # type: ignore[arg-type]
            return self._program.execute(known) is True
        except Exception:
            return None


class Prepared:
    """Variables for many conditions: they are translated for the library once, which takes longer than a condition."""

    __slots__ = ("context",)

    def __init__(self, variables: Mapping[str, Any]) -> None:
        """Raises ``ValueError`` for what the library cannot hold."""
        import cel

        try:
            self.context = cel.Context(dict(variables))
        except Exception as error:
            raise ValueError(str(error)) from error


def _first_line(error: BaseException) -> str:
    lines = [line for line in str(error).splitlines() if line.strip()]
    return lines[0].partition("ERROR: ")[2] or lines[0] if lines else type(error).__name__
