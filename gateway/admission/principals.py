"""Who is behind a request: the seam for authentication."""

from __future__ import annotations

from typing import Protocol

from gateway.admission.caller import Waits
from gateway.admission.request_head import RequestHead

ANONYMOUS = ""
"""The one principal of a gateway without authentication."""


class Principals(Protocol):
    """Tells who is behind a request."""

    def of(self, head: RequestHead) -> str | Waits:
        """Return the principal, or what has to be awaited. Raises ``Refused`` for credentials that do not count."""


class Everybody:
    """Without authentication everybody is the same principal."""

    def of(self, head: RequestHead) -> str | Waits:
        """Return ``ANONYMOUS``."""
        return ANONYMOUS
