"""A queue in which callers take turns: one that has a hundred things waiting makes itself wait, and not one that has
one. Pure.
"""

from __future__ import annotations

from collections import OrderedDict, deque
from collections.abc import Collection
from typing import Generic, TypeVar

T = TypeVar("T")


class FairQueue(Generic[T]):
    """What waits, by callers. ``waiting`` is how much that is in all."""

    __slots__ = ("_queues", "waiting")

    def __init__(self) -> None:
        self.waiting = 0
        self._queues: OrderedDict[str, deque[T]] = OrderedDict()  # the first one's turn is next

    def add(self, one: T, caller: str) -> None:
        """Add something of a caller."""
        queue = self._queues.get(caller)
        if queue is None:
            queue = self._queues[caller] = deque()
        queue.append(one)
        self.waiting += 1

    def take(self) -> T:
        """Remove what is next and return it. Raises ``KeyError`` if nothing waits."""
        caller, queue = self._queues.popitem(last=False)
        one = queue.popleft()
        self.waiting -= 1
        if queue:
            self._queues[caller] = queue  # behind the others
        return one

    def remove(self, one: T) -> bool:
        """Remove something, and return whether it was there."""
        for caller, queue in self._queues.items():
            if one in queue:
                queue.remove(one)
                self.waiting -= 1
                if not queue:
                    del self._queues[caller]
                return True
        return False

    def drain(self) -> list[T]:
        """Remove everything and return it in its order."""
        return [self.take() for _ in range(self.waiting)]

    def of(self, caller: str) -> int:
        """Return how much of a caller waits."""
        return len(self._queues.get(caller, ()))

    @property
    def counts(self) -> Collection[int]:
        """How much of each caller waits."""
        return [len(queue) for queue in self._queues.values()]

    def last_of_longest(self) -> T:
        """Return what came last of the caller who has most waiting. Something must wait."""
        return max(self._queues.values(), key=len)[-1]
