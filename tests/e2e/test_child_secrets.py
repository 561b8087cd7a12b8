"""A stdio child that looks around: the environment, arguments and files of all processes, and the embedded Redis."""

from __future__ import annotations

import asyncio
import json
import os
import socket
import sys
from pathlib import Path
from typing import Any

import pytest

from shared.registry.store import RegistryStore
from shared.settings import RegistrySettings
from tests.clients import RawClient
from tests.e2e.test_up import ROOT, Command, environment, gateway, running, write
from tests.fleet import PYTHON, Fleet, eventually, script_connection
from tests.machine import scaled

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")

SECRETS = {
    "adminToken": "an-admin-token-of-this-test",
    "secret": "a-fleet-key-of-this-test",
    "cloud": "a-cloud-key-of-this-test",
    "other": "a-token-of-another-entry-of-this-test",
    "collector": "a-key-of-the-collector-of-this-test",
}
"""None of these is a part of what the child is started with."""
TRACES = {
    "OTEL_EXPORTER_OTLP_HEADERS": f"x-key={SECRETS['collector']}",
    "OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:9",
}

LOOKS_AROUND = """
import json, os, sys

def looks(words):
    # The child gets the words that it looks for backwards, so that it does not find itself.
    wanted = [word[::-1].encode() for word in words]
    found = []
    pids = [name for name in os.listdir('/proc') if name.isdigit()]
    places = [f'/proc/{pid}/{name}' for pid in pids for name in ('environ', 'cmdline')]
    for pid in pids:
        try: links = [f'/proc/{pid}/fd/{name}' for name in os.listdir(f'/proc/{pid}/fd')]
        except OSError: continue
        places += [link for link in links if os.path.isfile(link)]
    for folder in ('/tmp', os.environ.get('TMPDIR', '/tmp')):
        for one in os.listdir(folder):
            if one.startswith('gateway-'):
                for at, _, names in os.walk(os.path.join(folder, one)):
                    places += [os.path.join(at, name) for name in names]
    for place in places:
        try:
            if not place.startswith('/proc/') and not os.path.isfile(place): continue
            with open(place, 'rb') as file: content = file.read(1 << 20)
        except OSError: continue
        found += [f'{place} {content.split(bytes(1))[0][:60]!r}' for word in wanted if word in content]
    return found

for line in sys.stdin:
    m = json.loads(line)
    if 'id' not in m: continue
    me = {'name': 'looks', 'version': '1'}
    if m['method'] == 'tools/call':
        asked = m['params']['arguments']
        seen = {'found': looks(asked['words']), 'environment': dict(os.environ), 'parent': os.getppid()}
        r = {'content': [{'type': 'text', 'text': json.dumps(seen)}]}
    else:
        tools = [{'name': 'look', 'inputSchema': {'type': 'object'}}]
        r = {'initialize': {'protocolVersion': '2025-03-26', 'capabilities': {'tools': {}}, 'serverInfo': me},
             'tools/list': {'tools': tools}, 'ping': {}}.get(m['method'])
    out = {'jsonrpc': '2.0', 'id': m['id']}
    out.update({'result': r} if r is not None else {'error': {'code': -32601, 'message': 'no'}})
    print(json.dumps(out), flush=True)
"""


async def look(client: RawClient, *words: str) -> dict[str, Any]:
    """Let the child look for these words."""
    answer = await client.call("look", {"words": [word[::-1] for word in words]})
    return dict(json.loads(answer.content))


def entries() -> dict[str, Any]:
    """The child that looks around, through all of the machine, and an entry with a secret of another server."""
    return {
        "child": {**script_connection(LOOKS_AROUND), "env": {"TEAM": "a"}, "requestTimeout": 300_000},
        "other": {"url": "http://127.0.0.1:9/mcp", "headers": {"Authorization": "Bearer ${OTHER_SERVICE_TOKEN}"}},
    }


@pytest.mark.parametrize("place", ["file", "environment"])
async def test_a_child_finds_no_secret_wherever_it_looks(tmp_path: Path, place: str) -> None:
    ours = {"adminToken": SECRETS["adminToken"], "secret": SECRETS["secret"]}
    variables = {"AWS_SECRET_ACCESS_KEY": SECRETS["cloud"], "OTHER_SERVICE_TOKEN": SECRETS["other"], **TRACES}
    if place == "environment":
        variables |= {"GATEWAY_ADMIN_TOKEN": ours["adminToken"], "GATEWAY_SECRET": ours["secret"]}
    config = write(tmp_path / "gateway.json", entries(), **(ours if place == "file" else {}), logLevel="debug")
    # What is kept on disk can be read by every process of the same user, as the configuration file can (decision 020).
    arguments = ("--config", config, "--frontends", "2", "--workers", "2", "--ephemeral")
    async with running(*arguments, **variables) as (command, url), RawClient(f"{url}/mcp") as client:
        await command.says(r"child \(child, stdio\): connected")
        note = json.loads(Path(await command.says(r"redisPassword in ([^)]+)\)")).read_text())
        words = [*SECRETS.values(), note["redisPassword"], note["redisUrl"]]
        assert len(note["redisPassword"]) > 30 and note["redisPassword"] in note["redisUrl"]
        seen = await look(client, *words)
        assert seen["found"] == []
        assert seen["environment"]["TEAM"] == "a" and "PATH" in seen["environment"]
        assert not {"AWS_SECRET_ACCESS_KEY", "OTHER_SERVICE_TOKEN"} & set(seen["environment"])

        os.kill(seen["parent"], 9)  # a worker that replaces another one gets its settings as well
        await command.says(r"worker \d ended")

        async def answers() -> dict[str, Any] | None:
            reply = await client.call("look", {"words": [word[::-1] for word in words]})
            found = json.loads(reply.content) if "result" in reply.body else None
            return found if found is not None and found["parent"] != seen["parent"] else None

        again = await eventually(answers, 40.0, "the child of another worker answers")
        assert again["found"] == []
        for word in words:
            assert word not in command.output


@pytest.mark.parametrize("how", ["gateway worker", "python -m worker"])
async def test_processes_that_a_user_starts_apart_show_no_secret_either(
    redis_url: str, tmp_path: Path, how: str
) -> None:
    """Front ends and workers with their secrets in the environment, as containers are given them."""
    key = f"apart-{tmp_path.name}:"
    variables = {
        "GATEWAY_SECRET": SECRETS["secret"],
        "GATEWAY_ADMIN_TOKEN": SECRETS["adminToken"],
        "GATEWAY_REDIS_URL": redis_url,
        "GATEWAY_KEY_PREFIX": key,
        "AWS_SECRET_ACCESS_KEY": SECRETS["cloud"],
        **TRACES,
    }
    config = write(tmp_path / "gateway.json", {"child": {**script_connection(LOOKS_AROUND), "requestTimeout": 300_000}})
    worker = (
        await gateway("worker", **variables)
        if how == "gateway worker"
        else Command(
            await asyncio.create_subprocess_exec(
                *(PYTHON, "-m", "worker"),
                cwd=ROOT,
                env=environment(**variables),
                stdout=asyncio.subprocess.PIPE,
                stderr=asyncio.subprocess.STDOUT,
            )
        )
    )
    try:
        async with (
            running("--config", config, name="serve", **variables) as (_, url),
            RawClient(f"{url}/mcp") as client,
        ):

            async def listed() -> bool:
                return "look" in (await client.modern("tools/list")).text

            await eventually(listed, 40.0, "the child is connected")
            words = [SECRETS[name] for name in ("secret", "adminToken", "cloud", "collector")] + [key]
            seen = await look(client, *words)
            assert seen["found"] == [] and seen["parent"] == worker.process.pid
    finally:
        worker.process.terminate()
        await worker.ended(30.0)


async def test_a_child_that_looks_would_find_what_is_there(tmp_path: Path) -> None:
    """The test above can fail: a variable that a child may see is found at its worker, and in the child."""
    config = write(tmp_path / "gateway.json", entries(), stdioEnvironment=["AWS_*"])
    variables = {"AWS_SECRET_ACCESS_KEY": SECRETS["cloud"], "OTHER_SERVICE_TOKEN": SECRETS["other"]}
    async with running("--config", config, **variables) as (command, url), RawClient(f"{url}/mcp") as client:
        await command.says(r"child \(child, stdio\): connected")
        seen = await look(client, SECRETS["cloud"])
        assert seen["environment"]["AWS_SECRET_ACCESS_KEY"] == SECRETS["cloud"]
        if os.geteuid() == 0:  # to others our processes show nothing at all
            assert any(place.startswith(f"/proc/{seen['parent']}/environ ") for place in seen["found"])


async def test_the_embedded_redis_answers_only_who_knows_the_password(tmp_path: Path) -> None:
    config = write(tmp_path / "gateway.json", {})
    async with running("--config", config) as (command, _):
        path = Path(await command.says(r"redis-cli -s (\S+)"))
        note = Path(await command.says(r"redisPassword in ([^)]+)\)"))
        assert path.parent.stat().st_mode & 0o077 == 0 and note.stat().st_mode & 0o077 == 0

        for words in (b"KEYS *", b"HGET gw:server:other connection", b"CONFIG GET requirepass", b"AUTH guess"):
            answer = await asyncio.to_thread(_ask, path, words)
            assert answer.startswith((b"-NOAUTH", b"-WRONGPASS")), answer

        password = json.loads(note.read_text())["redisPassword"]
        store = RegistryStore(RegistrySettings(redis_url=f"unix://:{password}@{path}"))
        try:
            await store.ping()
        finally:
            await store.close()


def _ask(path: Path, words: bytes) -> bytes:
    with socket.socket(socket.AF_UNIX) as connection:
        connection.settimeout(scaled(5.0))
        connection.connect(str(path))
        connection.sendall(words + b"\r\n")
        return connection.recv(4096)


async def test_a_url_of_redis_with_a_password_is_not_shown_among_the_arguments(redis_url: str, tmp_path: Path) -> None:
    password = "a-password-of-redis-of-this-test"
    path = redis_url.removeprefix("unix://")
    config = write(tmp_path / "gateway.json", entries(), keyPrefix="arguments:")
    store = RegistryStore(RegistrySettings(redis_url=redis_url))
    await store.redis.execute_command("ACL", "SETUSER", "tester", "on", "~*", "&*", "+@all", f">{password}")
    try:
        given = ("--config", config, "--redis-url", f"unix://tester:{password}@{path}")
        variables = {"OTHER_SERVICE_TOKEN": SECRETS["other"]}
        async with running(*given, **variables) as (command, url), RawClient(f"{url}/mcp") as client:
            await command.says(r"child \(child, stdio\): connected")
            assert (await look(client, password))["found"] == []
    finally:
        await store.redis.execute_command("ACL", "DELUSER", "tester")
        await store.close()


SHELL_SERVER = r"""
while read -r line; do
  id=$(printf '%s' "$line" | sed -n 's/.*"id":\([0-9]*\).*/\1/p')
  [ -n "$id" ] || continue
  case "$line" in
    *'"initialize"'*)
      r='{"protocolVersion":"2025-03-26","capabilities":{"tools":{}},"serverInfo":{"name":"s","version":"1"}}';;
    *'"tools/list"'*) r='{"tools":[{"name":"who","inputSchema":{"type":"object"}}]}';;
    *'"tools/call"'*)
      kill -0 $PPID 2>/dev/null && reach=yes || reach=no
      cat /proc/$PPID/environ >/dev/null 2>&1 && environ=yes || environ=no
      r='{"content":[{"type":"text","text":"'"$(id -u) $reach $environ $HOME"'"}]}';;
    *'"ping"'*) r='{}';;
    *) printf '{"jsonrpc":"2.0","id":%s,"error":{"code":-32601,"message":"no"}}\n' "$id"; continue;;
  esac
  printf '{"jsonrpc":"2.0","id":%s,"result":%s}\n' "$id" "$r"
done
"""


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can run children under another user")
async def test_a_child_of_another_user_reaches_no_process_of_ours_and_ends_with_its_entry(redis_url: str) -> None:
    connection = {"type": "stdio", "command": "/bin/sh", "args": ["-c", SHELL_SERVER], "cwd": "/"}
    async with (
        Fleet(redis_url, stdio_user="65534", stdio_max_files=200) as fleet,
        RawClient(fleet.url + "/mcp") as client,
    ):
        await fleet.register("shell", connection)
        answer = (await client.call("who")).content
        assert answer.split()[:3] == ["65534", "no", "no"] and answer.split()[3] != os.environ.get("HOME")
        await fleet.store.unregister("shell")
