"""The official conformance suite against the gateway: with one process of each kind, and with three front ends behind
one port and two workers; its upstream over Streamable HTTP, stdio and HTTP+SSE.

``NOT_CARRIED`` names what an upstream's transport cannot carry, and why; everything else of the suite must pass.
"""

from __future__ import annotations

import asyncio
import json
import os
import re
import shutil
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import pytest_asyncio

from gateway import Gateway
from shared.settings import build
from tests.machine import scaled

ROOT = Path(__file__).resolve().parents[2]
BIN = ROOT / "tests/node/node_modules/.bin"

NOT_CARRIED: dict[str, dict[str, str]] = {
    "http": {},
    "stdio": {},
    "sse": {
        "input-required-result-basic-elicitation": "wants the server's own key, and a legacy server's questions have "
        "none: the gateway's are called elicitation-1 and so on"
    },
}
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


async def run(*arguments: str, cwd: Path | None = None, within_s: float = 60.0) -> tuple[int, str]:
    """Run the suite's command with its own Node."""
    process = await asyncio.create_subprocess_exec(
        str(BIN / "node"), str(BIN / "conformance"), *arguments,
        stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT, cwd=cwd,
    )  # fmt: skip
    output, _ = await asyncio.wait_for(process.communicate(), scaled(within_s))
    return process.returncode or 0, output.decode("utf-8", "replace")


class Fleet(NamedTuple):
    """What the suite is played against."""

    transport: str
    frontends: int
    workers: int

    def __str__(self) -> str:
        return f"{self.transport}-{self.frontends}+{self.workers}"


FLEETS = tuple(Fleet(transport, *size) for transport in ("http", "stdio", "sse") for size in ((3, 2), (1, 1)))
PLAYED = [pytest.param(fleet, version, id=f"{fleet}-{version}") for fleet in FLEETS for version in SCENARIOS]


@pytest_asyncio.fixture(scope="module")
async def upstream_url() -> AsyncIterator[Callable[[str], Awaitable[str]]]:
    """Starts the suite's upstream over ``http`` or ``sse`` when first asked for; where it is."""
    running: dict[str, tuple[asyncio.subprocess.Process, str]] = {}

    async def start(transport: str) -> str:
        if transport not in running:
            upstream = await asyncio.create_subprocess_exec(
                sys.executable, "-m", "tests.conformance.upstream", transport,
                stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.DEVNULL, cwd=ROOT,
            )  # fmt: skip
            assert upstream.stdout is not None
            port = int(await upstream.stdout.readline())
            running[transport] = upstream, f"http://127.0.0.1:{port}{'/mcp' if transport == 'http' else ''}"
        return running[transport][1]

    yield start
    for upstream, _ in running.values():
        upstream.kill()
        await upstream.wait()


@asynccontextmanager
async def gateway_for(fleet: Fleet, upstream_url: Callable[[str], Awaitable[str]]) -> AsyncIterator[str]:
    """A gateway in front of the suite's upstream; its MCP endpoint."""
    chosen = {"port": 0, "frontends": fleet.frontends, "workers": fleet.workers}
    settings = build(overrides={**chosen, "drain_timeout_s": 2.0})  # what a scenario left unanswered is over
    gateway = Gateway(settings=settings)
    connection: dict[str, Any] = {"type": fleet.transport}
    if fleet.transport == "stdio":
        connection |= {"command": sys.executable, "args": ["-m", "tests.conformance.upstream", "stdio"]}
        connection["cwd"] = str(ROOT)
    else:
        connection["url"] = await upstream_url(fleet.transport)
    gateway.register(id="suite", connection=connection)
    await gateway.start(wait_connected_s=scaled(20.0))
    try:
        assert [entry.status for entry in gateway.list()] == ["connected"]
        yield gateway.endpoint.replace("127.0.0.1", "localhost")
    finally:
        await gateway.stop()


def verdicts(text: str) -> dict[str, bool]:
    """Which scenarios of a run were played, and whether nothing of them failed."""
    return {name: mark == "✓" for mark, name in re.findall(r"^([✓✗]) ([a-z0-9-]+): \d+ passed", text, re.MULTILINE)}


def words(folder: Path, scenario: str) -> list[str]:
    """What a scenario found wrong."""
    checks = [one for file in folder.glob(f"server-{scenario}-2*/checks.json") for one in json.loads(file.read_text())]
    return [f"{one['name']}: {one.get('errorMessage')}" for one in checks if one["status"] == "FAILURE"]


@pytest.mark.timeout(240)
@pytest.mark.parametrize(("fleet", "version"), PLAYED)
async def test_the_suite_passes(
    fleet: Fleet, version: str, upstream_url: Callable[[str], Awaitable[str]], tmp_path: Path
) -> None:
    """In one run of its command: a Node for each scenario would take longer to start than the scenario to play."""
    limit_ms = str(round(scaled(30_000)))  # of one scenario; 30 s are the suite's own
    async with gateway_for(fleet, upstream_url) as url:
        chosen = ("--suite", "all", "--spec-version", version)
        _, text = await run("server", "--url", url, *chosen, "--timeout", limit_ms, "-o", str(tmp_path), within_s=200)
    played = verdicts(text)
    assert len(played) == SCENARIOS[version], text[-4000:]
    wrong = [scenario for scenario, passed in played.items() if not passed]
    failed = {scenario: words(tmp_path, scenario) for scenario in wrong if scenario not in NOT_CARRIED[fleet.transport]}
    assert not failed, failed
