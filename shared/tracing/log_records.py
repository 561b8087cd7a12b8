"""Log records as bytes of OTLP (``opentelemetry/proto/logs/v1/logs.proto``), for ``exporter``. Pure.

The messages around them have the same numbers as those around spans, so ``spans.request`` serves both.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Mapping

from shared.tracing.spans import Value, attributes, field

INFO, WARN = 9, 13
"""Severities (``SeverityNumber``)."""
_AT = struct.Struct("<cQ")
_WORDS = {INFO: b"INFO", WARN: b"WARN"}
_PARENT = re.compile(r"[0-9a-f]{2}-([0-9a-f]{32})-([0-9a-f]{16})-[0-9a-f]{2}")


def record(at_ns: int, severity: int, body: bytes, values: Mapping[str, Value], traceparent: str = "") -> bytes:
    """Return a log record as a field of ``ScopeLogs``. ``body`` is UTF-8; ``traceparent`` is empty for none."""
    content = _AT.pack(b"\x09", at_ns) + _AT.pack(b"\x59", at_ns)
    content += b"\x10" + bytes((severity,)) + field(b"\x1a", _WORDS[severity])
    content += field(b"\x2a", field(b"\x0a", body)) + attributes(values, b"\x32")
    found = _PARENT.fullmatch(traceparent)
    if found is not None:
        content += field(b"\x4a", bytes.fromhex(found[1])) + field(b"\x52", bytes.fromhex(found[2]))
    return field(b"\x12", content)
