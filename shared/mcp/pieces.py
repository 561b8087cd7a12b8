"""Bytes that come in pieces and are needed as one, put together while they come instead of in one go at the end.

Joining 20 MB, and looking whether all of it is ASCII, takes 20 ms in which nobody else is served. A large buffer that
grows moves hardly anything (the C library gives it more pages), and each piece is looked at while it is still in the
processor's cache. For a few pieces joining is cheaper.
"""

from __future__ import annotations

_JOINED = 1280 * 1024
"""Up to so many bytes, pieces are joined."""
_RESERVED = 2 * 1024 * 1024
"""From so many on, the C library maps pages of their own for a buffer (``shared.memory``), and can give it more."""
_STEP = bytes(1024 * 1024)


class Large(bytearray):
    """Much that was put together; ``ascii``: all of it is."""

    ascii = True


Whole = bytes | Large
"""What was put together."""


class Pieces:
    """``size`` bytes so far."""

    __slots__ = ("_buffer", "_parts", "size")

    def __init__(self) -> None:
        self._parts: list[bytes] = []
        self._buffer: Large | None = None
        self.size = 0

    def add(self, piece: bytes) -> None:
        """One more."""
        if self._buffer is not None:
            self._put(self._buffer, piece)
            return
        self._parts.append(piece)
        self.size += len(piece)
        if self.size > _JOINED:
            buffer, parts = Large(_RESERVED), self._parts
            self.drop()
            self._buffer = buffer
            for part in parts:
                self._put(buffer, part)

    def _put(self, buffer: Large, piece: bytes) -> None:
        end = self.size + len(piece)
        while end > len(buffer):
            buffer += _STEP
        buffer[self.size : end] = piece
        buffer.ascii = buffer.ascii and piece.isascii()
        self.size = end

    def take(self) -> Whole:
        """All of them as one; the next piece begins anew."""
        if self._buffer is not None:
            whole: Whole = self._buffer
            del self._buffer[self.size :]
        else:
            whole = self._parts[0] if len(self._parts) == 1 else b"".join(self._parts)
        self.drop()
        return whole

    def drop(self) -> None:
        """Forget them."""
        self._parts, self._buffer, self.size = [], None, 0
