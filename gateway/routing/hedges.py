"""When a call of a read-only tool that is late is sent to a second replica as well (a hedge). Pure.

After the time within which most calls of the same tool were answered, a call is probably at a replica that is busy just
now, and another one answers sooner (Dean and Barroso, The Tail at Scale, 2013). Of ``p95`` one call in twenty is sent
twice, at most. ``gateway.fleet.hedging`` sends, and takes the first answer.
"""

from __future__ import annotations

from collections import deque

_KEPT, _ENOUGH = 200, 20
"""The latest answers of a tool that are kept, and how many must be known."""
_LOOK_AGAIN = 10
"""After so many answers the time is found anew."""
_SOONEST_S = 0.01
"""No call is late before: a pause of this process is as long."""


class Hedge:
    """What is known of one read-only tool of a group. ``after`` is a word as ``p95`` (``shared.nested_settings``)."""

    __slots__ = ("_answers", "_late_s", "_new", "after")

    def __init__(self, after: str) -> None:
        self.after = after
        self._answers: deque[float] = deque(maxlen=_KEPT)
        self._late_s: float | None = None
        self._new = 0

    def answered(self, seconds: float) -> None:
        """Note in how many seconds a call was answered, whoever did it."""
        self._answers.append(seconds)
        self._new += 1

    @property
    def late_s(self) -> float | None:
        """The seconds after which a call is late, or ``None`` while too few answers are known."""
        if len(self._answers) < _ENOUGH:
            return None
        if self._late_s is None or self._new >= _LOOK_AGAIN:
            self._new = 0
            ordered = sorted(self._answers)
            place = len(ordered) * int(self.after[1:]) // 100
            self._late_s = max(ordered[min(place, len(ordered) - 1)], _SOONEST_S)
        return self._late_s
