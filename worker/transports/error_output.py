"""What a child writes to its stderr, as a terminal would show it: lines, and progress bars that write over themselves.
Pure."""

from __future__ import annotations

import re

_TELLS = re.compile(
    r"error|exception|cannot|can't|not found|no such|missing|required|fail|invalid|unrecognized|unknown|usage:",
    re.IGNORECASE,
)


def tells_more(words: str, before: str) -> bool:
    """Whether a line says more about what is wrong than an earlier one. As a rule the last one says most; npm says it
    once, below its code, and then what else one could do."""
    if before.startswith("npm err") and words.startswith("npm err"):
        return " code " in before
    return bool(_TELLS.search(words)) or not _TELLS.search(before)


class ErrorOutput:
    """Takes chunks and returns complete lines, of which a carriage return begins the same line anew. What is beyond
    ``limit_bytes`` of a line is left out."""

    def __init__(self, limit_bytes: int) -> None:
        self._limit = limit_bytes
        self._open = b""
        self._shown = b""  # what was written over, and is still to be seen while nothing follows

    @property
    def open_line(self) -> bytes:
        """What there is of a line whose end has not arrived yet."""
        return self._open.strip() or self._shown

    def feed(self, chunk: bytes) -> list[bytes]:
        """Return the lines that ``chunk`` completes."""
        *complete, rest = chunk.split(b"\n")
        lines = []
        for piece in complete:
            self._add(piece)
            lines.append((self._open if self._open.strip() else self._shown).rstrip())
            self._open = self._shown = b""
        if rest:
            self._add(rest)
        return lines

    def _add(self, piece: bytes) -> None:
        over = piece.rfind(b"\r")
        if over >= 0:
            before = [one for one in (self._open + piece[:over])[-2 * self._limit :].split(b"\r") if one.strip()]
            self._shown = before[-1][: self._limit] if before else self._shown
            self._open = b""
        self._open += piece[over + 1 : over + 1 + self._limit - len(self._open)]
