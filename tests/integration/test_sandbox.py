"""``sandbox`` of an entry: a real child in bubblewrap, and the command lines for podman and docker."""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from shared.connections import StdioConnection
from shared.errors import ConfigError
from shared.settings import build
from shared.transports import parse_connection
from tests.clients import RawClient
from tests.fleet import Fleet, eventually
from worker.transports.sandbox import sandboxed

SETTINGS = build().upstreams
_WORKS = (
    shutil.which("bwrap") is not None
    and subprocess.run(["bwrap", "--unshare-all", "--ro-bind", "/", "/", "true"], capture_output=True).returncode == 0
)
needs_bwrap = pytest.mark.skipif(
    not _WORKS and not os.environ.get("CI"), reason="no bubblewrap, or the kernel lets nobody make namespaces"
)

LOOKS = """
import json, os, socket, sys

def read(path):
    try: return open(path).read()
    except OSError as error: return type(error).__name__

def write(path):
    try: open(path, "w").write("written"); return "written"
    except OSError as error: return type(error).__name__

def connect(port):
    try: socket.create_connection(("127.0.0.1", port), 2).close(); return "connected"
    except OSError as error: return type(error).__name__

def look(outside, named, out, port, fill=0):
    filled = b"x" * fill
    pids = [one for one in os.listdir("/proc") if one.isdigit()]
    return {"outside": read(outside), "named": read(named), "spoilt": write(named), "out": write(out + "/o"),
            "home": write(os.environ["HOME"] + "/h"), "connect": connect(port), "processes": len(pids),
            "environment": sorted(os.environ), "filled": len(filled),
            "privileges": [l.split()[1] for l in open("/proc/self/status") if l.startswith(("NoNewPrivs", "CapEff"))]}
"""
SERVES = (
    LOOKS
    + """
for line in sys.stdin:
    m = json.loads(line)
    if "id" not in m: continue
    if m["method"] == "initialize":
        r = {"protocolVersion": m["params"]["protocolVersion"], "capabilities": {"tools": {}},
             "serverInfo": {"name": "s", "version": "1"}}
    elif m["method"] == "tools/list": r = {"tools": [{"name": "look", "inputSchema": {"type": "object"}}]}
    elif m["method"] == "tools/call":
        r = {"content": [{"type": "text", "text": json.dumps(look(**m["params"]["arguments"]))}]}
    else: r = {}
    print(json.dumps({"jsonrpc": "2.0", "id": m["id"], "result": r}), flush=True)
"""
)


def _connection(**raw: Any) -> StdioConnection:
    found = parse_connection({"command": sys.executable, **raw})[1]
    assert isinstance(found, StdioConnection)
    return found


def _line(**raw: Any) -> list[str]:
    environment = {"PATH": os.environ["PATH"], "HOME": "/root"}
    return list(sandboxed(_connection(**raw), SETTINGS, environment, {"MARK": "w.1"})[0])


@needs_bwrap
async def test_a_child_in_bubblewrap_sees_what_is_named_and_nothing_else(redis_url: str, tmp_path: Path) -> None:
    secret, named, out = tmp_path / "secret", tmp_path / "named", tmp_path / "out"
    secret.write_text("a secret")
    named.write_text("named")
    out.mkdir()
    with socket.create_server(("127.0.0.1", 0)) as listener:
        arguments = {"outside": str(secret), "named": str(named), "out": str(out), "port": listener.getsockname()[1]}
        shut_in = {"type": "bwrap", "read": [str(named)], "write": [str(out)]}
        async with Fleet(redis_url) as fleet:
            for id, sandbox in (("shut", shut_in), ("online", {**shut_in, "network": True}), ("open", "none")):
                raw = {"command": sys.executable, "args": ["-c", SERVES], "cwd": str(tmp_path), "sandbox": sandbox}
                await fleet.register(id, raw)
            found: dict[str, dict[str, Any]] = {}
            for id in ("shut", "online", "open"):
                async with RawClient(f"{fleet.url}/servers/{id}/mcp") as one:
                    answer = await eventually(lambda: _called(one, arguments), 20.0, id)
                    found[id] = json.loads(answer)
    assert found["open"]["outside"] == "a secret" and found["open"]["connect"] == "connected", "so the test can fail"
    for id in ("shut", "online"):
        seen = found[id]
        assert seen["outside"] == "FileNotFoundError" and seen["named"] == "named"
        assert seen["spoilt"] == "OSError" and seen["out"] == seen["home"] == "written"
        assert seen["processes"] <= 3 and set(seen["privileges"]) == {"0000000000000000", "1"}
    assert found["shut"]["connect"] == "ConnectionRefusedError" and found["online"]["connect"] == "connected"
    assert (out / "o").read_text() == "written" and named.read_text() == "written", "of the one without a sandbox"


async def _called(client: RawClient, arguments: dict[str, Any]) -> str | None:
    answer = await client.legacy_call("look", arguments)
    return None if "error" in answer.body else answer.content


@needs_bwrap
def test_a_command_from_a_folder_of_its_own_runs_and_its_neighbours_are_not_seen(tmp_path: Path) -> None:
    program = tmp_path / "tool" / "bin" / "tool"
    program.parent.mkdir(parents=True)
    program.write_text("#!/bin/sh\ncat ../tool/lib 2>/dev/null; cat $0.neighbour $1; pwd")
    program.chmod(0o755)
    (tmp_path / "tool" / "lib").write_text("of the tool")
    (tmp_path / "private").write_text("private")
    raw = {"command": str(program), "args": [str(tmp_path / "private")], "sandbox": "bwrap"}
    line = _line(**raw, cwd=str(tmp_path))
    done = subprocess.run(line, capture_output=True, text=True, timeout=60, env={"PATH": os.environ["PATH"]})
    assert done.returncode == 0 and done.stdout == "/tmp\n", done
    assert str(tmp_path / "tool") in line and str(tmp_path) not in line


def test_a_command_in_a_home_is_seen_alone(tmp_path: Path) -> None:
    program = tmp_path / "bin" / "tool"
    program.parent.mkdir()
    program.write_text("")
    program.chmod(0o755)
    connection = _connection(command=str(program), sandbox="bwrap")
    if shutil.which("bwrap"):
        line = sandboxed(connection, SETTINGS, {"PATH": "/bin", "HOME": str(tmp_path)}, {})[0]
        binds = [line[at + 1] for at, word in enumerate(line) if word == "--ro-bind"]
        assert str(program) in binds and str(tmp_path) not in binds


@pytest.mark.parametrize("kind", ["podman", "docker"])
def test_the_command_line_of_a_container(kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tool = tmp_path / kind
    tool.write_text("#!/bin/sh\n")
    tool.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    sandbox = {"type": kind, "image": "node:22", "read": ["/usr/share"], "write": [str(tmp_path)]}
    raw = {"command": "npx", "args": ["-y", "x"], "env": {"TOKEN": "a secret"}, "cwd": str(tmp_path)}
    line = " ".join(_line(**raw, sandbox=sandbox))
    assert line.startswith(f"{tool} run --rm --interactive --init --read-only --tmpfs /tmp --cap-drop ALL")
    assert "--security-opt no-new-privileges --network none" in line and line.endswith(" node:22 npx -y x")
    assert f"--volume /usr/share:/usr/share:ro --volume {tmp_path}:{tmp_path} --workdir {tmp_path}" in line
    assert "--env TOKEN --env MARK --label MARK=w.1 node:22" in line and "a secret" not in line
    assert "--network" not in " ".join(_line(**raw, sandbox={**sandbox, "network": True}))
    limited = build(overrides={"stdio_max_memory": 10**9, "stdio_max_files": 77, "stdio_max_processes": 9}).upstreams
    more = " ".join(sandboxed(_connection(**raw, sandbox=sandbox), limited, {}, {})[0])
    assert "--memory 1000000000 --pids-limit 9 --ulimit nofile=77" in more


@pytest.mark.parametrize("kind", ["bwrap", "podman", "docker"])
def test_a_tool_that_is_not_there_is_named_with_its_cure(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/nowhere")
    image = {} if kind == "bwrap" else {"image": "i"}
    with pytest.raises(ConfigError, match=f"sandbox {kind}: there is no '{kind}' on the PATH of this worker; install"):
        _line(sandbox={"type": kind, **image})


@needs_bwrap
def test_a_path_that_is_not_there_is_named() -> None:
    with pytest.raises(ConfigError, match="there is no '/no/such/path' on this worker's host"):
        _line(sandbox={"type": "bwrap", "read": ["/no/such/path"]})


@pytest.mark.parametrize(
    ("sandbox", "words"),
    [
        ("chroot", "must be 'none', or have the type bwrap, podman or docker"),
        (True, "must be 'none'"),
        ({"type": "bwrap", "reads": ["/a"]}, "unknown field `reads`"),
        ({"type": "bwrap", "read": ["a"]}, "'a' is no absolute path"),
        ({"type": "bwrap", "write": ["/"]}, "'/' is no absolute path of a file or folder below /"),
        ({"type": "bwrap", "image": "x"}, "is for podman and docker"),
        ("docker", "docker needs the 'image'"),
        ({"type": "podman", "image": "--privileged"}, "podman needs the 'image'"),
        ({"type": "docker", "image": "x", "read": ["/a:/b"]}, "cannot show '/a:/b'"),
    ],
)
def test_a_sandbox_that_cannot_be_meant_is_refused_with_words(sandbox: Any, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        _connection(sandbox=sandbox)


def test_what_is_shown_of_an_entry_has_its_sandbox() -> None:
    shown = _connection(sandbox={"type": "bwrap", "network": True}).public()["sandbox"]
    assert shown["type"] == "bwrap" and shown["network"] is True
    assert "sandbox" not in _connection(sandbox="none").public()
