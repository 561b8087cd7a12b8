"""Uniformly at random."""

from __future__ import annotations

import random
from collections.abc import Sequence

from gateway.balancers.base import C


class RandomChoice:
    """Has no memory."""

    def choose(self, candidates: Sequence[C]) -> C:
        """Any candidate."""
        return random.choice(candidates)
