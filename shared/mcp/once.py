"""Each member of a request once.

A name that is there twice means one thing to one parser and another thing to the next (RFC 8259 section 4 leaves open
which one counts). The gateway routes by what its parser takes, and the upstream runs what its own takes. Names that
differ only in case count as the same, because some parsers ignore case; so a name that differs only in case from one
that the gateway reads (``Arguments``) is refused as well. What is inside of arguments is the upstream's. Pure.
"""

from __future__ import annotations

import functools
import json
import re

import msgspec
from msgspec import Raw, Struct

from shared.errors import Refused

MAX_MEMBERS = 20_000
"""The most colons in what is not known apart: more may be members, at any depth."""
MAX_KNOWN = 2000
"""The most members of an object that are looked at one by one: that takes 4 ms, while all other clients wait."""
MAX_ANSWERS = 256
"""The most answers to questions in one request. Of one call 64 may be open (``worker.bridge.inputs``)."""
_READ = {
    name.casefold(): name
    for name in (
        *("jsonrpc", "id", "method", "params", "result", "error"),
        *("name", "uri", "cursor", "arguments", "task", "taskId", "requestState", "inputResponses", "_meta"),
        *("progressToken", "requestId", "level", "ref", "argument", "protocolVersion", "capabilities", "clientInfo"),
    )
}
"""Members by which the gateway routes, decides or remembers, by their names without case."""
_FEW_BYTES = 16 * 1024
_FEW = 256
_object = msgspec.json.Decoder(dict[str, Raw])


class _Containers(Struct, gc=False):
    """Members that may have a table, or the text of a book, in them."""

    arguments: Raw = Raw()
    params: Raw = Raw()
    result: Raw = Raw()
    data: Raw = Raw()
    content: Raw = Raw()
    contents: Raw = Raw()
    messages: Raw = Raw()
    structured: Raw = msgspec.field(name="structuredContent", default=Raw())
    meta: Raw = msgspec.field(name="_meta", default=Raw())


_containers = msgspec.json.Decoder(_Containers)
_NAME = re.compile(rb'[ \t\r\n]*"((?:[^"\\]|\\.)*)"[ \t\r\n]*:[ \t\r\n]*', re.DOTALL)
_END = re.compile(rb"[ \t\r\n]*([,}])")


def check_members(text: bytes, *inside: Raw) -> None:
    """Raise ``Refused`` (-32600) if a member of the object ``text`` is there twice, or (-32602) there are too many.
    Anything that is no object passes. ``inside`` are values that may be large: what is in them is not counted."""
    check_count(text, *inside)
    try:
        parts = _object.decode(text)
    except (msgspec.DecodeError, RecursionError):
        return
    if len(parts) > MAX_KNOWN:
        raise _too_many(MAX_KNOWN)
    around = 1 + 4 * len(parts) + sum(map(len, parts))  # bytes that are not of values, if all is ASCII without spaces
    values = list(map(bytes, parts.values()))
    written = len(text) - spaces(text, *values, "".join(parts).encode())
    if written == around + sum(map(len, values)):  # nothing is twice: it would make the text longer
        (_check_again if around <= _FEW else _check_names)(tuple(parts))
        return
    seen: set[str] = set()
    at = text.find(b"{") + 1
    while True:
        found = _NAME.match(text, at)
        if found is None:
            return  # the end of an object without members
        name = json.loads(b'"%b"' % found[1]) if b"\\" in found[1] else found[1].decode()
        _check_name(name, seen)
        at = found.end()
        value = bytes(parts[name])
        end = _END.match(text, at + len(value))
        if end is None or not text.startswith(value, at):
            raise _twice(name)  # the value that counted comes later
        if end[1] == b"}":
            return
        at = end.end()


def spaces(text: bytes, *parts: bytes | Raw) -> int:
    """Return how many spaces are in ``text`` beside those that are in ``parts`` of it. Many programs write some behind
    each comma and colon."""
    return text.count(b" ") - sum(bytes(part).count(b" ") for part in parts)


def check_inputs(text: bytes) -> None:
    """Do what ``check_members`` does for an object of objects and for each of these: what a client says to questions,
    of which the gateway reads some and the upstream all."""
    if text:
        check_members(text)
        check_inside(text)


def check_inside(text: bytes, *names: str) -> None:
    """Do what ``check_members`` does for those members of the object ``text`` that are objects, or for those of these
    ``names``."""
    try:
        parts = _object.decode(text)
    except (msgspec.DecodeError, RecursionError):
        return
    if len(parts) > MAX_ANSWERS and not names:
        raise _too_many(MAX_ANSWERS)
    for name in names or parts:
        if name in parts:
            check_members(bytes(parts[name]))


def _check_names(names: tuple[str, ...]) -> None:
    """Raise ``Refused`` if two of the names differ only in case, or one looks like one that the gateway reads."""
    seen: set[str] = set()
    for name in names:
        _check_name(name, seen)


_check_again = functools.lru_cache(1024)(_check_names)
"""Most clients write the same names again and again."""


def _check_name(name: str, seen: set[str]) -> None:
    """Add a name to those ``seen`` before it, or raise ``Refused``."""
    plain = name.casefold()  # as Go compares: it takes even a long s for an s
    if plain in seen:
        raise _twice(name)
    if _READ.get(plain, name) != name:
        raise Refused("invalid_request", f"member {name[:64]!r} looks like {_READ[plain]!r}; write it like that")
    seen.add(plain)


def check_count(text: bytes, *inside: Raw) -> None:
    """Raise ``Refused`` (-32602) if the object ``text`` may have more than ``MAX_MEMBERS``, in it or in the values that
    are not ``inside``."""
    if len(text) < _FEW_BYTES:
        return
    colons = text.count(b":")
    if colons > MAX_MEMBERS and colons - sum(bytes(one).count(b":") for one in inside) > MAX_MEMBERS:
        raise _too_many(MAX_MEMBERS)


def check_width(text: bytes) -> None:
    """Raise ``Refused`` (-32602) if the object ``text`` may have more than ``MAX_MEMBERS`` itself, whatever is in
    members that usually have much in them. An object of a million takes some seconds, and 200 MB, to be taken apart."""
    if len(text) < _FEW_BYTES or text.count(b":") <= MAX_MEMBERS:
        return
    try:
        found = _containers.decode(text)
    except (msgspec.DecodeError, RecursionError):
        return
    check_count(text, *(getattr(found, name) for name in found.__struct_fields__))


def _too_many(most: int) -> Refused:
    return Refused("invalid_params", f"more than {most} members")


def _twice(name: str) -> Refused:
    return Refused("invalid_request", f"member {name[:64]!r} is there twice; each member may be there once")
