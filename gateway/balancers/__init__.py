"""Strategies that choose among the replicas that may take a call. Pure; adding one is adding a file.

``make`` gives the balancer for a ``BalancerStrategy``. A balancer sees only candidates that are available; it keeps
its own memory between choices and belongs to one group in one front end.
"""

from __future__ import annotations

from gateway.balancers.base import Balancer, Candidate
from gateway.balancers.least_connections import LeastConnections
from gateway.balancers.random_choice import RandomChoice
from gateway.balancers.round_robin import RoundRobin
from gateway.balancers.weighted import Weighted
from shared.models import BalancerStrategy

__all__ = ["Balancer", "Candidate", "LeastConnections", "RandomChoice", "RoundRobin", "Weighted", "make"]

_STRATEGIES: dict[BalancerStrategy, type[Balancer]] = {
    BalancerStrategy.ROUND_ROBIN: RoundRobin,
    BalancerStrategy.LEAST_CONNECTIONS: LeastConnections,
    BalancerStrategy.WEIGHTED: Weighted,
    BalancerStrategy.RANDOM: RandomChoice,
}


def make(strategy: BalancerStrategy) -> Balancer:
    """A fresh balancer."""
    return _STRATEGIES[strategy]()
