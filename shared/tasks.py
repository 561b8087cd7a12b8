"""Background tasks and coarse deadlines, which every process of the fleet uses.

Every task is made by ``spawn``, so each has a name, a reference that keeps it alive and a log line if it fails.
``Deadlines`` replaces one timer for each call: starting ``asyncio.timeout`` costs 4 µs, putting an object into a bucket
costs nearly nothing, and a call's timeout need not be more precise than 100 ms.
"""

from __future__ import annotations

import asyncio
import logging
import math
import time
from collections.abc import Callable, Coroutine, Iterable
from typing import Any, Protocol, TypeVar

_log = logging.getLogger(__name__)
_T = TypeVar("_T")
_MOMENT = 0.125
"""The share of a period before its end that counts as its end: a timer may come a little early."""
_TURN_S = 0.003
"""How long work that others can wait for keeps the loop at once."""
_running: set[asyncio.Task[Any]] = set()


def spawn(coroutine: Coroutine[Any, Any, Any], name: str) -> asyncio.Task[Any]:
    """Run ``coroutine`` as a named task. The task is kept alive and its exception is logged."""
    task = asyncio.get_running_loop().create_task(coroutine, name=name)
    _running.add(task)
    task.add_done_callback(_finished)
    return task


def _finished(task: asyncio.Task[Any]) -> None:
    _running.discard(task)
    if not task.cancelled() and (error := task.exception()) is not None:
        _log.error("task %s failed", task.get_name(), exc_info=error)


async def cancel(*tasks: asyncio.Task[Any] | None) -> None:
    """Cancel tasks and wait until they have ended. Their own exceptions are logged by ``spawn``.

    A task that still runs is cancelled again: a library may swallow a cancellation (redis-py does so if a blocking read
    times out at that moment), and a shutdown must not hang on that.
    """
    live = {task for task in tasks if task is not None and not task.done()}
    while live:
        for task in live:
            task.cancel()
        _, live = await asyncio.wait(live, timeout=0.25)


async def in_turns(pieces: Iterable[_T]) -> list[_T]:
    """Return what ``pieces`` yields. Whenever that took ``_TURN_S``, others have the loop for a turn."""
    found: list[_T] = []
    since = time.perf_counter()
    for piece in pieces:
        found.append(piece)
        if time.perf_counter() - since > _TURN_S:
            await asyncio.sleep(0)
            since = time.perf_counter()
    return found


def next_tick(every_s: float) -> float:
    """Return the loop time at which what a process does every ``every_s`` is due next: a whole multiple of it, and not
    in the same moment. So what comes round in a process comes round together and wakes it once."""
    return (math.floor(asyncio.get_running_loop().time() / every_s + _MOMENT) + 1) * every_s


async def tick(every_s: float) -> float:
    """Sleep until ``next_tick``. Return by how much the loop was late (seconds)."""
    loop = asyncio.get_running_loop()
    due = next_tick(every_s)
    await asyncio.sleep(due - loop.time())
    return max(loop.time() - due, 0.0)


class Expirable(Protocol):
    """An object with a deadline. ``expires_at`` is in loop seconds; 0 means that there is no deadline (any more)."""

    expires_at: float

    def expire(self) -> None:
        """Handle the passed deadline. Called once, on the loop."""


class Deadlines:
    """A timer wheel: objects lie in buckets of ``tick_s`` seconds and are checked when their bucket is due.

    An object may move its ``expires_at`` forward at no cost (it is put into a later bucket when its bucket is due), or
    set ``expires_at`` to 0 to be forgotten then. ``forget`` does so at once. For any other change call ``move``.
    Precision is one tick.
    """

    def __init__(self, clock: Callable[[], float], tick_s: float = 0.1) -> None:
        self._clock = clock
        self._tick_s = tick_s
        self._buckets: dict[int, dict[Expirable, None]] = {}
        self._slots: dict[Expirable, int] = {}
        self._next = int(clock() / tick_s)
        self._empty: asyncio.Future[None] | None = None  # where ``run`` waits for an object

    @property
    def held(self) -> int:
        """The number of objects in the wheel."""
        return len(self._slots)

    def add(self, item: Expirable) -> None:
        """Watch ``item`` until its ``expires_at``."""
        if self._empty is not None:
            self._begin(self._empty)
        slot = max(int(item.expires_at / self._tick_s) + 1, self._next)
        self._slots[item] = slot
        bucket = self._buckets.get(slot)
        if bucket is None:
            self._buckets[slot] = {item: None}
        else:
            bucket[item] = None

    def _begin(self, empty: asyncio.Future[None]) -> None:
        """Let ``run`` go on. The buckets that became due while it waited are all empty."""
        self._buckets.clear()
        self._next = int(self._clock() / self._tick_s)
        self._empty = None
        empty.set_result(None)

    def forget(self, item: Expirable) -> None:
        """Stop watching ``item``, if it is watched."""
        slot = self._slots.pop(item, None)
        bucket = self._buckets.get(slot) if slot is not None else None
        if bucket is not None:
            bucket.pop(item, None)

    def move(self, item: Expirable) -> None:
        """Watch ``item`` again after its ``expires_at`` was changed, perhaps to an earlier time. However often an item
        is moved, its ``expire`` is called once."""
        self.forget(item)
        self.add(item)

    def advance(self) -> None:
        """Expire what is due. Called by ``run``, or by a test with its own clock."""
        now = self._clock()
        last = int(now / self._tick_s)
        while self._next <= last:
            due = self._buckets.pop(self._next, None)
            self._next += 1
            for item in due or ():
                if item.expires_at > now:
                    self.add(item)
                    continue
                if self._slots.pop(item, None) is None or item.expires_at == 0:
                    continue  # forgotten while another one expired, or over
                item.expires_at = 0
                try:
                    item.expire()
                except Exception:  # a handler that fails must not keep the other items from expiring
                    _log.exception("a deadline handler failed")

    async def run(self) -> None:
        """Call ``advance`` once a tick while there are objects, until cancelled."""
        while True:
            if not self._slots:
                self._empty = asyncio.get_running_loop().create_future()
                try:
                    await self._empty
                finally:
                    self._empty = None
            await asyncio.sleep(self._tick_s)
            self.advance()
