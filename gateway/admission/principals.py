"""Who is behind a request. An authentication method is added here, as an implementation of ``Principals``."""

from __future__ import annotations

from typing import Protocol

from gateway.admission.caller import Waits
from gateway.admission.request_head import RequestHead

ANONYMOUS = ""
"""The one principal of a gateway without authentication."""


class Principals(Protocol):
    """Finds out who is behind a request."""

    def of(self, head: RequestHead) -> str | Waits:
        """Return the principal, or ``Waits.PRINCIPAL``. Raises ``Refused`` for invalid credentials.

        The method is called on the hot path, by both lanes, and looks at memory only.
        """

    async def resolve(self, head: RequestHead) -> None:
        """Find out what ``of`` did not know, so that its next call for the same credentials does."""


class Everybody:
    """No authentication: all requests have the same principal."""

    def of(self, head: RequestHead) -> str | Waits:
        """Return ``ANONYMOUS``."""
        return ANONYMOUS

    async def resolve(self, head: RequestHead) -> None:
        """Do nothing: everything is known."""
