"""The interface of observers of calls to upstreams: the worker's counterpart of ``gateway.telemetry.observer``.

A call begins when it is given to an upstream, and ends exactly once. Observers are called on the hot path.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol

ANSWERED = "answered"
"""The outcome of a call that the upstream answered with a result."""
UPSTREAM_ERROR = "upstream_error"
"""The outcome of a call that the upstream answered with a JSON-RPC error."""
CANCELLED = "cancelled"
"""The outcome of a call that its client cancelled, or whose client has left."""


class ObservedCall(Protocol):
    """One call to an upstream; ``trace`` is the W3C trace context that came with it."""

    method: str
    name: str
    trace: str


class CallObserver(Protocol):
    """Is notified of calls to upstreams."""

    def begun(self, call: ObservedCall) -> None:
        """Note that a call is given to an upstream."""

    def finished(self, call: ObservedCall, outcome: str) -> None:
        """Note that a call is over. ``outcome`` is ``ANSWERED``, ``UPSTREAM_ERROR``, ``CANCELLED``, or the code of one
        of the gateway's errors."""


class Counters:
    """The first observer: counts since this worker started, shown in its record."""

    __slots__ = ("calls", "errors", "failures")

    def __init__(self) -> None:
        self.calls = 0
        self.errors = 0
        self.failures = 0

    def begun(self, call: ObservedCall) -> None:
        """Do nothing: a call is counted at its end."""

    def finished(self, call: ObservedCall, outcome: str) -> None:
        """Count an answer or a failure. A cancelled call is neither."""
        self.calls += 1
        if outcome is UPSTREAM_ERROR:
            self.errors += 1
        elif outcome is not ANSWERED and outcome != CANCELLED:
            self.failures += 1


class Traffic:
    """The number of calls in flight at one upstream, for as long as this worker has it. ``observer`` is notified as
    well, and of ends so is ``left``, if the upstream has a limit (``calls.gate``)."""

    __slots__ = ("_observer", "in_flight", "left")

    def __init__(self, observer: CallObserver | None = None) -> None:
        self._observer = observer
        self.in_flight = 0
        self.left: Callable[[Any, str], None] | None = None

    def begun(self, call: ObservedCall) -> None:
        self.in_flight += 1
        if self._observer is not None:
            self._observer.begun(call)

    def finished(self, call: ObservedCall, outcome: str) -> None:
        self.in_flight -= 1
        if self._observer is not None:
            self._observer.finished(call, outcome)
        if self.left is not None:
            self.left(call, outcome)
