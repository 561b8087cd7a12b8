"""Which upstream session a call uses. Pure.

The front end and the worker must agree, so the rule is written once. The front end needs the answer because ``CLIENT``
binds a client session to one replica and one worker. The worker needs the answer because it opens the sessions. Results
are cached, because every call needs one.
"""

from __future__ import annotations

import enum
import functools

from shared.choices import Isolation
from shared.mcp.versions import Era
from shared.transports import UpstreamSessions, traits


class SessionUse(enum.Enum):
    """How a call uses sessions of its upstream."""

    STATELESS = "stateless"
    """No upstream session: modern HTTP, or legacy HTTP without session ids."""
    SHARED = "shared"
    """One upstream session for all clients."""
    CLIENT = "client"
    """An upstream session that belongs to the client's session."""
    LEASE = "lease"
    """A session borrowed for the call, from those of the same principal."""


FOR_ALL = (SessionUse.STATELESS, SessionUse.SHARED)
"""The uses that do not depend on the client: one session carries every call of an era."""


@functools.lru_cache(256)
def era_for(client_era: int, eras: tuple[str, ...]) -> Era:
    """Return the era in which a client is served: the client's era if the upstream speaks it, else the other one."""
    own = Era(client_era)
    if own.word in eras or not eras:
        return own
    return Era.MODERN if own is Era.LEGACY else Era.LEGACY


@functools.lru_cache(256)
def session_use(
    isolation: Isolation,
    transport: str,
    eras: tuple[str, ...],
    sessionful: bool,
    client_era: int,
    has_session: bool,
) -> SessionUse:
    """Return how a call uses sessions of an upstream that is reached by ``transport``."""
    sessions = traits(transport).sessions
    if sessions is UpstreamSessions.PROCESS:
        if isolation is not Isolation.CLIENT:
            return SessionUse.SHARED
    elif sessions is UpstreamSessions.OFFERED and (era_for(client_era, eras) is Era.MODERN or not sessionful):
        return SessionUse.STATELESS
    elif isolation is Isolation.SHARED:
        return SessionUse.SHARED
    return SessionUse.CLIENT if has_session else SessionUse.LEASE
