"""An API's HTTP response as the result of a tool. Pure.

JSON stays as its bytes are. What the API refuses is a result with ``isError``, which models read and correct.
"""

from __future__ import annotations

import base64
import http

import msgspec
from msgspec import Raw

from shared.mcp import jsonrpc, values

MOST_OF_A_REFUSAL = 8 * 1024
"""The bytes of the body of a refusal that models get. Some servers answer with a page of a megabyte."""
_TEXTS = (b"text/", b"application/xml", b"application/javascript", b"application/x-ndjson", b"application/yaml")
_READABLE = (b"+xml", b"+yaml", b"+text")


def result(status: int, kind: bytes, body: bytes) -> bytes:
    """Return the JSON of a ``tools/call`` result. ``kind`` is the media type without parameters, in lower case."""
    if status >= 400:
        return tool_error(_refusal(status, kind, body))
    if not body:
        return _written({"type": "text", "text": f"HTTP {_named(status)}, without a body"})
    if _is_json(kind) or (not kind and body[:1] in b"{["):
        read = _json(body)
        if read is not None:
            return _written({"type": "text", "text": body.decode()}, read if read[:1] == b"{" else None)
    text = _text(kind, body)
    if text is not None:
        return _written({"type": "text", "text": text})
    data, media = base64.b64encode(body).decode(), kind.decode("latin-1") or "application/octet-stream"
    for block in ("image", "audio"):
        if kind.startswith(block.encode() + b"/"):
            return _written({"type": block, "data": data, "mimeType": media})
    inner = {"uri": "response:body", "mimeType": media, "blob": data}
    return _written({"type": "resource", "resource": inner})


def tool_error(text: str) -> bytes:
    """Return the JSON of a result that says what went wrong."""
    return jsonrpc.assemble({"resultType": "complete", "content": [{"type": "text", "text": text}], "isError": True})


def _written(block: dict[str, object], structured: bytes | None = None) -> bytes:
    parts: dict[str, object] = {"resultType": "complete", "content": [block]}
    if structured is not None:
        parts["structuredContent"] = Raw(structured)
    return jsonrpc.assemble(parts)


def _refusal(status: int, kind: bytes, body: bytes) -> str:
    said = f"HTTP {_named(status)}"
    text = _text(kind, body[:MOST_OF_A_REFUSAL]) if body else ""
    if text is None:
        return f"{said} ({len(body)} bytes of {kind.decode('latin-1') or 'an unnamed type'})"
    if len(body) > MOST_OF_A_REFUSAL:
        text += f"\n… ({len(body)} bytes, of which these are the first {MOST_OF_A_REFUSAL})"
    return f"{said}\n{text}" if text else said


def _named(status: int) -> str:
    try:
        return f"{status} {http.HTTPStatus(status).phrase}"
    except ValueError:
        return str(status)


def _is_json(kind: bytes) -> bool:
    return kind == b"application/json" or kind.endswith(b"+json") or kind == b"text/json"


def _json(body: bytes) -> bytes | None:
    """Return the JSON in a body, or ``None`` if there is none. What msgspec reads and orjson does not is text."""
    try:
        values.loads(body)
        return bytes(msgspec.json.decode(body, type=Raw)).strip()
    except (ValueError, msgspec.DecodeError):
        return None


def _text(kind: bytes, body: bytes) -> str | None:
    """Return a body as text, or ``None`` if it is none."""
    named = not kind or _is_json(kind) or kind.startswith(_TEXTS) or kind.endswith(_READABLE)
    if not named:
        return None
    text = body.decode("utf-8", "replace")
    return None if not kind and "\ufffd" in text else text
