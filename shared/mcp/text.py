"""Text that is almost JSON, as many programs write it: half surrogates, byte order marks, NaN, odd encodings. Pure."""

from __future__ import annotations

import json
import re

import orjson

from shared.mcp.rope import Whole

BOM = b"\xef\xbb\xbf"
"""A byte order mark in UTF-8. RFC 8259 section 8.1: a reader may ignore it."""
TURNS_TEXT = frozenset(
    map(chr, (0x061C, 0x200B, 0x200E, 0x200F, 0xFEFF, *range(0x2028, 0x202F), *range(0x2060, 0x206A)))
)
"""Characters that turn the direction of text, break its lines or have no width (Unicode UAX 9). Where they stand,
people read something else than what is there."""
_PAIR_OR_HALF = re.compile(
    rb"\\\\|\\u[dD][89abAB][0-9a-fA-F]{2}\\u[dD][c-fC-F][0-9a-fA-F]{2}|\\u[dD][89a-fA-F][0-9a-fA-F]{2}"
)
_ID_FIRST = re.compile(rb'\s*\{\s*(?:"jsonrpc"\s*:\s*"2\.0"\s*,\s*)?"id"\s*:\s*(\d{1,18})\s*[,}]')
_READ_AGAIN = 1024 * 1024
_HALF = 6
"""The length of an escape of one half, ``\\ud83d``, in bytes."""


def without_lone_surrogates(body: bytes) -> bytes:
    r"""Return ``body`` with each escape of half a surrogate pair replaced by ``\ufffd``; the same object if none is.

    ``"\ud83d"`` is allowed by the grammar of JSON but stands for no character (RFC 8259 section 8.2).
    """
    if b"\\ud" not in body and b"\\uD" not in body:
        return body
    found = _PAIR_OR_HALF.sub(lambda one: b"\\ufffd" if len(one[0]) == _HALF else one[0], body)
    return body if found == body else found


def is_json(body: Whole) -> bool:
    """Whether a body is JSON as a whole, and not only the beginning of it."""
    try:
        orjson.loads(bytes(body))
    except orjson.JSONDecodeError:
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
