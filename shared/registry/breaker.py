"""One switch for each process: whether Redis is asked at all.

A Redis that hangs would cost every request its time-out. So after the first time-out, or a lost connection, all others
take the way of "Redis is away" at once, until the follower of the change log (``shared.registry.changes``), which goes
on asking on a connection of its own, gets an answer. A process without a follower always asks.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager


class Breaker:
    """``away``: Redis did not answer, and is not to be asked."""

    def __init__(self) -> None:
        self.away = False
        self._watchers = 0

    @contextmanager
    def watched(self) -> Iterator[None]:
        """Somebody asks Redis again and again, and says ``answered`` when it answers."""
        self._watchers += 1
        try:
            yield
        finally:
            self._watchers -= 1
            if not self._watchers:
                self.away = False

    def failed(self) -> None:
        """Redis did not answer."""
        self.away = self._watchers > 0

    def answered(self) -> None:
        """Redis answers."""
        self.away = False


BREAKER = Breaker()
"""The switch of this process."""
