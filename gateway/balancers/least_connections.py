"""Chooses the replica with the fewest calls in flight.

Ties are broken at random, so that front ends do not all choose the same replica.
"""

from __future__ import annotations

import random
from collections.abc import Sequence

from gateway.balancers.base import Balancer, C, strategy


@strategy("least-connections", "the replica with the fewest calls in flight")
class LeastConnections(Balancer):
    """Keeps no state: the counts are attributes of the candidates."""

    counts_calls = True

    def choose(self, candidates: Sequence[C]) -> C:
        """Return a candidate with the smallest load."""
        least = min(candidate.load for candidate in candidates)
        return random.choice([candidate for candidate in candidates if candidate.load == least])

    def likely(self, candidates: Sequence[C]) -> tuple[C | None, str]:
        """Return the first candidate with the smallest load."""
        return min(
            candidates, key=lambda one: one.load
        ), "it has the fewest calls in flight (ties are broken at random)"
