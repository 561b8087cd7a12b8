"""Access lines of a worker (``accessLog``): one for each call of a front end that is over. Counterpart:
``gateway.telemetry.access_log``, whose line of the same call has the same request id."""

from __future__ import annotations

import time
from collections.abc import Callable

from shared.logs import AT_ONCE, Lines
from worker.calls.observer import CallObserver, ObservedCall, ObservedUpstream

_WORDS = 200
NAMES = ("method", "name", "outcome", "group", "upstream")
"""What a line says beside the request and its time."""


class AccessLog:
    """An observer that writes a line for each call that is over. It stands before ``inner``, another observer, which
    costs less than to tell both of everything. ``clock`` is the one by which calls say when they started."""

    def __init__(self, lines: Lines, inner: CallObserver, clock: Callable[[], float] = time.monotonic) -> None:
        self._waiting = lines.waiting
        self._grew = lines.grew
        self._clock = clock
        self._finished = inner.finished
        self.hears_begun = inner.hears_begun
        self.begun = inner.begun

    def finished(self, call: ObservedCall, outcome: str, upstream: ObservedUpstream) -> None:
        """Write the line. The worker's own requests have none."""
        self._finished(call, outcome, upstream)
        if call.started_at:
            name = call.name
            if len(name) > _WORDS:
                name = name[:_WORDS]
            seconds, waiting = self._clock() - call.started_at, self._waiting
            called = call.method, name, outcome, upstream.group, upstream.id
            waiting.append((time.time(), call.trace, seconds, called))
            held = len(waiting)
            if held == 1 or held >= AT_ONCE:
                self._grew()
