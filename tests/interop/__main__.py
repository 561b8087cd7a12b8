"""Asks servers directly and through the gateway, compares, and writes docs/interop.md.

``python -m tests.interop [WORD …]`` plays only the servers whose names have one of these words, and writes nothing.
Exits 1 if an answer differs.

It installs the servers beside this file, from npm, PyPI and, where Go is, the Go module proxy. What cannot be
installed is left out, and the page says so.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import re
import shutil
import socket
import subprocess
import sys
import tempfile
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

from aiohttp import web
from msgspec import Struct

from gateway.supervisor.embedded_redis import EmbeddedRedis
from tests.fleet import ROOT, Fleet, eventually
from tests.interop import servers
from tests.interop.servers import Server

PAGE = ROOT / "docs/interop.md"
CLIENT = ROOT / "tests/matrix/.venv/bin/python"
LIMIT_S = 300.0
_TIME = re.compile(r"\d{1,2}:\d\d:\d\d( [AP]M)?")
_NO_SUCH_METHOD = -32601
HEAD = """# The servers that people use

Written by `make interop`: servers as npm, PyPI and the Go module proxy have them are asked by the Python SDK 1.x,
directly and through the gateway (two front ends, two workers), and give the same answers: every entry of every list
with all its members, results, errors in their own words, questions to the client, and progress. The gateway waits for
tasks of 2025-11-25 by itself, so what tools say of them (`execution`) is not compared. Tasks of
2026-07-28 are compared with a server and a client of FastMCP (`tests/interop/test_fastmcp_tasks.py`).

| server | from | over | tools | prompts | resources | templates | asked | the same |
|---|---|---|--:|--:|--:|--:|--:|:-:|
"""


class Outcome(Struct):
    """What came of one server: how much it listed and was asked, and the differences."""

    server: Server
    counts: list[int]
    differences: list[str]

    @property
    def row(self) -> str:
        """The row of the page."""
        own = "*" if own_session(self.server) else ""
        mark = "✗" if self.differences else f"✓{own}"
        cells = [self.server.name, self.server.source, self.server.transport, *map(str, self.counts), mark]
        return f"| {' | '.join(cells)} |"


def own_session(server: Server) -> bool:
    """Whether the server asks for roots, which only a client with a session of its own can be asked for."""
    return server.transport == "stdio" and server.name.startswith(("everything", "go"))


def install() -> dict[str, str]:
    """Install the servers. Return why those of a registry are left out, by registry."""
    here = servers.HERE
    steps: dict[str, list[list[str]]] = {
        "npm": [["npm", "install", "--prefix", str(here), "--no-save", "--no-audit", "--no-fund", *servers.NPM]],
        "PyPI": [
            [sys.executable, "-m", "venv", str(servers.VENV)],
            [str(servers.VENV / "bin/pip"), "install", "--quiet", "--upgrade", *servers.PYPI],
            [sys.executable, "-m", "venv", str(servers.VENV_OLD)],
            [str(servers.VENV_OLD / "bin/pip"), "install", "--quiet", "--upgrade", *servers.PYPI_OLD],
        ],
        "Go": [["env", f"GOBIN={servers.GO}", "go", "install", servers.GO_SERVER]],
    }
    missing: dict[str, str] = {}
    for registry, commands in steps.items():
        program = "go" if registry == "Go" else commands[0][0]
        if shutil.which(program) is None:
            missing[registry] = f"{program} is not here"
            continue
        for command in commands:
            done = subprocess.run(command, capture_output=True, text=True, check=False)
            if done.returncode:
                missing[registry] = (done.stderr.strip() or done.stdout.strip()).splitlines()[-1]
                break
    return missing


def free_port() -> int:
    """Return a port that nobody listens on."""
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return int(one.getsockname()[1])


async def ask(connect: dict[str, Any], steps: list[Any]) -> dict[str, Any]:
    """Return what a server answers to a client that is connected like this."""
    process = await asyncio.create_subprocess_exec(
        str(CLIENT),
        "-m",
        "tests.interop.asker",
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        cwd=ROOT,
    )
    try:
        async with asyncio.timeout(LIMIT_S):
            sent = json.dumps({"connect": connect, "steps": steps}).encode()
            out, err = await process.communicate(sent)
    finally:
        if process.returncode is None:
            process.kill()
    if process.returncode:
        raise RuntimeError(err.decode(errors="replace").strip().splitlines()[-1])
    found: dict[str, Any] = json.loads(out)
    return found


def comparable(answers: dict[str, Any]) -> dict[str, Any]:
    """Return answers without times of the day, and without what tools say of tasks. A server that has no such list may
    say so, or list nothing."""
    answers = json.loads(_TIME.sub("TIME", json.dumps(answers)))
    for kind in ("prompts", "resources", "templates"):
        if isinstance(answers[kind], dict) and answers[kind].get("error") == _NO_SUCH_METHOD:
            answers[kind] = []
    tools = [{key: value for key, value in one.items() if key != "execution"} for one in answers["tools"]]
    return {**answers, "tools": tools}


@contextlib.asynccontextmanager
async def running(server: Server) -> AsyncIterator[None]:
    """Run a server that is reached over HTTP."""
    if not server.port:
        yield
        return
    process = await asyncio.create_subprocess_exec(
        *server.command,
        env=servers.environment(server),
        stdout=asyncio.subprocess.DEVNULL,
        stderr=asyncio.subprocess.DEVNULL,
    )

    async def listens() -> bool:
        try:
            _, writer = await asyncio.open_connection("127.0.0.1", server.port)
        except OSError:
            return False
        writer.close()
        return True

    try:
        await eventually(listens, 60, f"{server.name} listens")
        yield
    finally:
        with contextlib.suppress(ProcessLookupError):
            process.terminate()
        await process.wait()


async def compare(server: Server, fleet: Fleet) -> Outcome:
    """Ask a server directly, then through the gateway."""
    outcome = Outcome(server, [0] * 5, [])
    try:
        async with running(server):
            directly = comparable(await ask(server.connection, server.steps))
            options = {"isolation": "client"} if own_session(server) else {}
            await fleet.register(server.name, server.connection, **options)
            url = f"{fleet.frontends[1].url}/servers/{server.name}/mcp"
            crossed = comparable(await ask({"type": "http", "url": url}, server.steps))
            if server.name == "everything-http" and (servers.VENV / "bin/fastmcp").exists():
                outcome.differences += await of_fastmcp_client(f"{fleet.frontends[0].url}/servers/{server.name}/mcp")
            await fleet.store.unregister(server.name)
    except Exception as error:
        outcome.differences.append(f"{type(error).__name__}: {str(error)[:500]}")
        return outcome
    lists = [directly[kind] if isinstance(directly[kind], list) else [] for kind in list(directly)[:4]]
    outcome.counts = [*map(len, lists), len(server.steps)]
    for asked, answer in directly.items():
        if crossed[asked] != answer:
            shown = f"{json.dumps(answer)[:700]}\n  became {json.dumps(crossed[asked])[:700]}"
            outcome.differences.append(f"{asked}: {shown}")
    return outcome


async def of_fastmcp_client(url: str) -> list[str]:
    """Play the client of FastMCP: it lists, calls, is asked and samples. Return what went wrong."""
    program = [str(servers.VENV / "bin/python"), str(servers.HERE / "fastmcp_client.py"), url]
    process = await asyncio.create_subprocess_exec(*program, stderr=asyncio.subprocess.PIPE)
    _, err = await process.communicate()
    return [f"the client of FastMCP: {err.decode().strip().splitlines()[-1]}"] if process.returncode else []


def make_repository(at: Path) -> None:
    """Make a repository with one commit."""
    at.mkdir()
    author = ["-c", "user.name=Ada", "-c", "user.email=ada@a.invalid"]
    (at / "a.txt").write_text("one\n")
    for command in (["init", "-q"], ["add", "a.txt"], [*author, "commit", "-q", "-m", "first"]):
        subprocess.run(["git", "-C", str(at), *command], check=True)


@contextlib.asynccontextmanager
async def stage(missing: dict[str, str]) -> AsyncIterator[list[Server]]:
    """Make what servers work on: a folder, a repository, a database and a page."""
    with tempfile.TemporaryDirectory(prefix="gwinterop-") as scratch:
        folder, repository = Path(scratch) / "files", Path(scratch) / "repository"
        folder.mkdir()
        make_repository(repository)

        async def page(request: web.Request) -> web.Response:
            return web.Response(text="<html><body><h1>Title</h1><p>Text</p></body></html>", content_type="text/html")

        app = web.Application()
        app.router.add_get("/page", page)
        runner = web.AppRunner(app)
        await runner.setup()
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        port = runner.addresses[0][1]
        found: list[Server] = []
        if "npm" not in missing:
            found += [
                servers.everything("stdio"),
                servers.everything("sse", free_port()),
                servers.everything("http", free_port()),
            ]
            found += servers.of_npm(folder)
        if "PyPI" not in missing:
            database = Path(scratch) / "data.db"
            found += servers.of_pypi(repository, database, f"http://127.0.0.1:{port}/page", free_port())
        if "Go" not in missing:
            found += servers.of_go(free_port())
        try:
            yield found
        finally:
            await runner.cleanup()


async def play(words: list[str], missing: dict[str, str]) -> list[Outcome]:
    """Compare all servers, or those whose names have one of these words."""
    outcomes: list[Outcome] = []
    with tempfile.TemporaryDirectory(prefix="gwinterop-") as scratch:
        redis = EmbeddedRedis(Path(scratch))
        await redis.start()
        try:
            async with stage(missing) as found, Fleet(redis.url, 2, 2) as fleet:
                for server in found:
                    if words and not any(word in server.name for word in words):
                        continue
                    outcome = await compare(server, fleet)
                    print(outcome.row, *outcome.differences, sep="\n  ", flush=True)
                    outcomes.append(outcome)
        finally:
            await redis.stop()
    return outcomes


def write_page(outcomes: list[Outcome], missing: dict[str, str]) -> None:
    """Write docs/interop.md."""
    notes = ["", "`*` with `isolation: client`: a process for each client, which can so be asked for its roots."]
    notes += ["The client of FastMCP lists, calls, is asked and samples at `everything-http`, too."]
    notes += [f"{registry} was left out: {why}." for registry, why in missing.items()]
    PAGE.write_text(HEAD + "\n".join(one.row for one in outcomes) + "\n" + "\n".join(notes) + "\n")


def main() -> None:
    """Play, and write the page if everything was played."""
    words = sys.argv[1:]
    missing = install()
    for registry, why in missing.items():
        print(f"{registry} is left out: {why}", flush=True)
    outcomes = asyncio.run(play(words, missing))
    if not words:
        write_page(outcomes, missing)
    sys.exit(any(one.differences for one in outcomes))


if __name__ == "__main__":
    main()
