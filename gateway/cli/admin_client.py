"""Asking a running gateway: its admin API and its MCP endpoint, over aiohttp; every failure one clear line."""

from __future__ import annotations

import asyncio
import json
import os
from typing import Any

import aiohttp

from gateway import __version__
from shared.errors import GatewayError
from shared.mcp import headers as mcp_headers
from shared.mcp.methods import CAPABILITIES_META, CLIENT_INFO_META, NAMED_BY, VERSION_META
from shared.mcp.versions import LATEST_MODERN


class CommandFailed(GatewayError):
    """The running gateway said no, or could not be asked."""


class GatewayClient:
    """One gateway at ``url``."""

    def __init__(self, url: str) -> None:
        self.url = url.rstrip("/")
        token = os.environ.get("GATEWAY_ADMIN_TOKEN")
        self._headers = {"Authorization": f"Bearer {token}"} if token else {}

    def admin(self, method: str, path: str, body: Any = None) -> Any:
        """One admin request's JSON. Raises ``CommandFailed``."""
        return asyncio.run(self._send(method, f"/admin/v1/{path}", body, self._headers))

    def get(self, path: str) -> Any:
        """A plain GET's JSON."""
        return asyncio.run(self._send("GET", path, None, {}))

    async def _send(self, method: str, path: str, body: Any, headers: dict[str, str]) -> Any:
        timeout = aiohttp.ClientTimeout(total=120)
        try:
            async with aiohttp.ClientSession(timeout=timeout, headers=headers) as session:
                data = None if body is None else json.dumps(body)
                async with session.request(method, self.url + path, data=data) as response:
                    text = await response.text()
                    if response.status >= 400 and response.content_type != "text/event-stream":
                        raise CommandFailed(_reason(text, response.status))
                    if response.content_type == "text/event-stream":
                        return _last_event(text)
                    return json.loads(text) if text else None
        except aiohttp.ClientConnectionError as error:
            raise CommandFailed(
                f"no gateway answers at {self.url}: start one with 'gateway up', or name it with --url or GATEWAY_URL"
            ) from error
        except (TimeoutError, json.JSONDecodeError) as error:
            raise CommandFailed(f"{self.url}{path} gave no usable answer") from error

    def call(self, method: str, params: dict[str, Any]) -> dict[str, Any]:
        """One MCP request in the modern era; its JSON-RPC response."""
        meta = {
            VERSION_META: LATEST_MODERN,
            CAPABILITIES_META: {},
            CLIENT_INFO_META: {"name": "gateway-cli", "version": __version__},
        }
        message = {"jsonrpc": "2.0", "id": 1, "method": method, "params": {**params, "_meta": meta}}
        headers = {
            "Content-Type": "application/json",
            "Accept": "application/json, text/event-stream",
            "MCP-Protocol-Version": LATEST_MODERN,
            "Mcp-Method": method,
        }
        if method in NAMED_BY:
            headers["Mcp-Name"] = mcp_headers.encode_value(str(params[NAMED_BY[method]]))
            headers.update(self._parameter_headers(str(params["name"]), params.get("arguments") or {}))
        answer = asyncio.run(self._send("POST", "/mcp", message, headers))
        if not isinstance(answer, dict):
            raise CommandFailed("the gateway's answer is no JSON-RPC response")
        return answer

    def _parameter_headers(self, tool: str, arguments: dict[str, Any]) -> dict[str, str]:
        """``Mcp-Param-*`` where the tool asks for them."""
        try:
            tools = self.admin("GET", "tools")
        except CommandFailed:
            tools = []  # not for us to see; the call itself may be
        listed = next((one for one in tools if one["name"] == tool), None)
        annotated = mcp_headers.annotated_parameters(listed["inputSchema"]) if listed else None
        return mcp_headers.parameter_headers(annotated, arguments) if annotated else {}


def _reason(text: str, status: int) -> str:
    try:
        body = json.loads(text)
    except json.JSONDecodeError:
        return f"HTTP {status}"
    error = body.get("error") if isinstance(body, dict) else None
    if isinstance(error, dict):
        close = (error.get("data") or {}).get("closeMatches")
        return f"{error.get('message')}{f' (close: {chr(44).join(close)})' if close else ''}"
    return str(error or f"HTTP {status}")


def _last_event(text: str) -> Any:
    data = [line[5:].strip() for line in text.splitlines() if line.startswith("data:")]
    return json.loads(data[-1]) if data else None
