"""Finding the long strings of a large JSON text (see ``shared.mcp.large_json``) while the text arrives.

What is found are long sequences of bytes without a quotation mark, called runs here.
"""

from __future__ import annotations

from typing import Protocol

RUN = 8192
_TAIL = 8
"""Bytes at the end of a run that are not cut out. An escape sequence (at most six bytes) that the cut splits ends
there."""
_BACK = 16
"""Bytes before the end of a run among which one that is not a backslash is searched."""


class Text(Protocol):
    """``bytes``, or an object that reads like ``bytes``."""

    def __len__(self) -> int: ...

    def __getitem__(self, which: slice, /) -> bytes: ...

    def find(self, byte: bytes, begin: int, /) -> int:
        """Return the index of the first ``byte`` at or after ``begin``, or -1 if there is none."""


class LongStringFinder:
    """Finds the runs of a text. ``runs`` holds the beginning and the end of each. A run begins after a quotation mark
    and ends just before the next one.

    ``look`` may be called again when the text has grown, and continues where the last call stopped. The first call
    begins at ``at``.
    """

    __slots__ = ("_at", "_begin", "runs", "seen")

    def __init__(self, at: int = 0) -> None:
        self.runs: list[tuple[int, int]] = []
        self.seen = 0
        self._at = at  # everything before was searched
        self._begin = -1  # of the run whose end is searched

    def look(self, text: Text) -> None:
        """Add the runs whose end has arrived in ``text``."""
        size = len(text)
        while True:
            if self._begin < 0:
                if self._at + RUN >= size:
                    break
                self._begin = self._at + text[self._at : self._at + RUN].rfind(b'"') + 1
            stop = text.find(b'"', max(self._at + RUN, self.seen))
            if stop < 0:
                break
            end = stop - _TAIL
            # A backslash stays together with the character that it may escape.
            end -= _BACK - len(text[end - _BACK : end].rstrip(b"\\"))
            if end - self._begin >= RUN // 2 and text[end - 1 : end] != b"\\":
                self.runs.append((self._begin, end))
            self._at, self._begin = stop + 1, -1
        self.seen = size
