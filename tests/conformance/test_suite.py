"""The official conformance suite against the gateway: three front ends behind one port, two workers, one upstream.

``OPEN`` names what does not pass yet, and why; everything else of the suite must pass.
"""

from __future__ import annotations

import asyncio
import os
import re
import shutil
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio

from gateway import Gateway

ROOT = Path(__file__).resolve().parents[2]
BIN = ROOT / "tests/node/node_modules/.bin"

OPEN: dict[str, str] = {}
SCENARIOS = {"2025-11-25": 33, "2026-07-28": 40, "2025-06-18": 27, "2025-03-26": 1}
"""How many scenarios the suite has for each protocol version."""


@pytest.fixture(scope="module", autouse=True)
def installed() -> None:
    """What ``make node`` installs. Without npm these tests cannot run; in CI that is a failure."""
    if (BIN / "conformance").exists():
        return
    if os.environ.get("CI") or shutil.which("npm"):
        pytest.fail("tests/node is not installed: run 'make node'")
    pytest.skip("npm is not on this machine")


async def run(*arguments: str) -> tuple[int, str]:
    """Run the suite's command with its own Node."""
    process = await asyncio.create_subprocess_exec(
        str(BIN / "node"), str(BIN / "conformance"), *arguments,
        stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT,
    )  # fmt: skip
    output, _ = await asyncio.wait_for(process.communicate(), 60)
    return process.returncode or 0, output.decode("utf-8", "replace")


@pytest_asyncio.fixture(scope="module")
async def url() -> AsyncIterator[str]:
    upstream = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "tests.conformance.upstream", "http",
        stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.DEVNULL, cwd=ROOT,
    )  # fmt: skip
    assert upstream.stdout is not None
    port = int(await upstream.stdout.readline())
    gateway = Gateway(port=0, frontends=3, workers=2)
    gateway.register(id="suite", connection={"type": "http", "url": f"http://127.0.0.1:{port}/mcp"})
    await gateway.start(wait_connected_s=20.0)
    try:
        assert [entry.status for entry in gateway.list()] == ["connected"]
        yield gateway.endpoint.replace("127.0.0.1", "localhost")
    finally:
        await gateway.stop()
        upstream.kill()
        await upstream.wait()


@pytest.mark.parametrize("version", SCENARIOS)
async def test_the_suite_passes(url: str, version: str, tmp_path: Path) -> None:
    _, listing = await run("list", "--server", "--spec-version", version)
    scenarios = re.findall(r"^  - ([a-z0-9-]+)", listing, re.MULTILINE)
    assert len(scenarios) == SCENARIOS[version]
    failed: dict[str, str] = {}
    for scenario in scenarios:
        if scenario in OPEN:
            continue
        code, text = await run(
            "server", "--url", url, "--scenario", scenario, "--spec-version", version, "-o", str(tmp_path)
        )
        if code:
            failed[scenario] = "\n".join(re.findall(r"^.*(?:Error:|FAILURE|  - ).*$", text, re.MULTILINE))[:600]
    assert not failed, failed
