"""Clients of the Go SDK and of FastMCP list, call, are asked and lend their model through two front ends and two
workers, to upstreams over HTTP and stdio.

The Go client is built once. Without Go on the machine its tests are skipped; FastMCP is what ``make tasks-server``
installs, without which they are skipped, though not in CI.
"""

from __future__ import annotations

import asyncio
import json
import os
import shutil
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from tests.fleet import Fleet, SdkServer, stdio_connection
from tests.interop.servers import HERE
from tests.machine import scaled

FASTMCP = HERE / ".venv-tasks/bin/python"
SAW = {
    "echoed": "héllo ✓",
    "failed": True,
    "asked": "accept: blue",
    "sampled": "model said hello",
    "progress": [1, 2, 3],
    "unknown": -32602,
}


@pytest_asyncio.fixture(scope="module")
async def fleet(redis_url: str) -> AsyncIterator[Fleet]:
    async with SdkServer("http", "h") as http, Fleet(redis_url, 2, 2) as fleet:
        for name, connection in (("http", http.connection), ("stdio", stdio_connection("c"))):
            await fleet.register(name, connection, connected=False, era="legacy")  # whose tools ask during a call
        await fleet.connected("http", "stdio")
        yield fleet


async def _output(*program: str, cwd: Path | None = None, within_s: float = 60.0) -> bytes:
    process = await asyncio.create_subprocess_exec(
        *program, cwd=cwd, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE
    )
    try:
        output, errors = await asyncio.wait_for(process.communicate(), scaled(within_s))
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    assert process.returncode == 0, errors.decode()
    return output


@pytest_asyncio.fixture(scope="module")
async def go_client(tmp_path_factory: pytest.TempPathFactory) -> str:
    if not shutil.which("go"):
        pytest.skip("Go is not on this machine")
    program = str(tmp_path_factory.mktemp("go") / "client")
    await _output("go", "build", "-mod=readonly", "-o", program, ".", cwd=HERE / "go_client", within_s=240.0)
    return program


async def _saw(fleet: Fleet, frontend: int, transport: str, version: str, prefix: str, *program: str) -> dict[str, Any]:
    path = "sse" if transport == "sse" else "mcp"
    url = f"{fleet.frontends[frontend].url}/{path}"
    saw = json.loads(await _output(*program, transport, version, url, prefix))
    assert saw.pop("tools") > 10
    return dict(saw)


@pytest.mark.parametrize(("transport", "version"), [("http", "latest"), ("http", "2025-06-18"), ("sse", "2024-11-05")])
@pytest.mark.parametrize(("frontend", "upstream"), [(0, "http"), (1, "stdio")])
async def test_the_go_sdk(
    fleet: Fleet, go_client: str, transport: str, version: str, frontend: int, upstream: str
) -> None:
    saw = await _saw(fleet, frontend, transport, version, upstream, go_client)
    assert saw.pop("version") == ("2026-07-28" if version == "latest" else version)
    assert saw == SAW


@pytest.mark.parametrize("transport", ["http", "sse"])
@pytest.mark.parametrize(("frontend", "upstream"), [(0, "http"), (1, "stdio")])
async def test_fastmcp(fleet: Fleet, transport: str, frontend: int, upstream: str) -> None:
    if not FASTMCP.exists() and not os.environ.get("CI"):
        pytest.skip("FastMCP is not installed: run 'make tasks-server'")
    program = str(FASTMCP), str(HERE / "fastmcp_caller.py")
    assert await _saw(fleet, frontend, transport, "latest", upstream, *program) == SAW
