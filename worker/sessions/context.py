"""What an upstream session is given: its upstream, the settings, its listeners, and a way to its client."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol

import orjson

from shared.errors import CallError
from shared.mcp.versions import Era
from shared.models import UpstreamSpec
from shared.settings import Settings
from shared.version import VERSION
from worker.bridge.inputs import Need
from worker.calls.call import Call, OnAnswer
from worker.calls.client_facts import ClientFacts
from worker.credentials.source import Credentials
from worker.sessions.questions import Withdrawable


class UnsolicitedPath(Protocol):
    """A way to a client that has no call in flight (``worker.input.unsolicited``)."""

    def ask(self, session: str, client: ClientFacts, need: Need, on_answer: OnAnswer) -> Withdrawable | None:
        """Ask the client of ``session``. Return ``None`` if the question was refused at once."""

    def tell(self, session: str, message: bytes) -> None:
        """Send a notification to the client of ``session``."""

    def inquire(self, session: str) -> None:
        """Ask all front ends whether the client of ``session`` has a stream open there."""

    def own_list_changed(self, upstream: str, kind: str, session: str) -> None:
        """Notify all front ends that an upstream may list something else for this session."""


class UpstreamSession(Protocol):
    """A session as its users see it (``worker.sessions.session``)."""

    context: SessionContext
    era: Era
    ready: bool
    closed: bool
    sid_of_client: str
    flaws: tuple[str, ...]

    def submit(self, call: Call) -> None:
        """Carry ``call`` to the upstream, opening the session first if need be."""

    def start(self) -> object:
        """Begin to open the session."""

    async def open(self) -> None:
        """Open the session and wait. Raises ``CallError``."""

    async def request(self, method: str, members: dict[str, Any] | None = None, timeout_s: float = 30.0) -> bytes:
        """Send a request of the worker's own and return the JSON of the result. Raises ``CallError``."""

    def own_params(self, members: dict[str, Any]) -> bytes:
        """Return ``params`` of a request of the worker's own."""


class SessionEvents(Protocol):
    """Is notified of what happens to the sessions of one upstream (``worker.ownership.upstream``)."""

    def announced(self, session: UpstreamSession, method: str, params: bytes) -> None:
        """Handle that the upstream announced a change of what it offers."""

    def lost(self, session: UpstreamSession, error: CallError) -> None:
        """Handle that a session has ended without being closed here."""

    def reopened(self, session: UpstreamSession) -> None:
        """Handle that a session that was lost is open again."""

    def forgotten(self, session: UpstreamSession) -> None:
        """Handle that the upstream does not know the session any more, as its standing stream found."""

    def modern(self) -> UpstreamSession | None:
        """Return the session that carries calls of all clients in the modern era, or ``None`` if there is none."""


class SessionContext:
    """The surroundings of a session. ``incarnation`` marks the child processes of this worker. ``log_line`` takes lines
    that a child writes, ``last_line`` is what it wrote last, a line without end included. ``credentials`` are those of
    the entry's ``auth``, if it has one."""

    def __init__(
        self,
        spec: UpstreamSpec,
        settings: Settings,
        incarnation: str,
        events: SessionEvents,
        unsolicited: UnsolicitedPath,
        log_line: Callable[[str], None],
        credentials: Credentials | None = None,
    ) -> None:
        self.spec = spec
        self.settings = settings
        self.incarnation = incarnation
        self.events = events
        self.unsolicited = unsolicited
        self.log_line = log_line
        self.last_line = ""
        self.credentials = credentials

    def with_events(self, events: SessionEvents) -> SessionContext:
        """Return the same context with other listeners."""
        return SessionContext(
            self.spec, self.settings, self.incarnation, events, self.unsolicited, self.log_line, self.credentials
        )

    @property
    def client_info(self) -> bytes:
        """The JSON of the gateway's own ``clientInfo``, for sessions that belong to no client."""
        return orjson.dumps({"name": self.settings.service.name, "version": VERSION})
