"""What a balancer is, what it may know of a replica, and the table of strategies."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from copy import deepcopy
from typing import ClassVar, Protocol, TypeVar

from shared.choices import STRATEGIES


class Candidate(Protocol):
    """A replica as a balancer sees it."""

    @property
    def id(self) -> str:
        """The upstream's id."""

    @property
    def sequence(self) -> int:
        """The replica's place in registration order; unique."""

    @property
    def weight(self) -> int:
        """The replica's share, from 1."""

    @property
    def load(self) -> int:
        """Calls in flight on the replica, from all front ends."""

    @property
    def latency_s(self) -> float:
        """Seconds to an answer of the replica, on average, as this front end sees it; 0 if that is not known."""


C = TypeVar("C", bound=Candidate)


class Balancer:
    """Chooses one of several candidates. A balancer belongs to one group in one front end and may keep state."""

    counts_calls: ClassVar[bool] = False
    """Whether the strategy needs the calls of all front ends in ``load``. If so, they exchange their counts."""

    measures: ClassVar[bool] = False
    """Whether the strategy reads ``latency_s``."""

    def choose(self, candidates: Sequence[C]) -> C:
        """Return the replica for this call, among ``candidates`` (at least one, in registration order)."""
        raise NotImplementedError

    def likely(self, candidates: Sequence[C]) -> tuple[C | None, str]:
        """Return the candidate that the next call would get, or ``None`` if that is open, and the reason in words.

        The balancer's state does not change.
        """
        names = ", ".join(one.id for one in candidates)
        why = f"of {names} it is its turn at this front end ({type(self).__name__})"
        return deepcopy(self).choose(candidates), f"{why}; a client session may be bound to another one"


class OnlyOne(Balancer):
    """The balancer of routes without replicas, where there is nothing to choose."""

    def choose(self, candidates: Sequence[C]) -> C:
        """Return the first candidate."""
        return candidates[0]


NO_CHOICE = OnlyOne()
BALANCERS: dict[str, type[Balancer]] = {}
"""The registered balancers by the names of their strategies; ``STRATEGIES`` has the same names."""


def strategy(name: str, meaning: str) -> Callable[[type[Balancer]], type[Balancer]]:
    """Return a decorator that registers a balancer as the strategy ``name``, which users write in ``balancer``.

    ``meaning`` describes the strategy to people.
    """

    def register(kind: type[Balancer]) -> type[Balancer]:
        BALANCERS[name] = kind
        STRATEGIES[name] = meaning
        return kind

    return register


def make(name: str) -> Balancer:
    """Return a new balancer of the strategy ``name``.

    Raises ``KeyError`` for a strategy that is not registered; settings and registrations are checked before.
    """
    return BALANCERS[name]()
