"""Children that take long to start, and what children leave behind when they end."""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio

from shared.rendezvous import rank
from tests.clients import RawClient
from tests.fleet import Fleet, alive, eventually, script_connection
from tests.machine import scaled, stretched

SERVER = """
import json, os, subprocess, sys, time
{before}
who = {{'name': 's', 'version': '1'}}
info = {{'protocolVersion': '2025-06-18', 'capabilities': {{'tools': {{}}}}, 'serverInfo': who}}
tools = [{{'name': 't', 'inputSchema': {{'type': 'object'}}}}]
for line in sys.stdin:
    m = json.loads(line)
    if 'id' not in m: continue
    if m['method'] == 'tools/call': os._exit(3)
    result = {{'initialize': info, 'ping': {{}}, 'tools/list': {{'tools': tools}}}}.get(m['method'])
    out = {{'jsonrpc': '2.0', 'id': m['id']}}
    out.update({{'result': result}} if result is not None else {{'error': {{'code': -32601, 'message': 'no'}}}})
    print(json.dumps(out), flush=True)
"""  # fmt: skip


@pytest_asyncio.fixture(scope="module")
async def fleet(redis_url: str) -> AsyncIterator[Fleet]:
    patience = {"stdio_start_timeout_s": stretched(1.5), "probe_timeout_s": 0.3}
    async with Fleet(redis_url, reconnect_min_s=0.1, stop_timeout_s=0.3, **patience) as fleet:
        yield fleet


@pytest_asyncio.fixture
async def raw(fleet: Fleet) -> AsyncIterator[RawClient]:
    async with RawClient(fleet.urls[0]) as client:
        yield client


def _server(before: str) -> dict[str, object]:
    return script_connection(SERVER.format(before=before))


INSTALLING = """
until = time.time() + {seconds}
while time.time() < until and not os.path.exists({file!r}): {step}
"""
SIGNS = {
    "writes": "print('fetch package', int(time.time()), file=sys.stderr, flush=True); time.sleep(0.1)",
    "works": "sum(range(100000))",
}


@pytest.mark.parametrize("sign", sorted(SIGNS))
async def test_a_child_that_shows_life_is_waited_for_beyond_its_time(fleet: Fleet, sign: str) -> None:
    install = INSTALLING.format(seconds=stretched(1.5) * 2.5, file="", step=SIGNS[sign])
    await fleet.register(sign, _server(install), connected=False)
    await fleet.connected(sign)
    await fleet.store.unregister(sign)


async def test_a_child_that_shows_no_life_is_given_up_in_time_with_words(fleet: Fleet) -> None:
    await fleet.register("dead", _server("time.sleep(3600)"), connected=False)
    assert "no sign of life for" in await fleet.failed("dead")
    await fleet.store.unregister("dead")


async def test_an_entry_has_a_time_to_start_of_its_own(fleet: Fleet) -> None:
    limit_s = stretched(4.0)
    entry = _server(f"time.sleep({limit_s * 0.75})")
    await fleet.register("late", entry, connected=False, settings={"startTimeout": limit_s * 1000})
    await fleet.connected("late")
    await fleet.store.unregister("late")
    await fleet.register("brief", _server("time.sleep(3600)"), connected=False, settings={"startTimeout": 200})
    assert "no sign of life for 0.2 s" in await fleet.failed("brief")
    await fleet.store.unregister("brief")


async def test_what_a_starting_child_says_is_its_status_and_calls_are_told(
    fleet: Fleet, raw: RawClient, tmp_path: Path
) -> None:
    go = str(tmp_path / "go")
    install = INSTALLING.format(seconds=3600, file=go, step=SIGNS["writes"])
    await fleet.register("slow", _server(install), connected=False)

    async def says() -> bool:
        record = await fleet.record("slow")
        return record is not None and (record.error or "").startswith("starting: fetch package")

    await eventually(says, 20.0, "its last line is its status")
    reply = await raw.call("slow__t")
    assert reply.error["data"]["code"] == "upstream_unavailable"
    assert "group 'slow' is still starting" in reply.error["message"]
    assert "slow is still starting" in (await raw.call("other")).error["message"]
    Path(go).touch()
    await fleet.connected("slow")
    record = await fleet.record("slow")
    assert record is not None and record.error is None
    await fleet.store.unregister("slow")


BACKGROUND = """
import time
if os.fork(): os._exit(0)
{apart}
time.sleep(0.5)
"""
"""It speaks only when its parent is gone for longer than last words of a child are waited for."""


@pytest.mark.parametrize("apart", ["", "os.setsid()"], ids=["same-session", "own-session"])
async def test_a_command_that_goes_into_the_background_is_served_by_who_has_its_output(
    fleet: Fleet, apart: str
) -> None:
    id = f"background{len(apart)}"
    await fleet.register(id, _server(BACKGROUND.format(apart=apart)))
    async with RawClient(f"{fleet.url}/servers/{id}/mcp") as client:
        (tool,) = (await client.modern("tools/list")).body["result"]["tools"]
    assert tool["name"] == "t"
    await fleet.store.unregister(id)


STRICT = """
import itertools
first = sys.stdin.readline()
sys.stdin = itertools.chain([first], sys.stdin)
while json.loads(first)['method'] != 'initialize':
    m = json.loads(next(sys.stdin))
    refused = {'code': -32600, 'message': 'initialize comes first'}
    if 'id' in m: print(json.dumps({'jsonrpc': '2.0', 'id': m['id'], 'error': refused}), flush=True)
"""


async def test_a_child_that_refuses_everything_after_an_unknown_request_is_greeted_first(fleet: Fleet) -> None:
    await fleet.register("strict", _server(STRICT))
    record = await fleet.record("strict")
    assert record is not None and record.eras == ("legacy",)
    await fleet.store.unregister("strict")


LEAVES = """
for name, apart in (('browser', True), ('helper', False)):
    subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(900)', {mark!r} + name], start_new_session=apart,
                     stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
"""


def _left(mark: str) -> list[str]:
    """What follows this mark in the command lines of processes, zombies excepted."""
    return sorted(_marked(mark).values())


def _pids(mark: str) -> set[int]:
    return set(_marked(mark))


def _marked(mark: str) -> dict[int, str]:
    found: dict[int, str] = {}
    for pid in filter(str.isdigit, os.listdir("/proc")):
        try:
            words = Path(f"/proc/{pid}/cmdline").read_bytes().decode(errors="replace").split("\0")
        except OSError:
            continue
        found |= {int(pid): word.removeprefix(mark) for word in words if word.startswith(mark)}
    return found


@pytest.mark.skipif(sys.platform != "linux", reason="what a child left behind is found in /proc")
async def test_what_a_child_started_ends_with_it(fleet: Fleet, raw: RawClient, tmp_path: Path) -> None:
    mark = f"left-{tmp_path.name}-{os.getpid()}-"
    await fleet.register("leaves", _server(LEAVES.format(mark=mark)))
    assert _left(mark) == ["browser", "helper"]
    for _ in range(2):
        await raw.call("leaves__t")  # the child exits
        await asyncio.sleep(0.05)
        await fleet.connected("leaves")
        await eventually(lambda: _left(mark) == ["browser", "helper"], 20.0, "those of the old child have ended")
    await fleet.store.unregister("leaves")
    await eventually(lambda: _left(mark) == [], 20.0, "all have ended")


@pytest.mark.skipif(sys.platform != "linux", reason="what a child left behind is found in /proc")
async def test_what_a_child_started_ends_when_its_worker_leaves_and_another_runs_it(
    redis_url: str, tmp_path: Path
) -> None:
    mark = f"moved-{tmp_path.name}-{os.getpid()}-"
    async with Fleet(redis_url, 1, 2, stop_timeout_s=0.3) as fleet:
        await fleet.register("leaves", _server(LEAVES.format(mark=mark)))
        before = _pids(mark)
        assert len(before) == 2
        owner = await fleet.pid_of_owner("leaves")
        (worker,) = [one for one in fleet.workers if one.process is not None and one.process.pid == owner]
        await worker.stop(scaled(15.0))
        await eventually(lambda: len(_pids(mark) - before) == 2, 20.0, "the child runs at the other worker")
        assert not _pids(mark) & before, "nothing of the first one is left"
    assert not _pids(mark)


@pytest.mark.skipif(sys.platform != "linux", reason="what a child left behind is found in /proc")
async def test_what_a_child_started_ends_when_the_child_moves_to_another_worker(redis_url: str, tmp_path: Path) -> None:
    ids = [f"m{number}" for number in range(4)]
    marks = {id: f"{id}-{tmp_path.name}-{os.getpid()}-" for id in ids}
    async with Fleet(redis_url, 1, 1, stop_timeout_s=0.3) as fleet:
        for id in ids:
            await fleet.register(id, _server(LEAVES.format(mark=marks[id])), connected=False)
        await fleet.connected(*ids)
        before = {id: _pids(marks[id]) for id in ids}
        old = await fleet.pid_of_owner(ids[0])
        moves: list[str] = []
        while not moves:  # each worker that joins gets one of the four, or with some luck none
            await fleet.add_worker()
            workers = await fleet.worker_facts()
            moves = [id for id in ids if workers[rank(id, workers)[0]]["pid"] != str(old)]
        for id in moves:
            await eventually(lambda id=id: len(_pids(marks[id]) - before[id]) == 2, 30.0, f"{id} runs once more")
            assert await fleet.pid_of_owner(id) != old
            assert not _pids(marks[id]) & before[id], "nothing is left at the worker that had it, which lives on"
        assert alive(old)
    assert not any(map(_pids, marks.values()))
