"""Hedging: a late call of a read-only tool is sent to a second replica as well, and no other call ever is."""

from __future__ import annotations

import asyncio

from tests.clients import RawClient
from tests.fleet import Fleet, eventually
from tests.machine import scaled
from tests.servers.raw import RawUpstreams

TOOLS = [
    {"name": "read", "inputSchema": {"type": "object"}, "annotations": {"readOnlyHint": True}},
    {"name": "write", "inputSchema": {"type": "object"}, "annotations": {"idempotentHint": True}},
]
WARM = 60


async def test_a_replica_that_hangs_costs_a_read_only_call_no_time(redis_url: str) -> None:
    settings = {"hedge": {"after": "p95"}}
    async with (
        RawUpstreams() as upstreams,
        Fleet(redis_url, workers=2, outlier_ejection=False) as fleet,
        RawClient(fleet.urls[0]) as client,
    ):
        for id in ("one", "two"):
            upstreams.add(id, TOOLS)
            await fleet.register(id, upstreams.connection(id), name="pair", settings=settings)
        one, two = upstreams.endpoints["one"], upstreams.endpoints["two"]

        async def figure(name: str) -> float:
            async with client.session.get(f"{fleet.url}/metrics") as response:
                lines = (await response.text()).splitlines()
            return sum(float(line.split()[-1]) for line in lines if line.startswith(f"{name}_total{{"))

        for _ in range(WARM):
            assert "result" in (await client.call("read")).body
        one.behaviour = "hang"
        before, asked = len(two.tool_calls), len(one.tool_calls)
        async with asyncio.timeout(scaled(10)):
            for _ in range(6):  # every second one meets the replica that hangs
                assert (await client.call("read")).content == "two"
        assert len(one.tool_calls) - asked == 3 and len(two.tool_calls) - before == 6

        async def idle() -> bool:
            return not any(int(facts["load"]) for facts in (await fleet.worker_facts()).values())

        await eventually(idle, 5.0, "the other attempts are cancelled at their upstream")
        assert await eventually(lambda: figure("gateway_hedges_won"), 5.0) == 3
        assert await figure("gateway_hedges") <= 0.2 * (WARM + 6)

        writes = [asyncio.ensure_future(client.call("write")) for _ in range(2)]
        await eventually(lambda: any(one.done() for one in writes), 5.0)
        done, waiting = sorted(writes, key=lambda task: not task.done())
        assert done.result().content == "two"
        await asyncio.sleep(0.3)  # long after any read-only call would have been sent again
        assert not waiting.done() and (len(one.tool_calls) - asked, len(two.tool_calls) - before) == (4, 7)
        waiting.cancel()
