"""A scripted HTTP upstream in the test's own event loop, in either era, that says whatever a test wants it to say.

``on[METHOD]`` is called with the ``Exchange``; what it returns is the result. Handlers that return ``None`` have
written to the exchange themselves (``send`` makes it an event stream). ``on["GET"]`` takes the standing stream.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import json
from collections import Counter
from collections.abc import Awaitable, Callable
from typing import Any

from aiohttp import web

CACHED = {"resultType": "complete", "ttlMs": 0, "cacheScope": "private"}
Handler = Callable[["Exchange"], Awaitable[dict[str, Any] | None]]


class Exchange:
    """One request of the gateway, and what is answered to it."""

    def __init__(self, request: web.BaseRequest, message: dict[str, Any]) -> None:
        self.request = request
        self.message = message
        self.response: web.StreamResponse | None = None

    @property
    def arguments(self) -> dict[str, Any]:
        """Of a ``tools/call``."""
        return self.message["params"].get("arguments") or {}

    @property
    def token(self) -> Any:
        """The progress token."""
        return self.message["params"].get("_meta", {}).get("progressToken")

    async def open(self) -> web.StreamResponse:
        """Make the answer an event stream."""
        if self.response is None:
            self.response = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
            await self.response.prepare(self.request)
        return self.response

    async def write(self, raw: bytes) -> None:
        """Bytes on the event stream."""
        await (await self.open()).write(raw)

    async def send(self, *messages: dict[str, Any]) -> None:
        """JSON-RPC messages on the event stream."""
        raw = b"".join(b"data: %b\n\n" % json.dumps({"jsonrpc": "2.0", **one}).encode() for one in messages)
        await self.write(raw)

    async def ask(self, id: Any, text: str = "?") -> None:
        """An elicitation request on the event stream."""
        params = {"message": text, "requestedSchema": {"type": "object", "properties": {}}}
        await self.send({"id": id, "method": "elicitation/create", "params": params})

    async def answer(self, result: dict[str, Any]) -> None:
        """The answer, on the event stream."""
        await self.send({"id": self.message["id"], "result": result})

    def abort(self) -> None:
        """Drop the connection."""
        if self.request.transport is not None:
            self.request.transport.abort()


class Scripted:
    """See the module."""

    def __init__(self, name: str, era: str = "legacy", *tools: str, **capabilities: Any) -> None:
        self.name = name
        self.era = era
        self.tools = tools or (name,)
        self.resources: list[str] = []
        self.capabilities = {"tools": {}, **capabilities}
        self.on: dict[str, Handler] = {}
        self.seen: Counter[str] = Counter()
        self.replies: dict[Any, dict[str, Any]] = {}
        self.standing: list[Exchange] = []
        self.notices: asyncio.Event | None = None  # what answers to ``notifications/x`` wait for
        self.noticed: Callable[[dict[str, Any]], None] = lambda message: None
        self.port = 0
        self._sessions = itertools.count(1)
        self._runner: web.ServerRunner | None = None

    async def __aenter__(self) -> Scripted:
        self._runner = web.ServerRunner(web.Server(self._handle, request_factory=_request), shutdown_timeout=0.1)
        await self._runner.setup()
        await web.TCPSite(self._runner, "127.0.0.1", self.port, reuse_address=True).start()
        self.port = self._runner.addresses[0][1]
        return self

    async def __aexit__(self, *_: object) -> None:
        if self._runner is not None:
            await self._runner.cleanup()
            self._runner = None

    @property
    def connection(self) -> dict[str, Any]:
        """For ``register``."""
        return {"type": "http", "url": f"http://127.0.0.1:{self.port}/mcp"}

    async def _handle(self, request: web.BaseRequest) -> web.StreamResponse:
        if request.method != "POST":
            return await self._get(request)
        message = json.loads(await request.read(), parse_int=_integer)
        method = message.get("method")
        if "id" not in message or method is None:
            self.seen[method or "reply"] += 1
            self.noticed(message)
            if self.notices is not None and method == "notifications/x":
                await self.notices.wait()
            if method is None:
                self.replies[message.get("id")] = message
            return web.Response(status=202)
        self.seen[method] += 1
        exchange = Exchange(request, message)
        handler = self.on.get(method)
        result = await handler(exchange) if handler is not None else self._result(method)
        if exchange.response is not None:
            with contextlib.suppress(ConnectionError):
                await exchange.response.write_eof()
            return exchange.response
        envelope: dict[str, Any] = {"jsonrpc": "2.0", "id": message["id"]}
        if result is None:
            envelope["error"] = {"code": -32601, "message": "method not found"}
            return web.json_response(envelope, status=404 if self.era == "modern" else 200)
        envelope.update({"error": result["error"]} if "error" in result else {"result": result})
        headers = {"Mcp-Session-Id": f"{self.name}-{next(self._sessions)}"} if method == "initialize" else {}
        return web.json_response(envelope, headers=headers)

    async def _get(self, request: web.BaseRequest) -> web.StreamResponse:
        self.seen[request.method] += 1
        if request.method != "GET" or self.era == "modern":
            return web.Response(status=200 if request.method == "DELETE" else 405)
        exchange = Exchange(request, {})
        handler = self.on.get("GET")
        if handler is not None:
            done = await handler(exchange)
            if exchange.response is None:
                return web.Response(status=(done or {}).get("status", 405))
            return exchange.response
        await exchange.open()
        self.standing.append(exchange)
        try:
            await asyncio.Event().wait()  # its server may be gone long before; nothing is said about it then
        finally:
            self.standing.remove(exchange)
        raise AssertionError("nobody ends it")

    def _result(self, method: str) -> dict[str, Any] | None:
        modern = CACHED if self.era == "modern" else {}
        if method == "initialize" and self.era == "legacy":
            info = {"name": self.name, "version": "1"}
            return {"protocolVersion": "2025-11-25", "capabilities": self.capabilities, "serverInfo": info}
        if method == "server/discover" and self.era == "modern":
            return {"supportedVersions": ["2026-07-28"], "capabilities": self.capabilities, **modern}
        if method == "tools/list":
            return {"tools": [{"name": name, "inputSchema": {"type": "object"}} for name in self.tools], **modern}
        if method == "resources/list":
            return {"resources": [{"uri": uri, "name": uri} for uri in self.resources], **modern}
        if method == "tools/call":
            return said(self.name)
        if method in ("ping", "resources/subscribe", "resources/unsubscribe", "logging/setLevel"):
            return {} if self.era == "legacy" else None
        return None


def _request(message: Any, payload: Any, protocol: Any, writer: Any, task: Any) -> web.BaseRequest:
    loop = asyncio.get_running_loop()
    return web.BaseRequest(message, payload, protocol, writer, task, loop, client_max_size=100 * 1024 * 1024)


def _integer(digits: str) -> int | str:
    return int(digits) if len(digits) < 100 else digits


def said(text: str) -> dict[str, Any]:
    """A tool's result, good in either era."""
    return {"content": [{"type": "text", "text": text}], "resultType": "complete"}


async def echo(exchange: Exchange) -> dict[str, Any]:
    """A tool that gives back its ``text``."""
    return said(exchange.arguments.get("text", ""))
