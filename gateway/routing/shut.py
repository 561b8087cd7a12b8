"""Whom a full upstream does not let in: for a moment, a call that its worker would refuse is refused here. Pure.

Under overload most calls are refused, and the way to the worker and back would cost nearly as much as a call that is
served. So the worker says with a refusal for how long it would be repeated: as long as its queue takes to run empty.
Only the caller that was refused is meant; another one, who has sent less, may still find a place
(``worker.calls.gate``).
"""

from __future__ import annotations

from shared.errors import CallError

_MOST_CALLERS = 1000
_LONGEST_S = 0.5


class Shut:
    """The callers that one replica has no room for, and until when, in loop time. A caller is who the worker divides
    places between: a principal, or a client session, or everybody else together."""

    __slots__ = ("_refusals", "until")

    def __init__(self) -> None:
        self.until = 0.0
        """When everybody may try again."""
        self._refusals: dict[str, tuple[float, CallError]] = {}

    @property
    def callers(self) -> int:
        """How many callers are remembered."""
        return len(self._refusals)

    def note(self, caller: str, seconds: str, error: CallError, now: float) -> None:
        """Note that a call was refused with ``error``, and would be for so many seconds."""
        try:
            until = now + min(float(seconds), _LONGEST_S)
        except ValueError:
            return
        if until > now:
            if len(self._refusals) >= _MOST_CALLERS:
                self._refusals.clear()
            self._refusals[caller] = until, error
            self.until = max(self.until, until)

    def refusal(self, caller: str, now: float) -> CallError | None:
        """Return the error of a call that would be refused, or ``None``."""
        known = self._refusals.get(caller)
        return known[1] if known is not None and known[0] > now else None
