"""A process that may open no more files, for a while: what it has goes on, and what it lacks comes afterwards."""

from __future__ import annotations

import os
import resource
import signal
import time

from tests.chaos.processes import by_role
from tests.clients import RawClient
from tests.fleet import Fleet, alive, eventually
from tests.machine import scaled
from tests.servers.raw import RawUpstreams
from worker.rpc_server import STALL_S


async def test_a_worker_that_cannot_replace_its_reaper_now_serves_on_and_does_so_later(redis_url: str) -> None:
    async with Fleet(redis_url) as fleet, RawUpstreams() as upstreams, RawClient(fleet.urls[0]) as client:
        upstreams.add("up", [{"name": "up_who", "inputSchema": {"type": "object"}}])
        await fleet.register("up", upstreams.connection("up"))
        assert (await client.call("up_who")).content == "up"
        pid = await fleet.pid_of_owner("up")
        (reaper,) = by_role(pid)["reaper"]
        usual = resource.prlimit(pid, resource.RLIMIT_NOFILE)
        highest = max(map(int, os.listdir(f"/proc/{pid}/fd")))
        resource.prlimit(pid, resource.RLIMIT_NOFILE, (highest + 1, usual[1]))
        os.kill(reaper, signal.SIGKILL)
        await eventually(lambda: not alive(reaper), 5.0, "it is dead")
        until = time.monotonic() + scaled(STALL_S + 0.5)
        while time.monotonic() < until:  # a worker whose loop seems to stand still would lose its links by then
            answer = await client.call("up_who")
            assert answer.content == "up", answer.body
        assert not by_role(pid)["reaper"]
        resource.prlimit(pid, resource.RLIMIT_NOFILE, usual)
        await eventually(lambda: by_role(pid)["reaper"], 5.0, "it has a reaper again")
        assert (await client.call("up_who")).content == "up"
