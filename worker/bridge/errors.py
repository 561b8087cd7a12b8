"""Errors of upstreams as JSON-RPC wants them, for clients that drop an answer which they cannot read, and then wait for
it until their time is over. Pure.

JSON-RPC 2.0 section 5.1: ``code`` is an integer, ``message`` a text.
"""

from __future__ import annotations

from typing import Any

import orjson

from shared.mcp import values
from shared.mcp.rope import Body

_INTERNAL = -32603
_LONGEST_CODE = 12


def well_formed(raw: Body) -> Body:
    """Return the JSON of an error object with a code and a message. One that has both stays as it is."""
    try:
        given = values.loads(bytes(raw))
    except ValueError:
        return raw
    error: dict[str, Any] = dict(given) if isinstance(given, dict) else {"message": given}
    code, message = error.get("code"), error.get("message")
    if type(code) is int and isinstance(message, str):
        return raw
    error["code"] = number = _code(code)
    error["message"] = message if isinstance(message, str) else _words(message or error.get("error"))
    if number is None:
        error["code"] = _INTERNAL
        if code is not None:
            error["message"] += f" ({_words(code)})"
    return orjson.dumps(error)


def _code(given: Any) -> int | None:
    """Return a code that was written as another number or as a text, or ``None`` if there is none."""
    if isinstance(given, float) and given.is_integer():
        return int(given)
    if isinstance(given, str) and given.removeprefix("-").isdecimal() and len(given) <= _LONGEST_CODE:
        return int(given)
    return given if type(given) is int else None


def _words(given: Any) -> str:
    if given in (None, "", [], {}):
        return "the upstream gives no reason"
    return given if isinstance(given, str) else orjson.dumps(given).decode()
