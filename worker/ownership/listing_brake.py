"""How long announced changes of lists are collected before the lists are read. Pure.

Some servers announce a change whenever they are asked for their lists, and some list something else each time (the time
of day in a description). Neither may keep the gateway and its clients busy without end.
"""

from __future__ import annotations

import random

_COALESCE_S = 0.05
_UNCHANGED_MAX_S, _CALM_S = 30.0, 60.0
"""The longest wait while nothing changes, and after how long without a reading it begins anew."""
_CHANGING_MAX_S, _CALM_CHANGING_S = 2.0, 10.0
"""The same while lists do change."""


class ListingBrake:
    """The waits before readings of one upstream's lists. Each is twice as long as the one before."""

    def __init__(self) -> None:
        self._wait_s = self._changing_s = _COALESCE_S
        self._read_at = float("-inf")
        self._changed = False

    def wait_s(self, now: float) -> float:
        """Return how long to wait for more announcements; ``now`` is loop time."""
        if now - self._read_at > (_CALM_CHANGING_S if self._changed else _CALM_S):
            self._wait_s = self._changing_s = _COALESCE_S
        return self._wait_s

    def read(self, now: float, changed: bool) -> None:
        """Note that the lists were read, and whether anything was different."""
        if changed:
            self._wait_s = self._changing_s
            self._changing_s = min(self._changing_s * 2, _CHANGING_MAX_S)
        else:
            self._wait_s = min(self._wait_s * 2, _UNCHANGED_MAX_S) * random.uniform(0.9, 1.1)
        self._changed, self._read_at = changed, now
