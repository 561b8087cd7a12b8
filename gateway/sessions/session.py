"""What a front end knows of one client session of the handshake era."""

from __future__ import annotations

import sys

from gateway.calls.in_flight import InFlight
from shared.mcp.methods import hears_warnings


class ClientSession:
    """What a front end knows of one client session. ``endpoint`` is the name in ``/servers/{name}``, or empty.

    With ten thousand of them each call meets cold memory, so what it looks at is little, and shared where it can be:
    ``round`` and ``announced_to`` are small integers, versions are interned, and without calls there is no table of
    them.
    """

    __slots__ = (
        "announced_to",
        "capabilities",
        "client_info",
        "ended",
        "endpoint",
        "holder",
        "initialized",
        "known",
        "log_level",
        "pins",
        "principal",
        "round",
        "sid",
        "subscriptions",
        "touched_at",
        "under_way",
        "version",
    )

    def __init__(self, sid: str, version: str, principal: str, endpoint: str) -> None:
        self.sid = sid
        self.version = sys.intern(version)
        self.principal = principal
        self.endpoint = endpoint
        self.capabilities = b"{}"
        self.client_info = b""
        self.holder = ""
        self.initialized = True  # its client said what it can do (HTTP+SSE: after the session was opened)
        self.log_level = ""
        self.pins: dict[str, str] = {}
        self.under_way: dict[bytes, InFlight] | None = None
        self.announced_to = 0  # a bit for each worker that has heard of the session
        self.subscriptions: set[str] = set()
        self.touched_at = 0.0
        self.round = -1  # when it was last noted that the session is in use
        self.known = False  # it is in the session table
        self.ended = False

    @property
    def calls(self) -> list[InFlight]:
        """Those under way here."""
        return list((self.under_way or {}).values())

    def call(self, id: bytes) -> InFlight | None:
        """The one under way here that its client gave this id."""
        return (self.under_way or {}).get(id)

    @property
    def hears_warnings(self) -> bool:
        """It asked for log messages, and for warnings among them."""
        return hears_warnings(self.log_level)
