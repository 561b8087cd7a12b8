"""The replica with the fewest calls in flight; ties are broken at random, so front ends do not herd."""

from __future__ import annotations

import random
from collections.abc import Sequence

from gateway.balancers.base import C


class LeastConnections:
    """Has no memory: the counts are the candidates' own."""

    def choose(self, candidates: Sequence[C]) -> C:
        """A candidate with the smallest load."""
        least = min(candidate.load for candidate in candidates)
        return random.choice([candidate for candidate in candidates if candidate.load == least])
