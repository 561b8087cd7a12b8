"""Whom a full upstream does not let in: for a moment, a call that its worker would refuse is refused here. Pure.

Under overload most calls are refused, and the way to the worker and back would cost nearly as much as a call that is
served. So the worker says with a refusal for how long it would be repeated: as long as its queue takes to run empty.
Only the caller that was refused is meant, as another one, who has sent less, may still find a place; unless so many
others wait already that nobody would (``worker.calls.gate``). A call that several replicas could take is refused here
only if all of them would do so.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Mapping
from typing import Any, Protocol

from shared.errors import EVERYBODY, CallError

_MOST_CALLERS = 1000
_LONGEST_S = 0.5


class Refusal:
    """The refusal of one caller's calls, repeated until ``until`` (loop time). ``said``: what a protocol keeps of the
    answers, by how they differ, because writing the same error a thousand times is most of what a refusal costs."""

    __slots__ = ("error", "said", "until")

    def __init__(self, error: CallError, until: float) -> None:
        self.error = error
        self.until = until
        self.said: dict[Hashable, Any] = {}


class Shut:
    """The callers that one replica has no room for, and until when, in loop time. A caller is who the worker divides
    places between: a principal, or a client session, or everybody else together."""

    __slots__ = ("_of_everybody", "_refusals", "until")

    def __init__(self) -> None:
        self.until = 0.0
        """When everybody may try again."""
        self._refusals: dict[str, Refusal] = {}
        self._of_everybody: Refusal | None = None

    @property
    def callers(self) -> int:
        """How many callers are remembered."""
        return len(self._refusals)

    def note(self, caller: str, said: str, error: CallError, now: float) -> None:
        """Note that a call was refused with ``error``, and for how long it would be, as the worker ``said`` it."""
        seconds, _, whom = said.partition(" ")
        try:
            until = now + min(float(seconds), _LONGEST_S)
        except ValueError:
            return
        if until > now:
            if len(self._refusals) >= _MOST_CALLERS:
                self._refusals.clear()
            refusal = Refusal(error, until)
            if whom == EVERYBODY:
                self._of_everybody = refusal
            else:
                self._refusals[caller] = refusal
            self.until = max(self.until, until)

    def refusal(self, caller: str, now: float) -> Refusal | None:
        """Return what a call would be refused with, or ``None``."""
        for known in (self._of_everybody, self._refusals.get(caller)):
            if known is not None and known.until > now:
                return known
        return None


class Shuttable(Protocol):
    """A replica (``routing.routes``)."""

    id: str
    shut: Shut | None


def refusals(replicas: Iterable[Shuttable], caller: str, now: float) -> dict[str, Refusal]:
    """Return what those of the replicas would refuse a call with that have no room for its caller, by their ids."""
    found: dict[str, Refusal] = {}
    for replica in replicas:
        shut = replica.shut
        if shut is not None:
            known = shut.refusal(caller, now)
            if known is not None:
                found[replica.id] = known
            elif now >= shut.until:
                replica.shut = None
    return found


def soonest(known: Mapping[str, Refusal]) -> Refusal:
    """Return which refusal a client gets that all replicas refuse: of the one that has room first."""
    return next(iter(known.values())) if len(known) == 1 else min(known.values(), key=_retry_after_s)


def _retry_after_s(refusal: Refusal) -> int:
    return refusal.error.retry_after_s
