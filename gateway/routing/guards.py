"""What a call must fulfil although the view shows its tool: conditions on arguments, and scopes. Pure.

A route has a guard only where a rule gives one, so that other calls cost nothing.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from functools import partial
from typing import Any, Protocol

from msgspec import Raw, Struct

from shared.errors import InsufficientScope, Refused
from shared.mcp import values

_MOST_VALUES = 10_000
"""The members and elements of arguments on which there is a condition. To take them apart for the condition takes some
2 µs each, while all other clients wait."""


class ArgumentCondition(Protocol):
    """A condition on the arguments of a call. ``reads`` are the names of members that it looks at."""

    text: str
    reads: frozenset[str]

    def holds(self, variables: Mapping[str, Any]) -> bool | None:
        """Return whether the condition is true, or ``None`` if it cannot be decided."""


class Guard(Struct, frozen=True):
    """The conditions of one route.

    One of ``any_of`` must hold, if there are any; none of ``none_of`` may hold or be undecided. ``scopes`` are what the
    caller lacks, or empty. ``confirm``: a person has to confirm each call, which the worker asks.
    """

    any_of: tuple[ArgumentCondition, ...] = ()
    none_of: tuple[ArgumentCondition, ...] = ()
    scopes: tuple[str, ...] = ()
    confirm: bool = False

    @property
    def open(self) -> bool:
        """Whether the guard demands nothing of a request without arguments."""
        return not (self.any_of or self.none_of or self.scopes)

    def check(self, arguments: bytes | Raw, principal: str, kind: str) -> None:
        """Raise ``Refused`` unless a call with these arguments (JSON, or empty) may go on."""
        if self.scopes:
            raise InsufficientScope(f"this needs the scope {' '.join(self.scopes)!r}", self.scopes)
        if not (self.any_of or self.none_of):
            return
        if values.may_have_more(bytes(arguments), _MOST_VALUES) and max(values.count(bytes(arguments))) > _MOST_VALUES:
            text = (
                f"params.arguments: more than {_MOST_VALUES} members and elements, and a rule has a condition on them"
            )
            raise Refused("invalid_params", text)
        reads = {name.casefold(): name for one in (*self.any_of, *self.none_of) for name in one.reads}
        try:
            args = json.loads(bytes(arguments) or b"{}", object_pairs_hook=partial(_once, reads))
        except (ValueError, RecursionError) as error:
            raise Refused("invalid_params", f"params.arguments: {error}") from error
        variables = {"args": args, "principal": {"id": principal, "kind": kind}}
        allowed = not self.any_of or any(one.holds(variables) for one in self.any_of)
        if not allowed or any(one.holds(variables) is not False for one in self.none_of):
            raise Refused("arguments_denied", "the rules of access do not allow a call with these arguments")


def _once(reads: Mapping[str, str], pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """Return an object of the arguments. A member that is there twice is refused: the upstream's parser might take the
    one that the condition has not seen, and some take names for the same that differ in case. So a name that looks like
    one that the condition ``reads`` (by names without case) is refused as well."""
    found = dict(pairs)
    plain = {name.casefold(): name for name in found}
    if len(plain) < len(pairs):
        raise ValueError("a member is there twice; each may be there once")
    for one in plain.keys() & reads.keys():
        if plain[one] != reads[one]:
            raise ValueError(f"member {plain[one][:64]!r} looks like {reads[one]!r}; write it like that")
    return found
