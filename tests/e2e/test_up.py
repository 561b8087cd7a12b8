"""``gateway up`` and the other commands, as users run them."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import re
import signal
import socket
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from shared.registry.members import Members
from shared.registry.store import RegistryStore
from shared.settings import RegistrySettings
from tests.clients import RawClient
from tests.fleet import PYTHON, SdkServer, alive, eventually, script_connection, stdio_connection
from tests.machine import scaled
from tests.servers.scripted import Scripted

ROOT = Path(__file__).resolve().parents[2]


class Command:
    """A running ``gateway`` command; its output is read as it comes."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self.process = process
        self.output = ""
        self._reader = asyncio.ensure_future(self._read())

    async def _read(self) -> None:
        assert self.process.stdout is not None
        while chunk := await self.process.stdout.read(4096):
            self.output += chunk.decode()

    async def says(self, pattern: str, within_s: float = 20.0) -> str:
        """Wait for a line; its first group."""
        await eventually(
            lambda: re.search(pattern, self.output) or self.process.returncode is not None,
            within_s,
            f"{pattern!r}",
        )
        found = re.search(pattern, self.output)
        assert found, self.output
        return found.group(found.lastindex or 0)

    async def ended(self, within_s: float = 20.0) -> int:
        """Its exit code."""
        code = await asyncio.wait_for(self.process.wait(), scaled(within_s))
        await self._reader
        return code


def environment(**extra: str) -> dict[str, str]:
    """Ours without ``GATEWAY_*``."""
    return {**{name: value for name, value in os.environ.items() if not name.startswith("GATEWAY_")}, **extra}


async def gateway(*arguments: str, **extra: str) -> Command:
    """Start ``gateway ARGUMENTS``."""
    return Command(
        await asyncio.create_subprocess_exec(
            PYTHON, "-m", "gateway", *arguments, cwd=ROOT, env=environment(PYTHONUNBUFFERED="1", **extra),
            stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT,
        )
    )  # fmt: skip


async def run(*arguments: str, **extra: str) -> tuple[int, str]:
    """Run ``gateway ARGUMENTS`` to its end: exit code and output."""
    command = await gateway(*arguments, **extra)
    return await command.ended(60.0), command.output


@asynccontextmanager
async def running(*arguments: str | Path, name: str = "up", **extra: str) -> AsyncIterator[tuple[Command, str]]:
    """``gateway up`` (or ``name``) on a free port; its URL."""
    command = await gateway(name, "--port", "0", *map(str, arguments), **extra)
    try:
        yield command, (await command.says(r"MCP endpoint\s+(https?://\S+)/mcp"))
    finally:
        if command.process.returncode is None:
            command.process.terminate()
            await command.ended(30.0)


def write(path: Path, servers: dict[str, Any], **settings: Any) -> Path:
    """A configuration file."""
    path.write_text(json.dumps({"gateway": settings, "mcpServers": servers}))
    return path


def config_entry(connection: dict[str, Any], **options: Any) -> dict[str, Any]:
    return {**connection, **options}


async def _commands_work(command: Command, url: str) -> None:
    """What people type first, at a gateway with the servers ``web`` and ``local``."""
    code, text = await run("servers", GATEWAY_URL=url)
    assert code == 0 and "web" in text and "connected" in text
    code, text = await run("tools", "--json", "--url", url)
    assert code == 0 and {"echo", "local__echo"} <= {tool["name"] for tool in json.loads(text)}
    code, text = await run("call", "echo", '{"text": "through"}', "--url", url)
    assert (code, text.strip()) == (0, "through")
    code, text = await run("call", "ecko", "--url", url)
    assert code == 1 and "unknown tool 'ecko' (close: echo)" in text
    code, text = await run("call", "echo", "{not json", "--url", url)
    assert code == 2 and "not JSON" in text
    code, text = await run("explain", "echo", "--url", url)
    assert code == 0 and "it is the only available replica" in text
    code, text = await run("status", "--url", url)
    assert code == 0 and "FRONT END" in text and "WORKER" in text
    code, text = await run("health", "--url", url)
    assert code == 0 and "yes" in text
    third = (sys.executable, "-m", "tests.servers.sdk", "stdio", "third")
    code, text = await run("servers", "add", "third", "--url", url, "--", *third)
    assert code == 0, text
    await command.says(r"third \(third, stdio\): connected")
    code, text = await run("servers", "show", "third", "--url", url)
    assert code == 0 and "connected" in text and "echo" in text
    code, text = await run("servers", "remove", "third", "--url", url)
    assert code == 0
    await command.says(r"third: removed")
    code, text = await run("servers", "--url", url, "remove", "third")
    assert code == 1 and "no upstream 'third'" in text

    code, text = await run("servers", "show", "web", "--url", url)
    assert code == 0 and "health.latencyMs" in text and "health.checkedAt" in text


async def _pages_are_served(client: RawClient, url: str) -> None:
    async with client.session.get(f"{url}/metrics") as response:
        text = await response.text()
        assert 'gateway_calls_total{group="' in text and "gateway_upstream_up" in text
    async with client.session.get(f"{url}/admin/v1/openapi.json") as response:
        described = await response.json()
        assert "/admin/v1/servers/{id}" in described["paths"] and "ServerEntry" in described["components"]["schemas"]
    for path in ("/healthz", "/readyz"):
        async with client.session.get(url + path) as response:
            assert response.status == 200


async def test_up_serves_shows_follows_its_file_and_leaves_nothing_behind(tmp_path: Path) -> None:
    async with SdkServer("http", "one") as server:
        config = write(
            tmp_path / "gateway.json",
            {"web": config_entry(server.connection), "local": config_entry(stdio_connection("two"))},
        )
        async with running("--config", config, "--workers", "2") as (command, url):
            await command.says(r"web \(web, http\): connected, \d+ tools")
            await command.says(r"local \(local, stdio\): connected, \d+ tools")
            assert "Add it to a client" in command.output
            async with RawClient(f"{url}/mcp") as client:
                child = int((await client.call("local__who")).content.split(":")[1])
                redis = await command.says(r"redis-cli -s (\S+)")

                await _commands_work(command, url)
                write(config, {"web": config_entry(server.connection, name="renamed")})
                await command.says(r"web \(renamed, http\): connected")
                await eventually(lambda: not alive(child), 10.0, "the child left with its entry")
                config.write_text('{"gateway": {"prot": 1}, "mcpServers": {}}')
                await command.says(r"old configuration stays.*gateway.prot: unknown setting \(did you mean 'port'\?\)")
                assert "result" in (await client.call("renamed__echo", {"text": "x"})).body

                await _pages_are_served(client, url)
            pids = _family(command.process.pid)
        assert command.process.returncode == 0
        assert not [pid for pid in pids if alive(pid)] and not Path(redis).exists()


def _family(pid: int) -> list[int]:
    """A process and its descendants."""
    found, queue = [], [pid]
    while queue:
        current = queue.pop()
        found.append(current)
        for task in Path(f"/proc/{current}/task").glob("*/children") if alive(current) else ():
            with contextlib.suppress(OSError):
                queue += [int(child) for child in task.read_text().split()]
    return found


async def test_killing_the_supervisor_leaves_nothing_behind(tmp_path: Path) -> None:
    config = write(tmp_path / "gateway.json", {"local": config_entry(stdio_connection("orphan"))})
    command = await gateway("up", "--config", str(config), "--port", "0", "--workers", "2")
    await command.says(r"local \(local, stdio\): connected")
    family = _family(command.process.pid)
    assert len(family) >= 6  # supervisor, redis, gunicorn, front end, two workers with reapers, the child
    command.process.kill()
    await command.process.wait()
    await eventually(lambda: not [pid for pid in family if alive(pid)], 15.0, "everything ends with its supervisor")


async def test_a_killed_worker_or_front_end_is_replaced_and_status_shows_it(tmp_path: Path) -> None:
    config = write(tmp_path / "gateway.json", {"local": config_entry(stdio_connection("replaced"))})
    async with running("--config", config, "--workers", "1") as (command, url), RawClient(f"{url}/mcp") as client:
        await command.says(r"local \(local, stdio\): connected")

        async def pids(kind: str) -> set[str]:
            async with client.session.get(f"{url}/admin/v1/{kind}") as response:
                return {one["pid"] for one in await response.json()}

        for kind in ("workers", "frontends"):
            (before,) = await pids(kind)
            os.kill(int(before), signal.SIGKILL)

            async def replaced(kind: str = kind, before: str = before) -> bool:
                with contextlib.suppress(OSError, Exception):
                    now = await pids(kind)
                    return bool(now - {before})
                return False

            await eventually(replaced, 20.0, f"{kind} replaced")
        await eventually(lambda: _serves(client), 15.0, "it serves again")
        code, text = await run("status", "--url", url)
        assert code == 0 and re.search(r"PROCESS\s+REPLACED", text) and re.search(r"worker\S*\s+1\b", text), text


@pytest.mark.parametrize(("seconds", "drain_ms", "finishes"), [(2, 10_000, True), (60, 1_000, False)])
async def test_sigterm_finishes_running_calls_for_a_bounded_time(
    tmp_path: Path, seconds: int, drain_ms: int, finishes: bool
) -> None:
    servers = {"local": config_entry(stdio_connection("drained"))}
    config = write(tmp_path / "gateway.json", servers, drainTimeout=drain_ms)
    async with running("--config", config) as (command, url), RawClient(f"{url}/mcp") as client:
        await command.says(r"local \(local, stdio\): connected")
        call = asyncio.ensure_future(client.call("slow", {"seconds": seconds}))

        async def under_way() -> bool:
            async with client.session.get(f"{url}/admin/v1/frontends") as response:
                return any(int(one["inFlight"]) for one in await response.json())

        await eventually(under_way, 10.0, "the call is under way")
        command.process.terminate()
        if finishes:
            assert (await call).content == "drained done"
        assert await command.ended(20.0) == 0
        if not finishes:
            with contextlib.suppress(aiohttp.ClientError):
                assert "error" in (await call).body


async def _serves(client: RawClient) -> bool:
    with contextlib.suppress(Exception):
        return "result" in (await client.call("echo", {"text": "x"})).body
    return False


async def test_sighup_reads_the_file_that_is_there_now(tmp_path: Path) -> None:
    """A release that is switched by a link further up changes nothing in the folder that is watched."""
    async with Scripted("one", "modern") as one, Scripted("two", "modern") as two:
        for upstream in (one, two):
            (tmp_path / upstream.name).mkdir()
            write(tmp_path / upstream.name / "gateway.json", {upstream.name: upstream.connection})
        (tmp_path / "current").symlink_to(tmp_path / "one")
        async with running("--config", tmp_path / "current" / "gateway.json") as (command, url):
            await command.says(r"one \(one, http\): connected")
            (tmp_path / "next").symlink_to(tmp_path / "two")
            os.replace(tmp_path / "next", tmp_path / "current")
            await asyncio.sleep(0.7)  # longer than a change that is seen takes
            assert "two" not in command.output
            command.process.send_signal(signal.SIGHUP)
            await command.says(r"two \(two, http\): connected")
            async with RawClient(f"{url}/mcp") as client:
                await eventually(lambda: _tools(client, {"two"}), 5.0, "what left the file is gone")


async def test_sighup_ends_no_front_end_service(tmp_path: Path, redis_url: str) -> None:
    """``serve`` reads its file again too, and without one it goes on."""
    options = ("--redis-url", redis_url)
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        write(tmp_path / name / "gateway.json", {name: {"command": "true"}})
    current = tmp_path / "current"
    current.symlink_to(tmp_path / "one")
    async with (
        running(*options, name="serve", GATEWAY_KEY_PREFIX="hup-bare:") as (bare, _),
        running("--config", current / "gateway.json", *options, name="serve", GATEWAY_KEY_PREFIX="hup:") as (file, url),
    ):
        await eventually(lambda: _servers(url, ["one"]), 10.0, "its file is read")
        (tmp_path / "next").symlink_to(tmp_path / "two")
        os.replace(tmp_path / "next", current)
        for command in (bare, file):
            command.process.send_signal(signal.SIGHUP)
        await eventually(lambda: _servers(url, ["two"]), 10.0, "its file is read again")
        assert bare.process.returncode is None
        bare.process.terminate()
        assert await bare.ended() == 0


async def test_a_worker_whose_terminal_goes_away_drains(redis_url: str) -> None:
    """Its heartbeats, which are as frequent as can be here, write no record any more when it has left."""
    store = RegistryStore(RegistrySettings(redis_url=redis_url, key_prefix="hup-worker:"))
    environment = {"GATEWAY_KEY_PREFIX": "hup-worker:", "GATEWAY_HEARTBEAT": "2"}
    worker = await gateway("worker", "--redis-url", redis_url, **environment)
    try:
        members = Members(store, "worker", 5.0)
        await eventually(members.alive, 20.0, "it has joined")
        worker.process.send_signal(signal.SIGHUP)
        assert await worker.ended() == 0 and not await members.alive()
    finally:
        if worker.process.returncode is None:
            worker.process.kill()
            await worker.ended()
        await store.close()


async def _servers(url: str, wanted: list[str]) -> bool:
    async with aiohttp.ClientSession() as session, session.get(f"{url}/admin/v1/servers") as response:
        return [server["id"] for server in await response.json()] == wanted


async def _tools(client: RawClient, wanted: set[str]) -> bool:
    return {tool["name"] for tool in (await client.modern("tools/list")).body["result"]["tools"]} == wanted


async def test_a_port_in_use_is_said_at_once(tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        code, text = await run("up", "--port", str(port))
    assert code == 1 and f"cannot listen on 127.0.0.1:{port}" in text and "--port" in text


async def test_an_unreachable_redis_is_said_at_once() -> None:
    code, text = await run("up", "--port", "0", "--redis-url", "redis://127.0.0.1:1")
    assert code == 1 and "cannot reach Redis at redis://127.0.0.1:1" in text


async def test_a_failure_to_start_stops_everything_with_the_reason() -> None:
    code, text = await run("up", "--port", "0", GATEWAY_RPC_BIND="203.0.113.1:99999")
    assert code == 1 and "worker 1 could not start" in text


async def test_a_directory_for_sockets_that_cannot_be_used_is_named(tmp_path: Path) -> None:
    nowhere = tmp_path / "nowhere"
    code, text = await run("up", "--port", "0", GATEWAY_RUN_DIR=str(nowhere))
    assert code == 1 and f"the directory {nowhere} cannot be used for sockets (No such file" in text
    assert "GATEWAY_RUN_DIR" in text and "Traceback" not in text


async def test_listening_beyond_loopback_needs_a_token() -> None:
    code, text = await run("up", "--port", "0", "--host", "0.0.0.0")
    assert code == 2 and "GATEWAY_ADMIN_TOKEN" in text


async def test_commands_without_a_gateway_say_how_to_start_one() -> None:
    code, text = await run("servers", "--url", "http://127.0.0.1:9")
    assert code == 1 and "gateway up" in text


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ('{"mcpServers": {"a": {"url": "${NOT_SET_ANYWHERE}"}}}', "NOT_SET_ANYWHERE is not set"),
        ('{"mcpServers": {"a": {"url": "http://x"}, "a": {"url": "http://y"}}}', "duplicate key 'a'"),
        ('{"gateway": {"prot": 1}}', "gateway.prot: unknown setting (did you mean 'port'?)"),
        ('{"gateway": {"requestTimeout": "soon"}}', "gateway.requestTimeout"),
        ("{", "not valid JSON"),
    ],
)
async def test_check_names_every_problem(tmp_path: Path, text: str, words: str) -> None:
    file = tmp_path / "bad.json"
    file.write_text(text)
    code, output = await run("check", "--strict", str(file))
    assert code == 2 and words in output


async def test_check_names_what_would_not_run_and_what_has_no_effect(tmp_path: Path) -> None:
    file = tmp_path / "mcp.json"
    entries = {"good one": {"command": "x", "tools": ["a"], "weigth": 2}, "asks": {"url": "${input:k}"}}
    file.write_text(json.dumps({"servers": {**entries, "off": {"command": "x", "disabled": True}}}))
    code, output = await run("check", str(file))
    assert code == 0
    for line in (
        "would run without 1 of its entries: 1 upstream in 1 group",
        "good one (good one, stdio), only tools: a",
        "asks: error: url: ${input:k} asks a person, and a gateway has none: set the environment variable "
        "GATEWAY_INPUT_K",
        "left out: servers.off: disabled is true",
        "warning: servers.good one.weigth: unknown key (did you mean 'weight'?)",
    ):
        assert line in output


async def test_a_flaw_costs_its_entry_and_tools_that_are_shut_off_do_not_exist(tmp_path: Path) -> None:
    """The file is watched as ever: an entry that is mended runs, one that breaks stops, and the others stay."""
    file = write(tmp_path / "gateway.json", {})

    def put(**more: Any) -> None:
        entries = {"Azure MCP Server": {**config_entry(stdio_connection("tools")), "excludeTools": ["crash"]}, **more}
        file.write_text("// mine\n" + json.dumps({"mcpServers": entries}))

    put(waits={"command": PYTHON, "args": ["${NOT_SET_ANYWHERE}"]})
    async with running("--config", file) as (command, url):
        await command.says(r"Azure MCP Server \(.*\): connected")
        await command.says(r"waits \(waits, stdio\): error: args\[0\]: environment variable NOT_SET_ANYWHERE")
        await command.says(r"gateway.json: mcpServers.waits.args\[0\]: environment variable NOT_SET_ANYWHERE")
        code, output = await run("servers", "show", "Azure MCP Server", "--url", url)
        assert code == 0 and "echo" in output.partition("TOOL ")[2] and "crash" not in output.partition("TOOL ")[2]
        code, output = await run("tools", "--server", "Azure MCP Server", "--url", url)
        assert code == 0 and "echo" in output
        code, output = await run("servers", "list", "--url", url)
        assert code == 0 and re.search(r"waits .* error .*NOT_SET_ANYWHERE is not set", output)
        code, output = await run("call", "crash", "--url", url)
        assert code == 1 and "unknown tool 'crash'" in output
        put(waits=config_entry(stdio_connection("tools")))
        await command.says(r"waits \(waits, stdio\): connected")
        put(waits={"command": PYTHON, "cwd": "${NOT_SET_ANYWHERE}"})
        await command.says(r"waits \(waits, stdio\): error: cwd")


async def test_what_is_registered_can_be_replaced_and_json_has_types(tmp_path: Path) -> None:
    """Over the admin API (a URL), and through Redis (a command); of either kind by the other."""
    async with Scripted("one", "modern") as one, Scripted("two", "modern") as two:
        declared = write(tmp_path / "gateway.json", {"declared": {"url": "http://127.0.0.1:9/mcp"}})
        async with running("--config", declared) as (command, url):
            where = ("--url", url)
            code, text = await run("servers", "add", "x", one.connection["url"], "--set", "maxPending=7", *where)
            assert code == 0, text
            await command.says(r"x \(x, http\): connected")
            code, text = await run("servers", "add", "x", two.connection["url"], *where)
            assert code == 1 and "registered already" in text and "--replace" in text
            options = ("--replace", "--name", "group", "--weight", "2", "--metadata", "a=b", "--include-tool", "two")
            code, text = await run("servers", "add", "x", two.connection["url"], *options, *where)
            assert (code, text) == (0, "replaced x (group, http)\n")
            await command.says(r"x \(group, http\): connected")
            code, text = await run("servers", "show", "x", "--json", *where)
            shown = json.loads(text)
            assert code == 0 and (shown["weight"], shown["metadata"], shown["settings"]) == (2, {"a": "b"}, {})
            assert [tool["name"] for tool in shown["tools"]] == ["two"] and shown["source"] == "api"
            code, text = await run("servers", "add", "x", "--replace", *where, "--", *_server("three"))
            assert (code, text) == (0, "replaced x (x, stdio)\n")
            await command.says(r"x \(x, stdio\): connected")
            code, text = await run("servers", "remove", "declared", *where)
            assert code == 1 and "declared by the gateway's configuration file" in text and "--force" in text
            assert (await run("servers", "show", "declared", *where))[0] == 0, "it is still there"
            assert await run("servers", "remove", "declared", "--force", *where) == (0, "removed declared\n")
            assert await run("servers", "remove", "x", *where) == (0, "removed x\n")

            code, text = await run("status", "--json", *where)
            status = json.loads(text)
            (front,), (worker,) = status["frontends"], status["workers"]
            assert isinstance(front["pid"], int) and front["pid"] != worker["pid"] > 1
            assert {type(front[name]) for name in ("calls", "inFlight", "streams", "retries", "workers")} == {int}
            assert isinstance(front["startedAt"], float) and front["failures"] == {} and front["workers"] == 1
            assert worker["draining"] is False and worker["address"].startswith("unix:") and worker["load"] == 0
            assert not [name for one in (front, worker) for name in one if "_" in name]


def _server(name: str) -> list[str]:
    """A command that is an SDK server."""
    code = f"import sys; sys.path.insert(0, {str(ROOT)!r}); from tests.servers.sdk import make; make({name!r}).run()"
    return [PYTHON, "-c", code]


async def test_check_accepts_the_demo_and_help_works() -> None:
    code, output = await run("check", "deploy/demo/gateway.yaml")
    assert code == 0 and "4 upstreams in 3 groups" in output
    for command in (
        "up",
        "serve",
        "worker",
        "servers",
        "tools",
        "call",
        "read",
        "prompt",
        "status",
        "health",
        "explain",
        "check",
    ):
        code, output = await run(command, "--help")
        assert code == 0 and "Usage:" in output
    assert (await run("--version"))[0] == 0


async def test_what_a_child_says_on_stderr_is_shown(tmp_path: Path) -> None:
    code = "import sys; print('no licence found', file=sys.stderr, flush=True); sys.exit(3)"
    config = write(tmp_path / "gateway.json", {"mute": config_entry(script_connection(code))})
    async with running("--config", config) as (command, url):
        await command.says(r"mute \(mute, stdio\): error")

        async def shown() -> bool:
            status, text = await run("servers", "logs", "mute", "--url", url)
            return status == 0 and "no licence found" in text

        await eventually(shown, 15.0, "its stderr")
