"""How many requests of one process are at Redis at once.

Redis answers one request after the other, so a thousand of them at once are answered no sooner than a few dozen; but
each would take a connection of its own, and the pool of redis-py refuses what is beyond a hundred as if Redis were
gone. So the rest waits here, in turn.
"""

from __future__ import annotations

import asyncio
from collections import deque


class Turns:
    """Lets ``limit`` requests go on at once, in the order in which they came. Used as ``async with``."""

    def __init__(self, limit: int) -> None:
        self._free = limit
        self._waiting: deque[asyncio.Future[None]] = deque()

    async def __aenter__(self) -> None:
        if self._free > 0:
            self._free -= 1
            return
        turn = asyncio.get_running_loop().create_future()
        self._waiting.append(turn)
        try:
            await turn
        except asyncio.CancelledError:
            if not turn.cancelled():
                self._pass_on()  # the turn came in the moment in which nobody waited for it any more
            elif turn in self._waiting:  # else somebody who was done has passed over it meanwhile
                self._waiting.remove(turn)
            raise

    async def __aexit__(self, *_: object) -> None:
        self._pass_on()

    def _pass_on(self) -> None:
        while self._waiting:
            turn = self._waiting.popleft()
            if not turn.done():
                turn.set_result(None)
                return
        self._free += 1


TURNS = Turns(64)
"""The turns of this process: fewer than the connections of one pool (100), some of which are held, as by a
subscription."""
