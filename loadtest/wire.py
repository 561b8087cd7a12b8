"""MCP messages over Streamable HTTP as clients of both eras write and read them: pure, for Locust and the benchmarks.

Modern (2026-07-28): every request stands for itself, its routing headers repeat what the body says. Legacy
(2025-11-25): ``initialize`` opens a session whose id the later requests carry.
"""

from __future__ import annotations

import base64
import json
import re
from dataclasses import dataclass, field
from typing import Any

MODERN = "2026-07-28"
LEGACY = "2025-11-25"
CLIENT = {"name": "loadtest", "version": "1"}
_META = {
    "io.modelcontextprotocol/protocolVersion": MODERN,
    "io.modelcontextprotocol/clientCapabilities": {},
    "io.modelcontextprotocol/clientInfo": CLIENT,
}
_BASE = {"Content-Type": "application/json", "Accept": "application/json, text/event-stream"}
_NAMED_BY = {"tools/call": "name", "prompts/get": "name", "resources/read": "uri"}
_PLAIN = re.compile(r"[\x21-\x7e](?:[\x20-\x7e\t]*[\x21-\x7e])?\Z")


@dataclass(frozen=True)
class Request:
    """One HTTP request of a client; ``method`` is the HTTP method."""

    body: bytes
    headers: dict[str, str] = field(default_factory=dict)
    path: str = "/mcp"
    method: str = "POST"

    def to_bytes(self, host: str) -> bytes:
        """As HTTP/1.1."""
        head = {"Host": host, **self.headers, "Content-Length": str(len(self.body))}
        lines = "".join(f"{name}: {value}\r\n" for name, value in head.items())
        return f"{self.method} {self.path} HTTP/1.1\r\n{lines}\r\n".encode() + self.body


@dataclass(frozen=True)
class Answer:
    """The JSON-RPC response in an HTTP answer: ``result``, or ``error`` in words."""

    result: dict[str, Any] | None
    error: str | None = None


def _encode(message: dict[str, Any]) -> bytes:
    return json.dumps({"jsonrpc": "2.0", **message}, separators=(",", ":")).encode()


def header_value(text: str) -> str:
    """``text`` as a header's value: as it is, or in base64 (specification, streamable-http, "Request Metadata")."""
    return text if _PLAIN.match(text) else f"=?base64?{base64.b64encode(text.encode()).decode()}?="


def modern(method: str, params: dict[str, Any] | None = None, id: int = 1, path: str = "/mcp") -> Request:
    """A request of the modern era."""
    params = params or {}
    headers = {**_BASE, "MCP-Protocol-Version": MODERN, "Mcp-Method": method}
    if method in _NAMED_BY:
        headers["Mcp-Name"] = header_value(str(params[_NAMED_BY[method]]))
    meta = {**_META, **params.get("_meta", {})}
    body = _encode({"id": id, "method": method, "params": {**params, "_meta": meta}})
    return Request(body, headers, path)


def parameter_headers(schema: dict[str, Any], arguments: dict[str, Any]) -> dict[str, str]:
    """``Mcp-Param-*``: arguments that a tool wants repeated in headers (``x-mcp-header`` of its top properties)."""
    found = {}
    for name, part in (schema.get("properties") or {}).items():
        if isinstance(part, dict) and "x-mcp-header" in part and name in arguments:
            value = arguments[name]
            text = value if isinstance(value, str) else json.dumps(value)
            found[f"Mcp-Param-{part['x-mcp-header']}"] = header_value(text)
    return found


def session_headers(sid: str) -> dict[str, str]:
    """What every request of a legacy session carries; nothing for a server that keeps no sessions."""
    return {"MCP-Protocol-Version": LEGACY, **({"Mcp-Session-Id": sid} if sid else {})}


def legacy(
    method: str, params: dict[str, Any] | None = None, id: int = 2, sid: str = "", path: str = "/mcp"
) -> Request:
    """A request on a legacy session."""
    return Request(
        _encode({"id": id, "method": method, "params": params or {}}), {**_BASE, **session_headers(sid)}, path
    )


def initialize(path: str = "/mcp") -> Request:
    """The request that opens a legacy session."""
    params = {"protocolVersion": LEGACY, "capabilities": {}, "clientInfo": CLIENT}
    return Request(_encode({"id": 1, "method": "initialize", "params": params}), dict(_BASE), path)


def notice(method: str, sid: str, path: str = "/mcp") -> Request:
    """A notification on a legacy session."""
    return Request(_encode({"method": method}), {**_BASE, **session_headers(sid)}, path)


def read(content_type: str, text: str | bytes) -> Answer:
    """The response in an HTTP body, which is JSON or an event stream that may carry other messages before it."""
    if isinstance(text, bytes):
        text = text.decode("utf-8", "replace")
    bodies = event_data(text) if content_type.startswith("text/event-stream") else [text]
    for body in reversed(bodies):
        try:
            message = json.loads(body)
        except json.JSONDecodeError:
            return Answer(None, f"no JSON: {body[:80]!r}")
        if isinstance(message, dict) and isinstance(message.get("error"), dict):
            error = message["error"]
            return Answer(None, f"{error.get('code')} {error.get('message')}")
        if isinstance(message, dict) and isinstance(message.get("result"), dict):
            return Answer(message["result"])
    return Answer(None, "no JSON-RPC response in the body")


def event_data(text: str) -> list[str]:
    """The data of each event in a complete event stream."""
    events = []
    for block in re.split(r"\r?\n\r?\n", text):
        lines = [line[5:].removeprefix(" ") for line in block.splitlines() if line.startswith("data:")]
        if any(lines):
            events.append("\n".join(lines))
    return events
