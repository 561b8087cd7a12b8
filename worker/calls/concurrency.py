"""How many calls of one upstream may be under way at once: a set number, or one learned from latency. Pure.

Learned (as in Netflix's concurrency-limits and Envoy's adaptive concurrency): while more calls at once do not make
each slower, there may be more; when they do, or the upstream refuses or fails calls, fewer. Latency is compared for
each tool with the best of the tool, so that a mix of quick and slow tools does not look like an overload. What the best
is shows only where an upstream has room: so now and then half of the calls are let in, for one window.
"""

from __future__ import annotations

from statistics import median
from typing import Protocol

_FIRST, _LEAST, _MOST = 8, 1, 1000
_WINDOW = 10
"""The answers after which the limit is looked at, at least; with a higher limit as many as that."""
_TOLERATED = 1.5
"""How many times slower than its best a call may be before there are too many at once."""
_MEASURED_EVERY, _MEASURED_SOON = 50, 10
"""The windows between two measurements of the best times, and after a measurement that has found other ones."""
_QUICK_S = 0.01
"""Below this, differences of latency come from the machine and not from the upstream."""
_TOOLS = 256


class Concurrency(Protocol):
    """``limit`` is how many calls may be under way."""

    limit: int

    def note(self, tool: str, seconds: float, answered: bool, running: int) -> None:
        """Note a call that is over, of ``running`` that were under way with it."""


class Fixed:
    """The number that was set."""

    def __init__(self, limit: int) -> None:
        self.limit = limit

    def note(self, tool: str, seconds: float, answered: bool, running: int) -> None:
        """Do nothing: the number is given."""


class Learned:
    """Additive increase, multiplicative decrease, by windows of answers."""

    def __init__(self, most: int = 0) -> None:
        self._most = most or _MOST
        self.limit = min(_FIRST, self._most)
        self._best: dict[str, float] = {}
        self._ratios: list[float] = []
        self._failed = 0
        self._peak = 0
        self._skipped = 0  # answers to come of calls that were let in under another limit
        self._until_measured = _MEASURED_SOON
        self._restored = 0  # the limit after the measurement, which is under way; else 0
        self._found: dict[str, float] = {}

    def note(self, tool: str, seconds: float, answered: bool, running: int) -> None:
        if self._skipped:
            self._skipped -= 1
            return
        self._peak = max(self._peak, running)
        if not answered:
            self._failed += 1
        else:
            if len(self._found) < _TOOLS:
                self._found[tool] = min(max(seconds, 1e-6), self._found.get(tool, seconds))
            best = self._best.setdefault(tool, max(seconds, 1e-6)) if len(self._best) < _TOOLS else self._best.get(tool)
            if best is not None:
                self._ratios.append(seconds / max(best, _QUICK_S))
        if len(self._ratios) + self._failed >= max(_WINDOW, self.limit):
            self._look()

    def _look(self) -> None:
        slower = median(self._ratios) if self._ratios else _TOLERATED
        before, bad = self.limit, self._failed * 10 > len(self._ratios)
        if self._restored:
            self._take_measure()
        elif bad or slower > _TOLERATED:
            self.limit = max(_LEAST, min(before - 1, int(before * max(0.5, min(0.9, _TOLERATED / slower)))))
        elif self._peak >= before:  # else nothing shows that more would be served
            self.limit = min(self._most, before + max(1, int(before**0.5 / 2)))
        for tool, seconds in self._found.items():
            self._best[tool] = min(self._best.get(tool, seconds), seconds)
        self._until_measured -= 1
        if self._until_measured <= 0 and self.limit > _LEAST:
            self._restored, self.limit = self.limit, max(_LEAST, self.limit // 2)
            self._until_measured = _MEASURED_EVERY
        self._skipped = before if self.limit < before else 0
        self._ratios, self._failed, self._peak, self._found = [], 0, 0, {}

    def _take_measure(self) -> None:
        """Take what was found with half of the calls for the best, also if it is worse: the upstream may be slower for
        good."""
        self.limit, self._restored = self._restored, 0
        if any(seconds < 0.8 * self._best.get(tool, 0.0) for tool, seconds in self._found.items()):
            self._until_measured = _MEASURED_SOON
        self._best.update(self._found)
