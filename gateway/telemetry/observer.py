"""The interface of observers of calls. Only ``fleet.dispatch`` notifies them. Counterpart: ``worker.calls.observer``.

A call begins once, is attempted on one replica at a time, and ends exactly once; a call that is refused before it is
sent has no attempt. Observers are called on the hot path: they should note plain values and do their work elsewhere.
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


class Quota(Protocol):
    """The limits of whoever made a call (``gateway.access.limits``)."""

    def take(self, call: ObservedCall) -> bool:
        """Count a call. Return False if something has to be awaited for that. Raises ``CallError``."""

    async def acquire(self, call: ObservedCall) -> None:
        """Count a call, whatever has to be awaited for that. Raises ``CallError``."""

    def release(self, call: ObservedCall) -> None:
        """Note that a call that was counted is over."""


class ObservedCall(Struct, gc=False, kw_only=True):
    """One request of a client on its way to an upstream.

    ``name`` is what is called, as the upstream names it; ``started_at`` is loop time, 0 before the call has begun;
    ``upstream`` is the one that it was sent to last, empty before it was sent; ``era`` is that of the client.
    ``trace`` is the W3C trace context that travels to the worker, which an observer may set in ``begun``; ``quota`` are
    the caller's limits, or ``None``, and ``counted`` is whether the call was counted there.
    """

    method: str = ""
    name: str = ""
    listed_name: str = ""
    group: str = ""
    principal: str = ""
    started_at: float = 0.0
    attempts: int = 0
    era: int = 0
    upstream: str = ""
    trace: str = ""
    quota: Quota | None = None
    counted: bool = False

    def __repr__(self) -> str:
        """Show what is called, without arguments."""
        return f"{type(self).__name__}({self.method} {self.name!r} of {self.group!r})"


class CallObserver(Protocol):
    """What is notified of calls."""

    def begun(self, call: ObservedCall) -> None:
        """Called when a call has begun."""

    def attempted(self, call: ObservedCall, upstream: str, worker: str) -> None:
        """Called when a call is sent to ``upstream`` by way of ``worker``; ``call.attempts`` includes this attempt."""

    def finished(self, call: ObservedCall, outcome: str, seconds: float) -> None:
        """Called when a call is over, after ``seconds``.

        ``outcome`` is one of the constants of this module, or the code of an error of the gateway.
        """


class Observers:
    """Several observers as one; they are notified in order."""

    def __init__(self, *observers: CallObserver) -> None:
        self._observers = observers

    def begun(self, call: ObservedCall) -> None:
        for observer in self._observers:
            observer.begun(call)

    def attempted(self, call: ObservedCall, upstream: str, worker: str) -> None:
        for observer in self._observers:
            observer.attempted(call, upstream, worker)

    def finished(self, call: ObservedCall, outcome: str, seconds: float) -> None:
        for observer in self._observers:
            observer.finished(call, outcome, seconds)
