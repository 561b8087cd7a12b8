"""Access lines (``accessLog``): one for each call that is over. Counterpart: ``worker.calls.access_log``.

The request id is the trace id of the call's W3C trace context, the client's if it sent one, and that of its spans. It
travels to the worker, so the line of the front end and that of the worker have the same. Arguments and results are
never in a line.
"""

from __future__ import annotations

from random import getrandbits

from gateway.telemetry.observer import ObservedCall, arrived
from shared.logs import Lines
from shared.mcp.versions import Era

_WORDS = 200
_LEGACY, _MODERN = Era.LEGACY.word, Era.MODERN.word
NAMES = ("method", "name", "outcome", "group", "upstream", "principal", "era", "attempts")
"""What a line says beside the request and its time."""


def new_trace() -> str:
    """Return the context of a trace that nobody records."""
    return f"00-{getrandbits(128):032x}-{getrandbits(64):016x}-00"


class AccessLog:
    """An observer that writes a line for each call that is over."""

    def __init__(self, lines: Lines) -> None:
        self._lines = lines

    def begun(self, call: ObservedCall) -> None:
        """Give the call the id that its client sent, or one of its own, if it has none yet."""
        if not call.trace:
            sent = arrived(call)
            call.trace = sent.parent if sent is not None else new_trace()

    def attempted(self, call: ObservedCall, upstream: str, worker: str) -> None:
        """Do nothing: the line says how many attempts there were."""

    def attempt_failed(self, call: ObservedCall, code: str) -> None:
        """Do nothing: the line says how many attempts there were."""

    def finished(self, call: ObservedCall, outcome: str, seconds: float) -> None:
        """Write the line."""
        name = call.name if len(call.name) <= _WORDS else call.name[:_WORDS]
        era = _MODERN if call.era else _LEGACY
        whose, where = call.principal, call.upstream
        values = (call.method, name, outcome, call.group, where, whose, era, call.attempts)
        self._lines.write(call.trace[3:35], seconds * 1000, values)
