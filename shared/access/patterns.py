"""Patterns that say which entries a rule is about: ``group/name``, with ``*`` for any characters. Pure.

``search/*`` is everything of the group ``search``; ``*/delete_*`` is everything that begins with ``delete_``, in any
group; ``*`` is everything. A prefix narrows a pattern to a kind: ``tools:notes/*``, ``prompts:…``, ``resources:…``
(with their templates) and ``methods:completion/complete``, which is about a method of the protocol. Names and URIs are
the upstreams' own.
"""

from __future__ import annotations

import re
from urllib.parse import unquote

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
_MAX_DECODED = 4
"""How often escapes are decoded; what is still escaped then is compared as it is."""


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

    def covers(self, group: str) -> bool:
        """Whether the pattern is about everything of a group, also what it does not list."""
        return self.kind == "" and self.expression.fullmatch(f"{group}/\0") is not None

    def may_concern(self, group: str) -> bool:
        """Whether anything of a group can match."""
        start = f"{group}/"
        return self.kind != METHODS and (start.startswith(self.literal) or self.literal.startswith(start))


def spellings(uri: str) -> tuple[str, ...]:
    """Return a URI as it is written, and as a lenient server might understand it: with escapes decoded, backslashes as
    slashes, ``.`` and ``..`` carried out, slashes once, and scheme and host in lower case (RFC 3986 section 6.2.2)."""
    found = [uri]
    decoded = uri
    for _ in range(_MAX_DECODED):
        again = unquote(decoded)
        if again == decoded:
            break
        decoded = again
        found.append(decoded)
    scheme, colon, rest = decoded.replace("\\", "/").partition(":")
    host, slash, path = rest[2:].partition("/") if rest.startswith("//") else ("", "", "")
    if host:  # many schemes have no host: then what stands in its place is the beginning of the path
        found.append(f"{scheme.lower()}://{host.lower()}{slash}{_carried_out(path)}")
        found.append(f"{scheme.lower()}://{_carried_out(rest[2:])}")
    else:
        start = "//" if rest.startswith("//") else ""
        found.append(f"{scheme.lower()}{colon}{start}{_carried_out(rest.removeprefix(start))}")
    return tuple(dict.fromkeys(found))


def _carried_out(path: str) -> str:
    """Return a path without ``.``, ``..`` and empty segments."""
    kept: list[str] = []
    for segment in re.split("/+", path):
        if segment != "..":
            kept += [segment] if segment != "." else []
        elif kept and kept != [""]:
            kept.pop()
    return "/".join(kept)


def read(text: str) -> Pattern:
    """Return the pattern that ``text`` describes. Raises ``ValueError``."""
    kind, colon, rest = text.partition(":")
    if not colon or kind not in KINDS:
        kind, rest = "", text
    if not rest or rest.startswith("/") or rest.endswith("/"):
        raise ValueError(f"{text!r} is no pattern: write group/name, with * for any characters, or * for everything")
    if kind != METHODS and "/" not in rest and rest.strip("*"):
        raise ValueError(f"{text!r} names no group: write {rest}/* for a group, or */{rest} for a name in any group")
    expression = re.compile(_expression(rest), re.S)
    return Pattern(text, kind, expression, rest.partition("*")[0])


def _expression(text: str) -> str:
    """Return the regular expression of a pattern. Each part between two stars is found where it comes first, and is not
    looked for again (atomic groups): so the time is linear in what is compared, which anybody may write."""
    first, *rest = map(re.escape, text.split("*"))
    if not rest:
        return first
    return first + "".join(f"(?>.*?{one})" for one in rest[:-1] if one) + f".*{rest[-1]}"
