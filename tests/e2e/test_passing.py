"""What the gateway does not know or own passes, in every pair of eras; what an upstream says of its lists counts."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from tests.clients import RawClient
from tests.fleet import Fleet, eventually
from tests.servers.raw import RawUpstreams

TRACE = {
    "traceparent": "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
    "tracestate": "vendor=value",
    "baggage": "user=1",
}


@pytest_asyncio.fixture(scope="module")
async def fleet(redis_url: str, upstreams: RawUpstreams) -> AsyncIterator[Fleet]:
    async with Fleet(redis_url, list_ttl_s=0.2) as fleet:
        for era in ("legacy", "modern"):
            upstreams.add(era, era=era)
            await fleet.register(era, upstreams.connection(era))
        yield fleet


@pytest.mark.parametrize("era", ["legacy", "modern"])
async def test_trace_context_crosses_the_eras(fleet: Fleet, upstreams: RawUpstreams, era: str) -> None:
    async with RawClient(f"{fleet.url}/mcp") as client:
        await client.initialize()
        await client.legacy("tools/call", {"name": f"{era}__who", "arguments": {}, "_meta": TRACE})
        await client.call(f"{era}__who", meta=TRACE)
    for arrived in upstreams.endpoints[era].tool_calls[-2:]:
        assert {name: arrived["params"]["_meta"][name] for name in TRACE} == TRACE


@pytest.mark.parametrize("era", ["legacy", "modern"])
async def test_an_unknown_method_reaches_the_one_group_it_is_for(fleet: Fleet, era: str) -> None:
    async with RawClient(f"{fleet.url}/servers/{era}/mcp") as client:
        await client.initialize()
        assert (await client.legacy("example/echo", {"value": 5})).body["result"]["echo"] == 5
        assert (await client.modern("example/echo", {"value": 6})).body["result"]["echo"] == 6
    async with RawClient(f"{fleet.url}/mcp") as client:
        assert (await client.modern("example/echo", {"value": 7})).error["code"] == -32601


async def test_a_list_is_read_again_when_the_upstream_says_it_is_stale(fleet: Fleet, upstreams: RawUpstreams) -> None:
    endpoint = upstreams.add("stale")
    endpoint.ttl_ms = 300
    await fleet.register("stale", upstreams.connection("stale"))
    endpoint.tools = [*endpoint.tools, {"name": "new", "inputSchema": {"type": "object"}}]
    async with RawClient(f"{fleet.url}/mcp") as client:

        async def listed() -> bool:
            result = (await client.modern("tools/list")).body["result"]
            assert result["ttlMs"] <= 300
            return "new" in {tool["name"] for tool in result["tools"]}

        await eventually(listed, 5.0, "the new tool is listed without an announcement")
