"""A worker that leaves: new calls go to others at once, and what waits for its client is answered while it lives."""

from __future__ import annotations

import asyncio
import signal

from tests.clients import RawClient
from tests.fleet import Fleet, SdkServer, eventually, stdio_connection
from tests.machine import scaled

ASKABLE = {"io.modelcontextprotocol/clientCapabilities": {"elicitation": {"form": {}}}}
BLUE = {"action": "accept", "content": {"colour": "blue"}}


async def test_a_parked_call_is_answered_at_a_worker_that_drains(redis_url: str) -> None:
    async with (
        SdkServer("http", "web") as upstream,
        Fleet(redis_url, 1, 2, drain_timeout_s=scaled(30.0)) as fleet,
        RawClient(fleet.urls[0]) as client,
    ):
        await fleet.register("web", upstream.connection, era="legacy")
        params = {"name": "ask", "arguments": {}}
        asked = (await client.modern("tools/call", params, meta=ASKABLE)).body["result"]
        ((key, _),) = asked["inputRequests"].items()

        async def waiting() -> list[int]:
            facts = await fleet.worker_facts()
            return [int(one["pid"]) for one in facts.values() if one.get("parked") == "1"]

        (pid,) = await eventually(waiting, 20.0, "a worker says that it has a call which waits")
        fleet.signal_worker(pid, signal.SIGTERM)

        async def draining() -> bool:
            return any(
                one["pid"] == str(pid) and one["draining"] == "1" for one in (await fleet.worker_facts()).values()
            )

        await eventually(draining, 20.0, "it drains")
        others = await asyncio.gather(*(client.call("echo", {"text": "x"}) for _ in range(5)))
        assert [one.content for one in others] == ["x"] * 5
        retry = {**params, "inputResponses": {key: BLUE}, "requestState": asked["requestState"]}
        assert (await client.modern("tools/call", retry, meta=ASKABLE)).content == "accept: blue"
        worker = next(one for one in fleet.workers if one.process is not None and one.process.pid == pid)
        assert worker.process is not None
        await asyncio.wait_for(worker.process.wait(), scaled(20.0))


async def test_short_calls_to_a_stdio_upstream_wait_while_its_worker_finishes_a_long_one(redis_url: str) -> None:
    async with (
        Fleet(redis_url, 1, 2, drain_timeout_s=scaled(30.0)) as fleet,
        RawClient(fleet.urls[0]) as client,
    ):
        await fleet.register("local", stdio_connection("local"))
        long = asyncio.ensure_future(client.call("slow", {"seconds": 4.0}))
        pid = await fleet.pid_of_owner("local")

        async def under_way() -> bool:
            return any(one["load"] == "1" for one in (await fleet.worker_facts()).values())

        await eventually(under_way, 20.0, "the long call runs")
        fleet.signal_worker(pid, signal.SIGTERM)
        short = []
        for _ in range(8):
            short.append(asyncio.ensure_future(client.call("echo", {"text": "x"})))
            await asyncio.sleep(0.5)
        assert [(await one).content for one in short] == ["x"] * 8
        assert "result" in (await long).body
        assert await fleet.pid_of_owner("local") != pid
