"""Chooses replicas one after another in registration order, also while replicas come and go."""

from __future__ import annotations

from collections.abc import Sequence

from gateway.balancers.base import Balancer, C, strategy


@strategy("round-robin", "one after another in registration order")
class RoundRobin(Balancer):
    """Remembers the place of the last choice in registration order; the next call goes to the place after that."""

    def __init__(self) -> None:
        self._last = -1

    def choose(self, candidates: Sequence[C]) -> C:
        """Return the first candidate after the last choice, or the first of all if there is none."""
        chosen = next((one for one in candidates if one.sequence > self._last), candidates[0])
        self._last = chosen.sequence
        return chosen
