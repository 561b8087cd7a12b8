"""What ``gateway up`` keeps between two runs, and what it refuses."""

from __future__ import annotations

import json
import os
import signal
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from gateway import Gateway
from shared.errors import EntryExists
from tests.clients import RawClient
from tests.e2e.test_up import _family, config_entry, run, running, write
from tests.fleet import alive, eventually, stdio_connection
from tests.servers.raw import RawUpstreams


async def _ids(url: str) -> list[str]:
    async with aiohttp.ClientSession() as session, session.get(f"{url}/admin/v1/servers") as response:
        return [one["id"] for one in await response.json()]


async def _count(url: str, kind: str) -> int:
    async with aiohttp.ClientSession() as session, session.get(f"{url}/admin/v1/{kind}") as response:
        return len(await response.json())


@pytest.mark.parametrize("ends", [signal.SIGTERM, signal.SIGKILL])
async def test_registrations_and_sessions_survive_a_restart(tmp_path: Path, ends: signal.Signals) -> None:
    async with RawUpstreams() as upstreams:
        for name in ("filed", "gone", "added"):
            upstreams.add(name, [{"name": f"{name}_who", "inputSchema": {"type": "object"}}])
        filed = {name: config_entry(upstreams.connection(name)) for name in ("filed", "gone")}
        config = write(tmp_path / "gateway.json", filed)
        address = upstreams.connection("added")["url"]
        async with running("--config", config) as (command, url), RawClient(f"{url}/mcp") as client:
            await command.says(r"gone \(gone, http\): connected")
            code, text = await run("servers", "add", "added", address, "--url", url)
            assert code == 0, text
            await command.says(r"added \(added, http\): connected")
            await client.initialize()
            assert (await client.legacy_call("added_who")).content == "added"
            session = client.sid
            family = _family(command.process.pid)
            command.process.send_signal(ends)
            await command.ended(30.0)
        write(config, {"filed": filed["filed"]})
        async with running("--config", config) as (command, url), RawClient(f"{url}/mcp") as client:
            assert await _count(url, "workers") == await _count(url, "frontends") == 1, (
                "those of the earlier run are not"
            )
            assert await _ids(url) == ["filed", "added"], "in the order of their registration"
            assert not re_said(command.output, "gone")
            await command.says(r"added \(added, http\): connected")
            client.sid = session
            assert (await client.legacy_call("added_who")).content == "added", "the session goes on"
        await eventually(lambda: not [pid for pid in family if alive(pid)], 15.0, "the first one has ended")


def re_said(output: str, word: str) -> bool:
    return any(line.strip().startswith(word) for line in output.splitlines())


async def test_an_ephemeral_gateway_keeps_nothing(tmp_path: Path) -> None:
    config = write(tmp_path / "gateway.json", {})
    for _ in range(2):
        async with running("--config", config, "--ephemeral", XDG_STATE_HOME=str(tmp_path / "state")) as (command, url):
            assert await _ids(url) == []
            await command.says("nothing is kept for the next start")
            code, text = await run("servers", "add", "there", "http://127.0.0.1:9/mcp", "--url", url)
            assert code == 0, text
            assert await _ids(url) == ["there"]
    assert not (tmp_path / "state").exists()


async def test_a_setting_names_the_place_and_what_a_file_declared_goes_with_it(tmp_path: Path) -> None:
    """Without a file nothing is declared any more."""
    state = tmp_path / "kept"
    config = write(tmp_path / "gateway.json", {"declared": {"url": "http://127.0.0.1:9/mcp"}}, stateDir=str(state))
    async with running("--config", config) as (_, url):
        assert await _ids(url) == ["declared"]
    assert state.stat().st_mode & 0o777 == 0o700
    async with running("--state-dir", state) as (command, url):
        await command.says(rf"State\s+{state}")
        assert await _ids(url) == []


async def test_a_second_gateway_on_the_same_state_is_refused(tmp_path: Path) -> None:
    config = write(tmp_path / "gateway.json", {})
    async with running("--config", config) as (command, _):
        code, text = await run("up", "--config", str(config), "--port", "0")
        assert code == 1 and text.count("\n") == 1
        assert f"another gateway (pid {command.process.pid}) uses the state directory" in text and "--ephemeral" in text
        async with running("--config", config, "--ephemeral") as (_, url):
            assert await _ids(url) == []


async def test_a_damaged_state_is_said_and_left_as_it_is(tmp_path: Path) -> None:
    state = tmp_path / "state"
    async with running("--state-dir", state):
        pass
    files = [path for path in state.rglob("*") if path.is_file() and path.suffix in (".aof", ".rdb")]
    assert files
    for path in files:
        path.write_bytes(b"this is no such file" * 10)
    code, text = await run("up", "--port", "0", "--state-dir", str(state))
    assert code == 1 and f"what was kept in {state} cannot be read, and was not changed" in text
    assert f"mv {state} {state}.damaged" in text and text.count("\n") == 1
    assert all(path.read_bytes() == b"this is no such file" * 10 for path in files)
    os.rename(state, f"{state}.damaged")
    async with running("--state-dir", state) as (_, url):
        assert await _ids(url) == []


async def test_a_redis_that_dies_is_replaced_with_what_it_knew(tmp_path: Path) -> None:
    async with running("--config", write(tmp_path / "gateway.json", {})) as (command, url):
        socket = await command.says(r"redis-cli -s (\S+)")
        code, text = await run("servers", "add", "before", "http://127.0.0.1:9/mcp", "--url", url)
        assert code == 0, text
        (redis,) = [pid for pid in _family(command.process.pid) if socket in _line(pid)]
        os.kill(redis, signal.SIGKILL)
        await command.says("redis-server ended; starting another")

        async def registers() -> bool:
            code, _ = await run("servers", "add", "after", "http://127.0.0.1:9/mcp", "--url", url)
            return code == 0 or "after" in await _ids(url)

        await eventually(registers, 20.0, "it takes registrations again")
        assert await _ids(url) == ["before", "after"]


async def test_a_python_program_says_again_what_it_registers(tmp_path: Path) -> None:
    """At its next start that is no conflict; what was registered from elsewhere is there too."""
    async with RawUpstreams() as upstreams:
        for name in ("own", "other"):
            upstreams.add(name, [{"name": f"{name}_who", "inputSchema": {"type": "object"}}])
        for weight in (1, 2):
            program = Gateway(port=0, state_dir=tmp_path / "state")
            handle = program.register(id="own", connection=upstreams.connection("own"), weight=weight)
            await program.start()
            try:
                await handle
                assert program.get("own").weight == weight
                if weight == 1:
                    await program.register(id="other", connection=upstreams.connection("other"))
                    with pytest.raises(EntryExists):
                        program.register(id="own", connection=upstreams.connection("own"))
                assert [entry.id for entry in program.list()] == ["own", "other"]
            finally:
                await program.stop()
    nothing = Gateway(port=0)
    assert nothing.state_dir == ""


def _line(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/cmdline").read_text()
    except OSError:
        return ""


async def test_a_stdio_server_that_left_the_file_is_not_started_again(tmp_path: Path) -> None:
    config = write(tmp_path / "gateway.json", {})
    started = tmp_path / "started"
    leaves: dict[str, Any] = {"command": "/bin/sh", "args": ["-c", f"echo x >> {started}; exec cat"]}
    config.write_text(json.dumps({"mcpServers": {"leaves": leaves}}))
    async with running("--config", config):
        await eventually(started.exists, 15.0, "it runs")
    write(config, {"stays": config_entry(stdio_connection("stays"))})
    before = started.read_text()
    async with running("--config", config) as (command, _):
        await command.says(r"stays \(stays, stdio\): connected")
    assert started.read_text() == before
