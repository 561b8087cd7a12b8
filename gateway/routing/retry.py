"""What may be sent again after a failure. Pure.

A call that was certainly not delivered may be sent again, to another replica. If the outcome is unknown, only calls
that do the same when they run twice are sent again: reads, and tools with ``readOnlyHint`` or ``idempotentHint``. Any
other call is never silently run twice.
"""

from __future__ import annotations

from shared.errors import CallError
from shared.mcp.methods import REPEATABLE

ATTEMPTS = 4
"""How often one call is sent, at most. In a larger group every replica may be tried, within the call's time."""


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
