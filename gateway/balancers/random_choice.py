"""Chooses any replica, uniformly at random."""

from __future__ import annotations

import random
from collections.abc import Sequence

from gateway.balancers.base import Balancer, C, strategy


@strategy("random", "any replica, uniformly at random")
class RandomChoice(Balancer):
    """Keeps no state."""

    def choose(self, candidates: Sequence[C]) -> C:
        """Return any candidate."""
        return random.choice(candidates)

    def likely(self, candidates: Sequence[C]) -> tuple[C | None, str]:
        """Return ``None``: the next choice is open."""
        return None, f"one of {', '.join(one.id for one in candidates)}, at random"
