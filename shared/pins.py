"""What was approved of a group's tools, and whether what an upstream lists now is the same. Pure.

A definition is everything that an upstream lists of a tool, since all of it is passed to clients and may reach a model:
name, title, description, schemas, annotations, icons, ``_meta``, and members that nobody knows yet. The order of
members and the spaces between them mean nothing. Counterparts: ``shared.registry.pins``, ``gateway.routing.pinning``.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping

import msgspec
import orjson
from msgspec import Raw, Struct

FIRST_USE = "first use"
"""Who approved what was there when the pins of a group were made."""
MAX_PINNED = 10_000
"""The most tools of one group of which a definition is kept: every front end holds them in memory."""


class Pinned(Struct, frozen=True):
    """The approved definition of one tool: the JSON that its upstream listed, when, and who approved it."""

    at: float
    by: str
    tool: Raw


class GroupPins(Struct, frozen=True):
    """What was approved of one group, by the upstream's names of its tools. ``since`` is when its pins were made."""

    since: float
    tools: Mapping[str, Pinned]


class _Named(Struct):
    name: str


def definitions(document: bytes) -> dict[str, bytes]:
    """Return the definitions in a list of tools (a JSON array), by name."""
    found: dict[str, bytes] = {}
    for raw in msgspec.json.decode(document, type=list[Raw]):
        found.setdefault(msgspec.json.decode(raw, type=_Named).name, bytes(raw))
    return found


def same(approved: bytes | Raw, listed: bytes) -> bool:
    """Whether two definitions say the same."""
    return bytes(approved) == listed or _plain(bytes(approved)) == _plain(listed)


def digest(definition: bytes | Raw) -> str:
    """Return the digest of a definition, by which people say what they approve."""
    return hashlib.sha256(_plain(bytes(definition))).hexdigest()


def _plain(definition: bytes) -> bytes:
    """Return a definition in the one form in which two of them are compared."""
    try:
        return orjson.dumps(orjson.loads(definition), option=orjson.OPT_SORT_KEYS)
    except (orjson.JSONDecodeError, orjson.JSONEncodeError):
        return definition  # such as a number beyond 64 bits: then every byte counts
