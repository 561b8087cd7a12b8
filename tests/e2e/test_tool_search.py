"""Searching for tools in place of listing them: by clients of both eras and all transports, at two front ends."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest
import pytest_asyncio
from mcp import ClientSession
from mcp.client.client import Client
from mcp.client.sse import sse_client
from mcp.types import ElicitResult

from tests.clients import RawClient
from tests.e2e.test_access import admin
from tests.e2e.test_access_views import make_key
from tests.e2e.test_metrics import scrape, total
from tests.fleet import Fleet, SdkServer, eventually
from tests.servers.raw import RawUpstreams
from tests.streams import listening, sse_data

ADMIN = {"Authorization": "Bearer the-admin-token", "Content-Type": "application/json"}
ISSUES: list[dict[str, Any]] = [
    {
        "name": "create_issue",
        "description": "Open a new ticket in a repository.",
        "inputSchema": {"type": "object", "properties": {"title": {"type": "string", "x-mcp-header": "Title"}}},
    },
    {"name": "delete_issue", "description": "Remove a ticket for ever.", "inputSchema": {"type": "object"}},
    {"name": "call_tool", "description": "Ring a telephone.", "inputSchema": {"type": "object"}},
]
NO_SECRETS = {"match": "issues/create_issue", "args": "args.title == 'secret'"}
RULES: dict[str, Any] = {
    "authentication": [{"type": "apiKey"}],
    "anonymous": True,
    "audit": {},
    "roles": {
        "everything": {"allow": ["*"], "when": "principal.kind == 'anonymous'"},
        "careful": {"allow": ["*"], "deny": ["issues/delete_*", "notes/*", NO_SECRETS]},
        "limited": {"allow": ["issues/create_issue", "notes/add"]},
    },
    "limits": {"limited": {"calls": "3/h"}},
}


@pytest_asyncio.fixture(scope="module")
async def upstreams() -> AsyncIterator[RawUpstreams]:
    async with RawUpstreams() as upstreams:
        upstreams.add("issues", ISSUES)
        yield upstreams


@pytest_asyncio.fixture(scope="module")
async def fleet(redis_url: str, upstreams: RawUpstreams) -> AsyncIterator[Fleet]:
    settings = {"access_rules": json.dumps(RULES), "admin_token": "the-admin-token", "refresh_interval_s": 0.3}
    async with (
        SdkServer("http", "notes") as notes,
        Fleet(redis_url, frontends=2, workers=1, **settings) as fleet,
    ):
        await fleet.register("issues", upstreams.connection("issues"))
        await fleet.register("notes", notes.connection, era="legacy")
        for name, document in {
            "desk": {
                "discovery": "search",
                "alwaysListed": ["notes/echo"],
                "synonyms": [["bug report", "ticket"]],
                "override": {"notes/add": {"name": "plus", "description": "Sum up two numbers."}},
            },
            "small": {"tools": ["issues/*"], "discovery": "auto"},
        }.items():
            assert (await admin(fleet, "PUT", f"virtual-servers/{name}", document))[0] == 201
        yield fleet


async def tools(client: RawClient, **options: Any) -> list[str]:
    return [one["name"] for one in (await client.modern("tools/list", **options)).body["result"]["tools"]]


async def found(client: RawClient, query: str, **options: Any) -> list[str]:
    answer = await client.call("search_tools", {"query": query, "limit": 20}, **options)
    result = answer.body["result"]
    tools = result["structuredContent"]["tools"]
    assert json.loads(answer.content)["tools"] == tools if tools else "No tool fits" in answer.content
    assert result["resultType"] == "complete"
    assert all(set(one) <= {"name", "title", "description", "inputSchema"} for one in tools)
    return [one["name"] for one in tools]


# ---- clients of all kinds


@asynccontextmanager
async def sdk_client(fleet: Fleet, kind: str, endpoint: str) -> AsyncIterator[Any]:
    """A client of the official SDK that answers what it is asked."""

    async def asked(context: Any, params: Any) -> ElicitResult:
        return ElicitResult(action="accept", content={"colour": "blue"})

    base = fleet.frontends[1].url
    if kind in ("modern", "legacy"):
        mode = "auto" if kind == "modern" else "legacy"
        async with Client(f"{base}{endpoint}", mode=mode, elicitation_callback=asked) as client:
            yield client
        return
    async with (
        sse_client(f"{base}{endpoint.replace('/mcp', '/sse')}") as (read, write),
        ClientSession(read, write, elicitation_callback=asked) as session,
    ):
        await session.initialize()
        yield session


@pytest.mark.parametrize("endpoint", ["/mcp?discovery=search", "/servers/desk/mcp"])
@pytest.mark.parametrize("kind", ["modern", "legacy", "sse"])
async def test_what_is_found_is_called_as_if_it_were_listed(fleet: Fleet, kind: str, endpoint: str) -> None:
    async with sdk_client(fleet, kind, endpoint) as client:
        listed = [tool.name for tool in (await client.list_tools()).tools]
        assert listed == ["search_tools", "call_tool", *(["echo"] if "desk" in endpoint else [])]
        result = await client.call_tool("search_tools", {"query": "add numbers", "limit": 3})
        first = result.structured_content["tools"][0]
        assert first["name"] == ("plus" if "desk" in endpoint else "add")
        assert set(first["inputSchema"]["properties"]) == {"a", "b"}

        direct = await client.call_tool(first["name"], {"a": 2, "b": 3})
        called = await client.call_tool("call_tool", {"name": first["name"], "arguments": {"a": 2, "b": 3}})
        assert called.structured_content == direct.structured_content == {"result": 5}
        assert called.content == direct.content
        directly = await client.call_tool("fail", {"message": "on purpose"})
        failed = await client.call_tool("call_tool", {"name": "fail", "arguments": {"message": "on purpose"}})
        assert failed.is_error and failed == directly

        seen: list[float] = []

        async def progressed(progress: float, total: float | None, message: str | None) -> None:
            seen.append(progress)

        call = {"name": "progress", "arguments": {"steps": 3}}
        done = await client.call_tool("call_tool", call, progress_callback=progressed)
        assert done.content[0].text == "finished"
        await eventually(lambda: seen == [1, 2, 3], 5.0, f"progress arrives, saw {seen}")
        asked = await client.call_tool("call_tool", {"name": "ask"})
        assert asked.content[0].text == "accept: blue"


# ---- what is found


async def test_a_search_finds_by_name_words_description_and_synonyms(fleet: Fleet) -> None:
    async with RawClient(f"{fleet.url}/servers/desk/mcp") as client:
        assert (await found(client, "create issues"))[0] == "create_issue"
        assert (await found(client, "sum"))[0] == "plus"
        assert set(await found(client, "file a bug report")) >= {"create_issue", "delete_issue"}
        assert await found(client, "zebra crossing") == []
        assert await found(client, "\"' OR * ( NEAR ^ : -") == []
        for arguments in ({}, {"query": " "}, {"query": "x", "limit": 0}, {"query": "x", "limit": "5"}, {"query": 5}):
            assert (await client.call("search_tools", arguments)).body["result"]["isError"] is True
    async with RawClient(f"{fleet.url}/mcp?discovery=search") as client:
        assert "create_issue" not in await found(client, "bug report"), "synonyms are those of the virtual server"


async def test_a_tool_cannot_take_the_name_of_one_of_the_two(fleet: Fleet) -> None:
    async with RawClient(f"{fleet.url}/mcp?discovery=search") as client:
        assert await found(client, "ring a telephone") == ["issues__call_tool"]
        assert (await client.call("issues__call_tool")).content == "issues"
        answer = await client.call("call_tool", {"name": "issues__call_tool"})
        assert answer.content == "issues"
        for name in ("call_tool", "search_tools"):
            assert (await client.call("call_tool", {"name": name})).error["code"] == -32602


async def test_what_call_tool_is_given_wrongly_is_said_to_the_model(fleet: Fleet) -> None:
    async with RawClient(f"{fleet.url}/servers/desk/mcp") as client:
        for arguments in ({}, {"name": 5}, {"name": "echo", "arguments": "{}"}, {"name": "echo", "arguments": [1]}):
            result = (await client.call("call_tool", arguments)).body["result"]
            assert result["isError"] is True and "call_tool needs" in result["content"][0]["text"]
        direct = (await client.call("nothing")).error
        assert (await client.call("call_tool", {"name": "nothing"})).error == direct


async def test_an_annotated_tool_that_was_not_listed_needs_no_header_of_the_client(
    fleet: Fleet, upstreams: RawUpstreams
) -> None:
    async with RawClient(f"{fleet.url}/servers/desk/mcp") as client:
        for name, arguments in (
            ("call_tool", {"name": "create_issue", "arguments": {"title": "x"}}),
            ("create_issue", {"title": "x"}),
        ):
            assert (await client.call(name, arguments)).content == "issues"
            headers = {name.lower(): value for name, value in upstreams.endpoints["issues"].headers[-1].items()}
            assert headers["mcp-param-title"] == "x" and headers["mcp-name"] == "create_issue"
        wrong = await client.call("create_issue", {"title": "x"}, headers={"Mcp-Param-Title": "y"})
        assert wrong.error["code"] == -32020
    async with RawClient(fleet.urls[0]) as client:
        assert (await client.call("create_issue", {"title": "x"})).error["code"] == -32020


# ---- rights, limits, audit


async def test_nobody_finds_or_calls_what_their_role_hides(fleet: Fleet, upstreams: RawUpstreams) -> None:
    key = {"Authorization": f"Bearer {await make_key(fleet, 'careful', 'careful')}"}
    before = len(upstreams.endpoints["issues"].tool_calls)
    for endpoint in ("/mcp?discovery=search", "/servers/desk/mcp"):
        async with RawClient(f"{fleet.url}{endpoint}") as client:
            assert "delete_issue" in await found(client, "issue ticket")
            assert "delete_issue" not in await found(client, "delete issue ticket", headers=key)
            assert await found(client, "echo text", headers=key) == []
            assert await tools(client, headers=key) == ["search_tools", "call_tool"]
            for name in ("delete_issue", "issues__delete_issue", "echo"):
                error = (await client.call("call_tool", {"name": name}, headers=key)).error
                assert (error["code"], error["message"]) == (-32602, f"unknown tool {name!r}")
                assert name not in error["data"]["closeMatches"]
        async with RawClient(f"{fleet.url}{endpoint}") as client:
            secret = {"name": "create_issue", "arguments": {"title": "secret"}}
            assert (await client.call("call_tool", secret, headers=key)).error["data"]["code"] == "arguments_denied"
    assert len(upstreams.endpoints["issues"].tool_calls) == before

    async def denied() -> list[str]:
        _, said = await admin(fleet, "GET", "audit?principal=key:careful&outcome=arguments_denied")
        return [one["name"] for one in said["events"]]

    await eventually(lambda: _is(denied, ["create_issue"] * 2), 10.0, "the refused call is noted as that of the tool")


async def _is(what: Callable[[], Awaitable[Any]], wanted: Any) -> bool:
    return bool(await what() == wanted)


async def test_searches_and_calls_are_limited_and_audited_as_calls_are(fleet: Fleet) -> None:
    key = {"Authorization": f"Bearer {await make_key(fleet, 'limited', 'limited')}"}
    async with RawClient(f"{fleet.url}/mcp?discovery=search") as client:
        assert await found(client, "add", headers=key) == ["add"]
        added = await client.call("call_tool", {"name": "add", "arguments": {"a": 1, "b": 2}}, headers=key)
        assert added.body["result"]["structuredContent"] == {"result": 3}
        await client.call("add", {"a": 1, "b": 2}, headers=key)
        for name, arguments in (("search_tools", {"query": "add"}), ("call_tool", {"name": "add"})):
            assert (await client.call(name, arguments, headers=key)).error["data"]["code"] == "limited"

    figures = await scrape(f"{fleet.url}/metrics", "the-admin-token")
    assert total(figures, "gateway_tool_search_indexes") >= 1
    assert total(figures, "gateway_tool_search_index_bytes") > 1000

    async def audited() -> list[tuple[str, str, str]]:
        _, said = await admin(fleet, "GET", "audit?principal=key:limited&event=call&limit=100")
        events = [(one.get("group", ""), one["name"], one["outcome"]) for one in said["events"]]
        return events if len(events) == 5 else []

    assert sorted(await eventually(audited, 10.0)) == [
        ("", "search_tools", "answered"),
        ("", "search_tools", "limited"),
        ("notes", "add", "answered"),
        ("notes", "add", "answered"),
        ("notes", "add", "limited"),
    ]


# ---- lists that change, sessions, settings


async def test_what_an_upstream_adds_is_found_at_once_and_changes_no_list(
    fleet: Fleet, upstreams: RawUpstreams
) -> None:
    endpoint, url = upstreams.endpoints["issues"], f"{fleet.frontends[1].url}/mcp?discovery=search"
    async with RawClient(url) as client, listening(client, url, toolsListChanged=True) as stream:
        assert await found(client, "xylophone") == []
        endpoint.tools = [*ISSUES, {"name": "play_xylophone", "inputSchema": {"type": "object"}}]
        await eventually(lambda: _finds(client, "xylophone", ["play_xylophone"]), 15.0, "it is found")
        assert (await client.call("call_tool", {"name": "play_xylophone"})).content == "issues"
        endpoint.tools = list(ISSUES)
        await eventually(lambda: _finds(client, "xylophone", []), 15.0, "it is gone")
        assert (await client.call("call_tool", {"name": "play_xylophone"})).error["code"] == -32602
        assert "notifications/tools/list_changed" not in stream.methods()


async def _finds(client: RawClient, query: str, names: list[str]) -> bool:
    return await found(client, query) == names


async def test_auto_lists_what_is_short(fleet: Fleet) -> None:
    async with RawClient(f"{fleet.url}/servers/small/mcp") as client:
        assert await tools(client) == ["create_issue", "delete_issue", "call_tool"]
    async with RawClient(f"{fleet.url}/servers/desk/mcp?discovery=list") as client:
        assert {"create_issue", "plus"} <= set(await tools(client))
    async with RawClient(f"{fleet.url}/mcp?discovery=guess") as client:
        answer = await client.modern("tools/list")
        assert answer.status == 400 and "'guess' is not one of list, search, auto" in answer.error["message"]


async def test_a_session_belongs_to_the_url_with_what_was_asked_for(fleet: Fleet) -> None:
    async with RawClient(f"{fleet.url}/mcp?discovery=search") as client:
        await client.initialize()
        listed = (await client.legacy("tools/list")).body["result"]["tools"]
        assert [one["name"] for one in listed] == ["search_tools", "call_tool"]
        assert (await client.legacy_call("call_tool", {"name": "echo", "arguments": {"text": "x"}})).content == "x"
        assert (await client.legacy("tools/list", url=fleet.urls[0])).status == 404
    async with (
        RawClient(fleet.url) as client,
        client.session.get(f"{fleet.url}/servers/desk/sse?discovery=auto") as stream,
    ):
        assert (await sse_data(stream)).endswith("&discovery=auto")


async def test_a_setting_makes_search_the_default(redis_url: str, upstreams: RawUpstreams) -> None:
    async with Fleet(redis_url, discovery="auto", discovery_threshold=20) as fleet:
        await fleet.register("issues", upstreams.connection("issues"))
        for endpoint in ("/mcp", "/servers/issues/mcp"):
            async with RawClient(f"{fleet.url}{endpoint}") as client:
                assert await tools(client) == ["search_tools", "call_tool"]
                assert (await found(client, "open a ticket"))[0] == "create_issue"
                assert (await client.call("create_issue", {"title": "x"})).content == "issues"
                await client.initialize()
                called = await client.legacy_call("call_tool", {"name": "create_issue", "arguments": {"title": "x"}})
                assert called.content == "issues"
