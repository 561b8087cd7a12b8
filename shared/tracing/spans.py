"""Spans as bytes of OTLP (``opentelemetry/proto/trace/v1/trace.proto``). Pure.

The SDK needs 79 µs to make, keep and encode a span, which is half of what a whole call may cost. Most of a span is the
same for all calls of a tool (name, kind, attributes), so those bytes are made once (``fixed``), and a span is a few
concatenations: 3 µs.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping, Sequence

from shared.logs import escaped

INTERNAL, SERVER, CLIENT = 1, 2, 3
"""Kinds of spans."""
MAX_TEXT = 256
"""The characters that are kept of a text from outside."""
Value = str | int | bool
_IDS, _IDS_BELOW = struct.Struct("<2s16s2s8s"), struct.Struct("<2s16s2s8s2s8s")
_REST = struct.Struct("<cQcQ6s")
_AT = struct.Struct("<cQ")
_SHORT = [bytes((number,)) for number in range(128)]
_FLAGS, _FLAGS_REMOTE = b"\x85\x01\x01\x01\x00\x00", b"\x85\x01\x01\x03\x00\x00"
"""Field 16: sampled, and whether the parent is in another process is known; it is not, or it is."""
FAILED = b"\x7a\x02\x18\x02"
"""The status of a span of something that failed."""


def _varint(number: int) -> bytes:
    if number < 128:
        return _SHORT[number]
    parts = bytearray()
    while number > 127:
        parts.append(number & 127 | 128)
        number >>= 7
    parts.append(number)
    return bytes(parts)


def field(tag: bytes, content: bytes) -> bytes:
    """Return a field whose content has a length."""
    return tag + _varint(len(content)) + content


def _key_value(name: str, value: Value) -> bytes:
    if isinstance(value, bool):
        content = b"\x10\x01" if value else b"\x10\x00"
    elif isinstance(value, int):
        content = b"\x18" + _varint(value & 0xFFFFFFFFFFFFFFFF)
    else:
        content = field(b"\x0a", escaped(value[:MAX_TEXT]).encode("utf-8", "replace"))
    return field(b"\x0a", name.encode()) + field(b"\x12", content)


def attributes(values: Mapping[str, Value], tag: bytes = b"\x4a") -> bytes:
    """Return attributes as fields of a span; with ``tag`` as those of an event, a link or a resource."""
    return b"".join([field(tag, _key_value(name, value)) for name, value in values.items()])


class TextAttribute:
    """An attribute of spans whose text differs from span to span."""

    def __init__(self, name: str) -> None:
        self._name = field(b"\x0a", name.encode())
        self._before = [self._with(b"x" * size)[:-size] if size else self._with(b"") for size in range(32)]

    def _with(self, text: bytes) -> bytes:
        return field(b"\x4a", self._name + field(b"\x12", field(b"\x0a", text)))

    def of(self, text: bytes) -> bytes:
        """Return the attribute with this text, as a field of a span."""
        size = len(text)
        return self._before[size] + text if size < 32 else self._with(text)


def fixed(name: str, kind: int, values: Mapping[str, Value]) -> bytes:
    """Return the name, the kind and attributes of a span."""
    shown = escaped(name[:MAX_TEXT]).encode("utf-8", "replace")
    return field(b"\x2a", shown) + b"\x30" + _SHORT[kind] + attributes(values)


def event(name: str, at_ns: int, values: Mapping[str, Value]) -> bytes:
    """Return an event as a field of a span."""
    return field(b"\x5a", _AT.pack(b"\x09", at_ns) + field(b"\x12", name.encode()) + attributes(values, b"\x1a"))


def link(trace_id: str, span_id: str) -> bytes:
    """Return a link to another span as a field of a span."""
    return field(b"\x6a", b"\x0a\x10" + bytes.fromhex(trace_id) + b"\x12\x08" + bytes.fromhex(span_id))


def span(
    trace_id: bytes,
    span_id: bytes,
    parent_id: bytes,
    content: bytes,
    began_ns: int,
    ended_ns: int,
    state: str = "",
    remote: bool = False,
) -> bytes:
    """Return a span as a field of ``ScopeSpans``.

    ``parent_id`` is empty for the first span of a trace, and ``remote`` if it is in another process. ``content`` is
    what ``fixed`` returned, and what is to be added to that: attributes, events, links, the status.
    """
    if parent_id:
        ids = _IDS_BELOW.pack(b"\x0a\x10", trace_id, b"\x12\x08", span_id, b"\x22\x08", parent_id)
    else:
        ids = _IDS.pack(b"\x0a\x10", trace_id, b"\x12\x08", span_id)
    if state:
        content += field(b"\x1a", state.encode())
    if ended_ns < began_ns:
        ended_ns = began_ns
    rest = _REST.pack(b"\x39", began_ns, b"\x41", ended_ns, _FLAGS_REMOTE if remote else _FLAGS)
    size = len(ids) + len(content) + len(rest)
    if 127 < size < 16384:  # as nearly always
        return bytes((18, size & 127 | 128, size >> 7)) + ids + content + rest
    return b"\x12" + _varint(size) + ids + content + rest


def request(resource: Mapping[str, Value], scope: str, version: str, made: Sequence[bytes]) -> bytes:
    """Return an ``ExportTraceServiceRequest`` with spans that ``span`` returned. They are copied once."""
    which = field(b"\x0a", field(b"\x0a", scope.encode()) + field(b"\x12", version.encode()))
    whose = field(b"\x0a", attributes(resource, b"\x0a"))
    inner = b"\x12" + _varint(len(which) + sum(map(len, made))) + which
    size = len(whose) + len(inner) + sum(map(len, made))
    return b"".join((b"\x0a", _varint(size), whose, inner, *made))
