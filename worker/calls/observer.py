"""What an observer of calls to upstreams is told: the worker's twin of ``gateway.telemetry.observer``.

A call begins when an upstream is given it, and ends exactly once. Observers are called on the hot path.
"""

from __future__ import annotations

from typing import Protocol

ANSWERED = "answered"
"""The outcome of a call that the upstream answered with a result."""
UPSTREAM_ERROR = "upstream_error"
"""The outcome of a call that the upstream answered with a JSON-RPC error."""


class ObservedCall(Protocol):
    """One call to an upstream; ``trace`` is the W3C trace context that came with it."""

    method: str
    name: str
    trace: str


class CallObserver(Protocol):
    """Hears of calls to upstreams; see the module."""

    def begun(self, call: ObservedCall) -> None:
        """An upstream is being given a call."""

    def finished(self, call: ObservedCall, outcome: str) -> None:
        """A call is over. ``outcome`` is one of the words above, or the code of one of our errors."""


class Counters:
    """The first observer: counts of this worker since it started; its record shows them."""

    __slots__ = ("calls", "errors", "failures")

    def __init__(self) -> None:
        self.calls = 0
        self.errors = 0
        self.failures = 0

    def begun(self, call: ObservedCall) -> None:
        """Count nothing yet."""

    def finished(self, call: ObservedCall, outcome: str) -> None:
        """Count an answer or a failure."""
        self.calls += 1
        if outcome is UPSTREAM_ERROR:
            self.errors += 1
        elif outcome is not ANSWERED:
            self.failures += 1


class Traffic:
    """The calls that one upstream is at, for as long as this worker has it. ``observer`` hears of them as well."""

    __slots__ = ("_observer", "in_flight")

    def __init__(self, observer: CallObserver | None = None) -> None:
        self._observer = observer
        self.in_flight = 0

    def begun(self, call: ObservedCall) -> None:
        """Count a call that begins."""
        self.in_flight += 1
        if self._observer is not None:
            self._observer.begun(call)

    def finished(self, call: ObservedCall, outcome: str) -> None:
        """Count a call that ends."""
        self.in_flight -= 1
        if self._observer is not None:
            self._observer.finished(call, outcome)
