"""The one decision on the caller of a request: its era, client session, principal and view.

``admit`` is synchronous and reads nothing but memory, so that the express lane and the ordinary lane call the same
function. If something is missing, ``admit`` returns what has to be awaited (``Waits``); the ordinary lane awaits that
and calls ``admit`` again. A refusal is raised here as ``Refused``; ``protocol.answers`` makes the HTTP answer of it.
"""

from __future__ import annotations

from typing import Protocol, cast

from msgspec import Struct

from gateway.access.principal import Principal
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
    """What Redis held when ``Waits.SESSION`` was awaited: the session, or ``None`` if there is none."""

    session: ClientSession | None


class KnownSessions(Protocol):
    """The client sessions that this front end knows; ``sessions.table`` implements it."""

    def cached(self, sid: str, principal: str | None = None) -> ClientSession | None:
        """Return the session and note that it is in use, or return ``None`` if this front end does not know it, or
        knows it as that of another ``principal``."""

    def again(self, session: ClientSession) -> bool:
        """Return whether a session that was found earlier is still valid, and note that the session is in use."""


class Admission:
    """Finds the caller of each request, or refuses the request."""

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
        """Return the caller, or what has to be awaited before the caller is known. Raises ``Refused``.

        ``message`` is ``None`` before the body was read; ``read`` is the outcome of awaiting ``Waits.SESSION``.
        """
        if head.refusal is not None:
            raise Refused(*head.refusal)
        principal = self._principals.of(head)
        if type(principal) is not Principal:
            return cast(Waits, principal)
        if message is None:
            if head.has_body:
                return Waits.BODY
            message = _NOTHING
        meta = params.meta
        if head.era is None and ((meta is not None and meta.version) or head.names_modern_version):
            # To check again what the last call with such a head said takes 1 µs.
            again = (
                meta is not None
                and meta is head.agreed
                and message.method == head.headers.method == "tools/call"
                and bytes(params.name) == head.headers.name_json
            )
            if not again and message.method and message.id:
                modern_request.check_modern_request(head.headers, message, params)
                head.agreed = meta
            return Caller(principal, Era.MODERN, LATEST_MODERN, self._views.of(head.endpoint, principal.policy_class))
        if head.session is None or (message.method == INITIALIZE and head.era is None):
            version = head.headers.version or DEFAULT_WITHOUT_HEADER
            return Caller(principal, Era.LEGACY, version, self._views.of(head.endpoint, principal.policy_class))
        session = self._session(head, principal, read)
        if isinstance(session, Waits):
            return session
        return Caller(
            principal, Era.LEGACY, session.version, self._views.of(head.endpoint, principal.policy_class), session
        )

    def _session(self, head: RequestHead, principal: Principal, read: SessionRead | None) -> ClientSession | Waits:
        """Return the session that the head names, or ``Waits.SESSION`` if it has to be read first.

        Raises ``Refused`` for a session that has ended, or belongs to another endpoint or another principal. The error
        is the same in all three cases, so that a client cannot tell them apart, and so is the way to it: a session of
        another principal that is known here is looked for as one that is not.
        """
        assert head.session is not None
        session = head.found
        if session is None or not self._sessions.again(session):
            session = self._sessions.cached(head.session, principal.id)
            if session is None:
                if read is None:
                    return Waits.SESSION
                session = read.session
        if session is None or session.endpoint != head.endpoint or session.principal != principal.id:
            raise Refused("session_unknown", "unknown or ended session; send initialize again")
        head.found = session
        session.policy_class = principal.policy_class
        return session


_NOTHING = Message()
