"""How many calls of one upstream are under way at once, and who waits for how long. Pure; the clock is given.

A call that comes when all places are taken waits in a short queue, or is refused at once: where the caller can still be
told, and can go elsewhere. Refused is what would not be begun in time (its own time, or ``max_wait_s``). While no place
was free for twice that time, the overload is no burst: then half as many calls wait as there are places. That keeps the
upstream busy, as the next call comes sooner than half of the places are free again, and longer waiting would only make
every call slower.

The queue is fair between callers: they take turns, and a caller's place in it is counted as if all others had sent no
more than it has. One that sends a hundred calls makes itself wait, and not a caller that sends one.
"""

from __future__ import annotations

import math
from collections.abc import Callable

from shared.errors import EVERYBODY, SHUT, NotDelivered
from worker.calls.call import Call
from worker.calls.concurrency import Concurrency
from worker.calls.fair_queue import FairQueue
from worker.calls.observer import ANSWERED, CANCELLED, UPSTREAM_ERROR

_WEIGHT = 0.1
_BURST = 2
_SHUT = 0.75
"""The share of the time in which the queue runs empty for which front ends send no more calls of who was refused."""
_UNKNOWN = 4
"""Calls that may wait for each place while it is not known how long calls take."""


class Gate:
    """The places of one upstream. ``start`` is given each call when it has one.

    ``concurrency`` says how many places there are. At most ``max_waiting`` calls wait.
    """

    def __init__(
        self,
        upstream: str,
        concurrency: Concurrency,
        max_waiting: int,
        max_wait_s: float,
        clock: Callable[[], float],
        start: Callable[[Call], None],
    ) -> None:
        self.concurrency = concurrency
        self.running = 0
        self.service_s = 0.0
        """How long a call takes, on average; 0 before the first answer."""
        self._upstream = upstream
        self._max_waiting = max_waiting
        self._max_wait_s = max_wait_s
        self._clock = clock
        self._start = start
        self._queue: FairQueue[Call] = FairQueue()
        self._full_since = 0.0
        self._letting_in = False

    @property
    def waiting(self) -> int:
        """How many calls wait."""
        return self._queue.waiting

    # ---- in and out

    def enter(self, call: Call, caller: str) -> None:
        """Start ``call``, or have it wait, or fail it with ``overloaded``."""
        now = self._clock()
        if self.running < self.concurrency.limit and not self._queue.waiting:
            self._full_since = now  # a place was free until now
            self._let_in(call, now)
            return
        before = self._before(self._queue.of(caller))
        wait_s = (before + 1) * self.service_s / self.concurrency.limit
        if not self._may_wait(call, before, wait_s, now):
            self._refuse(call, wait_s)
            return
        if self.waiting >= self._max_waiting and not self._make_room(before):
            self._refuse(call, wait_s)
            return
        self._queue.add(call, caller)
        call.holder = self

    def left(self, call: Call, outcome: str) -> None:
        """Handle that a call which was started is over (``calls.observer``). What its client cancelled says nothing of
        the upstream."""
        self.running -= 1
        now = self._clock()
        if call.entered_at and outcome != CANCELLED:
            seconds = now - call.entered_at
            answered = outcome in (ANSWERED, UPSTREAM_ERROR)
            if answered:
                self.service_s += (seconds - self.service_s) * _WEIGHT if self.service_s else seconds
            self.concurrency.note(call.name, seconds, answered, self.running + 1)
        self._go_on(now)
        if self.running < self.concurrency.limit:
            self._full_since = now

    def abandon(self, call: Call, reason: str) -> bool:
        """Take a waiting call out of the queue. It was certainly not sent (``worker.calls.call.Holder``)."""
        return self._queue.remove(call)

    def _go_on(self, now: float) -> None:
        if self._letting_in:
            return  # a call that was let in has failed at once; the loop below goes on
        self._letting_in = True
        try:
            while self._queue.waiting and self.running < self.concurrency.limit:
                self._let_in(self._queue.take(), now)
        finally:
            self._letting_in = False

    def _let_in(self, call: Call, now: float) -> None:
        self.running += 1
        call.entered_at = now
        call.holder = None
        self._start(call)

    # ---- who may wait

    def _before(self, own: int) -> int:
        """Return how many calls go before the next one of a caller that has ``own`` calls waiting."""
        return sum(min(count, own + 1) for count in self._queue.counts)

    def _may_wait(self, call: Call, before: int, wait_s: float, now: float) -> bool:
        if call.expires_at and now + wait_s + self.service_s > call.expires_at:
            return False
        if self._lasts(now):
            return before < self._few
        if before < self.concurrency.limit:
            return True
        if not self.service_s:
            return before < _UNKNOWN * self.concurrency.limit
        return wait_s <= self._max_wait_s

    def _make_room(self, before: int) -> bool:
        """Refuse the last call of the caller who has most of them waiting, if that is not who asks for room."""
        if self._before(max(self._queue.counts) - 1) <= before:
            return False
        call = self._queue.last_of_longest()
        self._queue.remove(call)
        self._refuse(call, self.waiting * self.service_s / self.concurrency.limit)
        return True

    def _refuse(self, call: Call, wait_s: float) -> None:
        text = f"{self.running} calls of upstream {self._upstream!r} are under way and {self.waiting} wait"
        data = {"retryAfter": str(max(1, math.ceil(wait_s)))}
        if self._lasts(self._clock()):
            shut_s = _SHUT * self.waiting * self.service_s / self.concurrency.limit
            data[SHUT] = f"{shut_s:.4f} {EVERYBODY}" if len(self._queue.counts) >= self._few else f"{shut_s:.4f}"
        call.fail(NotDelivered("overloaded", text, data))

    @property
    def _few(self) -> int:
        """How many calls wait while an overload lasts."""
        return (self.concurrency.limit + 1) // 2

    def _lasts(self, now: float) -> bool:
        """Whether there is more load than the upstream takes, and not only a burst."""
        return now - self._full_since > _BURST * self._max_wait_s
