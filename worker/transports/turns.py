"""Work that arriving bytes make, done in turns of some milliseconds, between which the loop belongs to other calls.

How long something takes is the upstream's to choose: a kilobyte may decode to a gigabyte, and 256 KiB may be a hundred
thousand lines. So work is given as an iterator, of which each step takes little time. Most work is over in its first
turn, at once.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Callable, Iterator

TURN_S = 0.005
"""After this time the loop belongs to others."""
_MOST_LEFT = 16 * 1024 * 1024
"""The bytes that may be left to be worked on. Where reading can be paused, there is about one read of them."""
_LEAST = 512
"""As so many bytes each piece of work counts at least."""

_SMALL = 8 * 1024
_FEW_LINES = 64


def has_many_lines(data: bytes) -> bool:
    """Whether to read these bytes line by line may take long: a line costs some microseconds, or 60 if it is junk."""
    return len(data) > _SMALL and data.count(b"\n") > _FEW_LINES


class Turns:
    """Does work in the order in which it was given.

    ``hold`` is called when something is left to do, and should stop what gives work; ``drained`` when nothing is left
    any more, and ``failed`` with what a step raised, in place of that.
    """

    __slots__ = ("_bytes", "_drained", "_failed", "_hold", "_left", "_loop")

    def __init__(
        self, hold: Callable[[], object], drained: Callable[[], None], failed: Callable[[Exception], None]
    ) -> None:
        self._hold = hold
        self._drained = drained
        self._failed = failed
        self._left: deque[tuple[Iterator[object], int]] = deque()
        self._bytes = 0
        self._loop = asyncio.get_running_loop()

    @property
    def busy(self) -> bool:
        """Whether something is left to do."""
        return bool(self._left)

    def add(self, work: Iterator[object], size: int) -> None:
        """Do this work on ``size`` bytes after what is left; now, if nothing is. What a step raises now is raised.
        Raises ``ValueError`` if too much is left."""
        size = max(size, _LEAST)
        if self._left and self._bytes + size > _MOST_LEFT:
            self.drop()
            raise ValueError("it comes faster than it can be read")
        self._left.append((work, size))
        self._bytes += size
        if len(self._left) == 1 and not self._turn():
            self._hold()
            self._loop.call_soon(self._again)

    def drop(self) -> None:
        """Forget what is left. Neither ``drained`` nor ``failed`` is called for it."""
        self._left.clear()
        self._bytes = 0

    def _turn(self) -> bool:
        """Work for one turn. Return whether nothing is left."""
        until = time.perf_counter() + TURN_S
        try:
            while self._left:
                work, size = self._left[0]
                for _ in work:
                    if not self._left:
                        return True
                    if time.perf_counter() > until:
                        return False
                if self._left:
                    self._left.popleft()
                    self._bytes -= size
        except BaseException:
            self.drop()
            raise
        return True

    def _again(self) -> None:
        if not self._left:
            return
        try:
            if not self._turn():
                self._loop.call_soon(self._again)
                return
        except Exception as error:
            self._failed(error)
            return
        self._drained()
