"""An MCP server over Streamable HTTP that answers at once, in JSON: ``python -m loadtest.bench.upstream_http``.

Any number of upstreams share one process; the path says what each is: ``/ERA/TOOLS/NAME`` with ERA ``modern``,
``legacy`` (with sessions) or ``sessionless`` (legacy without), TOOLS the number of tools listed, called ``NAME_0``,
``NAME_1``, … Each tool gives back ``text``, or ``bytes`` many bytes. ``/counts`` tells how many calls were answered.
"""

from __future__ import annotations

import asyncio
import functools
import itertools
from typing import Any

import orjson
import uvloop
from aiohttp import web

_VERSION = "2026-07-28"
_numbers = itertools.count(1)
_calls = 0


def descriptor(name: str) -> dict[str, Any]:
    """A tool as servers usually describe one."""
    schema = {
        "type": "object",
        "properties": {"text": {"type": "string", "description": "given back"}, "bytes": {"type": "integer"}},
    }
    return {"name": name, "description": f"Gives back what it is given ({name}).", "inputSchema": schema}


@functools.lru_cache(maxsize=8)
def _filling(length: int) -> str:
    return "x" * length


def result(era: str, tools: int, name: str, method: str, params: dict[str, Any]) -> dict[str, Any] | None:
    """The result of one request; ``None``: no such method."""
    done = {"resultType": "complete"} if era == "modern" else {}
    if method == "tools/call":
        arguments = params.get("arguments") or {}
        size = arguments.get("bytes")
        text = _filling(size) if size else arguments.get("text", "")
        return {"content": [{"type": "text", "text": text}], **done}
    cached = {**done, "ttlMs": 0, "cacheScope": "private"} if era == "modern" else {}
    if method == "tools/list":
        return {"tools": [descriptor(f"{name}_{number}") for number in range(tools)], **cached}
    if method == "server/discover" and era == "modern":
        return {"supportedVersions": [_VERSION], "capabilities": {"tools": {}}, **cached}
    if method == "initialize" and era != "modern":
        info = {"name": name, "version": "1"}
        return {"protocolVersion": "2025-11-25", "capabilities": {"tools": {}}, "serverInfo": info}
    if method == "ping" and era != "modern":
        return {}
    return None


async def _handle(request: web.BaseRequest) -> web.StreamResponse:
    global _calls
    if request.path == "/counts":
        return web.json_response({"calls": _calls})
    if request.method != "POST":
        return web.Response(status=200 if request.method == "DELETE" else 405)
    _, era, tools, name = request.path.split("/", 3)
    message = orjson.loads(await request.read())
    if "id" not in message:
        return web.Response(status=202)
    method = message["method"]
    _calls += method == "tools/call"
    answer = {"jsonrpc": "2.0", "id": message["id"]}
    found = result(era, int(tools), name, method, message.get("params") or {})
    if found is None:
        answer["error"] = {"code": -32601, "message": "method not found"}
        status = 404 if era == "modern" else 400
        return web.Response(body=orjson.dumps(answer), status=status, content_type="application/json")
    answer["result"] = found
    headers = {"Mcp-Session-Id": f"s{next(_numbers)}"} if era == "legacy" and method == "initialize" else None
    return web.Response(body=orjson.dumps(answer), content_type="application/json", headers=headers)


async def main() -> None:
    """Listen on a free port, say so, serve until killed."""
    runner = web.ServerRunner(web.Server(_handle, access_log=None))
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    print(f"port {runner.addresses[0][1]}", flush=True)
    await asyncio.Event().wait()


if __name__ == "__main__":
    uvloop.run(main())
