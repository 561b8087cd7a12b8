"""Strict alternation in registration order, also while replicas come and go."""

from __future__ import annotations

from collections.abc import Sequence

from gateway.balancers.base import C


class RoundRobin:
    """Remembers who was last; the next in order is next."""

    def __init__(self) -> None:
        self._last = -1

    def choose(self, candidates: Sequence[C]) -> C:
        """The first candidate after the last choice, or the first of all."""
        chosen = next((one for one in candidates if one.sequence > self._last), candidates[0])
        self._last = chosen.sequence
        return chosen
