"""What an upstream session is given: its upstream, settings, whom to tell, and a way to a client beside its calls."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Protocol

import orjson

from shared.errors import CallError
from shared.models import UpstreamSpec
from shared.settings import Settings
from worker.bridge.inputs import Need
from worker.calls.calls import ClientFacts

if TYPE_CHECKING:
    from worker.sessions.session import Session

VERSION = "0.1.0"


class Withdrawable(Protocol):
    """Who was asked something for the upstream."""

    def withdrawn(self, settle: Callable[[bool, bytes], None]) -> None:
        """The upstream does not want the answer any more for which ``settle`` was given."""


class Aside(Protocol):
    """A way to a client of which no call is in flight (``worker.input.unsolicited``)."""

    def ask(
        self, session: str, client: ClientFacts, need: Need, settle: Callable[[bool, bytes], None]
    ) -> Withdrawable | None:
        """Ask the client of ``session``; ``None``: it was refused at once."""

    def tell(self, session: str, message: bytes) -> None:
        """A notification for the client of ``session``."""

    def inquire(self, session: str) -> None:
        """Ask all front ends whether the client of ``session`` has a stream open there."""


class SessionContext:
    """What a session is given: its upstream, settings, and whom to tell. ``aside`` is set by who has one."""

    aside: Aside

    def __init__(
        self,
        spec: UpstreamSpec,
        settings: Settings,
        incarnation: str,
        on_announced: Callable[[Session, str, bytes], None],
        on_lost: Callable[[Session, CallError], None],
        log_line: Callable[[str], None],
        on_reopened: Callable[[Session], None] = lambda session: None,
        on_forgotten: Callable[[Session], None] = lambda session: None,
    ) -> None:
        self.spec = spec
        self.settings = settings
        self.incarnation = incarnation
        self.on_announced = on_announced
        self.on_lost = on_lost
        self.log_line = log_line
        self.on_reopened = on_reopened
        self.on_forgotten = on_forgotten

    @property
    def client_info(self) -> bytes:
        """Who we say we are, where no client stands behind a session."""
        return orjson.dumps({"name": self.settings.service.name, "version": VERSION})
