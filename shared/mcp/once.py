"""Each member of a request once.

A name that is there twice means one thing to one parser and another thing to the next (RFC 8259 section 4 leaves open
which one counts). The gateway routes by what its parser takes, and the upstream runs what its own takes. Names that
differ only in case count as the same, because some parsers ignore case. What is inside of arguments is the upstream's.
Pure.
"""

from __future__ import annotations

import json
import re

import msgspec
from msgspec import Raw

from shared.errors import Refused

_object = msgspec.json.Decoder(dict[str, Raw])
_NAME = re.compile(rb'[ \t\r\n]*"((?:[^"\\]|\\.)*)"[ \t\r\n]*:[ \t\r\n]*', re.DOTALL)
_END = re.compile(rb"[ \t\r\n]*([,}])")


def check_members(text: bytes) -> None:
    """Raise ``Refused`` (-32600) if a member of the object ``text`` is there twice. Anything that is no object
    passes."""
    try:
        parts = _object.decode(text)
    except (msgspec.DecodeError, RecursionError):
        return
    seen: set[str] = set()
    at = text.find(b"{") + 1
    while True:
        found = _NAME.match(text, at)
        if found is None:
            return  # the end of an object without members
        name = json.loads(b'"%b"' % found[1]) if b"\\" in found[1] else found[1].decode()
        if name.lower() in seen:
            raise _twice(name)
        seen.add(name.lower())
        at = found.end()
        value = bytes(parts[name])
        end = _END.match(text, at + len(value))
        if end is None or not text.startswith(value, at):
            raise _twice(name)  # the value that counted comes later
        if end[1] == b"}":
            return
        at = end.end()


def _twice(name: str) -> Refused:
    return Refused("invalid_request", f"member {name[:64]!r} is there twice; each member may be there once")
