"""A request for an upstream, and where it must go. Pure values; ``dispatch`` sends them."""

from __future__ import annotations

from typing import final

from msgspec import Struct

from gateway.routing.routes import Route
from gateway.sessions.session import ClientSession
from gateway.telemetry.observer import ObservedCall


@final
class Anywhere(Struct, frozen=True):
    """Any replica of the route may take the request."""


@final
class Bound(Struct, frozen=True, gc=False):
    """The replica to which ``session`` is bound takes the request.

    For a session without a binding the balancer chooses, and the session is bound to the choice.
    """

    session: ClientSession


@final
class Exact(Struct, frozen=True):
    """The upstream that answered an earlier round of the same call takes the request.

    If ``parked``, the call waits at ``worker`` and goes on there. Else another replica may be tried when the upstream
    is down.
    """

    upstream: str
    worker: str
    parked: bool


@final
class Only(Struct, frozen=True):
    """This upstream alone can take the request, because it has the task that the request is about. ``worker`` keeps
    the task, or is empty where any worker reaches the upstream."""

    upstream: str
    worker: str = ""


Affinity = Anywhere | Bound | Exact | Only
ANYWHERE = Anywhere()


class Outgoing(ObservedCall, gc=False):
    """One request for an upstream.

    ``params`` is JSON with the upstream's names. ``token`` is the JSON of the client's progress token. ``listed_name``
    is the URI that the result must name instead of ``name``, or empty. ``headers`` are the ``Mcp-Param-*`` headers.
    ``confirm`` is the client's name of a tool that a person has to confirm, or empty.
    ``subject_token`` is the caller's access token, which leaves the front end only for an upstream that needs it.
    """

    route: Route
    params: bytes | memoryview
    affinity: Affinity = ANYWHERE
    session: ClientSession | None = None
    token: bytes = b""
    headers: dict[str, str] | None = None
    subject_token: str = ""
    confirm: str = ""


def affinity(route: Route, session: ClientSession | None) -> Affinity:
    """Return where a request on this route must go; ``session`` is the caller's, or ``None``."""
    return Bound(session) if session is not None and route.binds else ANYWHERE
