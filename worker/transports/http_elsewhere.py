"""Calls that an upstream accepted with HTTP 202, and answers on the session's standing stream.

The specification wants the answer in the response itself. Servers that keep one event stream for each client answer
there, and clients find it: they do not ask on which stream an answer arrives. Pure.
"""

from __future__ import annotations

from shared.errors import CallError
from worker.sessions.correlation import Correlation

_FORGET = 16


class AnsweredElsewhere:
    """The calls of one session, and the errors for them if there is no such stream. Some that were answered may be
    among them, no more than there are calls in flight, and ``_FORGET``."""

    def __init__(self, correlation: Correlation) -> None:
        self._correlation = correlation
        self._calls: dict[int, CallError] = {}

    def add(self, id: int, error: CallError) -> None:
        """Note that call ``id`` was accepted."""
        in_flight = self._correlation.calls
        if len(self._calls) >= len(in_flight) + _FORGET:
            self._calls = {id: error for id, error in self._calls.items() if id in in_flight}
        self._calls[id] = error

    def refused(self) -> None:
        """Fail them, because the upstream refuses the standing stream."""
        calls, self._calls = self._calls, {}
        for id, error in calls.items():
            call = self._correlation.forget(id)
            if call is not None:
                call.fail(error)
