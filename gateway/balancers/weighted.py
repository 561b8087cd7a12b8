"""Smooth weighted round-robin (as in nginx): 3:1 gives a a b a, not a a a b."""

from __future__ import annotations

from collections.abc import Sequence

from gateway.balancers.base import C


class Weighted:
    """Each choice raises every candidate by its weight and lowers the chosen one by the sum."""

    def __init__(self) -> None:
        self._current: dict[str, int] = {}

    def choose(self, candidates: Sequence[C]) -> C:
        """The candidate that is furthest behind its share."""
        current = {one.id: self._current.get(one.id, 0) + one.weight for one in candidates}
        chosen = max(candidates, key=lambda one: current[one.id])
        current[chosen.id] -= sum(one.weight for one in candidates)
        self._current = current
        return chosen
