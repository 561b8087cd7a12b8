"""``make run``'s command: four demo upstreams, the gateway, everything ends together."""

from __future__ import annotations

import asyncio
import signal
import sys

from mcp.client.client import Client

from tests.e2e.test_up import ROOT, Command, _family, environment
from tests.fleet import alive, eventually


async def test_the_demo_connects_serves_and_leaves_nothing_behind() -> None:
    process = await asyncio.create_subprocess_exec(
        sys.executable, "deploy/demo/run.py", "--port", "0", cwd=ROOT, env=environment(PYTHONUNBUFFERED="1"),
        stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT,
    )  # fmt: skip
    command = Command(process)
    url = await command.says(r"MCP endpoint\s+(http://\S+)/mcp")
    for upstream in ("search-1", "search-2", "weather", "notes"):
        await command.says(rf"{upstream} \(\w+, \w+\): connected, [1-9]\d* tools?", 30.0)
    async with Client(f"{url}/mcp") as client:
        assert "snow" in (await client.call_tool("get_weather", {"city": "oslo"})).content[0].text
        answers = {(await client.call_tool("search_documents", {"query": "replica"})).content[0].text for _ in range(4)}
        assert len(answers) == 2, "the replicas take turns"
    family = _family(process.pid)
    process.send_signal(signal.SIGTERM)
    assert await command.ended(30.0) == 0
    await eventually(lambda: not [pid for pid in family if alive(pid)], 5.0, "everything ended")
