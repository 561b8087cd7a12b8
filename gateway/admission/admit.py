"""The one decision on who asks: in which era, in which session, as which principal, seeing which view.

``admit`` is synchronous and looks at nothing but memory, so that the express lane and the ordinary lane call the same
function. When something is missing it says what (``Waits``); the ordinary lane awaits that and asks again. A refusal is
raised here, once, and worded by ``protocol.answers``.
"""

from __future__ import annotations

from typing import Protocol, cast

from msgspec import Struct

from gateway.admission import modern_request
from gateway.admission.caller import Caller, Waits
from gateway.admission.principals import Principals
from gateway.admission.request_head import RequestHead
from gateway.routing.views import Views
from gateway.sessions.session import ClientSession
from shared.errors import Refused
from shared.mcp.jsonrpc import NO_PARAMS, Message, Params
from shared.mcp.methods import INITIALIZE
from shared.mcp.versions import DEFAULT_WITHOUT_HEADER, LATEST_MODERN, Era


class SessionRead(Struct, frozen=True):
    """What was read for ``Waits.SESSION``: the session, or ``None`` when there is none."""

    session: ClientSession | None


class KnownSessions(Protocol):
    """The sessions that this front end knows (``sessions.table``)."""

    def cached(self, sid: str) -> ClientSession | None:
        """Return the session if it is known here, and note that it is in use."""

    def again(self, session: ClientSession) -> bool:
        """Whether a session that was found before still counts; notes that it is in use."""


class Admission:
    """See the module."""

    def __init__(self, principals: Principals, views: Views, sessions: KnownSessions) -> None:
        self._principals = principals
        self._views = views
        self._sessions = sessions

    def admit(
        self,
        head: RequestHead,
        message: Message | None = None,
        params: Params = NO_PARAMS,
        read: SessionRead | None = None,
    ) -> Caller | Waits:
        """Return who asks, or what has to be awaited before that can be told. Raises ``Refused``.

        ``message`` is ``None`` before the body was read; ``read`` is what was found for ``Waits.SESSION``.
        """
        if head.refusal is not None:
            raise Refused("forbidden", head.refusal)
        principal = self._principals.of(head)
        if type(principal) is not str:
            return cast(Waits, principal)
        if message is None:
            if head.has_body:
                return Waits.BODY
            message = _NOTHING
        if head.era is None and ((params.meta is not None and params.meta.version) or head.names_modern_version):
            if message.method and message.id:
                modern_request.check(head.headers, message, params)
            return Caller(principal, Era.MODERN, LATEST_MODERN, self._views.of(head.endpoint, principal))
        if head.session is None or (message.method == INITIALIZE and head.era is None):
            version = head.headers.version or DEFAULT_WITHOUT_HEADER
            return Caller(principal, Era.LEGACY, version, self._views.of(head.endpoint, principal))
        session = self._session(head, principal, read)
        if isinstance(session, Waits):
            return session
        return Caller(principal, Era.LEGACY, session.version, self._views.of(head.endpoint, principal), session)

    def _session(self, head: RequestHead, principal: str, read: SessionRead | None) -> ClientSession | Waits:
        """Return the session that the head names. Raises ``Refused`` for one that is unknown here: ended, at another
        endpoint, or somebody else's, which are told apart by nobody."""
        assert head.session is not None
        session = head.found
        if session is None or not self._sessions.again(session):
            session = self._sessions.cached(head.session)
            if session is None:
                if read is None:
                    return Waits.SESSION
                session = read.session
        if session is None or session.endpoint != head.endpoint or session.principal != principal:
            raise Refused("session_unknown", "unknown or ended session; send initialize again")
        head.found = session
        return session


_NOTHING = Message()
