"""``gateway up`` in a folder of files named like our packages, or like those that we use, does not import them."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from tests.clients import RawClient
from tests.fleet import PYTHON, ROOT, eventually, stdio_connection
from tests.machine import scaled
from tests.servers.api import DOCUMENTS

NAMES = ("worker", "shared", "gateway", "redis", "gunicorn", "aiohttp", "uvloop", "msgspec")
GATEWAY = str(Path(sys.executable).parent / "gateway")
TRAP = """
import os
with open(os.environ["TRAPPED"], "a") as note:
    note.write(__name__)
raise SystemExit(f"{__name__} of the user was imported")
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A working folder in which importing the wrong module leaves a note and ends the process."""
    made = tmp_path / "project"
    made.mkdir()
    for name in NAMES:
        (made / f"{name}.py").write_text(TRAP)
    return made


def environment(folder: Path) -> dict[str, str]:
    """What a process that is started in the folder sees."""
    return {"PATH": "/usr/bin:/bin", "HOME": str(folder.parent), "TRAPPED": str(folder.parent / "trapped")}


def trapped(folder: Path) -> str:
    """The modules of the folder that were imported."""
    note = folder.parent / "trapped"
    return note.read_text() if note.exists() else ""


async def test_up_serves_calls_from_a_folder_of_namesakes(folder: Path) -> None:
    servers = {"here": {name: value for name, value in stdio_connection("here").items() if name != "type"}}
    # The document of an HTTP API is read by a process of its own, before it is found that nobody is at its address.
    servers["api"] = {"type": "openapi", "url": "http://127.0.0.1:1", "spec": str(DOCUMENTS / "petstore.yaml")}
    (folder / "gateway.json").write_text(json.dumps({"gateway": {"port": 0}, "mcpServers": servers}))
    process = await asyncio.create_subprocess_exec(
        GATEWAY,
        "up",
        "--config",
        "gateway.json",
        cwd=folder,
        env=environment(folder),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    seen: list[str] = []

    async def read() -> None:
        assert process.stdout is not None
        while line := await process.stdout.readline():
            seen.append(line.decode())

    reading = asyncio.ensure_future(read())
    try:
        await eventually(lambda: any("api" in line and "cannot connect" in line for line in seen), 60.0, "it was read")
        await eventually(lambda: any("connected" in line for line in seen), 60.0, "the upstream is connected")
        found: list[str] = await eventually(
            lambda: [line.split()[-1] for line in seen if line.startswith("MCP endpoint")], 60.0, "it says where it is"
        )
        (url,) = found
        async with RawClient(url) as client:
            listed = (await client.modern("tools/list")).body["result"]["tools"]
            assert listed
    finally:
        process.terminate()
        await process.wait()
        await reading
    assert trapped(folder) == ""
    assert process.returncode == 0, "".join(seen)


def test_a_worker_started_alone_does_not_import_them_either(folder: Path) -> None:
    """Its Redis is not there: that the worker says so means that it is ours."""
    done = subprocess.run(
        [GATEWAY, "worker", "--redis-url", "redis://127.0.0.1:1/0"],
        cwd=folder,
        env=environment(folder),
        capture_output=True,
        text=True,
        timeout=scaled(60),
    )
    assert trapped(folder) == ""
    assert done.returncode == 1 and "Redis does not answer" in done.stderr, done.stderr


def test_the_types_are_shipped(tmp_path: Path) -> None:
    """A wheel says that its packages are typed (PEP 561)."""
    build = [PYTHON, "-m", "pip", "wheel", "--quiet", "--no-deps", "--wheel-dir", str(tmp_path), str(ROOT)]
    subprocess.run(build, check=True, timeout=scaled(120), capture_output=True)
    (wheel,) = tmp_path.glob("*.whl")
    names = zipfile.ZipFile(wheel).namelist()
    assert {"gateway/py.typed", "worker/py.typed", "shared/py.typed"} <= set(names)
