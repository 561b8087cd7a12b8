"""Telling a client that its upstream session is gone, and with it what the upstream remembered of the client."""

from __future__ import annotations

from shared.mcp import jsonrpc
from shared.mcp.methods import LOGGED, wants_warnings
from worker.calls.call import Call
from worker.calls.client_facts import ClientFacts
from worker.sessions.context import UnsolicitedPath

_STATE_LOST = jsonrpc.notification(
    LOGGED,
    jsonrpc.assemble(
        {
            "level": "warning",
            "logger": "gateway",
            "data": "the upstream's session with this client has ended; a new one is opened, its state is lost",
        }
    ),
)


class StateLoss:
    """Tells the client of one upstream session. ``sid`` is empty if the session belongs to no client."""

    def __init__(self, unsolicited: UnsolicitedPath, sid: str, client: ClientFacts) -> None:
        self._unsolicited = unsolicited
        self._sid = sid
        self._client = client
        self._told = False

    def over(self) -> None:
        """Note that the session is ready: the client is told when it is lost the next time."""
        self._told = False

    def tell(self, call: Call | None, now: float) -> None:
        """Tell the client, unless it was told already or wants no warnings: on the stream of ``call``, if a call found
        the session gone, else on the client's standing stream. ``now`` is the loop's time."""
        level = self._client.log_level
        if not self._sid or self._told or (level and not wants_warnings(level)):
            return
        self._told = True
        if call is not None:
            call.interim(_STATE_LOST, now)
        else:
            self._unsolicited.tell(self._sid, _STATE_LOST)
