"""An upstream that writes down what it executes.

``python -m tests.chaos.upstream http|sse|stdio LEDGER PREFIX [HOST:PORT]``

It has two tools, ``PREFIX_do``, which must not run twice, and ``PREFIX_read``, which may. Both take the ``id`` of the
call and the ``ms`` that it lasts, and answer the id, with ``bytes`` more if asked for. Each execution appends a line
``id prefix pid`` to the ledger.
``http`` and ``stdio`` speak both eras, ``sse`` only the older one. The port is printed when it listens.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import sys
import uuid
from typing import Any

from aiohttp import web

MODERN = "2026-07-28"
_VERSION_KEY = "io.modelcontextprotocol/protocolVersion"
_SCHEMA = {"type": "object", "properties": {"id": {"type": "string"}, "ms": {"type": "integer"}}}
_KEEPALIVE_S = 20.0


class Upstream:
    """What the transports share: methods and their answers."""

    def __init__(self, ledger: str, prefix: str, modern: bool) -> None:
        self._prefix = prefix
        self._modern = modern
        self._ledger = os.open(ledger, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)

    async def answer(self, message: dict[str, Any]) -> dict[str, Any] | None:
        """Return the JSON-RPC answer, or ``None`` for what needs none."""
        if "id" not in message or "method" not in message:
            return None
        params = message.get("params") or {}
        modern = _VERSION_KEY in (params.get("_meta") or {})
        result = None if modern and not self._modern else await self._result(message["method"], params, modern)
        head = {"jsonrpc": "2.0", "id": message["id"]}
        if result is None:
            return {**head, "error": {"code": -32601, "message": "Method not found"}}
        return {**head, "result": {**result, **({"resultType": "complete"} if modern else {})}}

    async def _result(self, method: str, params: dict[str, Any], modern: bool) -> dict[str, Any] | None:
        about = {"name": self._prefix, "version": "1"}
        cached = {"ttlMs": 60_000, "cacheScope": "public"} if modern else {}
        if method == "tools/call":
            return await self._run(params)
        if method == "tools/list":
            do = {"name": f"{self._prefix}_do", "inputSchema": _SCHEMA}
            read = {"name": f"{self._prefix}_read", "inputSchema": _SCHEMA, "annotations": {"readOnlyHint": True}}
            return {"tools": [do, read], **cached}
        if method == "initialize":
            asked = params.get("protocolVersion", "2025-11-25")
            version = asked if asked < MODERN else "2025-11-25"
            return {"protocolVersion": version, "capabilities": {"tools": {}}, "serverInfo": about}
        if method == "server/discover" and modern:
            meta = {"io.modelcontextprotocol/serverInfo": about}
            return {"supportedVersions": [MODERN], "capabilities": {"tools": {}}, "_meta": meta, **cached}
        return {} if method == "ping" else None

    async def _run(self, params: dict[str, Any]) -> dict[str, Any]:
        arguments = params.get("arguments") or {}
        id = arguments.get("id", "-")
        os.write(self._ledger, f"{id} {params['name']} {os.getpid()}\n".encode())
        await asyncio.sleep(arguments.get("ms", 0) / 1000)
        return {"content": [{"type": "text", "text": id + "x" * arguments.get("bytes", 0)}], "isError": False}


class HttpServer:
    """Streamable HTTP with sessions for the older era, or HTTP+SSE."""

    def __init__(self, upstream: Upstream) -> None:
        self._upstream = upstream
        self._sessions: set[str] = set()
        self._streams: dict[str, web.StreamResponse] = {}
        self._under_way: set[asyncio.Task[None]] = set()

    async def post(self, request: web.Request) -> web.Response:
        """Answer one message of Streamable HTTP."""
        message = await request.json()
        session = request.headers.get("Mcp-Session-Id")
        if session is not None and session not in self._sessions:
            return web.Response(status=404)
        answer = await self._upstream.answer(message)
        if answer is None:
            return web.Response(status=202)
        headers = {}
        if message["method"] == "initialize":
            headers["Mcp-Session-Id"] = uuid.uuid4().hex
            self._sessions.add(headers["Mcp-Session-Id"])
        return web.json_response(answer, headers=headers)

    async def delete(self, request: web.Request) -> web.Response:
        """End a session."""
        self._sessions.discard(request.headers.get("Mcp-Session-Id", ""))
        return web.Response()

    async def sse(self, request: web.Request) -> web.StreamResponse:
        """Hold the stream of one HTTP+SSE client."""
        session = uuid.uuid4().hex
        response = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
        await response.prepare(request)
        self._streams[session] = response
        try:
            await response.write(f"event: endpoint\ndata: /messages?session={session}\n\n".encode())
            with contextlib.suppress(ConnectionError):
                while True:
                    await asyncio.sleep(_KEEPALIVE_S)
                    await response.write(b": here\n\n")
        finally:
            del self._streams[session]
        return response

    async def sse_message(self, request: web.Request) -> web.Response:
        """Take one message of an HTTP+SSE client; its answer goes to the stream."""
        stream = self._streams.get(request.query.get("session", ""))
        if stream is None:
            return web.Response(status=404)
        task = asyncio.ensure_future(self._answer_on(stream, await request.json()))
        self._under_way.add(task)
        task.add_done_callback(self._under_way.discard)
        return web.Response(status=202)

    async def _answer_on(self, stream: web.StreamResponse, message: dict[str, Any]) -> None:
        answer = await self._upstream.answer(message)
        if answer is not None:
            with contextlib.suppress(ConnectionError):  # the client is gone
                await stream.write(f"event: message\ndata: {json.dumps(answer)}\n\n".encode())

    async def serve(self, host: str, port: int, over_sse: bool) -> None:
        """Serve until killed."""
        app = web.Application(client_max_size=16 * 1024 * 1024)
        if over_sse:
            app.add_routes([web.get("/sse", self.sse), web.post("/messages", self.sse_message)])
        else:
            app.add_routes([web.post("/mcp", self.post), web.delete("/mcp", self.delete)])
        runner = web.AppRunner(app, access_log=None)
        await runner.setup()
        await web.TCPSite(runner, host, port, backlog=1024).start()
        print(runner.addresses[0][1], flush=True)
        await asyncio.Event().wait()


async def serve_stdio(upstream: Upstream) -> None:
    """Answer what comes on stdin until that ends."""
    reader = asyncio.StreamReader(limit=1 << 24)
    await asyncio.get_running_loop().connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
    under_way: set[asyncio.Task[None]] = set()

    async def one(message: dict[str, Any]) -> None:
        answer = await upstream.answer(message)
        if answer is not None:
            print(json.dumps(answer), flush=True)

    while line := await reader.readline():
        task = asyncio.ensure_future(one(json.loads(line)))
        under_way.add(task)
        task.add_done_callback(under_way.discard)


async def main() -> None:
    """Serve as the command line says."""
    transport, ledger, prefix, *rest = sys.argv[1:]
    upstream = Upstream(ledger, prefix, transport != "sse")
    if transport == "stdio":
        await serve_stdio(upstream)
    else:
        host, _, port = (rest[0] if rest else "127.0.0.1:0").rpartition(":")
        await HttpServer(upstream).serve(host or "127.0.0.1", int(port), transport == "sse")


if __name__ == "__main__":
    asyncio.run(main())
