"""Servers that answer a little oddly are served all the same, and what one of them says reaches no neighbour."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Callable
from typing import Any

import aiohttp
import pytest
import pytest_asyncio
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


def speaking(version: str | None) -> Callable[[Answer, Answer], Answer]:
    def change(message: Answer, answer: Answer) -> Answer:
        if message["method"] == "initialize":
            answer["result"]["protocolVersion"] = version
        return answer

    return change


def go(message: Answer, answer: Answer) -> Answer:
    """Go writes an empty list as null."""
    if message["method"] in ("prompts/list", "resources/list", "resources/templates/list"):
        answer["result"] = dict.fromkeys(answer["result"])
    return answer


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
    "no_id": lambda message, answer: {key: value for key, value in answer.items() if key != "id"},
    "null_id": lambda message, answer: {**answer, "id": None},
    "unknown_version": speaking("1.0"),
    "draft_version": speaking("DRAFT-2025-v3"),
    "no_version_named": speaking(None),
    "empty_cursor": lambda message, answer: {**answer, "result": {**answer["result"], "nextCursor": ""}},
    "lists_of_go": go,
}
ERRORS: dict[str, Any] = {
    "as_text": "boom",
    "no_code": {"message": "boom"},
    "code_as_text": {"code": "E_BOOM", "message": "boom"},
    "code_with_fraction": {"code": -32001.0, "message": "boom"},
    "no_message": {"code": -32001, "data": "boom"},
    "message_as_object": {"code": -32001, "message": {"detail": "boom"}},
}
"""What some servers have as ``error``. A client of an SDK drops such an answer, and waits on."""


def plainly(message: Answer, answer: Answer) -> Answer:
    return answer


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
    if request.match_info["odd"] in ERRORS and message["method"] == "tools/call":
        return web.json_response({**answer, "result": None, "error": ERRORS[request.match_info["odd"]]})
    return web.json_response(ODD.get(request.match_info["odd"], plainly)(message, answer))


@pytest_asyncio.fixture(scope="module")
async def fleet(redis_url: str) -> AsyncIterator[Fleet]:
    app = web.Application()
    app.router.add_route("*", "/{odd}", serve)
    runner = web.AppRunner(app)
    await runner.setup()
    try:
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        async with Fleet(redis_url, 1, 1) as fleet:
            for odd in (*ODD, *ERRORS):
                connection = {"url": f"http://127.0.0.1:{runner.addresses[0][1]}/{odd}"}
                await fleet.register(odd, connection, connected=False)
            await fleet.connected(*ODD, *ERRORS)
            yield fleet
    finally:
        await runner.cleanup()


async def test_odd_answers_are_understood(fleet: Fleet) -> None:
    async with RawClient(fleet.urls[0]) as together:
        assert (await together.initialize()).status == 200
        tools = (await together.legacy("tools/list")).body["result"]["tools"]
        assert len(tools) == len(ODD) + len(ERRORS) + 1
    for odd in ODD:
        async with RawClient(f"{fleet.url}/servers/{odd}/mcp") as client:
            await client.initialize()
            assert (await client.legacy_call("echo")).content == "hi", odd
            for kind in ("tools", "prompts", "resources"):
                listed = (await client.legacy(f"{kind}/list")).body["result"][kind]
                known = {("numbered_pages", "tools"): 2, ("lists_of_go", "prompts"): 0, ("lists_of_go", "resources"): 0}
                assert len(listed) == known.get((odd, kind), 1), (odd, kind)


async def test_a_version_that_nobody_knows_is_noted(fleet: Fleet) -> None:
    for odd, said in (("unknown_version", "'1.0'"), ("no_version_named", "''"), ("old_without", None)):
        async with (
            aiohttp.ClientSession() as session,
            session.get(f"{fleet.url}/admin/v1/servers/{odd}") as response,
        ):
            notes = (await response.json())["notes"]
        assert [said in one for one in notes] == ([True] if said else []), notes


@pytest.mark.parametrize("odd", ERRORS)
async def test_an_error_that_clients_cannot_read_is_put_into_form(fleet: Fleet, odd: str) -> None:
    async with RawClient(f"{fleet.url}/servers/{odd}/mcp") as client:
        await client.initialize()
        for answer in (await client.legacy_call("echo"), await client.modern("tools/call", {"name": "echo"})):
            assert type(answer.error["code"]) is int and isinstance(answer.error["message"], str)
            assert "boom" in json.dumps(answer.error)
