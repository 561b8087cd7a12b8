"""The interface of observers of calls to upstreams: the worker's counterpart of ``gateway.telemetry.observer``.

A call begins when it is given to an upstream, and ends exactly once. Observers are called on the hot path.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any, Protocol

from shared.metrics.families import BUCKETS_S, Family, Sample, counter, histogram

ANSWERED = "answered"
"""The outcome of a call that the upstream answered with a result."""
UPSTREAM_ERROR = "upstream_error"
"""The outcome of a call that the upstream answered with a JSON-RPC error."""
CANCELLED = "cancelled"
"""The outcome of a call that its client cancelled, or whose client has left."""
OTHER = "other"
"""The name under which is counted what has no row of its own."""
_ROWS_PER_UPSTREAM = 10


class ObservedCall(Protocol):
    """One call to an upstream; ``trace`` is the W3C trace context that came with it. ``started_at`` is the loop time at
    which it came, 0 for the worker's own requests."""

    method: str
    name: str
    trace: str
    started_at: float


class ObservedUpstream(Protocol):
    """The upstream that carries a call."""

    id: str
    group: str


class CallObserver(Protocol):
    """Is notified of calls to upstreams. One whose ``hears_begun`` is false is only told of ends."""

    hears_begun: bool

    def begun(self, call: ObservedCall, upstream: ObservedUpstream) -> None:
        """Note that a call is given to an upstream."""

    def finished(self, call: ObservedCall, outcome: str, upstream: ObservedUpstream) -> None:
        """Note that a call is over. ``outcome`` is ``ANSWERED``, ``UPSTREAM_ERROR``, ``CANCELLED``, or the code of one
        of the gateway's errors."""


class Counters:
    """The first observer: counts since this worker started, shown in its record and by ``/metrics``.

    At most ``max_rows`` upstreams have figures of their own; calls to further ones are counted as ``other``. ``clock``
    is the one by which calls say when they started.
    """

    hears_begun = False
    __slots__ = ("_clock", "_durations", "_max_rows", "_rows", "calls", "errors", "failures")

    def __init__(self, max_rows: int = 1000, clock: Callable[[], float] = time.monotonic) -> None:
        self.calls = 0
        self.errors = 0
        self.failures = 0
        self._clock = clock
        self._max_rows = max_rows
        self._rows: dict[tuple[str, str, str, str], list[int]] = {}
        self._durations: dict[tuple[str, str], list[float]] = {}

    def begun(self, call: ObservedCall, upstream: ObservedUpstream) -> None:
        """Do nothing: a call is counted at its end."""

    def finished(self, call: ObservedCall, outcome: str, upstream: ObservedUpstream) -> None:
        """Count an answer or a failure. A cancelled call is neither."""
        self.calls += 1
        try:
            row = self._rows[upstream.group, upstream.id, call.method, outcome]
        except KeyError:
            row = self._row(upstream.group, upstream.id, call.method, outcome)
        row[0] += 1
        if outcome is ANSWERED or outcome is UPSTREAM_ERROR:
            if outcome is UPSTREAM_ERROR:
                self.errors += 1
            if call.started_at:
                seconds, at = self._clock() - call.started_at, 0
                try:
                    durations = self._durations[upstream.group, upstream.id]
                except KeyError:
                    durations = self._durations_of(upstream.group, upstream.id)
                for limit_s in BUCKETS_S:  # as bisect, which would be one more call of a function
                    if seconds <= limit_s:
                        break
                    at += 1
                durations[at] += 1
                durations[-1] += seconds
        elif outcome != CANCELLED:
            self.failures += 1

    def _row(self, group: str, id: str, method: str, outcome: str) -> list[int]:
        if len(self._rows) >= self._max_rows * _ROWS_PER_UPSTREAM:
            group = id = method = OTHER
        return self._rows.setdefault((group, id, method, outcome), [0])

    def _durations_of(self, group: str, id: str) -> list[float]:
        """Return the counts of the buckets of an upstream, and behind them the sum."""
        if len(self._durations) >= self._max_rows:
            group = id = OTHER
        return self._durations.setdefault((group, id), [0] * (len(BUCKETS_S) + 1) + [0.0])

    def families(self) -> list[Family]:
        """Return the counts by upstream."""
        labels = ("group", "upstream", "method", "outcome")
        calls = counter("gateway_upstream_calls", "Requests that workers sent to upstreams, their own included", labels)
        calls.samples += [Sample(names, row[0]) for names, row in self._rows.items()]
        text = "Time from a worker to the upstream's answer, connecting and waiting for a session included"
        durations = histogram("gateway_upstream_duration_seconds", text, ("group", "upstream"))
        for names, (*buckets, seconds) in self._durations.items():
            durations.samples.append(Sample(names, seconds, [int(one) for one in buckets]))
        return [calls, durations]


class Traffic:
    """The number of calls in flight at one upstream, and of those that came (``count``), for as long as this worker has
    it. ``observer`` is notified as well, and of ends so is ``left``, if the upstream has a limit (``calls.gate``)."""

    __slots__ = ("_begun", "_left", "_observer", "count", "group", "id", "in_flight")

    def __init__(
        self,
        observer: CallObserver | None = None,
        id: str = "",
        group: str = "",
        left: Callable[[Any, str], None] | None = None,
    ) -> None:
        self._observer = observer
        self._begun = observer.begun if observer is not None and observer.hears_begun else None
        self.id = id
        self.group = group
        self.in_flight = 0
        self.count = 0
        self._left = left

    def begun(self, call: ObservedCall) -> None:
        self.in_flight += 1
        self.count += 1
        if self._begun is not None:
            self._begun(call, self)

    def finished(self, call: ObservedCall, outcome: str) -> None:
        self.in_flight -= 1
        if self._observer is not None:
            self._observer.finished(call, outcome, self)
        if self._left is not None:
            self._left(call, outcome)
