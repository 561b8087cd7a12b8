"""What an observer of calls is told, and by whom: ``fleet.dispatch`` alone. Counterpart: ``worker.calls.observer``.

A call begins once, is attempted once or more (each time on one replica), and ends exactly once. Observers are called
on the hot path: they note plain values and do their work elsewhere. Without an observer nothing is called.
"""

from __future__ import annotations

from typing import Protocol

from msgspec import Struct

ANSWERED = "answered"
"""The outcome of a call that the upstream answered with a result."""
UPSTREAM_ERROR = "upstream_error"
"""The outcome of a call that the upstream answered with a JSON-RPC error."""
ABANDONED = "abandoned"
"""The outcome of a call whose client left before the answer."""
LISTENING = "listening"
"""The outcome of a request that became a stream without an end."""


class ObservedCall(Struct, gc=False, kw_only=True):
    """One request of a client on its way to an upstream.

    ``name`` is what is called, as the upstream names it; ``started_at`` is loop time, 0 before the call has begun;
    ``trace`` is the W3C trace context that travels to the worker, which an observer may set in ``begun``.
    """

    method: str = ""
    name: str = ""
    group: str = ""
    principal: str = ""
    started_at: float = 0.0
    attempts: int = 0
    trace: str = ""


class CallObserver(Protocol):
    """Hears of calls; see the module."""

    def begun(self, call: ObservedCall) -> None:
        """A call has begun; no replica is chosen yet."""

    def attempted(self, call: ObservedCall, upstream: str, worker: str) -> None:
        """A call is being sent to ``upstream`` by way of ``worker``; ``call.attempts`` counts this attempt."""

    def finished(self, call: ObservedCall, outcome: str, seconds: float) -> None:
        """A call is over after ``seconds``. ``outcome`` is one of the words above, or the code of one of our errors."""


class Observers:
    """Several observers as one, in order."""

    def __init__(self, *observers: CallObserver) -> None:
        self._observers = observers

    def begun(self, call: ObservedCall) -> None:
        """Tell each observer."""
        for observer in self._observers:
            observer.begun(call)

    def attempted(self, call: ObservedCall, upstream: str, worker: str) -> None:
        """Tell each observer."""
        for observer in self._observers:
            observer.attempted(call, upstream, worker)

    def finished(self, call: ObservedCall, outcome: str, seconds: float) -> None:
        """Tell each observer."""
        for observer in self._observers:
            observer.finished(call, outcome, seconds)
