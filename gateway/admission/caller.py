"""The outcome of admission: the caller, or what has to be awaited before the caller is known."""

from __future__ import annotations

import enum

from msgspec import Struct

from gateway.access.principal import Principal
from gateway.routing.view import View
from gateway.sessions.session import ClientSession
from shared.mcp.versions import Era


class Waits(enum.Enum):
    """What has to be awaited before ``Admission.admit`` or ``Methods.plan`` is called again.

    The express lane never awaits; it leaves such requests to the ordinary lane.
    """

    PRINCIPAL = "who is behind the request"
    BODY = "the request's body"
    SESSION = "the session's facts, from Redis"
    CATALOGUE = "what the registry has announced so far"


class Caller(Struct, frozen=True, gc=False):
    """Who sent an admitted request. Only ``Admission.admit`` makes callers, so every caller may be served.

    ``principal`` is who is behind the request, to whose id client sessions and sealed states belong; ``version`` is
    the protocol version in use; ``view`` is what this caller sees; ``session`` is the client session, or ``None``.
    """

    principal: Principal
    era: Era
    version: str
    view: View
    session: ClientSession | None = None
    widened: bool = False
    """Whether ``view`` has what the client's own upstream sessions list (``fleet.own_lists``)."""
