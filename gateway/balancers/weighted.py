"""Smooth weighted round-robin (as in nginx): weights 3 and 1 of a and b give a a b a, not a a a b."""

from __future__ import annotations

from collections.abc import Sequence

from gateway.balancers.base import Balancer, C, strategy


@strategy("weighted", "in proportion to each replica's weight")
class Weighted(Balancer):
    """Each choice raises every candidate by its weight and lowers the chosen one by the sum of weights."""

    def __init__(self) -> None:
        self._current: dict[str, int] = {}

    def choose(self, candidates: Sequence[C]) -> C:
        """Return the candidate that is furthest behind its share."""
        current = {one.id: self._current.get(one.id, 0) + one.weight for one in candidates}
        chosen = max(candidates, key=lambda one: current[one.id])
        current[chosen.id] -= sum(one.weight for one in candidates)
        self._current = current
        return chosen
