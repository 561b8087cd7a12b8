"""What upstreams ask of clients in the handshake era: relayed on the stream of the call, answered at any front end."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Any

import pytest
import pytest_asyncio
from mcp import ClientSession
from mcp.client.client import Client
from mcp.client.sse import sse_client
from mcp.shared.exceptions import MCPError
from mcp.types import CreateMessageResult, ElicitResult, ListRootsResult, Root, TextContent

from tests.clients import RawClient
from tests.fleet import Fleet, SdkServer, eventually, stdio_connection
from tests.machine import scaled


@pytest_asyncio.fixture(scope="module")
async def fleet(redis_url: str) -> AsyncIterator[Fleet]:
    async with SdkServer("http", "web") as http, SdkServer("sse", "old") as sse, Fleet(redis_url, 2, 2) as fleet:
        await fleet.register("web", http.connection)
        await fleet.register("old", sse.connection)
        await fleet.register("local", stdio_connection("local"))
        yield fleet


async def elicited(context: Any, params: Any) -> ElicitResult:
    assert params.message == "Which colour?"
    return ElicitResult(action="accept", content={"colour": "blue"})


async def sampled(context: Any, params: Any) -> CreateMessageResult:
    return CreateMessageResult(role="assistant", content=TextContent(type="text", text="hello"), model="m")


async def rooted(context: Any) -> ListRootsResult:
    return ListRootsResult(roots=[Root(uri="file:///mine")])


async def check(client: Any, group: str) -> None:
    assert (await client.call_tool(f"{group}__ask", {})).content[0].text == "accept: blue"
    assert (await client.call_tool(f"{group}__sample", {})).content[0].text == "model said hello"
    if group == "local":  # one child for all clients: nobody's folders are told to others
        await fails(client, f"{group}__roots")
    else:
        assert (await client.call_tool(f"{group}__roots", {})).content[0].text == "file:///mine"


async def fails(client: Any, tool: str) -> None:
    """The tool's question is refused: its server makes an error of that, in one form or the other."""
    try:
        assert (await client.call_tool(tool, {})).is_error
    except MCPError as error:
        assert error.code in (-32601, -32602)


@pytest.mark.parametrize("group", ["web", "old", "local"])
async def test_questions_reach_a_streamable_http_client(fleet: Fleet, group: str) -> None:
    async with Client(
        fleet.urls[0],
        mode="legacy",
        elicitation_callback=elicited,
        sampling_callback=sampled,
        list_roots_callback=rooted,
    ) as client:
        await check(client, group)


@pytest.mark.parametrize("group", ["web", "old", "local"])
async def test_questions_reach_an_http_sse_client(fleet: Fleet, group: str) -> None:
    async with (
        sse_client(f"{fleet.url}/sse") as (read, write),
        ClientSession(
            read, write, elicitation_callback=elicited, sampling_callback=sampled, list_roots_callback=rooted
        ) as client,
    ):
        await client.initialize()
        await check(client, group)


@pytest.mark.parametrize("group", ["web", "old", "local"])
async def test_a_client_is_never_asked_for_what_it_did_not_declare(fleet: Fleet, group: str) -> None:
    async with Client(fleet.urls[0], mode="legacy") as client:
        for tool in ("ask", "sample", "roots"):
            await fails(client, f"{group}__{tool}")


@pytest.mark.parametrize("group", ["web", "old", "local"])
async def test_log_messages_follow_their_call(fleet: Fleet, group: str) -> None:
    heard: list[Any] = []

    async def log(params: Any) -> None:
        heard.append(params.data)

    async with Client(fleet.urls[0], mode="legacy", logging_callback=log) as client:
        assert (await client.call_tool(f"{group}__logs", {})).content[0].text == "logged"
        assert heard == ["detail", "logged line"]


async def test_the_answer_counts_at_any_front_end_but_only_from_the_session_that_was_asked(fleet: Fleet) -> None:
    async with RawClient(fleet.urls[0]) as asked, RawClient(fleet.urls[1]) as stranger:
        for client in (asked, stranger):
            await client.initialize(capabilities={"elicitation": {}})
        message = {"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": {"name": "web__ask", "arguments": {}}}
        headers = {**asked.legacy_headers(), "Accept": "application/json, text/event-stream"}
        async with asked.session.post(fleet.urls[0], json=message, headers=headers) as response:
            lines = response.content
            question: dict[str, Any] = {}
            while "method" not in question:
                line = await asyncio.wait_for(lines.readline(), scaled(10))
                question = json.loads(line[5:]) if line.startswith(b"data: {") else {}
            assert question["method"] == "elicitation/create"
            result = {"action": "accept", "content": {"colour": "red"}}
            reply = {"jsonrpc": "2.0", "id": question["id"], "result": result}
            wrong = {**reply, "result": {"action": "accept", "content": {"colour": "stolen"}}}
            assert (await stranger.post(wrong, stranger.legacy_headers())).status == 202
            assert (await asked.post(reply, asked.legacy_headers(), url=fleet.urls[1])).status == 202
            final: dict[str, Any] = {}
            while "result" not in final:
                line = await asyncio.wait_for(lines.readline(), scaled(10))
                final = json.loads(line[5:]) if line.startswith(b"data: {") else {}
            assert final["result"]["content"][0]["text"] == "accept: red"


async def test_changed_roots_are_told_on_the_sessions_that_are_the_clients_own(fleet: Fleet) -> None:
    async with RawClient(fleet.urls[0]) as client:
        await client.initialize()
        for group in ("web", "local"):
            await client.legacy_call(f"{group}__who")
        await client.legacy_notice("notifications/roots/list_changed", url=fleet.urls[0])

        async def told() -> bool:
            return int((await client.legacy_call("web__roots_changes")).content) == 1

        await eventually(told, 5.0, "the client's own session is told")
        assert (await client.legacy_call("local__roots_changes")).content == "0", "clients share that one"


async def test_a_cancelled_call_takes_its_question_with_it(fleet: Fleet) -> None:
    asked = asyncio.Event()

    async def never(context: Any, params: Any) -> ElicitResult:
        asked.set()
        await asyncio.sleep(60)
        raise AssertionError("cancelled before")

    async with Client(fleet.urls[0], mode="legacy", elicitation_callback=never) as client:
        call = asyncio.ensure_future(client.call_tool("web__ask", {}))
        await asyncio.wait_for(asked.wait(), scaled(10))
        call.cancel()
        assert (await client.call_tool("web__echo", {"text": "still here"})).content[0].text == "still here"
