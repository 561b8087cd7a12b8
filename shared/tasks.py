"""Background tasks and coarse deadlines: the two things every process of the fleet runs.

``spawn`` is the only way a task is made, so that each has a name, a reference that keeps it alive and a
log line when it dies. ``Deadlines`` replaces a timer per call: starting ``asyncio.timeout`` costs 4 µs,
putting an object into a bucket nearly nothing, and a call's timeout needs no better than 100 ms.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Coroutine
from typing import Any, Protocol

_log = logging.getLogger(__name__)
_running: set[asyncio.Task[Any]] = set()


def spawn(coroutine: Coroutine[Any, Any, Any], name: str) -> asyncio.Task[Any]:
    """Run ``coroutine`` as a named task that is kept alive and whose exception is logged."""
    task = asyncio.get_running_loop().create_task(coroutine, name=name)
    _running.add(task)
    task.add_done_callback(_finished)
    return task


def _finished(task: asyncio.Task[Any]) -> None:
    _running.discard(task)
    if not task.cancelled() and (error := task.exception()) is not None:
        _log.error("task %s failed", task.get_name(), exc_info=error)


async def cancel(*tasks: asyncio.Task[Any] | None) -> None:
    """Cancel tasks and wait until they are gone; their own exceptions are logged by ``spawn``.

    Asked again while they live: a library may swallow a cancellation (redis-py does, when it meets a blocking
    read that is just timing out), and a shutdown must not hang on that.
    """
    live = {task for task in tasks if task is not None and not task.done()}
    while live:
        for task in live:
            task.cancel()
        _, live = await asyncio.wait(live, timeout=0.25)


class Expirable(Protocol):
    """Something with a deadline: ``expires_at`` in loop seconds, 0 when it has none (any more)."""

    expires_at: float

    def expire(self) -> None:
        """Called once, on the loop, when the deadline has passed."""


class Deadlines:
    """A timer wheel: objects in buckets of ``tick_s``, looked at when their bucket comes up.

    An object may move its ``expires_at`` forward at no cost (it is put back when its bucket is due), or
    set it to 0 to be forgotten; ``move`` is for any other change. Precision is one tick; memory is one reference
    per object.
    """

    def __init__(self, clock: Callable[[], float], tick_s: float = 0.1) -> None:
        self._clock = clock
        self._tick_s = tick_s
        self._buckets: dict[int, list[Expirable]] = {}
        self._moved: dict[Expirable, int] = {}
        self._next = int(clock() / tick_s)

    @property
    def held(self) -> int:
        """How often objects are in the wheel: what is watched, and what is done and waits for its bucket to come up."""
        return sum(len(bucket) for bucket in self._buckets.values())

    def add(self, item: Expirable) -> None:
        """Watch ``item`` until its ``expires_at``."""
        self._put(item, self._slot(item))

    def move(self, item: Expirable) -> None:
        """``expires_at`` of ``item`` was moved, perhaps back: it is looked at then. Moved often, it still stays one."""
        slot = self._slot(item)
        if self._moved.get(item) != slot:
            self._moved[item] = slot
            self._put(item, slot)

    def _slot(self, item: Expirable) -> int:
        return max(int(item.expires_at / self._tick_s) + 1, self._next)

    def _put(self, item: Expirable, slot: int) -> None:
        bucket = self._buckets.get(slot)
        if bucket is None:
            self._buckets[slot] = [item]
        else:
            bucket.append(item)

    def advance(self) -> None:
        """Expire what is due. Called by ``run``, or by a test with its own clock."""
        now = self._clock()
        last = int(now / self._tick_s)
        while self._next <= last:
            due = self._buckets.pop(self._next, None)
            self._next += 1
            for item in due or ():
                moved = bool(self._moved) and item in self._moved
                if item.expires_at > now:
                    if moved:
                        self.move(item)  # unless it is where it belongs already
                    else:
                        self.add(item)
                    continue
                if moved:
                    del self._moved[item]
                if item.expires_at == 0:
                    continue
                item.expires_at = 0
                try:
                    item.expire()
                except Exception:  # one that fails must not cost the others their end
                    _log.exception("a deadline handler failed")

    async def run(self) -> None:
        """Advance once per tick until cancelled."""
        while True:
            await asyncio.sleep(self._tick_s)
            self.advance()
