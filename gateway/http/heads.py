"""Heads of the answers that bypass aiohttp's own response classes, and what all answers of this process share."""

from __future__ import annotations

import email.utils
from http import HTTPStatus

_REASONS = {status.value: status.phrase.encode() for status in HTTPStatus}


class Process:
    """What every answer of this process shares.

    ``date`` is the ``Date`` header (RFC 9110 section 6.6.1), renewed once a second. ``draining``: whether connections
    end with their next answer because the process drains.
    """

    date = email.utils.formatdate(usegmt=True).encode()
    draining = False

    @classmethod
    def tick(cls) -> None:
        """Renew ``date``. Called about once a second."""
        cls.date = email.utils.formatdate(usegmt=True).encode()


def json_head(status: int, length: int, keep_alive: bool) -> bytes:
    """Return status line and headers of a JSON answer of ``length`` bytes, without the empty line."""
    return b"HTTP/1.1 %d %b\r\nContent-Type: application/json\r\nContent-Length: %d\r\nDate: %b\r\n%b" % (
        status,
        _REASONS.get(status, b""),
        length,
        Process.date,
        b"" if keep_alive else b"Connection: close\r\n",
    )
