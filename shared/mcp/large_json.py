"""Large JSON without its long texts: what remains is decoded, and what was found there is given back whole.

A JSON reader takes 0.6 ms for a MiB; finding the next quotation mark takes 0.02. Most large messages are a few long
strings (a file, an image), and what these say is nobody's business here. So a run of bytes without a quotation mark is
taken out and a mark put in its place. Inside a string that changes nothing about where the string, or anything around
it, ends; outside of one the mark is no JSON, decoding fails, and the caller decodes the message itself.

Counterpart: ``shared.mcp.jsonrpc``, which decodes. Not checked inside a run: escapes and control characters. That will
do for what an upstream answers one client, and for what was read before. Others share the upstream that gets a client's
request, so there only ``clear`` runs are taken out: ASCII without escapes, and nothing in it that would need one.
"""

from __future__ import annotations

import os

import orjson
from msgspec import Raw, Struct

from shared.mcp.long_strings import RunFinder
from shared.mcp.rope import Large, Whole

WORTHWHILE = 16 * 1024
"""Bytes from which on a message is worth looking through for runs."""
_SLICE = 256 * 1024
"""Bytes of a run that are looked at in one go: a copy is made of them."""


class Hollow:
    """``data`` from ``at`` on with marks in place of its long runs, or of the ``clear`` ones among them. ``text`` is
    what is left, empty when that is all of it.
    """

    __slots__ = ("_data", "_mark", "_runs", "text")

    def __init__(self, data: Whole, at: int = 0, clear: bool = False) -> None:
        runs = _runs(data, at)
        if clear:
            runs = [run for run in runs if _is_clear(bytes(data), *run)]
        self._data = data
        self._runs = runs
        self.text = b""
        if runs:
            self._mark = b"~%b" % os.urandom(8).hex().encode()  # made after ``data``, which cannot have known it
            parts: list[bytes] = []
            for number, (begin, end) in enumerate(runs):
                parts += [data[at:begin], self._mark, b"%08x" % number]
                at = end
            self.text = b"".join([*parts, data[at:]])

    def marks(self, name: str) -> bool:
        """Whether ``name``, decoded from ``text``, is not what was sent."""
        return self._mark.decode() in name

    def whole(self, value: Raw) -> Raw | Large:
        """``value``, decoded from ``text``, as it stands in the data; a part of it where that is ``Large``."""
        raw = bytes(value)
        first = raw.find(self._mark)
        if first < 0:
            return Raw(raw)
        last = raw.rfind(self._mark)
        end = last + len(self._mark) + 8
        begin = self._runs[int(raw[first + len(self._mark) : first + len(self._mark) + 8], 16)][0] - first
        stop = self._runs[int(raw[end - 8 : end], 16)][1] + len(raw) - end
        data = self._data
        return data.cut(begin, stop) if isinstance(data, Large) else Raw(memoryview(data)[begin:stop])

    def fill(self, struct: Struct) -> None:
        """Make every ``Raw`` member of ``struct`` whole; one that is not all in one place becomes a ``Large``."""
        for name in struct.__struct_fields__:
            value = getattr(struct, name)
            if type(value) is Raw and value:
                setattr(struct, name, self.whole(value))


def _runs(data: Whole, at: int) -> list[tuple[int, int]]:
    if isinstance(data, Large):
        return data.runs  # found as it came, from its beginning
    finder = RunFinder(at)
    finder.look(data)
    return finder.runs


def _is_clear(data: bytes, begin: int, end: int) -> bool:
    """Whether these bytes, within a JSON string, are ASCII that stands for itself.

    A JSON writer escapes what must be escaped; so what comes out of it as long as it went in had nothing of that.
    Writing takes a third of the time of reading.
    """
    if data.find(b"\\", begin, end) >= 0:
        return False
    view = memoryview(data)
    try:
        for at in range(begin, end, _SLICE):
            text = str(view[at : min(at + _SLICE, end)], "ascii")
            if len(orjson.dumps(text)) != len(text) + 2:
                return False
    except UnicodeDecodeError:
        return False
    return True
