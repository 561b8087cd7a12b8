"""One catalogue out of many upstreams: completeness, order, collisions, changes."""

from __future__ import annotations

import asyncio
import statistics
from collections.abc import AsyncIterator

import pytest_asyncio
from mcp.client.client import Client

from tests.clients import RawClient
from tests.fleet import Fleet, SdkServer, eventually
from tests.machine import scaled
from tests.servers.raw import RawUpstreams


@pytest_asyncio.fixture(scope="module")
async def fleet(redis_url: str) -> AsyncIterator[Fleet]:
    async with Fleet(
        redis_url,
        frontends=2,
        workers=2,
        catalog_grace_s=1.0,
        page_size=400,
        reconnect_min_s=0.2,
        reconnect_max_s=1.0,
    ) as fleet:
        yield fleet


async def listed(client: RawClient) -> list[str]:
    """Every listed name, all pages."""
    names: list[str] = []
    cursor = None
    while True:
        result = (await client.modern("tools/list", {"cursor": cursor} if cursor else {})).body["result"]
        names += [tool["name"] for tool in result["tools"]]
        cursor = result.get("nextCursor")
        if cursor is None:
            return names


async def test_a_thousand_tools_over_fifty_upstreams(fleet: Fleet) -> None:
    async with RawUpstreams() as upstreams, RawClient(fleet.urls[0]) as one, RawClient(fleet.urls[1]) as two:
        ids = [f"big{number:02}" for number in range(50)]
        for number, id in enumerate(ids):
            tools = [{"name": f"t{number:02}_{tool:02}", "inputSchema": {"type": "object"}} for tool in range(20)]
            endpoint = upstreams.add(id, tools, era="modern" if number % 2 else "legacy")
            endpoint.page_size = 7  # upstreams page as they like; every page is read
            await fleet.register(id, upstreams.connection(id), connected=False)
        await fleet.connected(*ids, within_s=60.0)
        expected = [f"t{number:02}_{tool:02}" for number in range(50) for tool in range(20)]
        assert await listed(one) == expected
        assert await listed(two) == expected
        await one.initialize()
        first = (await one.legacy("tools/list")).body["result"]
        assert len(first["tools"]) == 400 and "ttlMs" not in first and "resultType" not in first
        assert (await one.call("t49_19")).content == "big49"
        assert (await one.call("t00_00")).content == "big00"
        for id in ids:
            await fleet.store.unregister(id)
        await eventually(lambda: _gone(one, "t49_19"), 10.0, "unregistered tools are gone")


async def _gone(client: RawClient, tool: str) -> bool:
    return (await client.call(tool)).error["code"] == -32602 if "error" in (await client.call(tool)).body else False


async def test_two_groups_with_the_same_tool_are_never_mixed(fleet: Fleet) -> None:
    async with RawUpstreams() as upstreams, RawClient(fleet.urls[0]) as client:
        tool = [{"name": "same", "inputSchema": {"type": "object"}}]
        upstreams.add("ga", tool)
        upstreams.add("gb", tool)
        await fleet.register("ga", upstreams.connection("ga"))
        await fleet.register("gb", upstreams.connection("gb"))
        assert [name for name in await listed(client) if "same" in name] == ["same", "gb__same"]
        for name, owner in (("same", "ga"), ("ga__same", "ga"), ("gb__same", "gb")):
            assert {(await client.call(name)).content for _ in range(3)} == {owner}
        upstreams.endpoints["ga"].behaviour = "401-always"
        await fleet.store.unregister("gb")
        await fleet.store.unregister("ga")


async def test_a_bare_name_stays_reserved_while_its_group_is_down(fleet: Fleet) -> None:
    async with RawUpstreams() as up, RawClient(fleet.urls[0]) as client:
        tool = [{"name": "kept", "inputSchema": {"type": "object"}}]
        async with RawUpstreams() as down:
            down.add("first", tool)
            up.add("second", tool)
            await fleet.register("first", down.connection("first"))
            await fleet.register("second", up.connection("second"))
        await client.call("kept")
        await fleet.failed("first")
        error = (await client.call("kept")).error
        assert error["data"]["code"] == "upstream_unavailable" and error["data"]["group"] == "first"
        await eventually(lambda: _listed_is(client, "kept", ["second__kept"]), 6.0, "after its grace it is not listed")
        await fleet.store.unregister("first")
        await eventually(lambda: _listed_is(client, "kept", ["kept"]), 6.0, "unregistered, the name is free")
        await fleet.store.unregister("second")


async def _listed_is(client: RawClient, part: str, expected: list[str]) -> bool:
    return [name for name in await listed(client) if part in name] == expected


async def test_a_registration_is_visible_on_every_front_end_at_once(fleet: Fleet) -> None:
    """In the time of some answers, of which an idle machine gives two in a millisecond: it is told, it does not ask."""
    async with RawUpstreams() as upstreams, RawClient(fleet.urls[0]) as one, RawClient(fleet.urls[1]) as two:
        asked: list[int] = []
        for number in range(9):
            id = f"quick{number}"
            upstreams.add(id, [{"name": f"{id}_who", "inputSchema": {"type": "object"}}])
            body = {"id": id, "connection": upstreams.connection(id)}
            async with one.session.post(f"{fleet.frontends[0].url}/admin/v1/servers", json=body) as response:
                assert response.status == 201

            async def shown(id: str = id) -> bool:
                async with two.session.get(f"{fleet.frontends[1].url}/admin/v1/servers/{id}") as response:
                    return response.status == 200

            asked.append(1)
            while not await shown():
                asked[-1] += 1
                assert asked[-1] < 10_000
        assert statistics.median(asked) <= 100, asked  # the machine may stop any one of them for a moment
        for number in range(9):
            await fleet.store.unregister(f"quick{number}")


async def test_a_list_change_reaches_clients_of_every_kind(fleet: Fleet) -> None:
    async with SdkServer("http", "grower") as server:
        await fleet.register("grower", server.connection)
        heard: list[str] = []

        async def hear(message: object) -> None:
            heard.append(type(message).__name__ + str(getattr(message, "method", "")))

        async with (
            Client(fleet.urls[0], mode="legacy", message_handler=hear) as legacy,
            RawClient(fleet.urls[1]) as modern,
        ):
            listen = asyncio.ensure_future(_listen_once(modern))
            await asyncio.sleep(0)
            await legacy.call_tool("grow", {"tool": "sprout"})
            await eventually(
                lambda: any("list_changed" in text or "ListChanged" in text for text in heard),
                10.0,
                f"legacy GET stream, heard {heard}",
            )
            names = [tool.name for tool in (await legacy.list_tools()).tools]
            assert "sprout" in names
            await legacy.call_tool("grow", {"tool": "second"})
            assert await asyncio.wait_for(listen, scaled(10.0)) == [
                "notifications/subscriptions/acknowledged",
                "notifications/tools/list_changed",
            ]
        await fleet.store.unregister("grower")


async def _listen_once(client: RawClient) -> list[str]:
    import json

    from tests.clients import MODERN_META

    params = {"_meta": MODERN_META, "notifications": {"toolsListChanged": True}}
    message = {"jsonrpc": "2.0", "id": "sub", "method": "subscriptions/listen", "params": params}
    headers = {
        "MCP-Protocol-Version": "2026-07-28",
        "Mcp-Method": "subscriptions/listen",
        "Accept": "application/json, text/event-stream",
    }
    methods = []
    async with client.session.post(client.url, json=message, headers=headers) as response:
        async for line in response.content:
            if line.startswith(b"data:"):
                event = json.loads(line[5:])
                assert event["params"]["_meta"]["io.modelcontextprotocol/subscriptionId"] == "sub"
                methods.append(event["method"])
                if len(methods) == 2:
                    return methods
    return methods
