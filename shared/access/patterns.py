"""Patterns that say which entries a rule is about: ``group/name``, with ``*`` for any characters. Pure.

``search/*`` is everything of the group ``search``; ``*/delete_*`` is everything that begins with ``delete_``, in any
group; ``*`` is everything. A prefix narrows a pattern to a kind: ``tools:notes/*``, ``prompts:…``, ``resources:…``
(with their templates) and ``methods:completion/complete``, which is about a method of the protocol. Names and URIs are
the upstreams' own.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
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
_LONGEST_GROUP = 128
"""No group has a longer name, in characters (``shared.models``)."""
_LONGEST = 4096
"""The longest pattern, in characters: one with many slashes can be read in many ways."""
_MAX_DECODED = 4
"""How often escapes are decoded; what is still escaped then is compared as it is."""


class Glob(Struct, frozen=True):
    """A text in which ``*`` stands for any characters. ``expression`` is ``None`` where a comparison is enough."""

    text: str
    expression: re.Pattern[str] | None

    def fits(self, other: str) -> bool:
        """Whether the other text is one that this one stands for."""
        if self.expression is None:
            return self.text in ("*", other)
        return self.expression.fullmatch(other) is not None


class Way(Struct, frozen=True):
    """One way to read a pattern: what is before one of its slashes is about groups, what is behind it about names.
    ``beginning`` is what names begin with: what comes before the first ``*``."""

    group: Glob
    name: Glob
    beginning: str


class Pattern(Struct, frozen=True):
    """One pattern. ``kind`` is one of ``KINDS``, or empty for tools, prompts and resources. ``method`` is for names of
    methods, ``ways`` for all else: names of groups may have slashes in them, and so may names and URIs."""

    text: str
    kind: str
    method: Glob
    ways: tuple[Way, ...]

    def matches(self, kind: Kind, group: str, name: str) -> bool:
        """Whether the pattern is about this entry of a group."""
        return self.kind in ("", _OF_KIND[kind]) and self._about(group, name)

    def _about(self, group: str, name: str) -> bool:
        return any(one.group.fits(group) and one.name.fits(name) for one in self.ways)

    def matches_method(self, method: str) -> bool:
        """Whether the pattern is about this method."""
        return self.kind == METHODS and self.method.fits(method)

    def matches_call(self, method: str, group: str, name: str) -> bool:
        """Whether the pattern is about a call by ``method`` of an entry of a group."""
        if self.kind == METHODS:
            return self.method.fits(method)
        return self.kind in ("", _OF_METHOD.get(method, "")) and self._about(group, name)

    def may_match(self, kind: Kind, group: str, template: str) -> bool:
        """Whether a URI made from a template of a group can match."""
        if self.kind not in ("", _OF_KIND[kind]):
            return False
        start = template.partition("{")[0]
        return any(
            start.startswith(one.beginning) or ("*" in self.text and one.beginning.startswith(start))
            for one in self.ways
            if one.group.fits(group)
        )

    def covers(self, group: str) -> bool:
        """Whether the pattern is about everything of a group, also what it does not list."""
        return self.kind == "" and self._about(group, "\0")

    def may_concern(self, group: str) -> bool:
        """Whether anything of a group can match."""
        return self.kind != METHODS and any(one.group.fits(group) for one in self.ways)


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
    if len(text) > _LONGEST:
        raise ValueError(f"{text[:40]!r}… is longer than {_LONGEST} characters")
    if kind != METHODS and "/" not in rest and rest.strip("*"):
        raise ValueError(f"{text!r} names no group: write {rest}/* for a group, or */{rest} for a name in any group")
    return Pattern(text, kind, _glob(rest), () if kind == METHODS else tuple(_ways(rest)))


def _ways(text: str) -> Iterator[Way]:
    """Yield the ways to read a pattern. ``a/b/*`` may be about a group ``a/b``, or about names of a group ``a``. What
    is before a slash is the whole name of a group, so ``a/*`` is not about a group ``a/b``."""
    parts = text.split("/")
    if len(parts) == 1:  # stars alone
        yield Way(_glob(text), _glob(text), "")
    for at in range(1, len(parts)):
        group, name = "/".join(parts[:at]), "/".join(parts[at:])
        if len(group) - group.count("*") > _LONGEST_GROUP:
            return
        yield Way(_glob(group), _glob(name), name.partition("*")[0])


def _glob(text: str) -> Glob:
    if not text.strip("*"):
        return Glob("*" if text else "", None)
    return Glob(text, re.compile(_expression(text), re.S) if "*" in text else None)


def _expression(text: str) -> str:
    """Return the regular expression of a pattern. Each part between two stars is found where it comes first, and is not
    looked for again (atomic groups): so the time is linear in what is compared, which anybody may write."""
    first, *rest = map(re.escape, text.split("*"))
    if not rest:
        return first
    return first + "".join(f"(?>.*?{one})" for one in rest[:-1] if one) + f".*{rest[-1]}"
