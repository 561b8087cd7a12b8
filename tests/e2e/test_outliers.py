"""Outlier ejection: a replica that does much worse than its siblings gets no calls, and comes back when it is well."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from tests.clients import Answer, RawClient
from tests.e2e.test_metrics import scrape, total
from tests.fleet import Fleet, eventually
from tests.machine import stretched
from tests.servers.raw import RawUpstreams


@pytest_asyncio.fixture(scope="module")
async def fleet(redis_url: str) -> AsyncIterator[Fleet]:
    async with Fleet(redis_url, workers=2, ejection_s=stretched(2.0), slow_start_s=1.0) as fleet:
        yield fleet


async def register(fleet: Fleet, upstreams: RawUpstreams, group: str, count: int, balancer: str | None = None) -> None:
    """Register ``group-1`` … with the tools ``{group}_who`` and, read-only, ``{group}_read``."""
    tools = [
        {"name": f"{group}_who", "inputSchema": {"type": "object"}},
        {"name": f"{group}_read", "inputSchema": {"type": "object"}, "annotations": {"readOnlyHint": True}},
    ]
    for number in range(1, count + 1):
        id = f"{group}-{number}"
        upstreams.add(id, tools)
        await fleet.register(id, upstreams.connection(id), name=group, balancer=balancer)


async def load(client: RawClient, tool: str, callers: int, seconds: float) -> list[Answer]:
    """Call ``tool`` by so many callers for so long."""
    until = time.monotonic() + seconds
    answers: list[Answer] = []

    async def caller() -> None:
        while time.monotonic() < until:
            answers.append(await client.call(tool))
            await asyncio.sleep(0.005)

    await asyncio.gather(*(caller() for _ in range(callers)))
    return answers


async def ejected(fleet: Fleet, client: RawClient) -> dict[str, str]:
    async with client.session.get(f"{fleet.url}/admin/v1/frontends") as response:
        (frontend,) = await response.json()
    return dict(frontend["ejected"])


async def test_a_replica_that_always_fails_costs_three_calls_and_then_none(fleet: Fleet, client: RawClient) -> None:
    async with RawUpstreams() as upstreams:
        await register(fleet, upstreams, "bad", 3)
        bad = upstreams.endpoints["bad-1"]
        bad.behaviour = "500"
        errors = 0
        for _ in range(3):  # a failure alone is avoided for a second
            for _ in range(10):
                errors += "error" in (await client.call("bad_who")).body
            await asyncio.sleep(1.05)
        assert errors == 3 == len(bad.tool_calls)
        assert "3 calls in a row failed" in (await ejected(fleet, client))["bad-1"]
        answers = await load(client, "bad_who", 4, 1.0)
        assert len(answers) > 50 and not any("error" in one.body for one in answers)
        assert len(bad.tool_calls) == 3
        async with client.session.get(f"{fleet.url}/admin/v1/explain?tool=bad_who") as response:
            (shown,) = [one for one in (await response.json())["candidates"] if one["id"] == "bad-1"]
        assert shown["reason"].startswith("ejected: 3 calls in a row failed")
        figures = await scrape(f"{fleet.url}/metrics")
        assert total(figures, "gateway_upstream_ejected", group="bad", upstream="bad-1") == 1
        assert total(figures, "gateway_ejections_total", group="bad", reason="failing") >= 1


async def test_under_adaptive_balancing_too_a_replica_that_always_fails_costs_three_calls(
    fleet: Fleet, client: RawClient
) -> None:
    async with RawUpstreams() as upstreams:
        await register(fleet, upstreams, "quick", 3, "adaptive")
        bad = upstreams.endpoints["quick-1"]
        bad.behaviour = "500"  # it fails sooner than the others answer
        errors = 0

        async def is_noticed() -> bool:
            nonlocal errors
            errors += "error" in (await client.call("quick_who")).body
            return await is_out(fleet, client, "quick-1")

        await eventually(is_noticed, 15.0, "it is ejected")
        assert errors == 3 == len(bad.tool_calls)
        answers = await load(client, "quick_who", 4, 1.0)
        assert len(answers) > 50 and not any("error" in one.body for one in answers)
        assert len(bad.tool_calls) == 3


async def test_the_trial_of_a_replica_that_failed_costs_no_call_that_may_be_repeated(
    fleet: Fleet, client: RawClient
) -> None:
    async with RawUpstreams() as upstreams:
        await register(fleet, upstreams, "tried", 2)
        bad = upstreams.endpoints["tried-1"]
        bad.behaviour = "500"
        while "tried-1" not in await ejected(fleet, client):
            assert "result" in (await client.call("tried_read")).body
            await asyncio.sleep(0.02)
        before = len(bad.tool_calls)
        answers: list[Answer] = []

        async def tried() -> bool:
            answers.append(await client.call("tried_read"))
            return len(bad.tool_calls) > before

        await eventually(tried, 10.0, "it is tried again")
        assert len(bad.tool_calls) == before + 1 and all("result" in one.body for one in answers)
        answers = await load(client, "tried_read", 2, 0.5)
        assert len(bad.tool_calls) == before + 1, "it failed again, and is out for longer"
        bad.behaviour = "ok"

        async def back() -> bool:
            seen = (await client.call("tried_read")).content
            return seen == "tried-1" and not await is_out(fleet, client, "tried-1")

        await eventually(back, 20.0, "it is back")

        async def shared() -> bool:
            seen = Counter([(await client.call("tried_who")).content for _ in range(20)])
            return seen["tried-1"] == 10

        await eventually(shared, 10.0, "it has its share again")


@pytest.mark.parametrize("balancer", ["round-robin", "adaptive"])
async def test_a_replica_ten_times_slower_gets_a_twentieth_of_the_calls(
    fleet: Fleet, client: RawClient, balancer: str
) -> None:
    group = f"slow{balancer[:2]}"
    async with RawUpstreams() as upstreams:
        await register(fleet, upstreams, group, 3, balancer)
        slow = upstreams.endpoints[f"{group}-1"]
        for number in (1, 2, 3):
            upstreams.endpoints[f"{group}-{number}"].delay_s = 0.03
        await load(client, f"{group}_who", 8, 0.5)
        assert len(slow.tool_calls) > 5
        slow.delay_s = 10 * stretched(0.03)
        await load(client, f"{group}_who", 8, 3.0)
        before = len(slow.tool_calls)
        answers = await load(client, f"{group}_who", 8, 3.0)
        share = (len(slow.tool_calls) - before) / len(answers)
        assert share <= 0.05, f"{share:.1%} of {len(answers)}"
        if balancer == "round-robin":
            assert await is_out(fleet, client, f"{group}-1")


async def test_a_replica_that_hangs_is_out_long_before_its_calls_time_out(fleet: Fleet, client: RawClient) -> None:
    async with RawUpstreams() as upstreams:
        await register(fleet, upstreams, "hangs", 2)
        for number in (1, 2):
            upstreams.endpoints[f"hangs-{number}"].delay_s = 0.01
        await load(client, "hangs_who", 4, 0.5)
        upstreams.endpoints["hangs-1"].behaviour = "hang"
        calls = [asyncio.ensure_future(client.call("hangs_who")) for _ in range(12)]
        await eventually(lambda: is_out(fleet, client, "hangs-1"), 5.0, "it is ejected")
        assert {(await client.call("hangs_who")).content for _ in range(6)} == {"hangs-2"}
        upstreams.endpoints["hangs-1"].release.set()
        await asyncio.gather(*calls)


async def is_out(fleet: Fleet, client: RawClient, id: str) -> bool:
    return id in await ejected(fleet, client)


async def test_a_single_replica_is_never_ejected_nor_half_of_a_pair(fleet: Fleet, client: RawClient) -> None:
    async with RawUpstreams() as upstreams:
        await register(fleet, upstreams, "only", 1)
        upstreams.endpoints["only-1"].behaviour = "500"
        for _ in range(8):
            error = (await client.call("only_who")).error
            assert "answered HTTP 500" in error["message"] and "no healthy" not in error["message"]
        assert len(upstreams.endpoints["only-1"].tool_calls) == 8
        await register(fleet, upstreams, "both", 2)
        for number in (1, 2):
            upstreams.endpoints[f"both-{number}"].behaviour = "500"
        for _ in range(16):
            assert "error" in (await client.call("both_who")).body
        out = await ejected(fleet, client)
        assert "only-1" not in out and len({"both-1", "both-2"} & out.keys()) <= 1
        asked = sum(len(upstreams.endpoints[f"both-{number}"].tool_calls) for number in (1, 2))
        assert asked == 16, "each call is sent once, to one of the two"


async def test_errors_of_a_tool_eject_nothing(fleet: Fleet, client: RawClient) -> None:
    async with RawUpstreams() as upstreams:
        await register(fleet, upstreams, "wrong", 2)
        upstreams.endpoints["wrong-1"].behaviour = "error"
        for _ in range(20):
            await client.call("wrong_who")
        assert len(upstreams.endpoints["wrong-1"].tool_calls) == 10
        assert not {"wrong-1", "wrong-2"} & (await ejected(fleet, client)).keys()


async def test_retries_are_a_share_of_calls(redis_url: str) -> None:
    """Every replica fails every call, so that each call would be sent to all of them. The fleet is the test's own:
    calls of other tests would count as well."""
    async with RawUpstreams() as upstreams, Fleet(redis_url) as fleet, RawClient(fleet.urls[0]) as client:
        await register(fleet, upstreams, "storm", 3)
        for number in (1, 2, 3):
            upstreams.endpoints[f"storm-{number}"].behaviour = "500"
        await asyncio.gather(*(client.call("storm_read") for _ in range(300)))
        sent = sum(len(upstreams.endpoints[f"storm-{number}"].tool_calls) for number in (1, 2, 3))
        assert 300 < sent <= 300 + 10 + 0.2 * 300
