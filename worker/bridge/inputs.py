"""Requests for input in the shapes of both eras.

A legacy server sends requests, a modern one answers ``input_required``. Specification 2026-07-28, basic/patterns/mrtr;
2025-11-25, client features. Pure: bytes and values in and out.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any
from urllib.parse import urlsplit

import msgspec
from msgspec import Raw, Struct

from shared.errors import CallError, Refused
from shared.loopback import is_loopback_host
from shared.mcp import jsonrpc
from shared.mcp.once import check_members

ELICIT = "elicitation/create"
SAMPLE = "sampling/createMessage"
ROOTS = "roots/list"
NEEDS = {SAMPLE: "sampling", ELICIT: "elicitation", ROOTS: "roots"}
"""The methods by which servers ask clients, and the capability that a client must have declared for each."""
INPUT_REQUIRED = b'"input_required"'
URL_REQUIRED = -32042
"""``URLElicitationRequiredError`` (2025-11-25, elicitation, "URL Elicitation Required Error")."""
_SHOWN = 1000
"""How many characters of its arguments a person sees who is to confirm a call."""
_SPACES = str.maketrans("\r\n\t", "   ")
MAX_REQUESTS = 64
"""The largest number of questions of one call that may be open at a time."""


class Need(Struct, frozen=True):
    """One question of a server to a client. ``params`` is JSON or empty.

    ``on_progress`` takes ``params`` of the client's ``notifications/progress`` about the question, if the server can be
    notified.
    """

    method: str
    params: bytes = b""
    on_progress: Callable[[bytes], None] | None = None


class Required(Struct, frozen=True):
    """An ``InputRequiredResult``: questions by key, and the JSON of ``requestState``, or empty without one."""

    needs: dict[str, Need]
    state: bytes = b""


def may_require(result: bytes) -> bool:
    """Whether ``result`` may be an ``InputRequiredResult``. Such a result contains the text ``"input_required"``; a
    single character is found much faster, so it is searched first."""
    at = result.find(b"_")
    return at >= 0 and result.find(INPUT_REQUIRED, max(0, at - len(INPUT_REQUIRED))) >= 0


def read_required(result: bytes) -> Required | None:
    """Return the ``InputRequiredResult`` in ``result``, or ``None`` if it is another result. Raises ``CallError``."""
    try:
        parts = jsonrpc.members(result)
    except Refused:
        return None
    if bytes(parts.get("resultType", b"")) != INPUT_REQUIRED:
        return None
    needs: dict[str, Need] = {}
    try:
        for key, raw in jsonrpc.members(parts.get("inputRequests", jsonrpc.ABSENT)).items():
            request = jsonrpc.members(raw)
            method = jsonrpc.text(request.get("method", jsonrpc.ABSENT), "method")
            needs[key] = Need(method, bytes(request.get("params", b"")))
        state = bytes(parts.get("requestState", b""))
        if state:
            jsonrpc.text(Raw(state), "requestState")
    except Refused as error:
        raise CallError("upstream_protocol", f"the upstream's input_required result: {error}") from error
    if len(needs) > MAX_REQUESTS:
        raise CallError("upstream_protocol", f"the upstream asks {len(needs)} things at once; {MAX_REQUESTS} may be")
    return Required(needs, state)


def write_required(needs: Mapping[str, Need], state: str) -> bytes:
    """Return an ``InputRequiredResult`` of the gateway."""
    requests: dict[str, Any] = {}
    for key, need in needs.items():
        requests[key] = {"method": need.method, "params": Raw(need.params)} if need.params else {"method": need.method}
    return msgspec.json.encode({"resultType": "input_required", "inputRequests": requests, "requestState": state})


def with_state(result: bytes, state: str) -> bytes:
    """Return an upstream's ``InputRequiredResult`` with a ``requestState`` of the gateway in place of its own."""
    parts = jsonrpc.members(result)
    parts["requestState"] = Raw(msgspec.json.encode(state))
    return jsonrpc.assemble(parts)


def answering(params: bytes, responses: Mapping[str, bytes | Raw] | None, state: bytes) -> bytes:
    """Return ``params`` of a retry, with these ``inputResponses`` and this ``requestState``. Present ones are replaced,
    and removed if the new ones are empty."""
    parts = jsonrpc.members(params)
    for name in ("inputResponses", "requestState"):
        parts.pop(name, None)
    if responses:
        parts["inputResponses"] = Raw(msgspec.json.encode({key: Raw(bytes(one)) for key, one in responses.items()}))
    if state:
        parts["requestState"] = Raw(state)
    return jsonrpc.assemble(parts) if parts else b""


def responses_in(params: bytes) -> dict[str, Raw]:
    """Return the ``inputResponses`` of a retry. Raises ``Refused`` (-32602) if they are not an object."""
    return jsonrpc.members(jsonrpc.members(params).get("inputResponses", jsonrpc.ABSENT))


def refusal(capabilities: Mapping[str, Any], method: str, params: bytes, alone: bool = False) -> tuple[int, str] | None:
    """Return why a client with these capabilities must not be asked this, as (JSON-RPC code, text), or ``None``.

    ``alone``: the client is connected to this upstream's group only. Then a method that the gateway does not know is
    passed to the client.
    """
    needed = NEEDS.get(method)
    if needed is None and alone:
        return None
    if needed is None:
        return -32601, f"method {method[:64]!r} is not one that a client serves"
    declared = capabilities.get(needed)
    if not isinstance(declared, dict):
        return -32601, f"the client did not declare {needed}"
    if method == ELICIT:
        if not params:
            return -32602, "an elicitation needs a message"
        mode = elicitation_mode(params)
        if mode not in (declared or {"form": {}}):  # an empty object means form only
            return -32602, f"the client did not declare elicitation mode {mode[:32]!r}"
        if _asks_for_unsafe_url(params, mode):
            return -32602, UNSAFE_URL
    return None


def capability_missing(need: Need) -> bytes:
    """Return the JSON-RPC error for a client that cannot be asked this (2026-07-28,
    ``MissingRequiredClientCapability``)."""
    mode: dict[str, Any] = {elicitation_mode(need.params): {}} if need.method == ELICIT else {}
    text = f"the upstream needs {NEEDS[need.method]} of the client, which did not declare it"
    data = {"code": "capability_missing", "requiredCapabilities": {NEEDS[need.method]: mode}}
    return jsonrpc.error_object(-32021, text, data)


UNSAFE_URL = "the URL of the elicitation is neither https nor http of this machine, or not plainly so"
"""Why a client is not asked to open a URL. Browsers open it, and there ``javascript:`` and ``file:`` run or read
something (2025-11-25, elicitation, "Safe URL Handling")."""


class _Url(Struct):
    url: str = ""


_NOT_IN_URLS = frozenset('\\<>"^`{|} ')
"""Characters that readers of URLs disagree about: for a browser a backslash ends the host, for others it does not."""


def _is_safe_url(params: bytes) -> bool:
    try:
        url = msgspec.json.decode(params or b"{}", type=_Url).url
        parts = urlsplit(url)
        host = parts.hostname or ""
    except (msgspec.DecodeError, ValueError):
        return False
    if not url.isprintable() or not _NOT_IN_URLS.isdisjoint(url) or "@" in parts.netloc:
        return False  # what stands before an @ looks like the host to a person
    return bool(host) and (parts.scheme == "https" or (parts.scheme == "http" and is_loopback_host(host)))


def _asks_for_unsafe_url(params: bytes, mode: str) -> bool:
    """Whether an elicitation may have a client open such a URL, also a client that reads another one of two members, or
    names of members in any case."""
    try:
        check_members(params)
        named = [name for name in jsonrpc.members(params) if name.casefold() == "url"]
    except Refused:
        return True
    return (mode == "url" or bool(named)) and (named != ["url"] or not _is_safe_url(params))


def has_unsafe_url(error: bytes) -> bool:
    """Whether an error is a ``URLElicitationRequiredError`` with a URL that no client should open."""
    if b"-32042" not in error:
        return False
    return any(not _is_safe_url(need.params) for need in (urls_required(error) or {}).values())


class _Mode(Struct):
    mode: str = "form"


def elicitation_mode(params: bytes) -> str:
    """Return the mode of an elicitation: ``form``, ``url``, whatever else ``params`` name, or ``?`` if they cannot be
    read."""
    try:
        return msgspec.json.decode(params or b"{}", type=_Mode).mode
    except msgspec.DecodeError:
        return "?"


def for_legacy(need: Need, mint: str) -> Need:
    """Return a modern server's question for a legacy client. URL elicitation gets ``mint`` as its ``elicitationId``,
    which only the legacy era has."""
    if need.method != ELICIT or elicitation_mode(need.params) != "url":
        return need
    parts = jsonrpc.members(need.params)
    parts.setdefault("elicitationId", Raw(msgspec.json.encode(mint)))
    return Need(need.method, jsonrpc.assemble(parts))


def with_token(params: bytes, token: bytes) -> tuple[bytes, bytes]:
    """Return ``params`` with ``token`` (JSON) as their ``progressToken``, and the JSON of the token that they had.

    Without a ``progressToken``, ``params`` are returned as they are, with an empty token.
    """
    if b"progressToken" not in params:
        return params, b""
    try:
        parts = jsonrpc.members(params)
        meta = jsonrpc.members(parts.get("_meta", jsonrpc.ABSENT))
    except Refused:
        return params, b""
    before = bytes(meta.get("progressToken", b""))
    if not before:
        return params, b""
    meta["progressToken"] = Raw(token)
    parts["_meta"] = Raw(jsonrpc.assemble(meta))
    return jsonrpc.assemble(parts), before


def confirmation(tool: str, params: bytes) -> Need:
    """Return the question whether a person wants a call of ``tool`` with these ``params`` to be made."""
    arguments = jsonrpc.arguments_of(params).decode("utf-8", "replace")
    plain = arguments[:_SHOWN].translate(_SPACES)
    shown = "".join(one if one.isprintable() else f"\\u{ord(one):04x}" for one in plain)  # such as what turns text
    if len(arguments) > _SHOWN:
        shown += f"… ({len(arguments) - _SHOWN} more characters, not shown)"
    message = f"{tool} may delete or change something for good. Run it with {shown or 'no arguments'}?"
    asked = {"mode": "form", "message": message, "requestedSchema": {"type": "object", "properties": {}}}
    return Need(ELICIT, msgspec.json.encode(asked))


def is_accepted(response: bytes | Raw) -> bool:
    """Whether the response to an elicitation says that the person accepts."""
    try:
        return bytes(jsonrpc.members(response).get("action", b"")) == b'"accept"'
    except Refused:
        return False


def url_required(url: str, message: str, id: str) -> bytes:
    """Return a ``URLElicitationRequiredError`` (2025-11-25, elicitation) of the gateway's own, for one URL.
    ``id`` is its ``elicitationId``. The URL is in the text, too, for clients that do not know this error."""
    one = {"mode": "url", "elicitationId": id, "url": url, "message": message}
    text = f"{message}: {url}"
    return msgspec.json.encode({"code": URL_REQUIRED, "message": text, "data": {"elicitations": [one]}})


def urls_required(error: bytes) -> dict[str, Need] | None:
    """Return the elicitations in a ``URLElicitationRequiredError`` as questions by key, or ``None`` for any other
    error."""
    try:
        parts = jsonrpc.members(error)
        if bytes(parts.get("code", b"")) != b"%d" % URL_REQUIRED:
            return None
        listed = jsonrpc.members(parts["data"])["elicitations"]
        found = msgspec.json.decode(listed, type=list[dict[str, Raw]])
    except (Refused, KeyError, msgspec.DecodeError):
        return None
    needs: dict[str, Need] = {}
    for number, one in enumerate(found[:MAX_REQUESTS], 1):
        one.setdefault("mode", Raw(b'"url"'))
        one.pop("elicitationId", None)
        needs[f"url-{number}"] = Need(ELICIT, jsonrpc.assemble(one))
    return needs or None
