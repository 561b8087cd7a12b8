"""Retries with a ``requestState``: the first one goes on with a call that was counted, and a confirmation is good for
one call.

A state says nothing about how often it was sent. Where a call waits in a worker, the worker knows; where the retry is
a new call for the upstream, whoever repeats it would make calls that nobody counts and, after one confirmation, nobody
confirms. So such states are marked when they are used, in Redis for all front ends. While Redis is away, each front
end goes by its own memory.
"""

from __future__ import annotations

import hashlib
import itertools
import time
from typing import Protocol

import msgspec
from msgspec import Struct

from gateway.telemetry.observer import ObservedCall, Quota
from shared.errors import Refused, RegistryUnavailable
from shared.request_state import CONFIRMATION, RequestState, request_digest

_REMEMBERED = 10_000
"""How many states one front end remembers by itself; the oldest go first."""


class Marks(Protocol):
    """Where all front ends mark states (``shared.registry.used_states``)."""

    async def first(self, digest: str, lasts_s: float) -> bool:
        """Mark a state, and return whether it was not marked. Raises ``RegistryUnavailable``."""


class _Response(Struct):
    action: str = ""


class _Retry(Struct, rename="camel"):
    input_responses: dict[str, _Response] = {}


class UsedStates:
    """The states that were used. Without ``marks`` nothing is remembered, and no retry is counted."""

    def __init__(self, marks: Marks | None = None) -> None:
        self._marks = marks
        self._known: dict[str, float] = {}

    def quota(self, state: RequestState, text: str, call: ObservedCall, params: bytes) -> Quota | None:
        """Return what counts a retry whose ``state`` was sealed as ``text``; ``call.quota`` are the caller's limits."""
        if state.parked or self._marks is None:
            return None
        confirms = state.fresh and state.round == CONFIRMATION
        if confirms and not _goes_on(state, call.method, params):
            return None  # the worker refuses it, and the person may still say yes to what was asked
        if not confirms and call.quota is None:
            return None
        return Once(self, text, state, confirms, call.quota)

    async def first(self, text: str, state: RequestState) -> bool:
        """Mark a state, and return whether it was not used before."""
        now = time.time()
        digest = hashlib.sha256(text.encode("utf-8", "surrogateescape")).hexdigest()
        if self._known.get(digest, 0.0) > now:
            return False
        if len(self._known) >= _REMEMBERED:
            for old in list(itertools.islice(self._known, _REMEMBERED // 8)):
                del self._known[old]
        self._known[digest] = state.expires
        assert self._marks is not None
        try:
            return await self._marks.first(digest, state.expires - now)
        except RegistryUnavailable:
            return True


class Once:
    """Implements ``observer.Quota`` for one retry: the first costs nothing, later ones are calls like others, and a
    confirmation is not taken twice."""

    def __init__(self, used: UsedStates, text: str, state: RequestState, confirms: bool, limits: Quota | None) -> None:
        self._used = used
        self._text = text
        self._state = state
        self._confirms = confirms
        self._limits = limits
        self._counted = False

    def take(self, call: ObservedCall) -> bool:
        """See ``Quota``: Redis has to be asked."""
        return False

    async def acquire(self, call: ObservedCall) -> None:
        """See ``Quota``. Raises ``Refused`` for a confirmation that was used."""
        if await self._used.first(self._text, self._state):
            return
        if self._confirms:
            text = "the call was made with this confirmation already; send it anew, without requestState"
            raise Refused("confirmation_needed", text)
        if self._limits is not None:
            await self._limits.acquire(call)
            self._counted = True

    def release(self, call: ObservedCall) -> None:
        """See ``Quota``."""
        if self._counted and self._limits is not None:
            self._limits.release(call)


def _goes_on(state: RequestState, method: str, params: bytes) -> bool:
    """Whether a retry is of the request that was asked about, and says that the person accepts."""
    try:
        retry = msgspec.json.decode(params, type=_Retry)
        return state.digest == request_digest(method, params) and any(
            one.action == "accept" for one in retry.input_responses.values()
        )
    except (msgspec.MsgspecError, Refused, RecursionError):
        return False
