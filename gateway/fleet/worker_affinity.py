"""Which of the workers that carry an upstream gets a call that any of them could take. Pure.

Calls of one front end that go together cost less: one write and one wake-up there, one back (2 + 2 processes on two
cores: 15 % less CPU for a call than taking turns). So a front end has one *home* among the same owners, and leaves it
for those with fewer calls in flight only while ``TOGETHER`` or more are in flight there. Front ends choose without
asking each other; when several chose the same, what workers say of their load, once a second, moves some of them.
"""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from typing import Protocol, TypeVar

TOGETHER = 32
"""Calls of this front end that one worker has before others are asked as well."""
_UNEVEN = 8
"""A home with more than twice the load of another, and this much more, is left."""
_KEPT = 1000
Owners = tuple[str, ...]
"""Workers that carry an upstream, in the same order wherever the same do."""


class Candidate(Protocol):
    """A link to a worker."""

    worker: str

    @property
    def in_flight(self) -> int:
        """Calls of this front end there."""


C = TypeVar("C", bound=Candidate)


class WorkerAffinity:
    """See the module."""

    def __init__(self) -> None:
        self._homes: dict[Owners, str] = {}
        self._loads: Mapping[str, int] = {}

    @property
    def remembered(self) -> int:
        """Sets of owners that have a home."""
        return len(self._homes)

    def choose(self, owners: Owners, ready: Sequence[C]) -> C:
        """One of ``ready``, links to those of ``owners`` that take calls (at least one)."""
        name = self._homes.get(owners)
        home = next((one for one in ready if one.worker == name), None)
        if home is None:
            home = self._settle(owners, ready)
        if home.in_flight < TOGETHER:
            return home
        return min(ready, key=lambda one: one.in_flight)

    def _settle(self, owners: Owners, ready: Sequence[C]) -> C:
        if len(self._homes) >= _KEPT:
            self._homes.clear()  # owners that are none any more
        home = min(ready, key=lambda one: (self._loads.get(one.worker, 0), random.random()))
        self._homes[owners] = home.worker
        return home

    def reconsider(self, loads: Mapping[str, int]) -> None:
        """``loads``: calls in flight on each worker, of all front ends. Every second front end leaves a home that has
        much more than another owner; if all did, they would only change places."""
        self._loads = loads
        for owners, home in list(self._homes.items()):
            others = [(loads[worker], worker) for worker in owners if worker in loads and worker != home]
            if others and loads.get(home, 0) > 2 * min(others)[0] + _UNEVEN and random.random() < 0.5:
                self._homes[owners] = min(others)[1]
