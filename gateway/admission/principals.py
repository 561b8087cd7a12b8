"""Who is behind a request. An authentication method is added here, as an implementation of ``Principals``."""

from __future__ import annotations

from typing import Protocol

from gateway.access.principal import ANONYMOUS, Principal
from gateway.admission.caller import Waits
from gateway.admission.request_head import RequestHead


class Principals(Protocol):
    """Finds out who is behind a request."""

    def of(self, head: RequestHead) -> Principal | Waits:
        """Return the principal, or ``Waits.PRINCIPAL``. Raises ``Refused`` for invalid credentials.

        The method is called on the hot path, by both lanes, and looks at memory only.
        """

    async def resolve(self, head: RequestHead) -> None:
        """Find out what ``of`` did not know, so that its next call for this head does. Raises ``CallError``."""

    def step_up(self, head: RequestHead, scopes: tuple[str, ...], text: str) -> str:
        """Return the challenge (``WWW-Authenticate``) for a call that needs more scopes."""


class Everybody:
    """No authentication: all requests have the same principal."""

    def of(self, head: RequestHead) -> Principal | Waits:
        """Return ``ANONYMOUS``."""
        return ANONYMOUS

    async def resolve(self, head: RequestHead) -> None:
        """Do nothing: everything is known."""

    def step_up(self, head: RequestHead, scopes: tuple[str, ...], text: str) -> str:
        """Return nothing: nobody could get more scopes."""
        return ""
