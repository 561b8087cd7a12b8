"""Virtual servers over two front ends: what is shown, under which names, to whom, and that changes are followed."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from gateway.supervisor.config_follower import ConfigFollower
from shared.choices import EraChoice
from shared.tasks import cancel, spawn
from tests.clients import RawClient
from tests.e2e.test_access import admin
from tests.fleet import Fleet, SdkServer, eventually
from tests.servers.raw import RawUpstreams
from tests.streams import listening, sse_data, standing

ADMIN = {"Authorization": "Bearer the-admin-token", "Content-Type": "application/json"}
SEARCH = {
    "name": "search_documents",
    "inputSchema": {
        "type": "object",
        "properties": {
            "q": {"type": "string"},
            "limit": {"type": "integer", "x-mcp-header": "Limit"},
            "index": {"type": "string"},
        },
        "required": ["q", "limit"],
    },
}
SUPPORT: dict[str, Any] = {
    "tools": ["search/*", "notes/*", "!*/delete_*", "!notes/crash", "!notes/ask", "asker/ask"],
    "prompts": ["notes/greet"],
    "resources": ["notes/memo://notes/*"],
    "instructions": "Answer from the knowledge base.",
    "override": {
        "search/search_documents": {
            "name": "find",
            "title": "Find",
            "arguments": {"limit": {"fixed": 10}, "index": {"hidden": True, "default": "kb"}},
        },
        "notes/add": {"name": "plus_one", "arguments": {"b": {"fixed": 1}}},
        "notes/greet": {"name": "hail", "description": "Hail somebody."},
    },
}
FIXED = "memo://notes/fixed"


@pytest_asyncio.fixture(scope="module")
async def upstreams() -> AsyncIterator[RawUpstreams]:
    async with RawUpstreams() as upstreams:
        upstreams.add("search", [SEARCH, {"name": "delete_all", "inputSchema": {"type": "object"}}])
        upstreams.add("support")
        upstreams.add("files", [{"name": name, "inputSchema": {"type": "object"}} for name in ("find", "read")])
        yield upstreams


@pytest_asyncio.fixture(scope="module")
async def fleet(redis_url: str, upstreams: RawUpstreams) -> AsyncIterator[Fleet]:
    async with (
        SdkServer("http", "notes") as notes,
        Fleet(redis_url, frontends=2, workers=2, admin_token="the-admin-token") as fleet,
    ):
        for name in ("search", "files"):
            await fleet.register(name, upstreams.connection(name))
        await fleet.register("notes", notes.connection)
        await fleet.register("asker", notes.connection, era=EraChoice.LEGACY)
        assert (await put(fleet, "support", SUPPORT))[0] == 201
        yield fleet


async def put(fleet: Fleet, name: str, document: Any) -> tuple[int, Any]:
    return await admin(fleet, "PUT", f"virtual-servers/{name}", document)


def at(fleet: Fleet, name: str = "support", number: int = 1) -> str:
    """The endpoint at the front end that was not asked to make it."""
    return f"{fleet.frontends[number].url}/servers/{name}/mcp"


class Both:
    """A client of one era."""

    def __init__(self, client: RawClient, era: str) -> None:
        self.client = client
        self.era = era

    async def ask(self, method: str, params: dict[str, Any] | None = None) -> Any:
        """The message that answers."""
        if self.era == "legacy":
            return (await self.client.legacy(method, params)).body
        named = {"Mcp-Name": params["uri"]} if params and "uri" in params else None
        return (await self.client.modern(method, params, headers=named)).body

    async def names(self, method: str, key: str = "name") -> list[str]:
        """What a list has."""
        result = (await self.ask(method))["result"]
        return [one[key] for one in next(value for value in result.values() if isinstance(value, list))]

    async def call(self, name: str, arguments: dict[str, Any]) -> Any:
        return await self.ask("tools/call", {"name": name, "arguments": arguments})


@pytest_asyncio.fixture(params=["modern", "legacy"])
async def client(fleet: Fleet, request: pytest.FixtureRequest) -> AsyncIterator[Both]:
    url = at(fleet)
    async with RawClient(url) as client:
        await eventually(lambda: _lists(url, "find"), 10.0, "the other front end serves it")
        if request.param == "legacy":
            answer = await client.initialize()
            assert answer.body["result"]["instructions"] == SUPPORT["instructions"]
        yield Both(client, request.param)


async def _lists(url: str, name: str, there: bool = True) -> bool:
    async with RawClient(url) as client:
        tools = (await client.modern("tools/list")).body["result"]["tools"]
        return (name in [tool["name"] for tool in tools]) is there


# ---- through it


async def test_tools_are_listed_as_the_document_says(client: Both) -> None:
    listed = (await client.ask("tools/list"))["result"]["tools"]
    by_name = {tool["name"]: tool for tool in listed}
    assert {"find", "plus_one", "echo"} <= set(by_name)
    assert not {"search_documents", "delete_all", "add", "crash", "read"} & set(by_name)
    assert by_name["find"]["title"] == "Find"
    schema = by_name["find"]["inputSchema"]
    assert list(schema["properties"]) == ["q"] and schema["required"] == ["q"]
    assert await client.names("prompts/list") == ["hail"]
    assert await client.names("resources/list", "uri") == [FIXED]
    assert await client.names("resources/templates/list", "uriTemplate") == ["memo://notes/notes/{number}"]


async def test_a_renamed_tool_is_called_with_what_is_fixed_and_hidden(client: Both, upstreams: RawUpstreams) -> None:
    assert "result" in await client.call("find", {"q": "x"})
    upstream = upstreams.endpoints["search"]
    sent = upstream.tool_calls[-1]["params"]
    assert (sent["name"], sent["arguments"]) == ("search_documents", {"q": "x", "limit": 10, "index": "kb"})
    headers = {name.lower(): value for name, value in upstream.headers[-1].items()}
    assert headers["mcp-param-limit"] == "10" and headers["mcp-name"] == "search_documents"
    before = len(upstream.tool_calls)
    for name in ("limit", "index", "LIMIT"):
        error = (await client.call("find", {"q": "x", name: 1}))["error"]
        assert error["code"] == -32602 and repr(name) in error["message"] and "cannot be set" in error["message"]
    assert len(upstream.tool_calls) == before
    added = await client.call("plus_one", {"a": 4})
    assert added["result"]["structuredContent"] == {"result": 5}, "structured output passes unchanged"


async def test_what_is_hidden_is_unknown_in_the_same_words(client: Both) -> None:
    for method, key, hidden in (
        ("tools/call", "name", ("search_documents", "delete_all", "search__delete_all", "files__read", "notes__crash")),
        ("prompts/get", "name", ("greet",)),
        ("resources/read", "uri", ("memo://common", "memo://other/1")),
    ):
        invented = (await client.ask(method, {key: "memo://zz/zz" if key == "uri" else "zzzzzz"}))["error"]
        for name in hidden:
            error = (await client.ask(method, {key: name}))["error"]
            assert error["code"] == invented["code"], (method, name, error)
            same = error["message"].replace(name, "").split("(")[0]
            assert same == invented["message"].replace("memo://zz/zz", "").replace("zzzzzz", "").split("(")[0]
    assert (await client.ask("example/unknown"))["error"]["code"] == -32601


async def test_a_tool_is_explained_as_its_clients_see_it(fleet: Fleet) -> None:
    status, found = await admin(fleet, "GET", "explain?tool=find&server=support")
    assert (status, found["group"], found["upstreamName"], found["choice"]) == (
        200,
        "search",
        "search_documents",
        "search",
    )
    status, found = await admin(fleet, "GET", "explain?tool=find")
    assert found["group"] == "files", "at /mcp"
    status, found = await admin(fleet, "GET", "explain?tool=delete_all&server=support")
    assert status == 404 and "virtual server 'support' does not show it" in found["error"]
    status, found = await admin(fleet, "GET", "explain?tool=find&server=suport")
    assert status == 404 and "did you mean 'support'?" in found["error"]


async def test_prompts_resources_templates_and_completion(client: Both) -> None:
    prompt = await client.ask("prompts/get", {"name": "hail", "arguments": {"person": "Ada"}})
    assert "Hello Ada" in json.dumps(prompt["result"])
    for uri, text in ((FIXED, "fixed of notes"), ("memo://notes/notes/7", "note 7 of notes")):
        assert text in json.dumps((await client.ask("resources/read", {"uri": uri}))["result"])
    for reference in (
        {"type": "ref/prompt", "name": "hail"},
        {"type": "ref/resource", "uri": "memo://notes/notes/{number}"},
    ):
        argument = {"name": "person", "value": "A"}
        found = await client.ask("completion/complete", {"ref": reference, "argument": argument})
        assert found["result"]["completion"]["values"] == ["A-completed"]
    hidden = {"ref": {"type": "ref/prompt", "name": "greet"}, "argument": {"name": "person", "value": "A"}}
    assert (await client.ask("completion/complete", hidden))["result"]["completion"]["values"] == []


async def test_its_resources_are_subscribed_to_in_both_eras(fleet: Fleet) -> None:
    url = at(fleet)
    async with RawClient(url) as client, RawClient(url) as modern:
        await client.initialize()
        async with standing(client, url) as stream, listening(modern, url, resourceSubscriptions=[FIXED]) as listened:
            assert (await client.legacy("resources/subscribe", {"uri": FIXED})).body["result"] == {}
            assert (await client.legacy("resources/subscribe", {"uri": "memo://common"})).error["code"] == -32002

            async def touched() -> bool:
                await client.legacy_call("touch", {"uri": FIXED})
                return bool(stream.updated() and listened.updated())

            await eventually(touched, 10.0, "updated")
            assert set(stream.updated()) | set(listened.updated()) == {FIXED}


async def test_progress_and_questions_cross_it(fleet: Fleet) -> None:
    async with RawClient(at(fleet)) as client:
        answer = await client.call("progress", {"steps": 2}, meta={"progressToken": "p"})
        assert answer.content == "finished"
        assert [one["params"]["progress"] for one in answer.messages if "method" in one] == [1, 2]
        capable = {"io.modelcontextprotocol/clientCapabilities": {"elicitation": {"form": {}}}}
        answer = await client.call("ask", meta=capable)
        assert "result" in answer.body, answer.text
        asked = answer.body["result"]
        assert asked["resultType"] == "input_required"
        (question,) = asked["inputRequests"]
        answered = {question: {"action": "accept", "content": {"colour": "red"}}}
        params = {"name": "ask", "arguments": {}, "requestState": asked["requestState"], "inputResponses": answered}
        answer = await client.modern("tools/call", params, meta=capable)
        assert answer.content == "accept: red"


async def test_http_sse_serves_it_too(fleet: Fleet) -> None:
    base = fleet.frontends[1].url
    async with RawClient(base) as client, client.session.get(f"{base}/servers/support/sse") as stream:
        url = f"{base}{await sse_data(stream)}"
        facts = {"protocolVersion": "2024-11-05", "capabilities": {}, "clientInfo": {"name": "raw", "version": "1"}}
        await client.post({"jsonrpc": "2.0", "id": 1, "method": "initialize", "params": facts}, url=url)
        assert json.loads(await sse_data(stream))["result"]["instructions"] == SUPPORT["instructions"]
        await client.post({"jsonrpc": "2.0", "method": "notifications/initialized"}, url=url)
        call = {"name": "plus_one", "arguments": {"a": 2}}
        await client.post({"jsonrpc": "2.0", "id": 2, "method": "tools/call", "params": call}, url=url)
        while (message := json.loads(await sse_data(stream))).get("id") != 2:
            pass
        assert message["result"]["content"][0]["text"] == "3"


# ---- changes


async def test_a_change_is_announced_on_both_front_ends(fleet: Fleet) -> None:
    document = {"tools": ["files/read"]}
    assert (await put(fleet, "shelf", document))[0] == 201
    for number in (0, 1):
        await eventually(lambda number=number: _lists(at(fleet, "shelf", number), "read"), 10.0, "served")
    async with RawClient(at(fleet, "shelf", 0)) as old, RawClient(at(fleet, "shelf", 1)) as new:
        await old.initialize()
        async with (
            standing(old, old.url) as first,
            listening(new, new.url, toolsListChanged=True) as second,
            listening(new, at(fleet, "support"), toolsListChanged=True) as other,
        ):
            status, shown = await put(fleet, "shelf", {"tools": ["files/*"]})
            assert (status, shown["tools"]) == (200, ["find", "read"])
            changed = "notifications/tools/list_changed"
            await eventually(lambda: changed in first.methods() and changed in second.methods(), 10.0, "announced")
            assert changed not in other.methods(), "what another one shows has not changed"
        assert (await admin(fleet, "DELETE", "virtual-servers/shelf"))[0] == 204
        await eventually(lambda: _lists(at(fleet, "shelf"), "read", there=False), 10.0, "gone")
        assert (await admin(fleet, "DELETE", "virtual-servers/shelf"))[0] == 404


async def test_a_group_of_its_name_takes_nothing_over(fleet: Fleet, upstreams: RawUpstreams) -> None:
    status, error = await put(fleet, "files", {})
    assert status == 409 and "there is a group 'files'" in error["error"]
    await fleet.register("support", upstreams.connection("support"))
    try:
        for number in (0, 1):
            assert await _lists(at(fleet, number=number), "find")
            assert await _lists(at(fleet, number=number), "who")  # that of notes
            async with RawClient(at(fleet, number=number)) as client:
                assert (await client.call("who")).content.startswith("notes:")
        status, shown = await put(fleet, "support", SUPPORT)
        assert status == 200 and "there is a group 'support' as well" in shown["notes"][0]
    finally:
        await fleet.store.unregister("support")


async def test_a_wrong_document_is_refused_with_the_place(fleet: Fleet) -> None:
    status, error = await put(fleet, "wrong", {"override": {"a/b": {"arguments": {"limit": {"fixd": 1}}}}})
    assert status == 400
    assert "virtualServers.wrong.override.a/b.arguments.limit.fixd: unknown key" in error["error"]
    assert (await put(fleet, "no way", {}))[0] == 400
    assert (await admin(fleet, "GET", "virtual-servers/wrong"))[0] == 404


async def test_those_of_a_file_are_followed_and_cannot_be_changed_elsewhere(fleet: Fleet, tmp_path: Path) -> None:
    file = tmp_path / "gateway.json"

    def write(**servers: Any) -> None:
        file.write_text(json.dumps({"virtualServers": servers}))

    write(desk={"tools": ["files/read"]}, files={})
    follower = ConfigFollower(file, fleet.store)
    task = spawn(follower.run(), "follow")
    try:
        follower.reload_now.set()
        await eventually(lambda: _lists(at(fleet, "desk"), "read"), 10.0, "served")
        assert (await admin(fleet, "GET", "virtual-servers/desk"))[1]["source"] == "file"
        assert (await admin(fleet, "GET", "virtual-servers/files"))[0] == 404, "it is the name of a group"
        for status, error in (
            await admin(fleet, "DELETE", "virtual-servers/desk"),
            await put(fleet, "desk", {}),
        ):
            assert status == 409 and "declared by the gateway's configuration file" in error["error"]

        async def written(**servers: Any) -> None:
            write(**servers)

        await written(desk={"tools": ["files/find"]})
        await eventually(lambda: _lists(at(fleet, "desk"), "find"), 10.0, "followed")
        write(desk={"tools": 1})
        await asyncio.sleep(0.5)
        assert await _lists(at(fleet, "desk"), "find"), "a file with a problem changes nothing"
        write()
        await eventually(lambda: _lists(at(fleet, "desk"), "find", there=False), 10.0, "removed")
        assert (await admin(fleet, "GET", "virtual-servers/support"))[0] == 200, "those from elsewhere stay"
    finally:
        await cancel(task)


async def test_what_redis_lost_is_written_back(fleet: Fleet) -> None:
    assert (await put(fleet, "kept", {"tools": ["files/read"]}))[0] == 201
    await eventually(lambda: _lists(at(fleet, "kept"), "read"), 10.0, "served")
    keys = fleet.store.keys
    await fleet.store.redis.delete(keys.virtual, keys.epoch, keys.sequence, keys.changes)
    await eventually(lambda: fleet.store.redis.hexists(keys.virtual, "kept"), 15.0, "written back")
    assert await _lists(at(fleet, "kept"), "read") and await _lists(at(fleet), "find")


# ---- roles


async def test_roles_apply_on_top(redis_url: str, upstreams: RawUpstreams) -> None:
    access = {
        "authentication": [{"type": "apiKey"}],
        "roles": {
            "agent": {
                "allow": ["search/*", {"match": "files/read", "args": "args.path == 'public'"}],
                "deny": ["*/delete_*"],
            }
        },
    }
    document = {"tools": ["*"], "override": {
        "search/search_documents": {"name": "remove"},
        "files/read": {"name": "look", "arguments": {"path": {"fixed": "public"}}},
        "search/delete_all": {"name": "harmless"},
    }}  # fmt: skip
    settings = {"admin_token": "the-admin-token", "access_rules": json.dumps(access)}
    async with Fleet(redis_url, frontends=1, workers=1, **settings) as fleet:
        for name in ("search", "files"):
            await fleet.register(name, upstreams.connection(name))
        assert (await put(fleet, "desk", document))[0] == 201
        _, key = await admin(fleet, "POST", "keys", {"name": "k", "roles": ["agent"]})
        async with RawClient(at(fleet, "desk", 0)) as client:
            client.session.headers["Authorization"] = f"Bearer {key['key']}"
            tools = (await client.modern("tools/list")).body["result"]["tools"]
            assert [tool["name"] for tool in tools] == ["remove", "look"], "rules go by the upstreams' own names"
            assert "result" in (await client.call("look")).body, "rules see the arguments that the upstream gets"
            assert (await client.call("harmless")).error["code"] == -32602
