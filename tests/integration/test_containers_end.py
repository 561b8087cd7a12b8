"""A container is no child of the tool that makes it: it ends with its upstream and with its worker nevertheless.

The tool here is a script that does what docker does: the program runs apart from it, without its environment, and goes
on when the tool is killed.
"""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
from pathlib import Path

import pytest

from shared.models import make_spec
from shared.settings import build
from tests.fleet import alive, eventually
from tests.unit.worker.worker_harness import NoLeader, NoWayToClients
from worker import reaper
from worker.ownership.make_upstream import make_upstream
from worker.reaper import MARKER
from worker.transports import DRIVERS
from worker.transports.descendants import CHILD

DOCKER = r"""
import json, os, pathlib, signal, subprocess, sys
state = pathlib.Path(os.environ["DOCKER_CONFIG"])
words = sys.argv[1:]
labels = [words[at + 1] for at, word in enumerate(words) if word == "--label"]
if words[0] == "run":
    stubborn = "import signal, time; [signal.signal(one, signal.SIG_IGN) for one in (1, 2, 15)]; time.sleep(600)"
    pid = subprocess.Popen([sys.executable, "-S", "-c", stubborn], env={}, start_new_session=True,
                           stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL).pid
    (state / str(pid)).write_text(json.dumps(labels))
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    for line in sys.stdin:
        m = json.loads(line)
        if "id" not in m: continue
        if m["method"] == "initialize":
            r = {"protocolVersion": m["params"]["protocolVersion"], "capabilities": {"tools": {}},
                 "serverInfo": {"name": "s", "version": "1"}}
        else: r = {"tools": []}
        print(json.dumps({"jsonrpc": "2.0", "id": m["id"], "result": r}), flush=True)
    signal.pause()
elif words[0] == "ps":
    wanted = words[-1].removeprefix("label=")
    print("\n".join(one.name for one in state.iterdir() if wanted in json.loads(one.read_text())))
elif words[:2] == ["rm", "--force"]:
    for id in words[2:]:
        os.kill(int(id), signal.SIGKILL)
        (state / id).unlink()
"""


@pytest.fixture
def state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    state, tool = tmp_path / "state", tmp_path / "bin" / "docker"
    state.mkdir()
    tool.parent.mkdir()
    tool.write_text(f"#!{sys.executable} -S\n{DOCKER}")
    tool.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tool.parent}:{os.environ['PATH']}")
    monkeypatch.setenv("DOCKER_CONFIG", str(state))
    return state


def _containers(state: Path) -> list[int]:
    return [int(one.name) for one in state.iterdir() if one.read_text()]


def _started(words: list[str], environment: dict[str, str]) -> subprocess.Popen[bytes]:
    return subprocess.Popen(words, env=environment, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL)


def _ended(pid: int) -> bool:
    if alive(pid):
        with open(f"/proc/{pid}/stat", "rb") as file:
            return file.read().rpartition(b")")[2].split()[0] == b"Z"
    return True


async def test_a_container_that_does_not_end_with_its_input_is_removed_with_its_upstream(state: Path) -> None:
    spec = make_spec("up", {"command": "serve", "sandbox": {"type": "docker", "image": "i"}}, era="legacy")
    settings = build(overrides={"stop_timeout_s": 0.2})
    upstream = make_upstream(spec, settings, "w", NoLeader(), NoWayToClients(), lambda line: None, None, None)
    reached = await DRIVERS["stdio"].reach(upstream.context)
    (pid,) = _containers(state)
    assert not _ended(pid)
    await reached.session.close()
    await eventually(lambda: _ended(pid))
    assert not _containers(state)


async def test_the_containers_of_a_killed_worker_are_removed_and_no_others(state: Path) -> None:
    command = [sys.executable, "-P", reaper.__file__, "w-1", "60"]
    worker = subprocess.Popen(command, stdin=subprocess.PIPE)  # noqa: ASYNC220
    tools = []
    for owner in ("w-1", "w-2"):
        labels = ["--label", f"{MARKER}={owner}", "--label", f"{CHILD}={owner}.1"]
        environment = {**os.environ, MARKER: owner, CHILD: f"{owner}.1"}
        words = ["docker", "run", "--rm", *labels, "image"]
        tools.append(_started(words, environment))
    try:
        await eventually(lambda: len(_containers(state)) == 2)
        theirs = {one: next(pid for pid in _containers(state) if one in (state / str(pid)).read_text())
                  for one in ("w-1", "w-2")}  # fmt: skip
        assert worker.stdin is not None
        worker.stdin.close()
        assert await asyncio.to_thread(worker.wait, 30) == 0
        assert _ended(theirs["w-1"]), "before the reaper ends, and with it the lock of its worker"
        assert not _ended(theirs["w-2"]) and _containers(state) == [theirs["w-2"]]
    finally:
        for tool in tools:
            tool.kill()
            tool.wait()
        reaper.end_containers("docker", os.environ, f"{MARKER}=w-2")


def test_a_tool_that_cannot_be_asked_is_told_apart_from_nothing_left(state: Path) -> None:
    assert reaper.end_containers("docker", os.environ, "a=b")
    assert not reaper.end_containers("/no/such/tool", os.environ, "a=b")
