"""``sandbox`` of an entry with a real podman and a real docker: what a server in a container sees, and that nothing is
left of it.

The image is empty: what the servers need of this machine is named in ``read``. So no registry is needed.
"""

from __future__ import annotations

import io
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tarfile
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import aiohttp
import pytest
import pytest_asyncio

from tests.clients import RawClient
from tests.fleet import ROOT, Fleet, eventually
from tests.integration.test_sandbox import SERVES

IMAGE = f"localhost/gateway-test:{os.getpid()}"
SYSTEM = [path for path in ("/usr", "/lib", "/lib64") if os.path.isdir(path)]
PYTHON = sorted({*SYSTEM, sys.prefix, os.path.dirname(os.path.realpath(sys.executable)), sys.base_prefix, str(ROOT)})
MEMORY = 256 * 1024 * 1024


def _tool(tool: str, *words: str, **options: Any) -> str:
    done = subprocess.run([tool, *words], capture_output=True, timeout=60, **options)
    assert done.returncode == 0, f"{tool} {words[0]}: {done.stderr.decode(errors='replace')}"
    return done.stdout.decode().strip()


def _why_not(tool: str) -> str:
    """Return why this machine runs no containers with a tool, in the words of the tool, or an empty text."""
    if shutil.which(tool) is None:
        return f"no {tool} on the PATH"
    image = io.BytesIO()
    with tarfile.open(fileobj=image, mode="w") as tar:
        folder = tarfile.TarInfo("tmp")
        folder.type, folder.mode = tarfile.DIRTYPE, 0o1777
        tar.addfile(folder)
    shown = [word for path in SYSTEM for word in ("--volume", f"{path}:{path}:ro")]
    try:
        _tool(tool, "import", "-", IMAGE, input=image.getvalue())
        _tool(tool, "run", "--rm", "--memory", str(MEMORY), *shown, IMAGE, "/usr/bin/true")
    except (AssertionError, subprocess.TimeoutExpired) as error:
        return str(error)
    return ""


@pytest.fixture(scope="module", params=["podman", "docker"])
def tool(request: pytest.FixtureRequest) -> Iterator[str]:
    """A tool that runs containers here. What it does with the gateway's options is what the tests are about."""
    name: str = request.param
    why = _why_not(name)
    if why:
        pytest.skip(f"{name} runs no container here: {why}")
    yield name
    subprocess.run([name, "rmi", "--force", IMAGE], capture_output=True, timeout=60)


@pytest_asyncio.fixture(scope="module")
async def fleet(redis_url: str, tool: str) -> AsyncIterator[Fleet]:
    async with Fleet(redis_url, stdio_max_memory=MEMORY, stdio_max_processes=50) as fleet:
        yield fleet


def _entry(tool: str, *args: str, **sandbox: Any) -> dict[str, Any]:
    shut_in = {"type": tool, "image": IMAGE, **sandbox, "read": [*PYTHON, *sandbox.get("read", ())]}
    env = {"PYTHONDONTWRITEBYTECODE": "1", "TOKEN": "a secret", "PYTHONPATH": str(ROOT)}
    return {"command": sys.executable, "args": list(args), "env": env, "cwd": str(ROOT), "sandbox": shut_in}


def _containers(tool: str) -> list[str]:
    return _tool(tool, "ps", "--all", "--quiet", "--filter", f"ancestor={IMAGE}").split()


async def _look(client: RawClient, arguments: dict[str, Any]) -> dict[str, Any] | None:
    answer = await client.legacy_call("look", arguments)
    return None if "error" in answer.body else json.loads(answer.content)


async def test_a_server_sees_what_is_named_and_takes_no_more_than_it_may(
    fleet: Fleet, tool: str, tmp_path: Path
) -> None:
    secret, named, out = tmp_path / "secret", tmp_path / "named", tmp_path / "out"
    secret.write_text("a secret")
    named.write_text("named")
    out.mkdir(mode=0o777)
    with socket.create_server(("127.0.0.1", 0)) as listener:
        arguments = {"outside": str(secret), "named": str(named), "out": str(out), "port": listener.getsockname()[1]}
        await fleet.register("looks", _entry(tool, "-c", SERVES, read=[str(named)], write=[str(out)]))
        async with RawClient(f"{fleet.url}/servers/looks/mcp") as client:
            seen = await eventually(lambda: _look(client, arguments), 30.0, "the first answer")
            assert seen["outside"] == "FileNotFoundError" and seen["named"] == "named"
            assert seen["spoilt"] == "OSError" and seen["out"] == "written" and (out / "o").read_text() == "written"
            assert seen["connect"] == "ConnectionRefusedError", "of the machine's network nothing is there"
            assert seen["processes"] <= 3 and set(seen["privileges"]) == {"0000000000000000", "1"}
            assert "TOKEN" in seen["environment"] and not {"GATEWAY_SECRET", "USER"} & set(seen["environment"])
            assert len(_containers(tool)) == 1
            assert await _look(client, {**arguments, "fill": MEMORY // 2}), "so the next line says something"
            assert await _look(client, {**arguments, "fill": MEMORY * 4}) is None
            assert await eventually(lambda: _look(client, arguments), 30.0, "another one is started")
    await fleet.store.unregister("looks")
    await eventually(lambda: not _containers(tool), 30.0, "the container is removed with its upstream")


async def test_a_real_server_is_restarted_and_ends_with_a_killed_worker(fleet: Fleet, tool: str) -> None:
    await fleet.register("sdk", _entry(tool, "-m", "tests.servers.sdk", "stdio", "boxed"))
    async with RawClient(f"{fleet.url}/servers/sdk/mcp") as client:

        async def echo() -> bool:
            return (await client.legacy_call("echo", {"text": "x" * 1_000_000})).content == "x" * 1_000_000

        await eventually(echo, 30.0, "it answers")
        first = set(_containers(tool))  # one for all clients, and one of this session's own
        url = f"{fleet.url}/admin/v1/servers/sdk/restart"
        async with aiohttp.ClientSession() as session, session.post(url, json={}) as response:
            assert response.status < 300, await response.text()
        await eventually(lambda: (now := _containers(tool)) and first.isdisjoint(now), 30.0, "other containers")
    worker = fleet.workers[0].process
    assert first and worker is not None
    fleet.signal_worker(worker.pid, signal.SIGKILL)
    await eventually(lambda: not _containers(tool), 30.0, "the container ends with its worker")
