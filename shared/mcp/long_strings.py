"""Where a large JSON text has long runs without a quotation mark (see ``shared.mcp.large_json``), found as it comes."""

from __future__ import annotations

from typing import Protocol

RUN = 8192
_TAIL = 8
"""Bytes of a run that stay where they are: an escape sequence (at most six) that the run was cut in ends there."""
_BACK = 16
"""Bytes looked at for one that is no backslash."""


class Text(Protocol):
    """``bytes``, or something that reads like it."""

    def __len__(self) -> int: ...

    def __getitem__(self, which: slice, /) -> bytes: ...

    def find(self, byte: bytes, begin: int, /) -> int:
        """Where ``byte`` is first at or after ``begin``; -1: nowhere."""


class RunFinder:
    """``runs``: where each begins and ends, after a quotation mark and up to just before the next one.

    ``look`` may be called again when the text has grown; it goes on where it was, in the beginning ``at``.
    """

    __slots__ = ("_at", "_begin", "runs", "seen")

    def __init__(self, at: int = 0) -> None:
        self.runs: list[tuple[int, int]] = []
        self.seen = 0
        self._at = at  # what is before was dealt with
        self._begin = -1  # of the run whose end is looked for

    def look(self, text: Text) -> None:
        """Find those that end in ``text``."""
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
            # A backslash is never parted from what it may escape.
            end -= _BACK - len(text[end - _BACK : end].rstrip(b"\\"))
            if end - self._begin >= RUN // 2 and text[end - 1 : end] != b"\\":
                self.runs.append((self._begin, end))
            self._at, self._begin = stop + 1, -1
        self.seen = size
