"""The interface of observers of calls. Only ``fleet.dispatch`` notifies them. Counterpart: ``worker.calls.observer``.

A call begins once, is attempted on one replica at a time, and ends exactly once; a call that is refused before it is
sent has no attempt. Observers are called on the hot path: they should note plain values and do their work elsewhere.
"""

from __future__ import annotations

from typing import Any, Protocol

from msgspec import Struct

from shared.mcp.jsonrpc import Meta
from shared.tracing import context
from shared.tracing.context import Context

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


class ClientHead(Protocol):
    """The head of a client's request, as far as it concerns calls (``gateway.admission.request_head``).

    ``trace`` is the trace context in its headers, or ``None``. ``waited_s`` is how long admission had to wait.
    """

    others: tuple[tuple[str, str], ...]
    authorization: str | None
    trace: Context | None
    waited_s: float


class ObservedCall(Struct, gc=False, kw_only=True):
    """One request of a client on its way to an upstream.

    ``name`` is what is called, as the upstream names it; ``started_at`` is loop time, 0 before the call has begun;
    ``upstream`` is the one that it was sent to last, empty before it was sent; ``era`` is that of the client, ``id``
    the JSON of its request id. ``client`` and ``meta`` are the head of its request and the ``_meta`` of its params, or
    ``None``.
    ``trace`` is the ``traceparent`` that travels to the worker, ``trace_state`` and ``baggage`` go with it: an observer
    may set them in ``begun`` and ``attempted``. ``span`` is what observers keep of a call that is traced. ``quota`` are
    the caller's limits, or ``None``, and ``counted`` is whether the call was counted there. ``answers``: whether it
    comes again with answers to questions. ``error`` is what the gateway said of its failure, before it is told of the
    end. ``result_bytes`` is how long the upstream's answer is.
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
    trace_state: str = ""
    baggage: str = ""
    id: bytes = b""
    client: ClientHead | None = None
    meta: Meta | None = None
    span: Any = None
    quota: Quota | None = None
    counted: bool = False
    answers: bool = False
    error: str = ""
    result_bytes: int = 0

    def __repr__(self) -> str:
        """Show what is called, without arguments."""
        return f"{type(self).__name__}({self.method} {self.name!r} of {self.group!r})"


def arrived(call: ObservedCall) -> Context | None:
    """Return the trace context that the client sent, or ``None``. What ``_meta`` says is about the call itself, the
    headers are about the HTTP request (semantic conventions for MCP, "Context propagation")."""
    meta = call.meta
    if meta is not None and meta.trace_parent:
        found = context.of_meta(meta.trace_parent, meta.trace_state, meta.baggage)
        if found is not None:
            return found
    return call.client.trace if call.client is not None else None


class CallObserver(Protocol):
    """What is notified of calls. One whose ``hears_begun`` is false need not be told of beginnings."""

    hears_begun: bool

    def begun(self, call: ObservedCall) -> None:
        """Called when a call has begun."""

    def attempted(self, call: ObservedCall, upstream: str, worker: str) -> None:
        """Called when a call is sent to ``upstream`` by way of ``worker``; ``call.attempts`` includes this attempt."""

    def attempt_failed(self, call: ObservedCall, code: str) -> None:
        """Called when the last attempt of a call failed with this error; another one may follow."""

    def finished(self, call: ObservedCall, outcome: str, seconds: float) -> None:
        """Called when a call is over, after ``seconds``.

        ``outcome`` is one of the constants of this module, or the code of an error of the gateway.
        """


class Observers:
    """Several observers as one; they are notified in order."""

    hears_begun = True

    def __init__(self, *observers: CallObserver) -> None:
        self._observers = observers
        self._begun = [one.begun for one in observers if one.hears_begun]
        self._finished = [one.finished for one in observers]

    def begun(self, call: ObservedCall) -> None:
        for begun in self._begun:
            begun(call)

    def attempted(self, call: ObservedCall, upstream: str, worker: str) -> None:
        for observer in self._observers:
            observer.attempted(call, upstream, worker)

    def attempt_failed(self, call: ObservedCall, code: str) -> None:
        for observer in self._observers:
            observer.attempt_failed(call, code)

    def finished(self, call: ObservedCall, outcome: str, seconds: float) -> None:
        for finished in self._finished:
            finished(call, outcome, seconds)
