"""A process that may open no more files, for a while: what it has goes on, and what it lacks comes afterwards."""

from __future__ import annotations

import asyncio
import contextlib
import os
import resource
import signal
import time
from collections.abc import Iterator

import pytest
from msgspec import structs

from tests.chaos.processes import by_role, parent
from tests.clients import RawClient
from tests.fleet import Fleet, alive, eventually
from tests.machine import scaled
from tests.servers.raw import RawUpstreams
from worker.rpc_server import STALL_S

_TOOL = {"name": "up_who", "inputSchema": {"type": "object"}}


@contextlib.contextmanager
def no_more_files(pid: int) -> Iterator[None]:
    """Meanwhile a process may open no file beside those that it has."""
    usual = resource.prlimit(pid, resource.RLIMIT_NOFILE)
    highest = max(map(int, os.listdir(f"/proc/{pid}/fd")))
    resource.prlimit(pid, resource.RLIMIT_NOFILE, (highest + 1, usual[1]))
    try:
        yield
    finally:
        resource.prlimit(pid, resource.RLIMIT_NOFILE, usual)


async def test_a_worker_that_cannot_replace_its_reaper_now_serves_on_and_does_so_later(redis_url: str) -> None:
    async with Fleet(redis_url) as fleet, RawUpstreams() as upstreams, RawClient(fleet.urls[0]) as client:
        upstreams.add("up", [_TOOL])
        await fleet.register("up", upstreams.connection("up"))
        assert (await client.call("up_who")).content == "up"
        pid = await fleet.pid_of_owner("up")
        (reaper,) = by_role(pid)["reaper"]
        with no_more_files(pid):
            os.kill(reaper, signal.SIGKILL)
            await eventually(lambda: not alive(reaper), 5.0, "it is dead")
            until = time.monotonic() + scaled(STALL_S + 0.5)
            while time.monotonic() < until:  # a worker whose loop seems to stand still would lose its links by then
                answer = await client.call("up_who")
                assert answer.content == "up", answer.body
            assert not by_role(pid)["reaper"]
        await eventually(lambda: by_role(pid)["reaper"], 5.0, "it has a reaper again")
        assert (await client.call("up_who")).content == "up"


async def test_a_front_end_without_descriptors_leaves_newcomers_to_the_others_at_its_address(redis_url: str) -> None:
    async with Fleet(redis_url, 0, 1) as fleet, RawUpstreams() as upstreams:
        fleet.settings = structs.replace(fleet.settings, service=structs.replace(fleet.settings.service, frontends=2))
        await fleet.add_frontend()
        upstreams.add("up", [_TOOL])
        await fleet.register("up", upstreams.connection("up"))
        front_ends = by_role()["front end"]
        _, one = (pid for pid in front_ends if parent(pid) in front_ends)
        with no_more_files(one):
            for _ in range(40):
                async with RawClient(fleet.urls[0]) as client:  # which has a connection of its own
                    assert (await client.call("up_who")).content == "up"


@pytest.mark.parametrize("era", ["modern", "legacy"])
async def test_what_one_worker_has_no_descriptor_for_another_one_does_and_the_upstream_stays_connected(
    redis_url: str, era: str
) -> None:
    async with Fleet(redis_url, 1, 2) as fleet, RawUpstreams() as upstreams, RawClient(fleet.urls[0]) as client:
        endpoint = upstreams.add("up", [_TOOL], era)
        await fleet.register("up", upstreams.connection("up"))

        async def shared() -> bool:
            record = await fleet.record("up")
            return record is not None and len(record.owners) == 2

        await eventually(shared, 10.0, "both workers carry it")
        both = [await fleet.pid_of_owner("up", slot) for slot in (0, 1)]
        endpoint.delay_s = 0.2
        for pid in both:
            with no_more_files(pid):
                answers = await asyncio.gather(*(client.call("up_who") for _ in range(12)))
                assert {answer.body.get("error", {}).get("message") for answer in answers} == {None}
                record = await fleet.record("up")
                assert record is not None and record.status.value == "connected"
