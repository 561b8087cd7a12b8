"""Who may have how many of the calls that a front end carries at once (``maxInflight``). Pure.

While less than half of the places are taken, everybody may have more. Beyond, a caller may have another one only if it
has fewer than are free. So one caller alone has half of them at most, two have a third each, and whoever comes next
finds room. Callers without credentials and without a session cannot be told apart, and share what there is.

The calls of each caller are not counted as they come and go, which would cost every call: they are counted when it
matters, and not more often than every ``_COUNT_S``.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection

from gateway.calls.in_flight import InFlight
from gateway.telemetry.observer import ObservedCall
from shared.errors import NotDelivered

_COUNT_S = 0.05


class Shares:
    """The places of one front end: ``most`` in all."""

    def __init__(self, most: int) -> None:
        self.most = most
        self.enough = most // 2
        """So many calls may be under way without ``check``."""
        self._held: Counter[str] = Counter()
        self._counted_at = float("-inf")

    def check(self, under_way: Collection[InFlight], caller: str, now: float) -> None:
        """Raise ``NotDelivered`` (``overloaded``) if there is no place for another call of ``caller``, a principal or a
        session. ``now`` is loop time."""
        free = self.most - len(under_way)
        if free <= 0:
            raise NotDelivered("overloaded", f"{self.most} calls are in flight here already (maxInflight)")
        if not caller:
            return
        if now - self._counted_at >= _COUNT_S:
            self._held = Counter(caller_of(one.call) for one in under_way)
            self._counted_at = now
        if self._held[caller] >= free:
            text = f"{len(under_way)} calls are in flight here, and {self._held[caller]} of them are yours"
            raise NotDelivered("overloaded", f"{text}: the other places are kept for others (maxInflight)")
        self._held[caller] += 1


def caller_of(call: ObservedCall) -> str:
    """Return whose call this is: the principal's, else the client session's. Workers divide the places of an upstream
    in the same way (``worker.ownership.upstream.caller_of``)."""
    session = getattr(call, "session", None)  # what was resumed has none
    return call.principal or (session.sid if session is not None else "")
