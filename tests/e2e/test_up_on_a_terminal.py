"""``gateway up`` in front of a person: what it says, how often, and how it ends."""

from __future__ import annotations

import asyncio
import json
import re
from pathlib import Path

from tests.clients import RawClient
from tests.e2e.test_up import _family, config_entry, run, running, write
from tests.fleet import alive, eventually, stdio_connection
from tests.terminal import CTRL_C, on_terminal


async def test_each_thing_is_said_once(tmp_path: Path) -> None:
    dead = {"url": "http://127.0.0.1:9/mcp"}
    flawed = {"command": "x", "args": ["${NOT_SET_ANYWHERE}"]}
    servers = {"local": config_entry(stdio_connection("once")), "dead": dead, "flawed": flawed}
    config = write(tmp_path / "gateway.json", servers, port=0, reconnectMin=50, reconnectMax=50)
    async with on_terminal("up", "--config", config, "--ephemeral") as terminal:
        await terminal.says(r"local \(local, stdio\): connected")
        await terminal.says(r"dead \(dead, http\): error")
        await terminal.says(r"flawed \(flawed, stdio\): error")
        url = await terminal.says(r"MCP endpoint\s+(http://\S+)/mcp")

        async def tried_again() -> bool:
            """The dead one was tried once more after it was said."""
            code, text = await run("health", "--json", "--url", url)
            return code == 1 and bool(json.loads(text))

        await eventually(tried_again, 20.0, "it is tried")
        terminal.types(CTRL_C)
        await terminal.says("draining: .*Ctrl-C again ends at once")
        assert await terminal.ended() == 0
        await terminal.says("stopped")
        said = [line for line in terminal.output.splitlines() if line.strip()]
        for word in ("local", "dead", "flawed", "127.0.0.1:9", "NOT_SET_ANYWHERE is not set", "draining", "stopped"):
            assert len([line for line in said if word in line]) == 1, terminal.output
        assert not re.search(r"\b(INFO|WARNING)\b", terminal.output), "the log is for what the narration does not say"


async def test_the_log_is_there_for_whoever_asks(tmp_path: Path) -> None:
    config = write(tmp_path / "gateway.json", {"local": config_entry(stdio_connection("once"))}, port=0)
    async with on_terminal("up", "--config", config, GATEWAY_LOG_LEVEL="info") as terminal:
        await terminal.says(r"INFO .* upstream local connected")


async def test_without_a_file_it_says_what_to_do_next() -> None:
    """Its hints work as they stand."""
    async with on_terminal("up", "--port", "0") as terminal:
        url = await terminal.says(r"MCP endpoint\s+(http://\S+)/mcp")
        await terminal.says(rf"gateway servers add files --url {url} -- npx")
        await terminal.says(rf"gateway servers add api http://localhost:3000/mcp --url {url}")
        await terminal.says(rf"claude mcp add --transport http gateway {url}/mcp")
        file = await terminal.says(r"echo '(\{.*\})' > gateway.json\n  gateway up --config gateway.json")
        assert "files" in json.loads(file)["mcpServers"]
        words = await terminal.says(r"gateway (servers add api .*)\n")
        code, text = await run(*words.split())
        assert code == 0 and "registered api" in text


async def test_ctrl_c_again_ends_all_of_it_at_once(tmp_path: Path) -> None:
    servers = {"local": config_entry(stdio_connection("slow"))}
    config = write(tmp_path / "gateway.json", servers, port=0, drainTimeout=600_000)
    async with on_terminal("up", "--config", config) as terminal:
        await terminal.says(r"local \(local, stdio\): connected")
        url = await terminal.says(r"MCP endpoint\s+(http://\S+)/mcp")
        family = _family(terminal.process.pid)
        async with RawClient(f"{url}/mcp") as client:
            call = asyncio.ensure_future(client.call("slow", {"seconds": 600}))

            async def under_way() -> bool:
                async with client.session.get(f"{url}/admin/v1/frontends") as response:
                    return any(int(one["inFlight"]) for one in await response.json())

            await eventually(under_way, 10.0, "the call is under way")
            terminal.types(CTRL_C)
            await terminal.says("draining")
            await asyncio.sleep(0.5)  # the same key press may reach a process twice: only a later one is another one
            assert terminal.process.returncode is None, "the call is waited for"
            terminal.types(CTRL_C)
            assert await terminal.ended(30.0) == 130, "long before the time that calls have"
            await terminal.says("ended at once")
            await asyncio.wait({call})
            call.exception()
        await eventually(lambda: not [pid for pid in family if alive(pid)], 10.0, "nothing is left")


async def test_changed_settings_need_a_restart_which_is_said_once(tmp_path: Path) -> None:
    config = write(tmp_path / "gateway.json", {}, requestTimeout=20_000)
    async with running("--config", config) as (command, _):
        write(config, {}, requestTimeout=10_000, port=4001)
        await command.says(r"gateway.json: requestTimeout changed, which needs a restart")
        await command.says(r"gateway.json: port changed, which needs a stop and a start")
        write(config, {"more": {"url": "http://127.0.0.1:9/mcp"}}, requestTimeout=10_000, port=4001)
        await command.says(r"more \(more, http\): error")
        assert command.output.count("needs a restart") == 1
        write(config, {}, requestTimeout=10_000)
        await eventually(lambda: command.output.count("needs a restart") == 2, 20.0, "it is said again")
        write(config, {}, requestTimeout=20_000)
        await eventually(lambda: command.output.count(" applied: ") == 4, 20.0, "the last one is read")
        assert command.output.count("needs a restart") == 2
