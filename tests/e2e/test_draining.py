"""A worker that leaves: new calls go to others at once, and what waits for its client is answered while it lives."""

from __future__ import annotations

import asyncio
import signal

import aiohttp

from shared.registry.members import LEAVING, RETIRING, Members
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


async def test_a_long_call_of_one_child_keeps_no_other_child_at_a_worker_that_drains(redis_url: str) -> None:
    async with (
        Fleet(redis_url, 1, 1, drain_timeout_s=scaled(60.0), request_timeout_s=scaled(60.0)) as fleet,
        RawClient(fleet.urls[0]) as client,
    ):
        await fleet.register("busy", stdio_connection("busy"))
        await fleet.register("idle", stdio_connection("idle"))
        await fleet.add_worker()
        await eventually(fleet._linked, 20.0, "the other worker is there")
        pid = await fleet.pid_of_owner("busy")
        long = asyncio.ensure_future(client.call("busy__slow", {"seconds": scaled(6.0)}))

        async def under_way() -> bool:
            return any(one["load"] == "1" for one in (await fleet.worker_facts()).values())

        await eventually(under_way, 20.0, "the long call runs")
        fleet.signal_worker(pid, signal.SIGTERM)
        assert (await client.call("idle__echo", {"text": "x"})).content == "x"
        assert not long.done(), "it has moved before the long call of the other one ended"
        short = asyncio.ensure_future(client.call("busy__echo", {"text": "x"}))
        assert "result" in (await long).body
        assert (await short).content == "x"


async def test_a_worker_that_is_to_be_replaced_takes_calls_until_its_child_is_idle(redis_url: str) -> None:
    async with (
        Fleet(redis_url, 1, 2, request_timeout_s=scaled(60.0)) as fleet,
        RawClient(fleet.urls[0]) as client,
    ):
        await fleet.register("local", stdio_connection("local"))
        pid = await fleet.pid_of_owner("local")
        long = asyncio.ensure_future(client.call("slow", {"seconds": 3.0}))
        (owner,) = [id for id, one in (await fleet.worker_facts()).items() if one["pid"] == str(pid)]

        async def under_way() -> bool:
            return (await fleet.worker_facts())[owner]["load"] == "1"

        await eventually(under_way, 20.0, "the long call runs")
        members = Members(fleet.store, "worker", 5.0)
        for mark in (RETIRING, LEAVING):
            await members.mark(owner, mark, "1")
        short = 0
        while not long.done():
            assert (await client.call("echo", {"text": "x"})).content == "x"
            short += not long.done()
        assert short, "they do not wait for the long one"
        assert "result" in (await long).body

        async def moved() -> bool:
            return await fleet.pid_of_owner("local") != pid

        await eventually(moved, 20.0, "the child has moved, and nobody had to stop the worker")
        assert (await client.call("echo", {"text": "x"})).content == "x"


async def test_a_front_end_that_ends_says_so_before_it_stops_accepting(redis_url: str) -> None:
    delay_s = scaled(3.0)
    async with Fleet(redis_url, 1, 1, drain_delay_s=delay_s) as fleet:
        await fleet.register("local", stdio_connection("local"))
        (process,) = [one.process for one in fleet.frontends[0].children]
        assert process is not None

        async def ready() -> tuple[int, str]:
            async with (
                aiohttp.ClientSession() as session,  # a connection of its own
                session.get(f"{fleet.url}/readyz") as response,
            ):
                return response.status, (await response.json())["ready"]

        assert await ready() == (200, True)
        process.send_signal(signal.SIGTERM)
        loop = asyncio.get_running_loop()
        began = loop.time()

        async def says_so() -> bool:
            return await ready() == (503, False)

        await eventually(says_so, 5.0, "it is not ready any more")
        async with RawClient(fleet.urls[0]) as late:
            answer = await late.call("echo", {"text": "x"})
            assert answer.content == "x" and answer.headers["Connection"] == "close"
        await asyncio.wait_for(process.wait(), delay_s + scaled(20.0))
        assert loop.time() - began >= delay_s * 0.9
