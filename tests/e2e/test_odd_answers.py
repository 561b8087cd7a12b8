"""Servers that answer a little oddly are served all the same, and what one of them says reaches no neighbour."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

from aiohttp import web

from tests.clients import RawClient
from tests.fleet import Fleet

Answer = dict[str, Any]
TOOL = {"name": "echo", "inputSchema": {"type": "object"}}
RESULTS: dict[str, Answer] = {
    "ping": {},
    "tools/list": {"tools": [TOOL]},
    "prompts/list": {"prompts": [{"name": "p"}]},
    "resources/list": {"resources": [{"uri": "a://b", "name": "b"}]},
    "resources/templates/list": {"resourceTemplates": []},
    "tools/call": {"content": [{"type": "text", "text": "hi"}]},
}


def declaring(capabilities: Any) -> Callable[[Answer, Answer], Answer]:
    def change(message: Answer, answer: Answer) -> Answer:
        if message["method"] == "initialize":
            answer["result"]["capabilities"] = capabilities
        return answer

    return change


def old(data: Any) -> Callable[[Answer, Answer], Answer]:
    """A server that refuses other versions than its own, instead of naming its own."""

    def change(message: Answer, answer: Answer) -> Answer:
        if message["method"] != "initialize":
            return answer
        if message["params"]["protocolVersion"] != "2024-11-05":
            error = {"code": -32602, "message": "Unsupported protocol version", **({"data": data} if data else {})}
            return {"jsonrpc": "2.0", "id": message["id"], "error": error}
        answer["result"]["protocolVersion"] = "2024-11-05"
        return answer

    return change


def numbered(message: Answer, answer: Answer) -> Answer:
    """Two pages, of which the second has the number 2."""
    if message["method"] == "tools/list" and message["params"].get("cursor") != 2:
        answer["result"] = {"tools": [{**TOOL, "name": "first"}], "nextCursor": 2, "ttlMs": "soon"}
    return answer


ODD: dict[str, Callable[[Answer, Answer], Answer]] = {
    "id_with_fraction": lambda message, answer: {**answer, "id": float(answer["id"])},
    "no_version": lambda message, answer: {key: value for key, value in answer.items() if key != "jsonrpc"},
    "version_as_number": lambda message, answer: {**answer, "jsonrpc": 2.0},
    "capabilities_of_php": declaring({"tools": [], "prompts": [], "resources": []}),
    "capabilities_true": declaring({"tools": True, "prompts": True, "resources": True, "logging": False, "x": None}),
    "old_with_data": old({"supported": ["2024-11-05"], "requested": "?"}),
    "old_without": old(None),
    "numbered_pages": numbered,
}


async def serve(request: web.Request) -> web.Response:
    if request.method != "POST":
        return web.Response(status=405)
    message = await request.json()
    if "id" not in message:
        return web.Response(status=202)
    answer: Answer = {"jsonrpc": "2.0", "id": message["id"]}
    if message["method"] == "initialize":
        capabilities: Answer = {"tools": {}, "prompts": {}, "resources": {}}
        server = {"name": "s", "version": "1"}
        answer["result"] = {"protocolVersion": "2025-06-18", "capabilities": capabilities, "serverInfo": server}
    elif message["method"] in RESULTS:
        answer["result"] = json.loads(json.dumps(RESULTS[message["method"]]))
    else:
        answer["error"] = {"code": -32601, "message": "Method not found"}
    return web.json_response(ODD[request.match_info["odd"]](message, answer))


async def test_odd_answers_are_understood(redis_url: str) -> None:
    app = web.Application()
    app.router.add_route("*", "/{odd}", serve)
    runner = web.AppRunner(app)
    await runner.setup()
    try:
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        async with Fleet(redis_url, 1, 1) as fleet:
            for odd in ODD:
                connection = {"url": f"http://127.0.0.1:{runner.addresses[0][1]}/{odd}"}
                await fleet.register(odd, connection, connected=False)
            await fleet.connected(*ODD)
            async with RawClient(fleet.urls[0]) as together:
                assert (await together.initialize()).status == 200
                assert len((await together.legacy("tools/list")).body["result"]["tools"]) == len(ODD) + 1
            for odd in ODD:
                async with RawClient(f"{fleet.url}/servers/{odd}/mcp") as client:
                    await client.initialize()
                    assert (await client.legacy_call("echo")).content == "hi", odd
                    for kind in ("tools", "prompts", "resources"):
                        listed = (await client.legacy(f"{kind}/list")).body["result"][kind]
                        assert len(listed) == (2 if (odd, kind) == ("numbered_pages", "tools") else 1), (odd, kind)
    finally:
        await runner.cleanup()
