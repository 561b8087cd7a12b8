"""Lists that depend on the session: what a server registers for one client is seen and called by that client alone."""

from __future__ import annotations

import asyncio
import uuid
from typing import Any

import pytest
from aiohttp import web

from tests.clients import RawClient
from tests.fleet import Fleet, eventually, script_connection, stdio_connection
from tests.streams import calling, standing

SERVER = """
import json, sys
tools, roots, hidden = ["login", "logout"], False, {"hidden"}
declared = {"tools": {"listChanged": True}, "resources": {"listChanged": True}, "prompts": {}}
resources = []
def say(**message):
    print(json.dumps({"jsonrpc": "2.0", **message}), flush=True)
def text(words):
    return {"content": [{"type": "text", "text": words}]}
def call(name, id):
    if name == "login":
        tools.append("secret"); resources.append("demo://mine")
        say(method="notifications/tools/list_changed")
        say(method="notifications/resources/list_changed")
        return text("welcome")
    if name == "logout":
        tools.remove("secret"); resources.clear()
        say(method="notifications/tools/list_changed")
        return text("bye")
    if name in tools or name in hidden:
        return text(name + " ran")
    return None
for line in sys.stdin:
    message = json.loads(line)
    method, id, params = message.get("method"), message.get("id"), message.get("params") or {}
    if method == "initialize":
        if "roots" in params["capabilities"]:
            tools.append("list-roots")
        say(id=id, result={"protocolVersion": "2025-11-25", "capabilities": declared,
                           "serverInfo": {"name": "s", "version": "1"}})
    elif method == "tools/list":
        say(id=id, result={"tools": [{"name": one, "inputSchema": {"type": "object"}} for one in tools]})
    elif method == "resources/list":
        say(id=id, result={"resources": [{"uri": one, "name": one} for one in resources]})
    elif method in ("resources/templates/list", "prompts/list"):
        say(id=id, result={"resourceTemplates": [], "prompts": []})
    elif method == "resources/read" and (params["uri"] in resources or params["uri"] == "unlisted://x" and resources):
        say(id=id, result={"contents": [{"uri": params["uri"], "text": "yours"}]})
    elif method == "tools/call" and (result := call(params["name"], id)):
        say(id=id, result=result)
    elif method == "ping":
        say(id=id, result={})
    elif id is not None:
        say(id=id, error={"code": -32602, "message": "not here"})
"""


async def names(client: RawClient, url: str | None = None, kind: str = "tools") -> list[str]:
    answer = await client.legacy(f"{kind}/list", url=url)
    return [one["name"] for one in answer.body["result"][kind]]


@pytest.fixture
def servers() -> Any:
    return script_connection(SERVER)


async def test_what_a_login_registers_is_seen_and_called_by_the_one_who_logged_in(
    redis_url: str, servers: dict[str, Any]
) -> None:
    async with Fleet(redis_url, 2, 2) as fleet:
        await fleet.register("own", servers, isolation="client")
        async with RawClient(fleet.urls[0]) as one, RawClient(fleet.urls[0]) as other:
            await one.initialize()
            await other.initialize()
            async with standing(one, one.url) as heard, standing(other, other.url) as heard_by_other:
                assert await names(one) == ["login", "logout"] == await names(other)
                assert (await one.legacy_call("secret")).error["data"]["code"] == "tool_unknown"
                assert (await one.legacy_call("login")).content == "welcome"
                assert await names(one) == ["login", "logout", "secret"]
                assert await names(one, fleet.urls[1]) == ["login", "logout", "secret"], "at any front end"
                assert await names(one, kind="resources") == ["demo://mine"]
                assert (await one.legacy_call("secret")).content == "secret ran"
                assert (await one.legacy("resources/read", {"uri": "demo://mine"})).body["result"]["contents"]
                assert (await one.legacy("resources/read", {"uri": "unlisted://x"})).body["result"]["contents"]
                await eventually(
                    lambda: "notifications/tools/list_changed" in heard.methods(), what="the client is told"
                )
                await eventually(lambda: "notifications/resources/list_changed" in heard.methods())

                assert (await other.legacy_call("login", url=fleet.urls[1])).content == "welcome"
                assert (await other.legacy_call("secret", url=fleet.urls[1])).content == "secret ran", "without a list"
                told = len(heard.messages)
                assert (await one.legacy_call("logout")).content == "bye"
                assert await names(one) == ["login", "logout"]
                await eventually(lambda: len(heard.messages) > told, what="told of the end as well")
                assert await names(other) == ["login", "logout", "secret"], "the other is still logged in"
                assert len(heard_by_other.messages) == 2, heard_by_other.messages


class Lobby:
    """A server over HTTP that registers a tool for the session which logs in, and tells it on its stream."""

    def __init__(self) -> None:
        self.tools: dict[str, list[str]] = {}
        self.news: dict[str, asyncio.Queue[bytes]] = {}

    async def handle(self, request: web.Request) -> web.StreamResponse:
        sid = request.headers.get("Mcp-Session-Id", "")
        if request.method == "GET":
            return await self._stream(request, sid)
        if request.method == "DELETE":
            return web.Response()
        message = await request.json()
        if "id" not in message:
            return web.Response(status=202)
        if message["method"] == "initialize":
            sid = uuid.uuid4().hex
            self.tools[sid], self.news[sid] = ["login"], asyncio.Queue()
        result = self._result(message, sid)
        error = {"code": -32601, "message": "no"}
        answer = {"result": result} if result is not None else {"error": error}
        headers = {"Mcp-Session-Id": sid} if message["method"] == "initialize" else {}
        return web.json_response({"jsonrpc": "2.0", "id": message["id"], **answer}, headers=headers)

    async def _stream(self, request: web.Request, sid: str) -> web.StreamResponse:
        response = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
        await response.prepare(request)
        while True:
            await response.write(b"data: " + await self.news[sid].get() + b"\n\n")

    def _result(self, message: dict[str, Any], sid: str) -> dict[str, Any] | None:
        if message["method"] == "initialize":
            declared = {"tools": {"listChanged": True}}
            server = {"name": "lobby", "version": "1"}
            return {"protocolVersion": "2025-06-18", "capabilities": declared, "serverInfo": server}
        if message["method"] == "tools/list":
            return {"tools": [{"name": one, "inputSchema": {"type": "object"}} for one in self.tools[sid]]}
        if message["method"] != "tools/call" or message["params"]["name"] not in self.tools[sid]:
            return {} if message["method"] == "ping" else None
        if message["params"]["name"] == "login":
            self.tools[sid].append("secret")
            self.news[sid].put_nowait(b'{"jsonrpc":"2.0","method":"notifications/tools/list_changed"}')
        return {"content": [{"type": "text", "text": f"{message['params']['name']} ran"}]}


async def test_a_login_over_http_is_for_the_one_who_logged_in(redis_url: str) -> None:
    app = web.Application()
    app.router.add_route("*", "/mcp", Lobby().handle)
    runner = web.AppRunner(app, shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    try:
        async with Fleet(redis_url, 2, 2) as fleet:
            await fleet.register("own", {"url": f"http://127.0.0.1:{runner.addresses[0][1]}/mcp"})
            async with RawClient(fleet.urls[0]) as one, RawClient(fleet.urls[1]) as other:
                await one.initialize()
                await other.initialize()
                async with standing(one, one.url) as heard:
                    assert (await other.legacy_call("login")).content == "login ran"
                    assert await names(one) == ["login"]
                    assert (await one.legacy_call("secret")).error["data"]["code"] == "tool_unknown"
                    assert (await one.legacy_call("login")).content == "login ran"
                    await eventually(
                        lambda: "notifications/tools/list_changed" in heard.methods(), what="the client is told"
                    )
                    assert await names(one, fleet.urls[1]) == ["login", "secret"], "at any front end"
                    assert (await one.legacy_call("secret", url=fleet.urls[1])).content == "secret ran"
    finally:
        await runner.cleanup()


async def test_a_client_that_has_roots_sees_the_tools_for_such_clients_at_once(
    redis_url: str, servers: dict[str, Any]
) -> None:
    async with Fleet(redis_url, 1, 1) as fleet:
        await fleet.register("own", servers, isolation="client")
        await fleet.register("other", stdio_connection("other"))
        async with RawClient(fleet.urls[0]) as plain, RawClient(fleet.urls[0]) as rooted:
            await plain.initialize()
            await rooted.initialize(capabilities={"roots": {"listChanged": True}})
            shown = await names(plain)
            assert "list-roots" not in shown and "echo" in shown
            assert set(await names(rooted)) - set(shown) == {"list-roots"}
            assert (await rooted.legacy_call("list-roots")).content == "list-roots ran"
            assert (await plain.legacy_call("list-roots")).error["data"]["code"] == "tool_unknown"
            assert (await rooted.legacy_call("own__list-roots")).content == "list-roots ran"
            # What a session does not list either goes up where it is plain which one is meant.
            alone = fleet.urls[0].replace("/mcp", "/servers/own/mcp")
            async with RawClient(alone) as direct:
                await direct.initialize(capabilities={"roots": {}})
                assert "list-roots" in await names(direct)
                assert (await direct.legacy_call("hidden")).content == "hidden ran"
                assert (await direct.legacy_call("nonsense")).error["message"] == "not here"
            assert (await rooted.legacy_call("own__hidden")).content == "hidden ran"


async def test_tools_that_the_entry_hides_stay_hidden_on_a_session_of_ones_own(
    redis_url: str, servers: dict[str, Any]
) -> None:
    async with Fleet(redis_url, 1, 1) as fleet:
        await fleet.register("own", servers, isolation="client", exclude_tools=["sec*", "hidden"])
        async with RawClient(fleet.url + "/servers/own/mcp") as client:
            await client.initialize(capabilities={"roots": {}})
            await client.legacy_call("login")
            assert await names(client) == ["login", "logout", "list-roots"]
            assert (await client.legacy_call("secret")).error["data"]["code"] == "tool_unknown"
            assert (await client.legacy_call("hidden")).error["data"]["code"] == "tool_unknown"


async def test_clients_that_share_a_session_share_its_lists(redis_url: str, servers: dict[str, Any]) -> None:
    async with Fleet(redis_url, 1, 1) as fleet:
        await fleet.register("all", servers)
        async with RawClient(fleet.urls[0]) as one, RawClient(fleet.urls[0]) as other:
            await one.initialize(capabilities={"roots": {}})
            await other.initialize()
            assert await names(one) == ["login", "logout"], "the shared session has no roots"
            await one.legacy_call("login")

            async def seen() -> bool:
                return "secret" in await names(other)

            await eventually(seen, what="what all share is listed for all")


async def test_a_command_that_speaks_both_eras_lists_in_the_clients_own(redis_url: str) -> None:
    async with Fleet(redis_url, 1, 1) as fleet:
        await fleet.register("own", stdio_connection("own"), isolation="client")
        async with RawClient(fleet.urls[0]) as client:
            await client.initialize(capabilities={"roots": {}})
            assert "roots" in await names(client)
            message = {"jsonrpc": "2.0", "id": "r", "method": "tools/call", "params": {"name": "roots"}}
            async with calling(client, client.url, message) as stream:
                asked = await eventually(lambda: [one for one in stream.messages if one.get("method") == "roots/list"])
                mine = {"roots": [{"uri": "file:///mine"}]}
                await client.post({"jsonrpc": "2.0", "id": asked[0]["id"], "result": mine}, client.legacy_headers())
                await eventually(lambda: stream.messages[-1].get("result"))
                assert stream.messages[-1]["result"]["content"][0]["text"].rstrip("/") == "file:///mine"
