"""A worker that is killed or stopped: what it had runs elsewhere at once, calls wait for that, nothing runs twice."""

from __future__ import annotations

import asyncio
import os
import signal
import time
from pathlib import Path

from shared.registry import deaths
from tests.clients import RawClient
from tests.fleet import Fleet, alive, eventually, script_connection
from tests.machine import scaled

_TTL_S = 60.0
"""Longer than the test may take: what happens sooner does not wait for it."""

_SERVER = """
import json, os, sys, time
mark = sys.argv[1]
open(mark, "a").write(f"begin {os.getpid()} {time.time()}\\n")
for line in sys.stdin:
    message = json.loads(line)
    if "id" not in message:
        continue
    if message["method"] == "initialize":
        about = {"name": "s", "version": "1"}
        result = {"protocolVersion": "2025-11-25", "capabilities": {"tools": {}}, "serverInfo": about}
    elif message["method"] == "tools/list":
        result = {"tools": [{"name": "pid", "inputSchema": {"type": "object"}}]}
    elif message["method"] == "tools/call":
        result = {"content": [{"type": "text", "text": str(os.getpid())}]}
    elif message["method"] == "ping":
        result = {}
    else:
        error = {"code": -32601, "message": "no"}
        print(json.dumps({"jsonrpc": "2.0", "id": message["id"], "error": error}), flush=True)
        continue
    print(json.dumps({"jsonrpc": "2.0", "id": message["id"], "result": result}), flush=True)
"""


async def test_a_killed_workers_child_runs_elsewhere_at_once_and_calls_wait_for_it(
    redis_url: str, tmp_path: Path
) -> None:
    mark = tmp_path / "mark"
    connection = script_connection(_SERVER)
    connection["args"].append(str(mark))
    async with (
        Fleet(redis_url, 1, 2, heartbeat_ttl_s=_TTL_S) as fleet,
        RawClient(fleet.urls[0]) as client,
    ):
        await fleet.register("local", connection)
        old = await fleet.pid_of_owner("local")
        child = int((await client.call("pid")).content)
        began = time.monotonic()
        fleet.signal_worker(old, signal.SIGKILL)
        calls = []
        while time.monotonic() - began < 1.0:
            calls.append(asyncio.ensure_future(client.call("pid")))
            await asyncio.sleep(0.05)
        answers = [await call for call in calls]
        took_s = time.monotonic() - began
        ran = {int(one.content) for one in answers if "result" in one.body}
        failed = [one.body for one in answers if "result" not in one.body]
        assert len(failed) <= 1, failed  # what was in the dead worker's hands at that moment
        assert len(ran) == 1 and child not in ran
        assert took_s < scaled(10.0), "it does not wait until the record expires"
        assert await fleet.pid_of_owner("local") != old
        begun = [line.split() for line in mark.read_text().splitlines()]
        assert [int(pid) for _, pid, _ in begun][-1:] == list(ran)
        assert not alive(child)


async def test_a_stopped_workers_child_runs_elsewhere_at_once_and_not_twice_when_the_worker_goes_on(
    redis_url: str, tmp_path: Path
) -> None:
    mark = tmp_path / "mark"
    connection = script_connection(_SERVER)
    connection["args"].append(str(mark))
    async with (
        Fleet(redis_url, 1, 2, heartbeat_ttl_s=_TTL_S, request_timeout_s=_TTL_S) as fleet,
        RawClient(fleet.urls[0]) as client,
    ):
        await fleet.register("local", connection)
        old = await fleet.pid_of_owner("local")
        first = int((await client.call("pid")).content)
        os.kill(old, signal.SIGSTOP)
        try:
            # What was sent before its front end knew fails; what comes afterwards waits for the next owner.
            async def is_served() -> int:
                answer = await client.call("pid")
                return int(answer.content) if "result" in answer.body else 0

            second = await eventually(is_served, 15.0, "another worker has it")
            assert second != first and not alive(first)
            assert await fleet.pid_of_owner("local") != old
        finally:
            os.kill(old, signal.SIGCONT)

        async def is_back() -> bool:
            workers = await fleet.worker_facts()
            return str(old) in {facts["pid"] for facts in workers.values()} and len(workers) == 2

        await eventually(is_back, 15.0, "the worker joins again")
        begun = [int(line.split()[1]) for line in mark.read_text().splitlines()]
        assert begun.count(second) == 1 and begun[-1] == second, "nobody has started a third one"
        assert [pid for pid in begun if alive(pid)] == [second]
        assert int((await client.call("pid")).content) == second


async def test_a_worker_is_dead_only_when_its_reaper_is_done(tmp_path: Path) -> None:
    """The reaper has the worker's lock too, and ends after it has killed what the worker left."""
    socket = tmp_path / "w.sock"
    assert deaths.has_ended(socket) is None  # nothing to see: another machine
    held = deaths.hold(socket)
    reaper = await asyncio.create_subprocess_exec("sleep", "600", pass_fds=(held,))
    try:
        assert deaths.has_ended(socket) is False
        os.close(held)
        assert deaths.has_ended(socket) is False
    finally:
        reaper.kill()
        await reaper.wait()
    await eventually(lambda: deaths.has_ended(socket), 5.0, "both have ended")
    deaths.drop(socket)
    assert deaths.has_ended(socket) is None
