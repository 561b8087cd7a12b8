"""Heads of the answers that bypass aiohttp's own response classes, and what all answers of this process share."""

from __future__ import annotations

import email.utils
from http import HTTPStatus
from typing import ClassVar

_MAX_PLAIN = 1024
_REASONS = {status.value: status.phrase.encode() for status in HTTPStatus}


class Process:
    """What every answer of this process shares.

    ``date`` is the ``Date`` header (RFC 9110 section 6.6.1), renewed once a second. ``plain`` has the heads that were
    made in this second, by the length of the body: those of status 200, on connections that stay open. ``draining``:
    whether connections end with their next answer because the process drains.
    """

    date = email.utils.formatdate(usegmt=True).encode()
    plain: ClassVar[dict[int, bytes]] = {}
    draining = False

    @classmethod
    def tick(cls) -> None:
        """Renew ``date``. Called about once a second."""
        cls.date = email.utils.formatdate(usegmt=True).encode()
        cls.plain.clear()


def json_head(status: int, length: int, keep_alive: bool) -> bytes:
    """Return status line and headers of a JSON answer of ``length`` bytes, without the empty line."""
    plain = status == 200 and keep_alive
    if plain and length in Process.plain:
        return Process.plain[length]
    head = b"HTTP/1.1 %d %b\r\nContent-Type: application/json\r\nContent-Length: %d\r\nDate: %b\r\n%b" % (
        status,
        _REASONS.get(status, b""),
        length,
        Process.date,
        b"" if keep_alive else b"Connection: close\r\n",
    )
    if plain and len(Process.plain) < _MAX_PLAIN:
        Process.plain[length] = head
    return head
