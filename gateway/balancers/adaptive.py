"""Chooses the better of two replicas that are taken at random: the one on which a call should be answered sooner.

What a call may take is the replica's latency (a moving average of this front end's calls) times the calls in flight
there and this one. Two random candidates are compared and not all (Mitzenmacher, "The Power of Two Choices"), so that
front ends, who do not ask each other, do not all choose the same replica.
"""

from __future__ import annotations

import random
from collections.abc import Sequence

from gateway.balancers.base import Balancer, C, Candidate, strategy


def _expected(one: Candidate, other: Candidate) -> float:
    """Return what a call on ``one`` may take. A replica that has not answered yet is taken to be as fast as the
    other."""
    return (one.latency_s or other.latency_s or 1.0) * (one.load + 1)


@strategy("adaptive", "the better of two, by latency and calls in flight")
class Adaptive(Balancer):
    """Keeps no state: latency and load are attributes of the candidates."""

    measures = True

    def choose(self, candidates: Sequence[C]) -> C:
        """Return the better of two random candidates."""
        if len(candidates) == 1:
            return candidates[0]
        first, second = random.sample(candidates, 2)
        return second if _expected(second, first) < _expected(first, second) else first

    def likely(self, candidates: Sequence[C]) -> tuple[C | None, str]:
        """Return the candidate on which a call is answered soonest."""
        usual = max(one.latency_s for one in candidates) or 1.0
        best = min(candidates, key=lambda one: (one.latency_s or usual) * (one.load + 1))
        return best, "latency times calls in flight are lowest there; each call compares two replicas taken at random"
