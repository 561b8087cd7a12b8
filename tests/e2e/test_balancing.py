"""Replicas of one group share the calls as their strategy says."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator

import pytest_asyncio

from tests.clients import RawClient
from tests.fleet import Fleet, SdkServer
from tests.machine import stretched
from tests.servers.raw import RawUpstreams


@pytest_asyncio.fixture(scope="module")
async def fleet(redis_url: str) -> AsyncIterator[Fleet]:
    async with Fleet(redis_url, frontends=2, workers=2, inflight_exchange_s=0.05) as fleet:
        yield fleet


async def replicas(fleet: Fleet, upstreams: RawUpstreams, group: str, count: int = 2, **options: object) -> None:
    """Register ``group-1`` … as replicas with a tool ``{group}_who``."""
    tools = [{"name": f"{group}_who", "inputSchema": {"type": "object"}}]
    for number in range(1, count + 1):
        id = f"{group}-{number}"
        upstreams.add(id, tools)
        weight = options.get("weights", (1,) * count)[number - 1]  # type: ignore[index]
        await fleet.register(id, upstreams.connection(id), name=group, weight=weight, balancer=options.get("balancer"))


async def test_round_robin_alternates_strictly_per_call(fleet: Fleet) -> None:
    async with RawUpstreams() as upstreams, RawClient(fleet.urls[0]) as client:
        await replicas(fleet, upstreams, "rr", 3)
        seen = [(await client.call("rr_who")).content for _ in range(9)]
        assert seen == seen[:3] * 3 and len(set(seen)) == 3


async def test_weights_three_to_one_give_three_to_one(fleet: Fleet) -> None:
    async with RawUpstreams() as upstreams, RawClient(fleet.urls[0]) as client:
        await replicas(fleet, upstreams, "w", 2, weights=(3, 1), balancer="weighted")
        seen = Counter([(await client.call("w_who")).content for _ in range(40)])
        assert seen == {"w-1": 30, "w-2": 10}


async def test_random_uses_every_replica(fleet: Fleet) -> None:
    async with RawUpstreams() as upstreams, RawClient(fleet.urls[0]) as client:
        await replicas(fleet, upstreams, "rnd", 2, balancer="random")
        seen = Counter([(await client.call("rnd_who")).content for _ in range(60)])
        assert len(seen) == 2 and min(seen.values()) > 5  # below 6 of 60: once in 10^11 runs


async def test_the_slow_replica_gets_less_under_least_connections_over_two_front_ends(fleet: Fleet) -> None:
    async with RawUpstreams() as upstreams, RawClient(fleet.urls[0]) as client:
        await replicas(fleet, upstreams, "lc", 2, balancer="least-connections")
        upstreams.endpoints["lc-1"].delay_s = stretched(0.4)  # what the calls cost beside it counts on both sides
        upstreams.endpoints["lc-2"].delay_s = 0.02

        async def caller(url: str) -> None:
            for _ in range(15):
                answer = (
                    await client.call("lc_who", headers=None) if url == fleet.urls[0] else await other.call("lc_who")
                )
                assert "result" in answer.body

        async with RawClient(fleet.urls[1]) as other:
            await asyncio.gather(*(caller(url) for url in fleet.urls * 2))
        slow, fast = (len(upstreams.endpoints[f"lc-{n}"].tool_calls) for n in (1, 2))
        assert slow + fast == 60 and fast > 3 * slow, f"slow {slow}, fast {fast}"


async def test_client_sessions_alternate_where_the_upstream_has_sessions(fleet: Fleet) -> None:
    async with SdkServer("http", "s1") as first, SdkServer("http", "s2") as second:
        await fleet.register("s-1", first.connection, name="s")
        await fleet.register("s-2", second.connection, name="s")
        places = []
        for _ in range(4):
            async with RawClient(fleet.urls[0]) as client:
                await client.initialize()
                seen = {(await client.legacy_call("s__who", url=url)).content for url in fleet.urls * 2}
                assert len(seen) == 1, "one client session stays on one replica, whichever front end it reaches"
                places += seen
        assert places[0] != places[1] and places[:2] == places[2:]
        await fleet.store.unregister("s-1")
        await fleet.store.unregister("s-2")


async def test_a_tool_that_one_replica_lacks_goes_only_to_those_that_have_it(fleet: Fleet) -> None:
    async with RawUpstreams() as upstreams, RawClient(fleet.urls[0]) as client:
        both = {"name": "both", "inputSchema": {"type": "object"}}
        upstreams.add("part-1", [both])
        upstreams.add("part-2", [both, {"name": "only_two", "inputSchema": {"type": "object"}}])
        for id in ("part-1", "part-2"):
            await fleet.register(id, upstreams.connection(id), name="part")
        assert {(await client.call("only_two")).content for _ in range(4)} == {"part-2"}
        assert {(await client.call("both")).content for _ in range(4)} == {"part-1", "part-2"}
