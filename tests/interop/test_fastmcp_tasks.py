"""A real FastMCP server with tasks and its own client: through two front ends, to one replica and to two, every tool
gives what it gives directly; a client of the handshake era, which knows no tasks, gets the same results.

They run in the environment that ``make tasks-server`` makes, as ``make test`` does; without it they are skipped, though
not in CI.
"""

from __future__ import annotations

import asyncio
import json
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from tests.fleet import Fleet, eventually
from tests.interop.__main__ import free_port
from tests.interop.servers import HERE
from tests.machine import scaled

PYTHON = HERE / ".venv-tasks/bin/python"
PROGRAM = str(HERE / "fastmcp_jobs.py")


@pytest.fixture(scope="module", autouse=True)
def installed() -> None:
    """FastMCP with tasks."""
    if not PYTHON.exists() and not os.environ.get("CI"):
        pytest.skip("FastMCP with tasks is not installed: run 'make tasks-server'")


@asynccontextmanager
async def server(name: str) -> AsyncIterator[str]:
    """One process of the server; its URL."""
    port = free_port()
    process = await asyncio.create_subprocess_exec(
        str(PYTHON), PROGRAM, "server", name, str(port), stderr=asyncio.subprocess.DEVNULL
    )

    async def listens() -> bool:
        try:
            _, writer = await asyncio.open_connection("127.0.0.1", port)
        except OSError:
            return False
        writer.close()
        return True

    try:
        await eventually(listens, 60, f"{name} listens")
        yield f"http://127.0.0.1:{port}/mcp"
    finally:
        process.kill()
        await process.wait()


async def played(prefix: str, *urls: str) -> dict[str, Any]:
    """What the client found."""
    process = await asyncio.create_subprocess_exec(
        str(PYTHON), PROGRAM, "client", prefix, *urls,
        stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
    )  # fmt: skip
    out, err = await asyncio.wait_for(process.communicate(), scaled(100))
    assert process.returncode == 0, err.decode()[-3000:]
    found: dict[str, Any] = json.loads(out)
    return found


@pytest.mark.timeout(300)
async def test_tasks_of_fastmcp_end_as_they_do_directly(redis_url: str) -> None:
    async with server("one") as one, server("two") as two, Fleet(redis_url, frontends=2, workers=2) as fleet:
        directly = await played("", one)
        assert directly["adds followed"] == "50"
        assert directly["cancelled"] == "cancelled"
        for replicas in (1, 2):
            await fleet.register(f"jobs-{replicas}", {"type": "http", "url": (one, two)[replicas - 1]}, name="jobs")
            for _ in range(2):
                assert await played("", *fleet.urls) == directly
            waited = await played("legacy", *fleet.urls)
            assert waited == {name: directly[name] for name in waited}
