"""What an upstream's refusal says about the session on which a request was sent. Pure.

The specification has one way to say that a session is over: HTTP 404 (2025-11-25, transports, "Session Management").
Servers have many more, mostly after a restart: 400, 401, 409 or 410, with a JSON-RPC error that belongs to no request,
or an ordinary error of any wording. So anything else is a doubt, which a second request on the same session decides: if
``ping`` is refused in the same way, the refusal was about the session and not about the request.
"""

from __future__ import annotations

import re
from typing import Any

import orjson
from msgspec import Struct

from shared.mcp.rope import Body

_OVER = frozenset((404, 410))
_BROKEN = frozenset((500, 501))
"""What servers say that look a session up and do not expect that it is not there. A 502 or 504 is a proxy's."""
_DOUBTFUL = frozenset(range(400, 500)) - {407, 408, 413, 414, 429, 431}
"""Refusals that may be about the session: not those of a proxy, and none about the size or the time of one request."""
_WORDS = re.compile(rb"session|initiali[sz]", re.IGNORECASE)
_STREAM_WORDS = re.compile(rb"transport|connection", re.IGNORECASE)
_LONGEST = 16 * 1024


class Refusal(Struct, frozen=True):
    """How a request was refused: the HTTP status if the answer was no JSON-RPC, else code and message of the error."""

    status: int = 0
    code: Any = None
    message: Any = None


def is_over(status: int) -> bool:
    """Whether a status means that the session of a request has ended."""
    return status in _OVER


def is_broken(status: int) -> bool:
    """Whether a status is an error of the server itself, which it may have with a session that it does not find."""
    return status in _BROKEN


def names_lost_session(status: int, body: bytes) -> bool:
    """Whether the answer to a message of HTTP+SSE means that the server has no stream of that session any more."""
    return is_over(status) or (status == 400 and bool(_WORDS.search(body) or _STREAM_WORDS.search(body)))


def refusal_by_http(status: int, body: Body) -> Refusal | None:
    """Return how HTTP refused a request as a whole, or ``None`` if the answer is one to the request itself."""
    if status not in _DOUBTFUL:
        return None
    answer = decoded(body)
    error = answer.get("error") if isinstance(answer, dict) else None
    if not isinstance(error, dict) or not isinstance(error.get("code"), int):
        return Refusal(status)
    if answer.get("id") is not None and "jsonrpc" in answer:
        return None
    return Refusal(0, error.get("code"), error.get("message"))


def refusal_by_error(error: Body) -> Refusal | None:
    """Return how a JSON-RPC error refused a request, or ``None`` if it cannot be read."""
    said = decoded(error)
    return Refusal(0, said.get("code"), said.get("message")) if isinstance(said, dict) else None


def speaks_of_session(error: Body) -> bool:
    """Whether an error has a word in it that servers use of sessions."""
    return len(error) <= _LONGEST and bool(_WORDS.search(bytes(error)))


def decoded(body: Body) -> Any:
    """Return the JSON in a refusal, ``None`` if there is none, or if it is longer than refusals are."""
    if len(body) > _LONGEST:
        return None
    try:
        return orjson.loads(bytes(body))
    except orjson.JSONDecodeError:
        return None
