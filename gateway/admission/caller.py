"""Who asks, once admitted; and what is missing while that cannot be told."""

from __future__ import annotations

import enum

from msgspec import Struct

from gateway.routing.view import View
from gateway.sessions.session import ClientSession
from shared.mcp.versions import Era


class Waits(enum.Enum):
    """What has to be awaited before the same question can be asked again. The express lane leaves such requests to the
    ordinary one."""

    BODY = "the request's body"
    SESSION = "the session's facts, from Redis"
    CATALOGUE = "what the registry has announced so far"


class Caller(Struct, frozen=True, gc=False):
    """Who asks, and through what. Whoever was admitted is served: nothing makes a caller but ``admit``.

    ``principal`` is who is behind the request, for everything that belongs to somebody; ``version`` the protocol
    version that is spoken; ``view`` what this caller sees; ``session`` the client session, if there is one.
    """

    principal: str
    era: Era
    version: str
    view: View
    session: ClientSession | None = None
