"""What the gateway seals into a modern client's ``requestState`` (2026-07-28, basic/patterns/mrtr, server
requirements).

Written by the worker that answers ``input_required`` (``worker.input.broker``); read by the front end that routes the
retry and by the worker that takes it.
"""

from __future__ import annotations

import time

from msgspec import Struct

from shared.errors import CallError, Refused
from shared.secrets import FleetKey

MAX_STATE = 1024 * 1024
"""Characters of a ``requestState`` that are looked at."""

MAX_INNER = MAX_STATE * 3 // 4 - 4096
"""Bytes of an upstream's own state that fit into it."""


class RequestState(Struct, array_like=True, frozen=True):
    """``expires`` is Unix seconds, ``digest`` that of the request; ``parked`` the call that waits in ``worker``, in
    ``round``, or empty; ``inner`` the JSON of the upstream's own state, or empty; ``fresh``: the call is to be sent
    as if for the first time."""

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
    """The text for the client. Raises ``CallError`` when it would be longer than what is taken back."""
    text = key.seal(state, b"state")
    if len(text) > MAX_STATE:
        raise CallError("upstream_protocol", f"the upstream's requestState is too large ({len(state.inner)} bytes)")
    return text


def unseal(key: FleetKey, text: str, principal: str) -> RequestState:
    """What a client brings back. Raises ``Refused`` (-32602) when it is tampered with, foreign or expired."""
    state = key.unseal(text, RequestState, b"state") if len(text) <= MAX_STATE else None
    if state is None:
        raise Refused("invalid_params", "params.requestState is not one that this gateway issued")
    if state.principal != principal:
        raise Refused("invalid_params", "params.requestState was issued to somebody else")
    if state.expires < time.time():
        raise Refused("invalid_params", "params.requestState has expired; send the request anew without it")
    return state
