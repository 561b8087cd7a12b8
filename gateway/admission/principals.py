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
        """Return the principal, or what has to be awaited first. Raises ``Refused`` for invalid credentials."""


class Everybody:
    """No authentication: all requests have the same principal."""

    def of(self, head: RequestHead) -> str | Waits:
        """Return ``ANONYMOUS``."""
        return ANONYMOUS
