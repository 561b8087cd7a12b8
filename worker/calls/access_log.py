"""Access lines of a worker (``accessLog``): one for each call of a front end that is over. Counterpart:
``gateway.telemetry.access_log``, whose line of the same call has the same request id."""

from __future__ import annotations

import time
from collections.abc import Callable

from shared.logs import Lines
from worker.calls.observer import ObservedCall, ObservedUpstream

_WORDS = 200
NAMES = ("method", "name", "outcome", "group", "upstream")
"""What a line says beside the request and its time."""


class AccessLog:
    """An observer that writes a line for each call that is over. ``clock`` is the one by which calls say when they
    started."""

    hears_begun = False

    def __init__(self, lines: Lines, clock: Callable[[], float] = time.monotonic) -> None:
        self._lines = lines
        self._clock = clock

    def begun(self, call: ObservedCall, upstream: ObservedUpstream) -> None:
        """Do nothing: a line is written at the end."""

    def finished(self, call: ObservedCall, outcome: str, upstream: ObservedUpstream) -> None:
        """Write the line. The worker's own requests have none."""
        if call.started_at:
            ms = (self._clock() - call.started_at) * 1000
            name = call.name if len(call.name) <= _WORDS else call.name[:_WORDS]
            self._lines.write(call.trace[3:35], ms, (call.method, name, outcome, upstream.group, upstream.id))
