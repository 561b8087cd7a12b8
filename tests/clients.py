"""Raw MCP requests for tests that look at bytes, statuses and headers; SDK clients are used where behaviour counts."""

from __future__ import annotations

import itertools
import json
import ssl
from typing import Any

import aiohttp

from shared.mcp.headers import encode_value
from tests.machine import scaled

_ids = itertools.count(1)
MODERN_META = {
    "io.modelcontextprotocol/protocolVersion": "2026-07-28",
    "io.modelcontextprotocol/clientCapabilities": {},
}


class Answer:
    """Status, headers, and the JSON-RPC message (the last one, for event streams)."""

    def __init__(self, status: int, headers: Any, text: str) -> None:
        self.status = status
        self.headers = headers
        self.text = text
        self.messages: list[Any] = []
        if headers.get("Content-Type", "").startswith("text/event-stream"):
            self.messages = [
                json.loads(line[5:]) for line in text.splitlines() if line.startswith("data:") and line[5:].strip()
            ]
        elif text:
            self.messages = [json.loads(text)]

    @property
    def body(self) -> Any:
        """The last message."""
        return self.messages[-1] if self.messages else None

    @property
    def error(self) -> dict[str, Any]:
        """The JSON-RPC error."""
        return self.body["error"]

    @property
    def content(self) -> str:
        """The first text of a tool's result."""
        assert "result" in self.body, self.body
        return self.body["result"]["content"][0]["text"]


class RawClient:
    """Posts to one endpoint; ``sid`` makes it a legacy session."""

    def __init__(self, url: str, tls: ssl.SSLContext | None = None) -> None:
        self.url = url
        self.sid = ""
        self.version = "2025-11-25"
        connector = aiohttp.TCPConnector(ssl=tls if tls is not None else True)
        self.session = aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=scaled(60)), connector=connector)

    async def __aenter__(self) -> RawClient:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.session.close()

    async def post(self, body: Any, headers: dict[str, str] | None = None, url: str | None = None) -> Answer:
        """POST bytes, or something to be JSON."""
        data = body if isinstance(body, bytes) else json.dumps(body).encode()
        base = {"Content-Type": "application/json", "Accept": "application/json, text/event-stream"}
        async with self.session.post(url or self.url, data=data, headers={**base, **(headers or {})}) as response:
            return Answer(response.status, response.headers, await response.text())

    async def modern(
        self,
        method: str,
        params: dict[str, Any] | None = None,
        headers: dict[str, str] | None = None,
        meta: dict[str, Any] | None = None,
    ) -> Answer:
        """One modern request."""
        params = dict(params or {})
        params["_meta"] = {**MODERN_META, **(meta or {})}
        sent = {"MCP-Protocol-Version": "2026-07-28", "Mcp-Method": method}
        if isinstance(params.get("name"), str):
            sent["Mcp-Name"] = encode_value(params["name"])
        message = {"jsonrpc": "2.0", "id": next(_ids), "method": method, "params": params}
        return await self.post(message, {**sent, **(headers or {})})

    async def call(self, name: str, arguments: dict[str, Any] | None = None, **options: Any) -> Answer:
        """``tools/call`` in the modern era."""
        return await self.modern("tools/call", {"name": name, "arguments": arguments or {}}, **options)

    async def initialize(self, version: str = "2025-11-25", capabilities: dict[str, Any] | None = None) -> Answer:
        """Open a legacy session."""
        params = {
            "protocolVersion": version,
            "capabilities": capabilities or {},
            "clientInfo": {"name": "raw", "version": "1"},
        }
        answer = await self.post({"jsonrpc": "2.0", "id": next(_ids), "method": "initialize", "params": params})
        self.sid = answer.headers.get("Mcp-Session-Id", "")
        self.version = answer.body["result"]["protocolVersion"]
        await self.legacy_notice("notifications/initialized")
        return answer

    def legacy_headers(self) -> dict[str, str]:
        """Session and version."""
        return {"Mcp-Session-Id": self.sid, "MCP-Protocol-Version": self.version} if self.sid else {}

    async def legacy(
        self, method: str, params: dict[str, Any] | None = None, url: str | None = None, id: Any = None
    ) -> Answer:
        """One request on the session, at any front end."""
        message = {
            "jsonrpc": "2.0",
            "id": next(_ids) if id is None else id,
            "method": method,
            "params": params or {},
        }
        return await self.post(message, self.legacy_headers(), url)

    async def legacy_call(self, name: str, arguments: dict[str, Any] | None = None, **options: Any) -> Answer:
        """``tools/call`` on the session."""
        return await self.legacy("tools/call", {"name": name, "arguments": arguments or {}}, **options)

    async def legacy_notice(self, method: str, params: dict[str, Any] | None = None, url: str | None = None) -> Answer:
        """One notification on the session."""
        return await self.post({"jsonrpc": "2.0", "method": method, "params": params or {}}, self.legacy_headers(), url)
