"""The log level of an upstream session, and which of its log messages a client gets (2025-11-25, logging).

A session that several clients share is set to the most verbose level that one of them asked for, and each client gets
what it asked for.
"""

from __future__ import annotations

from shared.errors import Refused
from shared.mcp import jsonrpc
from shared.mcp.methods import LOG_LEVEL_META, SET_LEVEL, severity
from shared.mcp.versions import Era
from worker.calls.call import Call


class LogLevels:
    """``level`` is what ``logging/setLevel`` set last, or empty; ``own``: the session belongs to one client."""

    def __init__(self, own: bool) -> None:
        self.level = ""
        self._own = own

    def is_too_high(self, call: Call) -> bool:
        """Whether a call's client asked for a more verbose level than the one that a shared session was set to."""
        if self._own or call.method == SET_LEVEL:
            return False
        if call.era == Era.MODERN and LOG_LEVEL_META.encode() not in call.params:
            return False
        call.learn_client()
        wanted = call.client.log_level
        return bool(wanted) and (not self.level or severity(wanted) < severity(self.level))

    def passes(self, call: Call, params: bytes) -> bool:
        """Whether the client of a call gets a log message of a server of the handshake era."""
        try:
            level = jsonrpc.text(jsonrpc.members(params).get("level", jsonrpc.ABSENT), "level")
        except Refused:
            return False
        call.learn_client()
        return call.receives(level, self._own, self.level)
