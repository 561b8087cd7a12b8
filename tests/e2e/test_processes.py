"""Workers and front ends that die, stop, join and leave."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import time

from shared.registry.members import Members
from tests.clients import RawClient
from tests.fleet import Fleet, SdkServer, alive, eventually, stdio_connection
from tests.machine import scaled
from tests.servers.raw import RawUpstreams

UPSTREAMS = 16
"""Which worker has which is chance: that one of two has all of so many happens once in 65,536 times."""


async def who(client: RawClient, tool: str) -> int:
    """The pid of the stdio child that answers."""
    return int((await client.call(tool)).content.split(":")[1])


async def answers(client: RawClient, tool: str) -> bool:
    return "result" in (await client.call(tool)).body


async def test_a_killed_worker_costs_only_its_own_calls_and_its_stdio_child_moves(redis_url: str) -> None:
    async with RawUpstreams() as upstreams, Fleet(redis_url, frontends=2, workers=2) as fleet:
        upstreams.add("h", [{"name": "h_who", "inputSchema": {"type": "object"}}])
        await fleet.register("h", upstreams.connection("h"))
        await fleet.register("s", stdio_connection("s"))
        await eventually(lambda: _two_owners(fleet, "h"), 10.0, "two workers carry the HTTP upstream")
        async with RawClient(fleet.urls[0]) as client:
            child = await who(client, "who")
            victim = await fleet.pid_of_owner("s")
            started = time.monotonic()
            fleet.signal_worker(victim, signal.SIGKILL)
            bodies = [(await client.call("h_who")).body for _ in range(20)]  # HTTP goes on without a gap
            lost = [body["error"]["data"]["code"] for body in bodies if "error" in body]
            assert lost in ([], ["outcome_unknown"]), "at most the call that was with it when it died"
            await eventually(lambda: not alive(child), 5.0, "nothing is left of the child")
            await eventually(lambda: answers(client, "who"), 10.0, "stdio runs elsewhere")
            assert time.monotonic() - started < scaled(10.0)
            assert await who(client, "who") != child


async def _two_owners(fleet: Fleet, id: str) -> bool:
    record = await fleet.record(id)
    return record is not None and len({worker for _, worker in record.owners}) == 2


async def test_calls_with_a_killed_worker_end_within_a_second(redis_url: str) -> None:
    async with RawUpstreams() as upstreams, Fleet(redis_url, frontends=1, workers=1) as fleet:
        upstreams.add("h", [{"name": "h_who", "inputSchema": {"type": "object"}}]).behaviour = "hang"
        await fleet.register("h", upstreams.connection("h"))
        async with RawClient(fleet.urls[0]) as client:
            call = asyncio.ensure_future(client.call("h_who"))
            await eventually(lambda: upstreams.endpoints["h"].tool_calls, 5.0)
            victim = await fleet.pid_of_owner("h")
            started = time.monotonic()
            fleet.signal_worker(victim, signal.SIGKILL)
            error = (await call).error
            assert time.monotonic() - started < scaled(1.0)
            assert await fleet.worker_facts(), "its socket tells, long before its record ends"
            assert error["data"]["code"] == "outcome_unknown" and "may have run" in error["message"]
            upstreams.endpoints["h"].release.set()


async def test_a_stopped_worker_is_left_and_never_runs_a_second_child(redis_url: str) -> None:
    async with Fleet(redis_url, frontends=1, workers=2) as fleet:
        name = f"s-{os.getpid()}"  # this test's alone: other tests run beside it
        await fleet.register("s", stdio_connection(name))
        async with RawClient(fleet.urls[0]) as client:
            child = await who(client, "who")
            victim = await fleet.pid_of_owner("s")
            fleet.signal_worker(victim, signal.SIGSTOP)
            try:
                overlap = False

                async def moved() -> bool:
                    nonlocal overlap
                    with contextlib.suppress(KeyError):
                        answer = await client.call("who")
                        if "result" in answer.body:
                            pid = int(answer.content.split(":")[1])
                            overlap = overlap or (pid != child and alive(child))
                            return pid != child
                    return False

                await eventually(moved, 15.0, "the child runs under the other worker")
                assert not overlap and not alive(child)
                second = await who(client, "who")
            finally:
                fleet.signal_worker(victim, signal.SIGCONT)
            await eventually(lambda: _joined(fleet, 2), 10.0, "the stopped worker is back")
            await asyncio.sleep(1.0)  # time in which a second child would be started
            assert await who(client, "who") == second
            assert len(_children_of(f"stdio {name}")) == 1


def _children_of(text: str) -> list[int]:
    found = []
    for name in os.listdir("/proc"):
        if name.isdigit():
            with contextlib.suppress(OSError), open(f"/proc/{name}/cmdline", "rb") as file:
                if text in file.read().replace(b"\0", b" ").decode("utf-8", "replace") and alive(int(name)):
                    found.append(int(name))
    return [pid for pid in found if pid != os.getpid()]


async def _joined(fleet: Fleet, count: int) -> bool:
    return len(await fleet.worker_facts()) == count


async def test_a_joining_worker_takes_its_share(redis_url: str) -> None:
    async with RawUpstreams() as upstreams, Fleet(redis_url, frontends=1, workers=1, spread=1) as fleet:
        for number in range(UPSTREAMS):
            upstreams.add(f"h{number}", [{"name": f"who{number}", "inputSchema": {"type": "object"}}])
            await fleet.register(f"h{number}", upstreams.connection(f"h{number}"), connected=False)
        await fleet.connected(*(f"h{number}" for number in range(UPSTREAMS)))
        await fleet.add_worker()

        async def shared() -> bool:
            records = await fleet.store.load_all()
            return len({record.owner(0) for record in records.values()}) == 2

        async with RawClient(fleet.urls[0]) as client:

            async def served() -> bool:
                bodies = [(await client.call(f"who{number}")).body for number in range(UPSTREAMS)]
                assert all("result" in body for body in bodies), bodies
                return await shared()

            await eventually(served, 20.0, "the new worker has its share, and no call failed meanwhile")


async def test_a_drained_worker_hands_over_before_it_leaves(redis_url: str) -> None:
    async with Fleet(redis_url, frontends=1, workers=2) as fleet:
        await fleet.register("s", stdio_connection("s"))
        async with RawClient(fleet.urls[0]) as client:
            child = await who(client, "who")
            victim = await fleet.pid_of_owner("s")
            started = time.monotonic()
            fleet.signal_worker(victim, signal.SIGTERM)
            await eventually(lambda: _moved_on(client, child), 8.0, "handed over")
            assert time.monotonic() - started < scaled(6.0) and not alive(child)


async def _moved_on(client: RawClient, child: int) -> bool:
    answer = await client.call("who")
    return "result" in answer.body and int(answer.content.split(":")[1]) != child


async def test_a_killed_front_end_leaves_sessions_to_the_others(redis_url: str) -> None:
    async with SdkServer("http", "h") as server, Fleet(redis_url, frontends=2, workers=1) as fleet:
        await fleet.register("h", server.connection)
        async with RawClient(fleet.urls[0]) as client:
            await client.initialize()
            before = (await client.legacy_call("who")).content
            fleet.kill_frontend(0)
            after = (await client.legacy_call("who", url=fleet.urls[1])).content
            assert after == before


async def test_a_front_end_finishes_running_calls_before_it_stops(redis_url: str) -> None:
    async with SdkServer("http", "h") as server, Fleet(redis_url, frontends=1, workers=1) as fleet:
        await fleet.register("h", server.connection)
        async with RawClient(fleet.urls[0]) as client:
            call = asyncio.ensure_future(client.call("slow", {"seconds": 1.5}))
            await eventually(lambda: _in_flight(fleet), 5.0, "the call is under way")
            await fleet.frontends[0].stop()
            assert (await call).content == "h done"


async def _in_flight(fleet: Fleet) -> bool:
    return any(int(facts["load"]) > 0 for facts in (await fleet.worker_facts()).values())


async def test_a_front_end_that_is_linked_says_so_before_its_next_heartbeat(redis_url: str) -> None:
    async with Fleet(redis_url, workers=0, heartbeat_s=600.0, heartbeat_ttl_s=1800.0) as fleet:
        await fleet.add_worker()

        async def linked() -> bool:
            records = await Members(fleet.store, "frontend", 5.0).alive()
            return [facts["workers"] for facts in records.values()] == ["1"]

        await eventually(linked, 20.0)
