"""A large body as a list of the parts that arrived. Joining the parts would cost more than all other work on the body.

Joining 20 MB takes 10 ms, most of it in page faults, and no other call is served meanwhile. Looking at each part while
it is still in the processor's cache takes 1 ms. So a large body stays in its parts (``Large``), and facts about the
whole body are collected while the parts arrive. For smaller bodies joining is cheaper.
"""

from __future__ import annotations

import bisect

from shared.mcp.long_strings import LongStringFinder

_JOINED = 1280 * 1024
"""The largest body that is joined, in bytes."""
_SMALL = 16 * 1024
_TOGETHER = 64 * 1024
"""Parts smaller than ``_SMALL`` are joined to parts of this size, so that a million parts of one byte are not kept."""


class Large:
    """A large body in parts. ``Large`` reads like ``bytes`` where that is needed. Slices are copies; ``cut`` does not
    copy."""

    __slots__ = ("_ascii", "_ends", "_finder", "_parts", "size")

    def __init__(self) -> None:
        self.size = 0
        self._ascii = True  # as far as ``look`` has read
        self._parts: list[bytes | memoryview] = []
        self._ends: list[int] = []
        self._finder: LongStringFinder | None = None

    @property
    def parts(self) -> int:
        """How many parts there are."""
        return len(self._parts)

    def append(self, part: bytes | memoryview) -> None:
        """Add a part at the end."""
        if part:
            self.size += len(part)
            self._parts.append(part)
            self._ends.append(self.size)

    def look(self) -> None:
        """Read what was added since the last call, for ``isascii`` and ``runs``."""
        if self._finder is None:
            self._finder = LongStringFinder()
        unseen = self._parts[bisect.bisect_right(self._ends, self._finder.seen) :]
        self._ascii = self._ascii and all(bytes(part).isascii() for part in unseen)
        self._finder.look(self)

    def isascii(self) -> bool:
        """Whether all bytes are ASCII."""
        self.look()
        return self._ascii

    @property
    def runs(self) -> list[tuple[int, int]]:
        """The beginning and the end of each long run (``shared.mcp.long_strings``)."""
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
        """Return the bytes from ``begin`` up to ``stop``, in the same memory."""
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
        """Return the index of the first ``byte`` (a single one) at or after ``begin``, or -1 if there is none."""
        for at in range(bisect.bisect_right(self._ends, begin), len(self._parts)):
            part = bytes(self._parts[at])
            start = self._ends[at] - len(part)
            found = part.find(byte, max(0, begin - start))
            if found >= 0:
                return start + found
        return -1


Whole = bytes | Large
"""A complete body."""
Body = bytes | memoryview | Large
"""A body that may be passed on without a copy."""


class Rope:
    """Collects the parts of a body that arrives. ``size`` is the number of bytes so far."""

    __slots__ = ("_large", "_small", "size")

    def __init__(self) -> None:
        self._large = Large()
        self._small = bytearray()
        self.size = 0

    def add(self, piece: bytes) -> None:
        """Add the next part."""
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
        """Return all parts as one body, and begin a new one."""
        self._gather()
        large = self._large
        self.drop()
        return large if large.size > _JOINED else bytes(large)

    def drop(self) -> None:
        """Forget all parts."""
        self._large, self._small, self.size = Large(), bytearray(), 0
