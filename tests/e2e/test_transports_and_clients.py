"""SDK clients of both eras call tools on upstreams over all three transports, through two front ends and two
workers."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator

import pytest
import pytest_asyncio
from mcp import ClientSession
from mcp.client.client import Client
from mcp.client.sse import sse_client

from tests.clients import RawClient
from tests.fleet import Fleet, SdkServer, eventually, stdio_connection
from tests.streams import sse_data


@pytest_asyncio.fixture(scope="module")
async def fleet(redis_url: str) -> AsyncIterator[Fleet]:
    async with (
        SdkServer("http", "over-http") as http,
        SdkServer("sse", "over-sse") as sse,
        Fleet(redis_url, frontends=2, workers=2) as fleet,
    ):
        await fleet.register("http", http.connection, connected=False)
        await fleet.register("sse", sse.connection, connected=False)
        await fleet.register("stdio", stdio_connection("over-stdio"), connected=False)
        await fleet.connected("http", "sse", "stdio")
        yield fleet


async def check_everything(client: Client | ClientSession, prefix: str) -> None:
    """What a client can do with tools."""
    assert (await client.call_tool(f"{prefix}__echo", {"text": "héllo ✓"})).content[0].text == "héllo ✓"
    assert (await client.call_tool(f"{prefix}__add", {"a": 2, "b": 40})).content[0].text == "42"
    failed = await client.call_tool(f"{prefix}__fail", {"message": "on purpose"})
    assert failed.is_error
    seen: list[tuple[float, float | None]] = []

    async def progressed(progress: float, total: float | None, message: str | None) -> None:
        seen.append((progress, total))

    result = await client.call_tool(f"{prefix}__progress", {"steps": 3}, progress_callback=progressed)
    assert result.content[0].text == "finished"
    await eventually(lambda: len(seen) == 3, 5.0, f"three progress notifications, saw {seen}")
    assert seen == [(1, 3), (2, 3), (3, 3)]


@pytest.mark.parametrize("upstream", ["http", "sse", "stdio"])
@pytest.mark.parametrize("frontend", [0, 1])
@pytest.mark.parametrize("mode", ["auto", "legacy"])
async def test_sdk_client_meets_every_transport(fleet: Fleet, mode: str, frontend: int, upstream: str) -> None:
    async with Client(fleet.urls[frontend], mode=mode) as client:
        assert client.protocol_version == ("2026-07-28" if mode == "auto" else "2025-11-25")
        await check_everything(client, upstream)


@pytest.mark.parametrize("upstream", ["http", "sse", "stdio"])
async def test_sdk_client_over_http_sse(fleet: Fleet, upstream: str) -> None:
    async with (
        sse_client(f"{fleet.url}/sse") as (read, write),
        ClientSession(read, write) as client,
    ):
        await client.initialize()
        await check_everything(client, upstream)


@pytest.mark.parametrize("version", ["2024-11-05", "2025-03-26", "2025-06-18", "2025-11-25"])
async def test_every_legacy_version_is_negotiated(fleet: Fleet, version: str) -> None:
    async with RawClient(fleet.urls[0]) as client:
        answer = await client.initialize(version)
        assert answer.body["result"]["protocolVersion"] == version
        assert (await client.legacy_call("http__echo", {"text": "x"})).content == "x"
        assert (await client.legacy("ping")).body["result"] == {}


async def test_unknown_legacy_version_gets_our_latest(fleet: Fleet) -> None:
    async with RawClient(fleet.urls[0]) as client:
        assert (await client.initialize("1999-01-01")).body["result"]["protocolVersion"] == "2025-11-25"


async def test_a_session_is_served_by_every_front_end_and_ends_on_all(fleet: Fleet) -> None:
    async with RawClient(fleet.urls[0]) as client:
        await client.initialize()
        for url in fleet.urls * 2:
            assert (await client.legacy_call("http__echo", {"text": "x"}, url=url)).content == "x"
        async with client.session.delete(fleet.urls[1], headers=client.legacy_headers()) as response:
            assert response.status == 200
        for url in fleet.urls:
            answer = await client.legacy_call("http__echo", {"text": "x"}, url=url)
            assert answer.status == 404


async def test_an_unknown_session_is_404_never_400(fleet: Fleet) -> None:
    async with RawClient(fleet.urls[0]) as client:
        client.sid = "made-up"
        assert (await client.legacy("tools/list")).status == 404


async def test_a_legacy_client_keeps_its_own_upstream_session_on_any_front_end(fleet: Fleet) -> None:
    async with RawClient(fleet.urls[0]) as client:
        await client.initialize()
        places = {(await client.legacy_call("http__who", url=url)).content for url in fleet.urls * 3}
        assert len(places) == 1


async def test_one_group_has_an_endpoint_with_its_own_bare_names(fleet: Fleet) -> None:
    async with Client(f"{fleet.url}/servers/stdio/mcp") as client:
        names = {tool.name for tool in (await client.list_tools()).tools}
        assert {"who", "echo"} <= names and not any("__" in name for name in names)
        assert (await client.call_tool("who", {})).content[0].text.startswith("over-stdio:")


async def test_discover_names_what_the_gateway_offers(fleet: Fleet) -> None:
    async with RawClient(fleet.urls[0]) as client:
        result = (await client.modern("server/discover")).body["result"]
        assert result["supportedVersions"] == ["2026-07-28"]
        assert result["capabilities"]["tools"] == {"listChanged": True}
        assert result["resultType"] == "complete" and result["ttlMs"] >= 0


async def test_a_sessionless_legacy_request_is_served(fleet: Fleet) -> None:
    async with RawClient(fleet.urls[0]) as client:
        assert (await client.legacy_call("http__echo", {"text": "x"})).content == "x"


async def test_what_an_http_sse_client_can_do_is_known_to_the_front_end_that_did_not_hear_it(fleet: Fleet) -> None:
    """Its stream is held by one front end, ``initialize`` goes to the other, and the call to the first again."""
    here, there = fleet.frontends[0].url, fleet.frontends[1].url
    async with RawClient(here) as client, client.session.get(f"{here}/sse") as stream:
        path = await sse_data(stream)
        info = {"name": "raw", "version": "1"}
        params = {"protocolVersion": "2024-11-05", "capabilities": {"sampling": {}}, "clientInfo": info}
        initialize = {"jsonrpc": "2.0", "id": 0, "method": "initialize", "params": params}
        await client.post(initialize, url=f"{there}{path}")
        assert json.loads(await sse_data(stream))["result"]["protocolVersion"] == "2024-11-05"
        call = {"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": {"name": "http__sample", "arguments": {}}}
        await client.post(call, url=f"{here}{path}")
        question = json.loads(await sse_data(stream))
        assert question["method"] == "sampling/createMessage", question
        result = {"role": "assistant", "content": {"type": "text", "text": "hi"}, "model": "m"}
        await client.post({"jsonrpc": "2.0", "id": question["id"], "result": result}, url=f"{there}{path}")
        answer = json.loads(await sse_data(stream))
        assert answer["result"]["content"][0]["text"] == "model said hi", answer
