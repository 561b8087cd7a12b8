"""What an HTTP response means that is no MCP answer: an error for the call, with what the server says of it. Pure."""

from __future__ import annotations

from typing import Any

from shared.errors import CallError, NotDelivered, OutcomeUnknown
from shared.mcp.methods import INITIALIZE
from shared.mcp.rope import Body
from shared.oauth.challenges import read_challenge
from worker.transports import overload
from worker.transports.http_endpoint import HttpEndpoint
from worker.transports.session_doubts import decoded

_NOT_ABOUT_THE_CALL = frozenset((401, 407, *overload.STATUSES))
_ABOUT_THE_CALL = frozenset(range(400, 500)) - _NOT_ABOUT_THE_CALL - {403}
"""Refusals of one request. An error without an id in such a response is the answer to it."""
_REFUSED = (400, 404)
_WORDS = ("message", "detail", "error_description", "error", "title")
"""Where servers say in JSON what is wrong (RFC 9457, RFC 6749 section 5.2, FastAPI, Express)."""
_MOST_WORDS = 200


def is_answer(status: int, body: Body, id: int, method: str) -> bool:
    """Whether a response holds the answer to the request ``id``, whatever its status: servers say of a call that fails
    that it was forbidden (403), or that they have failed (500). How ``initialize`` is refused tells what a server
    speaks, so the status counts there."""
    if 200 <= status < 300 or status in (_REFUSED if method == INITIALIZE else _ABOUT_THE_CALL):
        return True
    if method == INITIALIZE:
        return False
    found = decoded(body) if status not in _NOT_ABOUT_THE_CALL else None
    return isinstance(found, dict) and "jsonrpc" in found and "error" in found and str(found.get("id")) == str(id)


def refusal(
    endpoint: HttpEndpoint, code: str, status: int, kind: bytes, challenge: bytes, retry_after: bytes, body: Body
) -> CallError:
    """Return the error for a response that is not an MCP answer. ``code`` is that of refused credentials,
    ``challenge`` the value of ``WWW-Authenticate``."""
    where, data = endpoint.authority, {"http": str(status)}
    if status in (401, 403):
        said = read_challenge(status, challenge).said
        text = f"{where} answered HTTP {status}{said}: check the headers configured for it, or its auth"
        return NotDelivered(code, text, data)
    if status in overload.STATUSES:
        return overload.overloaded(where, status, retry_after)
    if status == 407:
        proxy = endpoint.shown_proxy or "a proxy"
        text = f"{proxy} wants credentials (HTTP 407): put them into the proxy's URL, http://USER:PASSWORD@HOST:PORT"
        return NotDelivered("upstream_unavailable", text, data)
    if 300 <= status < 400:
        text = f"{where} redirects (HTTP {status}): register the final URL"
        return NotDelivered("upstream_protocol", text, data)
    said = endpoint.without_secrets(_said(body))
    said = f" ({said})" if said else ""
    if status >= 500:
        text = f"{where} answered HTTP {status}{said}; the call may have run"
        return OutcomeUnknown("upstream_unavailable", text, data)
    if status >= 400:
        return NotDelivered("upstream_protocol", f"{where} answered HTTP {status}{said}, no MCP answer", data)
    shown = kind.decode("latin-1") or "nothing"
    text = f"{where} answered {shown} instead of MCP ({len(body)} bytes); the call may have run"
    return OutcomeUnknown("upstream_protocol", text)


def _said(body: Body) -> str:
    """Return what a server says in JSON of its refusal, on one line; empty if it says nothing."""
    found: Any = decoded(body)
    for _ in range(2):
        if isinstance(found, dict):
            found = next((found[name] for name in _WORDS if found.get(name)), "")
    return " ".join(found.split())[:_MOST_WORDS] if isinstance(found, str) else ""
