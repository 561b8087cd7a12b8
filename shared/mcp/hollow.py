"""Large JSON without its long texts: what remains is decoded, and what was found there is given back whole.

A JSON reader takes 0.6 ms for a MiB; finding the next quotation mark takes 0.02. Most large messages are a few long
strings (a file, an image), and what these say is nobody's business here. So a run of bytes without a quotation mark is
taken out and a mark put in its place. Inside a string that changes nothing about where the string, or anything around
it, ends; outside of one the mark is no JSON, decoding fails, and the caller decodes the message itself.

Counterpart: ``shared.mcp.jsonrpc``, which decodes. Not checked inside a run: escapes and control characters. So this is
for what an upstream answers one client, and for what was read whole before; a client's request is, because others share
the upstream that gets it.
"""

from __future__ import annotations

import os

from msgspec import Raw, Struct

from shared.mcp.pieces import Whole

WORTHWHILE = 16 * 1024
"""Bytes from which on a message is worth looking through for runs."""
_RUN = 8192
_TAIL = 8
"""Bytes of a run that stay where they are: an escape sequence (at most six) that the run was cut in ends there."""


class Hollow:
    """``data`` with marks in place of its long runs. ``text`` is what is left, empty when that is all of it."""

    __slots__ = ("_data", "_mark", "_runs", "text")

    def __init__(self, data: Whole) -> None:
        self._data = data
        self._runs = _runs(data)
        self.text = b""
        if self._runs:
            self._mark = b"~%b" % os.urandom(8).hex().encode()  # made after ``data``, which cannot have known it
            parts: list[bytes | bytearray] = []
            at = 0
            for number, (begin, end) in enumerate(self._runs):
                parts += [data[at:begin], self._mark, b"%08x" % number]
                at = end
            self.text = b"".join([*parts, data[at:]])

    def marks(self, name: str) -> bool:
        """Whether ``name``, decoded from ``text``, is not what was sent."""
        return self._mark.decode() in name

    def whole(self, value: Raw) -> Raw:
        """``value``, decoded from ``text``, as it stands in the data."""
        raw = bytes(value)
        first = raw.find(self._mark)
        if first < 0:
            return Raw(raw)
        last = raw.rfind(self._mark)
        end = last + len(self._mark) + 8
        begin = self._runs[int(raw[first + len(self._mark) : first + len(self._mark) + 8], 16)][0] - first
        stop = self._runs[int(raw[end - 8 : end], 16)][1] + len(raw) - end
        return Raw(memoryview(self._data)[begin:stop])

    def fill(self, struct: Struct) -> None:
        """Make every ``Raw`` member of ``struct`` whole."""
        for name in struct.__struct_fields__:
            value = getattr(struct, name)
            if type(value) is Raw and value:
                setattr(struct, name, self.whole(value))


def _runs(data: Whole) -> list[tuple[int, int]]:
    """Where long runs begin and end: each after a quotation mark, up to just before the next one."""
    runs, at = [], 0
    while at + _RUN < len(data):
        begin = data.rfind(b'"', at, at + _RUN) + 1 or at
        stop = data.find(b'"', at + _RUN)
        if stop < 0:
            break
        end = stop - _TAIL
        # A backslash is never parted from what it may escape.
        if end - begin >= _RUN // 2 and data[end - 1] != 0x5C:
            runs.append((begin, end))
        at = stop + 1
    return runs
