"""The state that the gateway seals into a modern client's ``requestState``.

Specification 2026-07-28, basic/patterns/mrtr, server requirements. Written by the worker that answers
``input_required`` (``worker.input.broker``); read by the front end that routes the retry
(``gateway.protocol.outgoing_requests``) and by the worker that takes the retry.
"""

from __future__ import annotations

import hashlib
import json
import time

from msgspec import Struct

from shared.errors import CallError, Refused
from shared.mcp import jsonrpc
from shared.secrets import FleetKey

MAX_STATE = 1024 * 1024
"""The longest ``requestState`` that is read, in characters."""

MAX_INNER = MAX_STATE * 3 // 4 - 4096
"""The largest state of an upstream that fits into a ``requestState``, in bytes."""


_MAX_CANONICAL = 16 * 1024
"""The longest params, in bytes, that are read for the digest, so that a retry may write them in another way. Reading
takes up to 0.3 ms for a KiB, while all other clients wait."""
CONFIRMATION = 1
"""The round in a fresh state that asks for a confirmation; one that asks to go to URLs has round 0."""


class _Digits(str):
    """A number as it was written. Parsing long digits into an ``int`` takes quadratic time, and Python limits their
    length."""

    __repr__ = str.__str__


_canonical = json.JSONDecoder(
    parse_int=_Digits, parse_float=_Digits, object_pairs_hook=lambda pairs: tuple(sorted(dict(pairs).items()))
)


class RequestState(Struct, array_like=True, frozen=True):
    """What a ``requestState`` holds.

    ``expires`` is Unix seconds, ``digest`` is the digest of the request. ``parked`` names the call that waits in
    ``worker`` and ``round`` the round of its questions; ``parked`` is empty if no call waits. ``inner`` is the JSON of
    the upstream's own state, or empty. With ``fresh`` the call is sent as if for the first time.
    """

    expires: float
    upstream: str
    worker: str
    principal: str
    digest: bytes
    parked: str = ""
    round: int = 0
    inner: bytes = b""
    fresh: bool = False


def seal(key: FleetKey, state: RequestState) -> str:
    """Return the text for the client. Raises ``CallError`` if the text would be longer than ``MAX_STATE``."""
    text = key.seal(state, b"state")
    if len(text) > MAX_STATE:
        raise CallError("upstream_protocol", f"the upstream's requestState is too large ({len(state.inner)} bytes)")
    return text


def unseal(key: FleetKey, text: str, principal: str) -> RequestState:
    """Return the state that a client sent back. Raises ``Refused`` (-32602) if the text is not a seal of this fleet,
    was issued to another principal, or has expired."""
    state = key.unseal(text, RequestState, b"state") if len(text) <= MAX_STATE else None
    if state is None or state.principal != principal:  # the same words: nobody learns that another's state is real
        raise Refused("invalid_params", "params.requestState is not one that this gateway issued to you")
    if state.expires < time.time():
        raise Refused("invalid_params", "params.requestState has expired; send the request anew without it")
    return state


def request_digest(method: str, params: bytes) -> bytes:
    """Return a digest that identifies a request: of the method and the canonical params, without the members that a
    retry may change. Of long params each member has to be written as it was."""
    parts = jsonrpc.members(params)
    for name in ("_meta", "inputResponses", "requestState"):
        parts.pop(name, None)
    try:
        text = jsonrpc.assemble(parts) if parts else b"{}"
        if len(text) > _MAX_CANONICAL:
            plain: object = [(name, hashlib.blake2b(bytes(parts[name])).digest()) for name in sorted(parts)]
        else:
            plain = _canonical.decode(text.decode())
    except ValueError as error:
        raise Refused("invalid_params", f"params are not JSON: {error}") from error
    return hashlib.blake2b(repr((method, plain)).encode("utf-8", "surrogatepass"), digest_size=16).digest()
