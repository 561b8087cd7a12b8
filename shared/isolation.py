"""Which upstream session a call uses. Pure (and remembered: it is asked with each call); front end and worker
must agree, so the rule is written once.

A front end needs the answer because ``CLIENT`` binds a client session to one replica and one worker; the worker
because it opens the sessions.
"""

from __future__ import annotations

import enum
import functools

from shared.mcp.versions import Era
from shared.models import Isolation
from shared.transports import UpstreamSessions, traits


class SessionUse(enum.Enum):
    """How a call meets the upstream."""

    STATELESS = "stateless"
    """No upstream session at all: modern HTTP, or legacy HTTP without session ids."""
    SHARED = "shared"
    """One upstream session for everybody."""
    CLIENT = "client"
    """An upstream session that belongs to the client's session."""
    LEASE = "lease"
    """A session borrowed for the call, among those of the same principal."""


FOR_ALL = (SessionUse.STATELESS, SessionUse.SHARED)
"""The uses that do not depend on whose call it is: one session carries every call of an era."""


@functools.lru_cache(256)
def era_for(client_era: int, eras: tuple[str, ...]) -> Era:
    """The era in which a client is served: its own where the upstream speaks it."""
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
    """Return how a call meets an upstream that is reached by ``transport``."""
    sessions = traits(transport).sessions
    if sessions is UpstreamSessions.PROCESS:
        if isolation is not Isolation.CLIENT:
            return SessionUse.SHARED
    elif sessions is UpstreamSessions.OFFERED and (era_for(client_era, eras) is Era.MODERN or not sessionful):
        return SessionUse.STATELESS
    elif isolation is Isolation.SHARED:
        return SessionUse.SHARED
    return SessionUse.CLIENT if has_session else SessionUse.LEASE
