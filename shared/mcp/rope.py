"""Bytes that come in pieces and are needed as one, without being put together: that would cost more than all the rest.

Joining 20 MB takes 10 ms, most of it in page faults, in which nobody else is served; looking at each piece while it is
still in the processor's cache takes one. So much of it stays in the pieces that it came in (``Large``), and what has to
be known of all of it is found out as it comes. For less, joining is cheaper.
"""

from __future__ import annotations

import bisect

from shared.mcp.long_strings import RunFinder

_JOINED = 1280 * 1024
"""Up to so many bytes, pieces are joined."""
_SMALL = 16 * 1024
_TOGETHER = 64 * 1024
"""Rope smaller than ``_SMALL`` are put together to one of this size: a million of one byte each are none."""


class Large:
    """Much, in parts. Reads like ``bytes`` where it must; slices are copies, ``cut`` is not."""

    __slots__ = ("_ascii", "_ends", "_finder", "_parts", "size")

    def __init__(self) -> None:
        self.size = 0
        self._ascii = True  # all that ``look`` has seen
        self._parts: list[bytes | memoryview] = []
        self._ends: list[int] = []
        self._finder: RunFinder | None = None

    def append(self, part: bytes | memoryview) -> None:
        """Add a part."""
        if part:
            self.size += len(part)
            self._parts.append(part)
            self._ends.append(self.size)

    def look(self) -> None:
        """Look at what was added since the last time, for ``isascii`` and ``runs``."""
        if self._finder is None:
            self._finder = RunFinder()
        unseen = self._parts[bisect.bisect_right(self._ends, self._finder.seen) :]
        self._ascii = self._ascii and all(bytes(part).isascii() for part in unseen)
        self._finder.look(self)

    def isascii(self) -> bool:
        """Whether all of it is."""
        self.look()
        return self._ascii

    @property
    def runs(self) -> list[tuple[int, int]]:
        """Where long runs begin and end (``shared.mcp.long_strings``)."""
        self.look()
        assert self._finder is not None
        return self._finder.runs

    def __len__(self) -> int:
        return self.size

    def __bytes__(self) -> bytes:
        return bytes(self._parts[0]) if len(self._parts) == 1 else b"".join(self._parts)

    def __getitem__(self, which: slice) -> bytes:
        begin, stop, _ = which.indices(self.size)
        return bytes(self.cut(begin, stop))

    def cut(self, begin: int, stop: int) -> Large:
        """From ``begin`` up to ``stop``; the same memory."""
        found = Large()
        at = bisect.bisect_right(self._ends, begin)
        while begin < stop:
            end = self._ends[at]
            start = end - len(self._parts[at])
            part = self._parts[at]
            if begin > start or stop < end:
                part = memoryview(part)[begin - start : stop - start]
            found.append(part)
            begin, at = end, at + 1
        return found

    def find(self, byte: bytes, begin: int) -> int:
        """Where ``byte`` (one) is first at or after ``begin``; -1: nowhere."""
        for at in range(bisect.bisect_right(self._ends, begin), len(self._parts)):
            part = bytes(self._parts[at])
            start = self._ends[at] - len(part)
            found = part.find(byte, max(0, begin - start))
            if found >= 0:
                return start + found
        return -1


Whole = bytes | Large
"""What was put together."""
Body = bytes | memoryview | Large
"""What is passed on as it came."""


class Rope:
    """``size`` bytes so far."""

    __slots__ = ("_large", "_small", "size")

    def __init__(self) -> None:
        self._large = Large()
        self._small = bytearray()
        self.size = 0

    def add(self, piece: bytes) -> None:
        """One more."""
        self.size += len(piece)
        if len(piece) < _SMALL:
            self._small += piece
            if len(self._small) >= _TOGETHER:
                self._gather()
            return
        self._gather()
        self._large.append(piece)
        if self._large.size > _JOINED:
            self._large.look()

    def _gather(self) -> None:
        if self._small:
            self._large.append(bytes(self._small))
            self._small.clear()
            if self._large.size > _JOINED:
                self._large.look()

    def take(self) -> Whole:
        """All of them as one; the next piece begins anew."""
        self._gather()
        large = self._large
        self.drop()
        return large if large.size > _JOINED else bytes(large)

    def drop(self) -> None:
        """Forget them."""
        self._large, self._small, self.size = Large(), bytearray(), 0
