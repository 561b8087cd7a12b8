"""What may be sent again after a failure. Pure.

Not delivered: anything, elsewhere. Outcome unknown: only what does the same when it runs twice: reads, and tools that
say so (``readOnlyHint``, ``idempotentHint``). A call is never silently run twice.
"""

from __future__ import annotations

from shared.mcp.methods import REPEATABLE

ATTEMPTS = 4
"""Sendings of one call, at most; a larger group may be tried whole, within the call's time."""


def may_repeat(delivered: bool, code: str, method: str, tool_repeatable: bool) -> bool:
    """Whether a failed call may be sent again."""
    if code == "timeout":
        return False  # its time is used up
    if not delivered:
        return code != "cancelled"
    if code == "invalid_params":
        return False  # nobody else would take it either
    return method in REPEATABLE or tool_repeatable
