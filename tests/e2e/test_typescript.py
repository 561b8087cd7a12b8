"""The TypeScript SDK's client through two front ends and two workers, on upstreams over all three transports."""

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
from tests.machine import scaled

NODE = Path(__file__).resolve().parents[1] / "node"


@pytest.fixture(scope="module", autouse=True)
def installed() -> None:
    """What ``make node`` installs. Without npm these tests cannot run; in CI that is a failure."""
    if (NODE / "node_modules").exists() and shutil.which("node"):
        return
    if os.environ.get("CI") or shutil.which("npm"):
        pytest.fail("tests/node is not installed: run 'make node'")
    pytest.skip("npm is not on this machine")


@pytest_asyncio.fixture(scope="module")
async def fleet(redis_url: str) -> AsyncIterator[Fleet]:
    async with SdkServer("http", "h") as http, SdkServer("sse", "s") as sse, Fleet(redis_url, 2, 2) as fleet:
        await fleet.register("http", http.connection, connected=False)
        await fleet.register("sse", sse.connection, connected=False)
        await fleet.register("stdio", stdio_connection("c"), connected=False)
        await fleet.connected("http", "sse", "stdio")
        yield fleet


async def run(*arguments: str) -> dict[str, Any]:
    """Run the client; what it saw."""
    process = await asyncio.create_subprocess_exec(
        "node",
        "client.mjs",
        *arguments,
        cwd=NODE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    output, errors = await asyncio.wait_for(process.communicate(), scaled(60))
    assert process.returncode == 0, errors.decode()
    return dict(json.loads(output))


@pytest.mark.parametrize("upstream", ["http", "sse", "stdio"])
@pytest.mark.parametrize("frontend", [0, 1])
@pytest.mark.parametrize("transport", ["http", "sse"])
async def test_typescript_client(fleet: Fleet, transport: str, frontend: int, upstream: str) -> None:
    path = "mcp" if transport == "http" else "sse"
    saw = await run(transport, f"{fleet.frontends[frontend].url}/{path}", upstream)
    # This SDK handles notifications a microtask later than answers: the last progress is lost when both come in one
    # read, with any server. What matters here is that progress arrives, in order, while the call runs.
    assert saw.pop("seen")[:2] == [1, 2]
    assert saw == {
        "server": "mcp-gateway",
        "tools": saw["tools"],
        "echoed": "héllo ✓",
        "sum": "42",
        "failed": True,
        "unknown": -32602,
    }
    assert saw["tools"] > 10
