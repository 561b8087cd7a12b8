"""What is to be sent to an upstream, and where it must go. Pure values; ``dispatch`` carries them."""

from __future__ import annotations

from typing import final

from msgspec import Struct

from gateway.routing.routes import Route
from gateway.sessions.session import ClientSession
from gateway.telemetry.observer import ObservedCall


@final
class Anywhere(Struct, frozen=True):
    """Any replica of the route will do."""


@final
class Bound(Struct, frozen=True, gc=False):
    """The replica to which ``session`` is bound, or the balancer's choice, which binds the session from then on."""

    session: ClientSession


@final
class Exact(Struct, frozen=True):
    """The upstream that answered before, by way of the same worker where ``parked``: a call that waits there goes on.

    Without ``parked`` another replica may be tried when that upstream is down.
    """

    upstream: str
    worker: str
    parked: bool


Affinity = Anywhere | Bound | Exact
ANYWHERE = Anywhere()


class Outgoing(ObservedCall, gc=False, kw_only=True):
    """One request for an upstream.

    ``params`` is JSON in the upstream's own names; ``id`` is the JSON of the client's request id, ``token`` of its
    progress token; ``listed_name`` is the URI that the result is to name instead of ``name``; ``headers`` are the
    ``Mcp-Param-*`` headers. ``instead`` is asked when this upstream does not know what is asked for.
    """

    route: Route
    params: bytes | memoryview
    era: int
    affinity: Affinity = ANYWHERE
    session: ClientSession | None = None
    id: bytes = b""
    token: bytes = b""
    listed_name: str = ""
    headers: dict[str, str] | None = None
    instead: Outgoing | None = None


def affinity(route: Route, session: ClientSession | None) -> Affinity:
    """Return where a request of ``session`` on this route must go."""
    return Bound(session) if session is not None and route.binds else ANYWHERE
