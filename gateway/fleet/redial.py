"""When a worker without a link, or whose link broke, is dialled again, and what the log says of it. Pure.

A worker that cannot be reached may be back at once; its first attempts follow each other fast, and the log hears of it
when it lasts. One that did not prove itself will hardly do so a moment later: it is dialled seldom from the start, and
the log hears of it at once, but not at every attempt.
"""

from __future__ import annotations

from collections.abc import Container

from msgspec import Struct

_MIN_S = 0.1
_UNPROVEN_MIN_S = 1.0
_MAX_S = 10.0
_QUIET_UP_TO_S = 1.0
_SAY_AGAIN_S = 60.0


class _Failures(Struct):
    until: float
    wait_s: float
    said: str = ""
    said_at: float = 0.0


class Redial:
    """The workers that are not to be dialled for now, by worker id. ``now`` is always loop time."""

    def __init__(self) -> None:
        self._failures: dict[str, _Failures] = {}

    def waits(self, worker: str, now: float) -> bool:
        """Whether it is too early to dial ``worker``."""
        known = self._failures.get(worker)
        return known is not None and now < known.until

    def failed(self, worker: str, now: float, unproven: bool = False) -> float:
        """Note a failure; return the seconds to wait. ``unproven``: the worker was reached and did not prove itself."""
        known = self._failures.get(worker)
        least = _UNPROVEN_MIN_S if unproven else _MIN_S
        wait_s = min(max(least, known.wait_s * 2 if known is not None else 0.0), _MAX_S)
        if known is None:
            self._failures[worker] = _Failures(now + wait_s, wait_s)
        else:
            known.until, known.wait_s = now + wait_s, wait_s
        return wait_s

    def worth_saying(self, worker: str, now: float, reason: str, unproven: bool = False) -> bool:
        """Whether the log should have ``reason`` why ``worker``, of which ``failed`` was noted, has no link."""
        known = self._failures[worker]
        if not unproven:
            return known.wait_s > _QUIET_UP_TO_S
        if known.said == reason and now < known.said_at + _SAY_AGAIN_S:
            return False
        known.said, known.said_at = reason, now
        return True

    def forget(self, worker: str) -> None:
        """Note that a link to ``worker`` has lasted."""
        self._failures.pop(worker, None)

    def keep(self, alive: Container[str]) -> None:
        """Forget workers that are gone."""
        self._failures = {worker: known for worker, known in self._failures.items() if worker in alive}
