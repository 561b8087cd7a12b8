"""What may be sent again after a failure. Pure.

A call that was certainly not delivered may be sent again, to another replica. If the outcome is unknown, only calls
that do the same when they run twice are sent again: reads, and tools with ``readOnlyHint`` or ``idempotentHint``. Any
other call is never silently run twice.
"""

from __future__ import annotations

from collections import deque

from shared.errors import CallError
from shared.mcp.methods import REPEATABLE

ATTEMPTS = 4
"""How often one call is sent, at most. In a larger group every replica may be tried, within the call's time."""

_BUDGET_MARKS = 10
"""The seconds over which retries are a share of calls."""
_ALWAYS = 10
"""The retries that are allowed in this time whatever the number of calls."""


def may_repeat(delivered: bool, code: str, method: str, tool_repeatable: bool) -> bool:
    """Return whether a call that failed with the error ``code`` may be sent again.

    ``delivered`` is False if the call certainly did not reach the upstream.
    """
    if code == "timeout":
        return False  # its time is used up
    if not delivered:
        return code != "cancelled"
    if code == "invalid_params":
        return False  # any other replica would refuse it too
    return method in REPEATABLE or tool_repeatable


class RetryBudget:
    """Bounds the calls that are sent again to a share of all, so that retries do not multiply an overload.

    ``sent`` counts attempts. Some retries are always allowed, so that a failing replica costs quiet clients nothing.
    """

    def __init__(self, share: float) -> None:
        self.sent = 0
        self._share = share
        self._again = 0
        self._marks: deque[tuple[int, int]] = deque([(0, 0)], maxlen=_BUDGET_MARKS)

    def take(self) -> bool:
        """Return whether one more call may be sent again, and count it."""
        sent, again = self._marks[0]
        repeats = self._again - again
        if repeats >= _ALWAYS + self._share * max(self.sent - sent - repeats, 0):
            return False
        self._again += 1
        return True

    def take_spare(self) -> bool:
        """Return whether one more call may be sent to a second replica that has not failed at the first, and count it.
        Such calls keep strictly to the share."""
        sent, again = self._marks[0]
        repeats = self._again - again
        if repeats + 1 > self._share * (self.sent - sent - repeats):
            return False
        self._again += 1
        return True

    def advance(self) -> None:
        """Forget the oldest second. Called about once a second."""
        self._marks.append((self.sent, self._again))


def most_useful(before: CallError | None, error: CallError) -> CallError:
    """Return which of two failures of one call its client should get, if no further attempt succeeds.

    That one replica has no room now says more than that another one is down: the call can be sent again later. Of two
    replicas without room the client is told of the one that has room first.
    """
    if before is None or before.code != "overloaded":
        return error
    if error.code == "overloaded" and error.retry_after_s < before.retry_after_s:
        return error
    return before
