"""Patterns that say which entries a rule is about: ``group/name``, with ``*`` for any characters. Pure.

``search/*`` is everything of the group ``search``; ``*/delete_*`` is everything that begins with ``delete_``, in any
group; ``*`` is everything. A prefix narrows a pattern to a kind: ``tools:notes/*``, ``prompts:…``, ``resources:…``
(with their templates) and ``methods:completion/complete``, which is about a method of the protocol. Names and URIs are
the upstreams' own.
"""

from __future__ import annotations

import re

from msgspec import Struct

from shared.mcp.listings import Kind

KINDS = ("tools", "prompts", "resources", "methods")
_OF_KIND = {
    Kind.TOOLS: "tools",
    Kind.PROMPTS: "prompts",
    Kind.RESOURCES: "resources",
    Kind.TEMPLATES: "resources",
}
_OF_METHOD = {"tools/call": "tools", "prompts/get": "prompts", "resources/read": "resources"}
METHODS = "methods"


class Pattern(Struct, frozen=True):
    """One pattern. ``kind`` is one of ``KINDS``, or empty for tools, prompts and resources."""

    text: str
    kind: str
    expression: re.Pattern[str]
    literal: str
    """What comes before the first ``*``."""

    def matches(self, kind: Kind, group: str, name: str) -> bool:
        """Whether the pattern is about this entry of a group."""
        return self.kind in ("", _OF_KIND[kind]) and self.expression.fullmatch(f"{group}/{name}") is not None

    def matches_method(self, method: str) -> bool:
        """Whether the pattern is about this method."""
        return self.kind == METHODS and self.expression.fullmatch(method) is not None

    def matches_call(self, method: str, text: str) -> bool:
        """Whether the pattern is about a call: ``text`` is ``group/name`` of what is called by ``method``."""
        if self.kind == METHODS:
            return self.expression.fullmatch(method) is not None
        return self.kind in ("", _OF_METHOD.get(method, "")) and self.expression.fullmatch(text) is not None

    def may_match(self, kind: Kind, group: str, template: str) -> bool:
        """Whether a URI made from a template of a group can match."""
        if self.kind not in ("", _OF_KIND[kind]):
            return False
        start = f"{group}/{template.partition('{')[0]}"
        return start.startswith(self.literal) or ("*" in self.text and self.literal.startswith(start))

    def may_concern(self, group: str) -> bool:
        """Whether anything of a group can match."""
        start = f"{group}/"
        return self.kind != METHODS and (start.startswith(self.literal) or self.literal.startswith(start))


def read(text: str) -> Pattern:
    """Return the pattern that ``text`` describes. Raises ``ValueError``."""
    kind, colon, rest = text.partition(":")
    if not colon or kind not in KINDS:
        kind, rest = "", text
    if not rest or rest.startswith("/") or rest.endswith("/"):
        raise ValueError(f"{text!r} is no pattern: write group/name, with * for any characters, or * for everything")
    if kind != METHODS and "/" not in rest and rest.strip("*"):
        raise ValueError(f"{text!r} names no group: write {rest}/* for a group, or */{rest} for a name in any group")
    expression = re.compile("".join(".*" if one == "*" else re.escape(one) for one in re.split(r"(\*)", rest)), re.S)
    return Pattern(text, kind, expression, rest.partition("*")[0])
