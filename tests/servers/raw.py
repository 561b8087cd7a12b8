"""Scripted HTTP upstreams in the test's own event loop: minimal, modern or legacy, and misbehaving on demand.

One ``RawUpstreams`` serves any number of endpoints (``/NAME``) on one port. What an endpoint does with the next
``tools/call`` is its ``behaviour``; tests read ``calls`` to see what arrived.
"""

from __future__ import annotations

import asyncio
import json
from typing import Any

from aiohttp import web

TOOLS = [
    {"name": "who", "description": "says who", "inputSchema": {"type": "object"}},
    {"name": "read", "inputSchema": {"type": "object"}, "annotations": {"readOnlyHint": True}},
]


class Endpoint:
    """One upstream."""

    def __init__(self, name: str, tools: list[dict[str, Any]], era: str) -> None:
        self.name = name
        self.tools = tools
        self.era = era
        self.behaviour = "ok"
        self.delay_s = 0.0
        self.places = asyncio.Semaphore(10_000)
        self.under_way = self.most_under_way = 0
        self.page_size = 1000
        self.ttl_ms = 0
        self.calls: list[dict[str, Any]] = []
        self.headers: list[dict[str, str]] = []
        self.sessions: set[str] = set()
        self.release = asyncio.Event()

    @property
    def tool_calls(self) -> list[dict[str, Any]]:
        """The ``tools/call`` requests that arrived."""
        return [call for call in self.calls if call.get("method") == "tools/call"]

    def result(self, method: str, params: dict[str, Any]) -> dict[str, Any] | None:
        """The result of a well-behaved server."""
        extra = {"resultType": "complete"} if self.era == "modern" else {}
        cached = {"ttlMs": self.ttl_ms, "cacheScope": "private"} if self.era == "modern" else {}
        if method == "server/discover" and self.era == "modern":
            return {"supportedVersions": ["2026-07-28"], "capabilities": {"tools": {}}, **extra, **cached}
        if method == "initialize" and self.era == "legacy":
            info = {"name": self.name, "version": "1"}
            return {"protocolVersion": "2025-06-18", "capabilities": {"tools": {}}, "serverInfo": info}
        if method == "ping" and self.era == "legacy":
            return {}
        if method == "tools/list":
            start = int(params.get("cursor") or 0)
            page = self.tools[start : start + self.page_size]
            more = {"nextCursor": str(start + self.page_size)} if start + self.page_size < len(self.tools) else {}
            return {"tools": page, **more, **extra, **cached}
        if method.startswith("example/"):
            return {"echo": params.get("value"), **extra}
        if method == "tools/call":
            return {"content": [{"type": "text", "text": self.name}], **extra}
        return None


class RawUpstreams:
    """See the module."""

    def __init__(self) -> None:
        self.endpoints: dict[str, Endpoint] = {}
        self.port = 0
        self._runner: web.ServerRunner | None = None

    async def __aenter__(self) -> RawUpstreams:
        await self.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.stop()

    async def start(self, port: int = 0) -> None:
        """Listen."""
        self._runner = web.ServerRunner(web.Server(self._handle), shutdown_timeout=0.1)
        await self._runner.setup()
        site = web.TCPSite(self._runner, "127.0.0.1", port or self.port, reuse_address=True)
        await site.start()
        self.port = self._runner.addresses[0][1]

    async def stop(self) -> None:
        """Stop listening and drop connections; ``start`` listens on the same port again."""
        if self._runner is not None:
            await self._runner.cleanup()
            self._runner = None

    def add(self, name: str, tools: list[dict[str, Any]] | None = None, era: str = "modern") -> Endpoint:
        """A new endpoint at ``url(name)``."""
        endpoint = self.endpoints[name] = Endpoint(name, TOOLS if tools is None else tools, era)
        return endpoint

    def url(self, name: str) -> str:
        """Where it is."""
        return f"http://127.0.0.1:{self.port}/{name}"

    def connection(self, name: str) -> dict[str, Any]:
        """For ``register``."""
        return {"type": "http", "url": self.url(name)}

    async def _handle(self, request: web.BaseRequest) -> web.StreamResponse:
        endpoint = self.endpoints.get(request.path.strip("/"))
        if endpoint is None or request.method != "POST":
            return web.Response(status=405 if endpoint else 404)
        if endpoint.behaviour == "401-always":
            return web.Response(status=401, text="who are you?")
        if endpoint.behaviour == "html-always":
            return web.Response(text="<html>hello</html>", content_type="text/html")
        if endpoint.behaviour == "503-always":
            endpoint.calls.append({})
            return web.Response(status=503, text="later")
        message = json.loads(await request.read())
        endpoint.calls.append(message)
        endpoint.headers.append(dict(request.headers))
        if "id" not in message:
            return web.Response(status=202)
        if message["method"] == "tools/call":
            endpoint.under_way += 1
            endpoint.most_under_way = max(endpoint.most_under_way, endpoint.under_way)
            try:
                async with endpoint.places:
                    odd = await self._misbehave(endpoint, request)
            finally:
                endpoint.under_way -= 1
            if odd is not None:
                return odd
        result = endpoint.result(message["method"], message.get("params") or {})
        if result is None:
            error = {"code": -32601, "message": "method not found"}
            return web.json_response(
                {"jsonrpc": "2.0", "id": message["id"], "error": error},
                status=404 if endpoint.era == "modern" else 400,
            )
        return web.json_response({"jsonrpc": "2.0", "id": message["id"], "result": result})

    async def _misbehave(self, endpoint: Endpoint, request: web.BaseRequest) -> web.StreamResponse | None:
        behaviour = endpoint.behaviour
        if endpoint.delay_s:
            await asyncio.sleep(endpoint.delay_s)
        if behaviour == "hang":
            await endpoint.release.wait()
        elif behaviour == "close":
            assert request.transport is not None
            request.transport.abort()
        elif behaviour == "half":
            response = web.StreamResponse(headers={"Content-Type": "application/json", "Content-Length": "500"})
            await response.prepare(request)
            await response.write(b'{"jsonrpc":"2.0","id":')
            assert request.transport is not None
            request.transport.abort()
        elif behaviour == "html":
            return web.Response(text="<html>oops</html>", content_type="text/html")
        elif behaviour == "401":
            return web.Response(status=401, text="who are you?")
        elif behaviour == "500":
            return web.Response(status=500, text="broken")
        elif behaviour == "error":
            message = endpoint.tool_calls[-1]
            error = {"code": -32000, "message": "no"}
            return web.json_response({"jsonrpc": "2.0", "id": message["id"], "error": error})
        elif behaviour in ("429", "503"):
            return web.Response(status=int(behaviour), text="later", headers={"Retry-After": "7"})
        return None
