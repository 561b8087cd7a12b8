"""Text that is almost JSON, as many programs write it: half surrogates, byte order marks, NaN, odd encodings. Pure."""

from __future__ import annotations

import json
import re
import unicodedata
from itertools import islice

import msgspec
from msgspec import Raw

from shared.errors import Refused
from shared.mcp.rope import Whole

BOM = b"\xef\xbb\xbf"
"""A byte order mark in UTF-8. RFC 8259 section 8.1: a reader may ignore it."""
TURNS_TEXT = frozenset(
    map(
        chr,
        (
            *(0x00AD, 0x061C, 0x180E, 0x200B, 0x200E, 0x200F, 0xFEFF, 0xFFF9, 0xFFFA, 0xFFFB),
            *(*range(0x2028, 0x202F), *range(0x2060, 0x2070), *range(0xE0000, 0xE0080)),
        ),
    )
)
"""Characters that turn the direction of text, break its lines or have no width (Unicode UAX 9), and letters that only
machines see (tags). Where they stand, people read something else than what is there. Joiners (U+200C, U+200D) are not
here: languages and emoji need them."""
_UNSEEN = frozenset(("Cc", "Cf", "Cs", "Co", "Zl", "Zp"))
_IGNORABLE = frozenset(
    map(
        chr,
        (
            *(0x034F, 0x115F, 0x1160, 0x17B4, 0x17B5, 0x2800, 0x3164, 0xFFA0),
            *(*range(0x180B, 0x1810), *range(0xFE00, 0xFE10), *range(0xE0000, 0xE1000)),
        ),
    )
)
"""Letters and marks that are not shown (Unicode, ``Default_Ignorable_Code_Point``, and an empty braille pattern)."""


def is_hidden(character: str) -> bool:
    """Whether a character is not seen, looks like another one that is not seen either, or changes how others are
    shown: controls, line ends, spaces of other widths, marks without width."""
    kind = unicodedata.category(character)
    return kind in _UNSEEN or (kind == "Zs" and character != " ") or character in _IGNORABLE


_HALVES = re.compile(
    rb"\\u[dD][89abAB][0-9a-fA-F]{2}(?!\\u[dD][c-fC-F][0-9a-fA-F]{2})"
    rb"|(?<!\\u[dD][89abAB][0-9a-fA-F]{2})\\u[dD][c-fC-F][0-9a-fA-F]{2}"
)
"""Escapes of a first half of a surrogate pair without the second one behind it, and of a second one without a first."""
_MOST_HALVES = 10_000
"""The most halves that are replaced. They come of cut texts, so there are few; a million take half a second."""
_ID_FIRST = re.compile(rb'\s*\{\s*(?:"jsonrpc"\s*:\s*"2\.0"\s*,\s*)?"id"\s*:\s*(\d{1,18})\s*[,}]')
_READ_AGAIN = 1024 * 1024


def without_lone_surrogates(body: bytes) -> bytes:
    r"""Return ``body`` with each escape of half a surrogate pair replaced by ``\ufffd``; the same object if none is.

    ``"\ud83d"`` is allowed by the grammar of JSON but stands for no character (RFC 8259 section 8.2). Raises
    ``Refused`` (-32700) for more than are to be expected.
    """
    if b"\\ud" not in body and b"\\uD" not in body:
        return body
    if b"\0" in body:
        return body  # is no JSON in any case
    plain = body.replace(b"\\\\", b"\0\0")  # so that each backslash that is left begins an escape
    if sum(1 for _ in islice(_HALVES.finditer(plain), _MOST_HALVES + 1)) > _MOST_HALVES:
        raise Refused("parse_error", f"the body has more than {_MOST_HALVES} halves of characters (\\ud800)")
    found, count = _HALVES.subn(rb"\\ufffd", plain)
    return found.replace(b"\0\0", b"\\\\") if count else body


def is_json(body: Whole) -> bool:
    """Whether a body is JSON as a whole, and not only the beginning of it."""
    try:
        msgspec.json.decode(bytes(body), type=Raw)  # nothing is made of what is in it
    except (msgspec.DecodeError, RecursionError):
        return False
    return True


def id_of_unreadable(body: bytes) -> int | None:
    """Return the id of an answer that is no JSON, so that the request it answers can fail at once. ``None`` if there is
    none, or if it is no integer.

    What Python's own reader takes is read with that: NaN and Infinity, control characters and other encodings in
    strings. Of anything else the id is known only if it comes first.
    """
    if len(body) <= _READ_AGAIN:
        try:
            message = json.loads(body.decode("utf-8", "replace"), strict=False)
        except (ValueError, RecursionError):
            message = None
        if isinstance(message, dict):
            id = message.get("id")
            is_answer = "method" not in message and ("result" in message or "error" in message)
            return id if is_answer and type(id) is int else None
    found = _ID_FIRST.match(body[:200])
    return int(found[1]) if found and b'"method"' not in body[:2000] else None
