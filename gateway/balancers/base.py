"""What a balancer is, and what it may know of a replica."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol, TypeVar


class Candidate(Protocol):
    """A replica as a balancer sees it."""

    @property
    def id(self) -> str:
        """The upstream's id."""

    @property
    def sequence(self) -> int:
        """Its place in registration order; unique."""

    @property
    def weight(self) -> int:
        """Its share, from 1."""

    @property
    def load(self) -> int:
        """Calls in flight on it, from all front ends."""


C = TypeVar("C", bound=Candidate)


class Balancer(Protocol):
    """Chooses one of ``candidates`` (at least one, in registration order)."""

    def choose(self, candidates: Sequence[C]) -> C:
        """The replica for this call."""
