"""Which of the workers that own an upstream gets a call that any of them could take. Pure.

Calls that a front end sends to the same worker cost less, because they share one write and one wake-up in each
direction (2 + 2 processes on two cores: 15 % less CPU for a call than taking turns). So a front end has a *preferred
worker* for each set of owners. It sends calls to owners with fewer calls in flight only while ``TOGETHER`` or more of
its calls are in flight at the preferred one. Front ends choose without asking each other. When several prefer the same
worker, the loads that workers publish once a second move some of the front ends.
"""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from typing import Protocol, TypeVar

TOGETHER = 32
"""Calls of this front end that the preferred worker has in flight before other owners get calls as well."""
_UNEVEN = 8
"""A preferred worker is given up if its load is more than twice that of another owner plus this."""
_KEPT = 1000
Owners = tuple[str, ...]
"""The workers that own an upstream, sorted, so that the same owners make the same key."""


class LinkChoice(Protocol):
    """A link to a worker (``fleet.worker_link``)."""

    worker: str

    @property
    def in_flight(self) -> int:
        """The calls of this front end that are in flight at the worker."""


C = TypeVar("C", bound=LinkChoice)


class WorkerAffinity:
    """Remembers the preferred worker of each set of owners."""

    def __init__(self) -> None:
        self._preferred: dict[Owners, str] = {}
        self._loads: Mapping[str, int] = {}

    @property
    def remembered(self) -> int:
        """The number of sets of owners that have a preferred worker."""
        return len(self._preferred)

    def choose(self, owners: Owners, ready: Sequence[C]) -> C:
        """Return the link for a call: one of ``ready``, the links to ``owners`` that take calls (at least one)."""
        name = self._preferred.get(owners)
        home = next((one for one in ready if one.worker == name), None)
        if home is None:
            home = self._prefer(owners, ready)
        if home.in_flight < TOGETHER:
            return home
        return min(ready, key=lambda one: one.in_flight)

    def _prefer(self, owners: Owners, ready: Sequence[C]) -> C:
        if len(self._preferred) >= _KEPT:
            self._preferred.clear()  # most are sets of owners that do not exist any more
        home = min(ready, key=lambda one: (self._loads.get(one.worker, 0), random.random()))
        self._preferred[owners] = home.worker
        return home

    def reconsider(self, loads: Mapping[str, int]) -> None:
        """Take the calls in flight on each worker, of all front ends, and choose other preferred workers where needed.

        A preferred worker with a much higher load than another owner is given up with a probability of one half. If all
        front ends gave it up, the other owner would be overloaded next.
        """
        self._loads = loads
        for owners, home in list(self._preferred.items()):
            others = [(loads[worker], worker) for worker in owners if worker in loads and worker != home]
            if others and loads.get(home, 0) > 2 * min(others)[0] + _UNEVEN and random.random() < 0.5:
                self._preferred[owners] = min(others)[1]
