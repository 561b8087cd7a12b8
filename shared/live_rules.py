"""How a supervisor gives its front ends rules of access that have changed: a piece of memory that they inherited.

It has no name anywhere, and others of the same user cannot open it through ``/proc`` (``shared.seclusion``). Every
front end that gunicorn forks reads it, also one that is forked long after the change, and whether Redis answers or not.
"""

from __future__ import annotations

import hashlib
import os
import tempfile

VARIABLE = "GATEWAY_RULES_FD"
"""The environment variable that names the descriptor."""
_DIGEST = 64
_MAX_BYTES = 16 * 1024 * 1024


class Board:
    """The memory behind a descriptor. It is empty until rules have changed."""

    def __init__(self, descriptor: int) -> None:
        self.descriptor = descriptor

    @classmethod
    def make(cls) -> Board:
        """Return a new one, which processes inherit that are given its descriptor."""
        if hasattr(os, "memfd_create"):
            return cls(os.memfd_create("gateway-rules", 0))
        with tempfile.TemporaryFile() as file:
            return cls(os.dup(file.fileno()))

    @classmethod
    def inherited(cls) -> Board | None:
        """Return the one that this process was given, or ``None``."""
        number = os.environ.get(VARIABLE, "")
        return cls(int(number)) if number.isdecimal() else None

    def write(self, rules: str) -> None:
        """Write rules (JSON) for all who read."""
        data = rules.encode()
        os.pwrite(self.descriptor, hashlib.sha256(data).hexdigest().encode() + data, 0)
        os.ftruncate(self.descriptor, _DIGEST + len(data))

    def mark(self) -> bytes:
        """Return what differs when the rules do."""
        try:
            return os.pread(self.descriptor, _DIGEST, 0)
        except OSError:
            return b""

    def read(self) -> str | None:
        """Return the rules, or ``None`` if there are none, or they are being written."""
        try:
            found = os.pread(self.descriptor, _MAX_BYTES, 0)
        except OSError:
            return None
        digest, data = found[:_DIGEST], found[_DIGEST:]
        if not digest or hashlib.sha256(data).hexdigest().encode() != digest:
            return None
        return data.decode()

    def close(self) -> None:
        """Give the descriptor back."""
        os.close(self.descriptor)
