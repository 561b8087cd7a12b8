"""Splitting a child's output into lines: linear, bounded, and in sync even after an overlong line. Pure."""

from __future__ import annotations

from shared.mcp.rope import Rope, Whole


class LineReader:
    """Takes chunks and returns complete lines. A line over ``limit_bytes`` is skipped to its end and counted."""

    def __init__(self, limit_bytes: int) -> None:
        self._limit = limit_bytes
        self._open = Rope()
        self._skipping = False
        self.overlong = 0

    @property
    def held_bytes(self) -> int:
        """The bytes that are kept of a line whose end has not arrived yet."""
        return self._open.size

    def peek_open(self) -> Whole:
        """Return what is kept of a line whose end has not arrived yet. It stays kept."""
        kept = self._open.take()
        self._open.add(bytes(kept))
        return kept

    def take_open(self) -> Whole:
        """Return what is kept of a line whose end has not arrived yet, and forget it."""
        return self._open.take()

    def feed(self, chunk: bytes) -> list[Whole]:
        """Return the lines that ``chunk`` completes, without their line ends."""
        *complete, rest = chunk.split(b"\n")
        lines: list[Whole] = []
        for piece in complete:
            if self._open.size or self._skipping:
                self._add(piece)
                if not self._skipping:
                    lines.append(self._open.take())
                self._skipping = False
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
        if self._open.size + len(piece) > self._limit:
            self.overlong += 1
            self._open.drop()
            self._skipping = True
        else:
            self._open.add(piece)
