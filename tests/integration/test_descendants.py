"""``worker.transports.descendants``: what a child leaves behind is found, also without the environment of the child."""

from __future__ import annotations

import asyncio
import os
import signal
import sys

import pytest

from tests.fleet import alive, eventually
from worker import reaper
from worker.transports.descendants import CHILD, descendants, end_descendants

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="needs /proc")
PARENT = """
import os, subprocess, sys, time
sleeper = [sys.executable, "-c", "import time; time.sleep(900)"]
def start(**how): print(subprocess.Popen(sleeper, stdout=subprocess.DEVNULL, **how).pid, flush=True)
{starts}
time.sleep(900)
"""
APART = "start(start_new_session=True)"
APART_BARE = "start(start_new_session=True, env={})"
GROUP_BARE = "start(process_group=0, env={})"
FORKED_TWICE = """
if os.fork() == 0:
    os.setsid()
    if os.fork() == 0: start()
    os._exit(0)
"""


@pytest.mark.parametrize(
    ("starts", "count", "crashes"),
    [
        (APART, 1, True),
        (FORKED_TWICE, 1, True),
        (GROUP_BARE, 1, True),
        (f"{APART_BARE}\n{GROUP_BARE}\n{APART}", 3, False),
    ],
    ids=["setsid", "double fork", "a group of its own, without environment", "stopped in good order"],
)
async def test_nothing_is_left(starts: str, count: int, crashes: bool) -> None:
    mark = f"test.{id(starts)}"
    child = await asyncio.create_subprocess_exec(
        sys.executable,
        "-c",
        PARENT.format(starts=starts),
        env={CHILD: mark},
        stdout=asyncio.subprocess.PIPE,
        start_new_session=True,
    )
    assert child.stdout is not None
    left = [int(await child.stdout.readline()) for _ in range(count)]
    try:
        began = {} if crashes else descendants(child.pid)
        child.kill()
        await child.wait()
        assert all(map(alive, left))
        await end_descendants(mark, child.pid, began)
        await eventually(lambda: not any(map(alive, left)), 10.0, "they have ended")
    finally:
        _kill_all(left)


def _kill_all(pids: list[int]) -> None:
    for pid in filter(alive, pids):
        os.kill(pid, signal.SIGKILL)


async def test_a_process_that_begins_another_program_is_looked_at_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """It has no environment for a moment, and its parent may have been killed in that moment."""
    child = await asyncio.create_subprocess_exec(sys.executable, "-c", "input()", env={CHILD: "m"}, stdin=-1)
    looks: list[int] = []
    environment, is_executing = reaper._environment, reaper._is_executing
    monkeypatch.setattr(reaper, "_environment", lambda pid: environment(pid) if looks.count(pid) >= 2 else b"")
    monkeypatch.setattr(reaper, "_is_executing", lambda pid: pid == child.pid and not looks.append(pid))
    try:
        assert not is_executing(child.pid), "it has begun"
        assert reaper.marked_processes(CHILD, ("m",)) == [child.pid] and looks == [child.pid] * 2
    finally:
        child.kill()
        await child.wait()
