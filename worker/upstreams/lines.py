"""Splitting a child's output into lines: linear, bounded, and never losing sync on an overlong line. Pure."""

from __future__ import annotations


class LineReader:
    """Feed chunks, take complete lines. A line over ``limit_bytes`` is skipped to its end and counted."""

    def __init__(self, limit_bytes: int) -> None:
        self._limit = limit_bytes
        self._parts: list[bytes] = []
        self._size = 0
        self._skipping = False
        self.overlong = 0

    def feed(self, chunk: bytes) -> list[bytes]:
        """Lines completed by ``chunk``, without their line ends."""
        *complete, rest = chunk.split(b"\n")
        lines: list[bytes] = []
        for piece in complete:
            if self._parts or self._skipping:
                self._add(piece)
                if not self._skipping:
                    lines.append(b"".join(self._parts))
                self._parts, self._size, self._skipping = [], 0, False
            elif len(piece) <= self._limit:
                lines.append(piece)
            else:
                self.overlong += 1
        if rest:
            self._add(rest)
        return lines

    def _add(self, piece: bytes) -> None:
        if self._skipping:
            return
        self._size += len(piece)
        if self._size > self._limit:
            self.overlong += 1
            self._parts, self._skipping = [], True
        else:
            self._parts.append(piece)
