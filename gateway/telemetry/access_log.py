"""Access lines (``accessLog``): one for each call that is over. Counterpart: ``worker.calls.access_log``.

The request id is the trace id of the call's W3C trace context, the client's if it sent one, and that of its spans. It
travels to the worker, so the line of the front end and that of the worker have the same. Arguments and results are
never in a line.
"""

from __future__ import annotations

from random import getrandbits
from time import time

from gateway.telemetry.observer import CallObserver, ObservedCall, arrived
from shared.logs import AT_ONCE, Lines
from shared.mcp.versions import Era

_WORDS = 200
_LEGACY, _MODERN = Era.LEGACY.word, Era.MODERN.word
NAMES = ("method", "name", "outcome", "group", "upstream", "principal", "era", "attempts")
"""What a line says beside the request and its time."""


_SPAN = f"{getrandbits(64) | 1:016x}"
"""The id of the span that a trace of nobody has: it only fills the place."""


def new_trace() -> str:
    """Return the context of a trace that nobody records."""
    return f"00-{getrandbits(128):032x}-{_SPAN}-00"


class AccessLog:
    """An observer that writes a line for each call that is over. It stands before ``inner``, another observer, which
    costs less than to tell both of everything."""

    hears_begun = True

    def __init__(self, lines: Lines, inner: CallObserver) -> None:
        self._waiting = lines.waiting
        self._grew = lines.grew
        self._begun = inner.begun if inner.hears_begun else None
        self._finished = inner.finished
        self.attempted = inner.attempted
        self.attempt_failed = inner.attempt_failed

    def begun(self, call: ObservedCall) -> None:
        """Give the call the id that its client sent, or one of its own, if it has none yet."""
        if self._begun is not None:
            self._begun(call)
        if not call.trace:
            meta, client = call.meta, call.client
            if (client is None or client.trace is None) and (meta is None or not meta.trace_parent):
                call.trace = f"00-{getrandbits(128):032x}-{_SPAN}-00"
            else:
                sent = arrived(call)
                call.trace = sent.parent if sent is not None else new_trace()

    def finished(self, call: ObservedCall, outcome: str, seconds: float) -> None:
        """Write the line."""
        self._finished(call, outcome, seconds)
        name = call.name
        if len(name) > _WORDS:
            name = name[:_WORDS]
        era, waiting, whose = _MODERN if call.era else _LEGACY, self._waiting, call.principal
        called = call.method, name, outcome, call.group, call.upstream, whose, era, call.attempts
        waiting.append((time(), call.trace, seconds, called))
        held = len(waiting)
        if held == 1 or held >= AT_ONCE:
            self._grew()
