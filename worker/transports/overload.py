"""An upstream's own refusal of a request that it has no room for: HTTP 429 or 503, with ``Retry-After``. Pure.

Such a request was not run (RFC 9110 section 15.6.4, RFC 6585 section 4), and the upstream that answers so is alive: the
refusal is no failure of the upstream, and the client is told what the upstream said.
"""

from __future__ import annotations

import email.utils
import time

from shared.errors import NotDelivered

STATUSES = frozenset((429, 503))
_LONGEST_S = 24 * 3600
"""No client is told to wait longer, whatever an upstream says."""


def overloaded(where: str, status: int, retry_after: bytes) -> NotDelivered:
    """Return the error for a request that ``where`` refused with this status and ``Retry-After`` (empty: none)."""
    data = {"http": str(status)}
    seconds = read_retry_after(retry_after, time.time())
    if seconds is not None:
        data["retryAfter"] = str(seconds)
    return NotDelivered("overloaded", f"{where} answered HTTP {status}: it is overloaded", data)


def read_retry_after(value: bytes, wall_s: float) -> int | None:
    """Return the seconds that a ``Retry-After`` names, as a number or as a date (RFC 9110 section 10.2.3).

    ``wall_s`` is Unix time. At least 1 is returned, and ``None`` for a value that says nothing.
    """
    text = value.strip().decode("latin-1")
    if text.isdecimal() and text.isascii():
        seconds = int(text[:10])
    else:
        try:
            seconds = int(email.utils.parsedate_to_datetime(text).timestamp() - wall_s + 0.999)
        except (ValueError, TypeError, OverflowError):
            return None
    return min(max(seconds, 1), _LONGEST_S)
