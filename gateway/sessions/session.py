"""What a front end knows of one client session of the handshake era."""

from __future__ import annotations

import sys

from gateway.calls.in_flight import InFlight
from shared.mcp.listings import Kind
from shared.mcp.methods import wants_warnings


class ClientSession:
    """One client session. ``endpoint`` is the name in ``/servers/{name}``, or empty for ``/mcp``.

    ``holder`` is the front end that holds the session's stream, ``pins`` the replica that the session is bound to in
    each group, and ``subscriptions`` the URIs of resources.

    With ten thousand sessions every call meets cold memory. So a call reads few values, and they are shared where
    possible: ``round`` and ``announced_to`` are small integers, versions are interned, and ``under_way`` is ``None``
    without calls.
    """

    __slots__ = (
        "announced_to",
        "capabilities",
        "client_info",
        "ended",
        "endpoint",
        "fresh",
        "holder",
        "initialized",
        "known",
        "log_level",
        "own",
        "pins",
        "policy_class",
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
        self.policy_class = ""  # of the credentials that the principal used last at this front end
        self.endpoint = endpoint
        self.capabilities = b"{}"
        self.client_info = b""
        self.holder = ""
        self.initialized = True  # the client has sent ``initialize`` (over HTTP+SSE after the session was opened)
        self.log_level = ""
        self.pins: dict[str, str] = {}
        self.own: dict[tuple[str, Kind], bytes] | None = None  # see ``fleet.own_lists``
        self.fresh = False  # the session was opened here, and so every news of it has come here
        self.under_way: dict[bytes, InFlight] | None = None
        self.announced_to = 0  # a bit for each worker that knows the session
        self.subscriptions: set[str] = set()
        self.touched_at = 0.0
        self.round = -1  # the round of ``SessionTable`` in which the session was last noted to be in use
        self.known = False  # the session is in the session table
        self.ended = False

    @property
    def calls(self) -> list[InFlight]:
        """The session's calls under way at this front end."""
        return list((self.under_way or {}).values())

    def call(self, id: bytes) -> InFlight | None:
        """Return the call under way here with this request id (JSON), or ``None``."""
        return (self.under_way or {}).get(id)

    @property
    def wants_warnings(self) -> bool:
        """Whether the client wants log messages of level warning."""
        return wants_warnings(self.log_level)
