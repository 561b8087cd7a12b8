"""Two releases beside each other: ``python -m tests.chaos.skew FOLDER``, where another release's code is checked out.

Front ends and workers of that release are replaced by those of this one, one after the other, new before old, and then
the workers back again. Meanwhile clients of both eras call over three transports: short, 5 s and 20 s long, with a MiB
of arguments and with two MiB of results. A balancer before the front ends asks ``/readyz`` ten times a second. Every
call must be answered, and none may run twice. Exits 1 otherwise.
"""

from __future__ import annotations

import asyncio
import collections
import contextlib
import itertools
import json
import os
import random
import signal
import sys
import time
from pathlib import Path
from typing import Any

import aiohttp

from tests.chaos.ground import TOOLS, Server
from tests.chaos.load import Call, Client
from tests.chaos.stage import RedisServer
from tests.fleet import PYTHON, ROOT, eventually

_RATE = 30.0
_KINDS: tuple[tuple[int, int, dict[str, Any]], ...] = (
    (24, 0, {}),
    (2, 5_000, {}),
    (2, 20_000, {}),
    (1, 1_000, {"pad": "x" * 1024 * 1024}),
    (1, 1_000, {"bytes": 2 * 1024 * 1024}),
)
"""How many of thirty calls last how many ms, and with what."""
_CLIENTS = 8
_WAIT_S = 60.0
_SETTLED_S = 3.0


class Process:
    """A front end or a worker of one release."""

    def __init__(self, folder: Path, kind: str, environment: dict[str, str], config: Path, number: int) -> None:
        self.folder, self.kind, self.number = folder, kind, number
        self.url = ""
        self._environment = {**environment, "PYTHONPATH": str(folder)}
        self._config = config
        self.process: asyncio.subprocess.Process | None = None

    async def start(self) -> Process:
        """Start it."""
        arguments = ["worker"]
        if self.kind == "serve":
            with contextlib.closing(await asyncio.start_server(lambda *_: None, "127.0.0.1", 0)) as free:
                port = free.sockets[0].getsockname()[1]
            self.url = f"http://127.0.0.1:{port}"
            arguments = ["serve", "--config", str(self._config), "--port", str(port)]
        self.process = await asyncio.create_subprocess_exec(
            PYTHON, "-m", "gateway", *arguments, cwd=self.folder, env=self._environment
        )
        return self

    async def ready(self) -> bool:
        """Whether a balancer may send requests to a front end."""
        with contextlib.suppress(aiohttp.ClientError, OSError, TimeoutError):
            async with aiohttp.request("GET", f"{self.url}/readyz", timeout=aiohttp.ClientTimeout(total=2)) as answer:
                return answer.status == 200
        return False

    async def stop(self) -> float:
        """Send SIGTERM and wait for the end. Return the seconds that it took."""
        assert self.process is not None
        began = time.monotonic()
        if self.process.returncode is None:
            self.process.send_signal(signal.SIGTERM)
            await self.process.wait()
        return time.monotonic() - began


class Fleet:
    """Processes of two releases at one Redis, and the balancer before the front ends."""

    def __init__(self, redis: RedisServer, scratch: Path, entries: dict[str, Any]) -> None:
        self._config = scratch / "gateway.json"
        self._config.write_text(json.dumps({"mcpServers": entries}))
        inherited = {name: value for name, value in os.environ.items() if not name.startswith("GATEWAY_")}
        self._environment = {
            **inherited,
            "GATEWAY_REDIS_URL": redis.url,
            "GATEWAY_RUN_DIR": str(scratch),
            "GATEWAY_LOG_LEVEL": "warning",
            "GATEWAY_DRAIN_TIMEOUT": "40000",
        }
        self.front_ends: list[Process] = []
        self.workers: list[Process] = []
        self.welcome: list[str] = []
        self._numbers = itertools.count(1)

    async def add(self, folder: Path, kind: str) -> Process:
        """Start one more process, and wait until it serves."""
        one = await Process(folder, kind, self._environment, self._config, next(self._numbers)).start()
        (self.front_ends if kind == "serve" else self.workers).append(one)
        if self.front_ends:
            await eventually(self._linked, 30.0, "every front end is linked to every worker")
        return one

    async def _linked(self) -> bool:
        for one in self.front_ends:
            if not await one.ready():
                return False
        async with aiohttp.request("GET", f"{self.front_ends[-1].url}/admin/v1/frontends") as answer:
            shown = await answer.json()
        workers = sum(one.process is not None and one.process.returncode is None for one in self.workers)
        return len(shown) >= len(self.front_ends) and all(int(one["workers"]) >= workers for one in shown)

    async def connected(self, count: int) -> bool:
        """Whether so many upstreams are registered, and all connected."""
        async with aiohttp.request("GET", f"{self.front_ends[0].url}/admin/v1/servers") as answer:
            shown = await answer.json()
        return len(shown) == count and all(one["status"] == "connected" for one in shown)

    async def replace(self, old: Process, folder: Path) -> None:
        """Start a process of the release in ``folder``, then stop ``old``."""
        await self.add(folder, old.kind)
        await asyncio.sleep(_SETTLED_S)
        took_s = await old.stop()
        (self.front_ends if old.kind == "serve" else self.workers).remove(old)
        kind = "front end" if old.kind == "serve" else "worker"
        print(f"{kind} {old.number} of {old.folder.name} replaced by one of {folder.name}; it drained {took_s:.1f} s")

    async def balance(self) -> None:
        """Keep ``welcome`` to the front ends that are ready, until cancelled."""
        while True:
            one_by_one = [(one, await one.ready()) for one in list(self.front_ends)]
            self.welcome = [f"{one.url}/mcp" for one, ready in one_by_one if ready] or self.welcome
            await asyncio.sleep(0.1)

    async def stop(self) -> None:
        """Stop all."""
        await asyncio.gather(*(one.stop() for one in [*self.front_ends, *self.workers]))


async def _load(fleet: Fleet, calls: list[tuple[str, Call]]) -> None:
    """Call until cancelled, then wait for what is under way."""
    clients = [Client(fleet.welcome[:], era, _WAIT_S) for era in ("legacy", "modern") for _ in range(_CLIENTS)]
    kinds = [(f"{ms / 1000:g} s {next(iter(more), '')}", ms, more) for count, ms, more in _KINDS for _ in range(count)]
    under_way: set[asyncio.Task[None]] = set()

    async def one(client: Client, tool: str, kind: str, ms: int, more: dict[str, Any]) -> None:
        url = random.choice(fleet.welcome)
        client.know(url)
        calls.append((kind, await client.do(tool, ms, url, **more)))

    try:
        await asyncio.gather(*(client.open() for client in clients))
        for number in itertools.count():
            client = clients[number % len(clients)]
            kind, ms, more = random.choice(kinds)
            task = asyncio.ensure_future(one(client, TOOLS[number % len(TOOLS)], kind, ms, more))
            under_way.add(task)
            task.add_done_callback(under_way.discard)
            await asyncio.sleep(1 / _RATE)
    finally:
        for error in await asyncio.gather(*under_way, return_exceptions=True):
            if error is not None:
                print(f"✗ {error!r}")
        await asyncio.gather(*(client.session.close() for client in clients))


async def play(other: Path, scratch: Path) -> int:
    """Replace every process; return how many calls failed or ran twice."""
    ledger = scratch / "ledger"
    ledger.touch()
    servers = {id: Server(transport, id[0], ledger) for id, transport in (("h1", "http"), ("h2", "http"), ("s", "sse"))}
    calls: list[tuple[str, Call]] = []
    async with contextlib.AsyncExitStack() as stack:
        redis = RedisServer(scratch)
        await redis.start()
        stack.push_async_callback(redis.stop)
        for server in servers.values():
            await server.start()
            stack.push_async_callback(server.stop)
        child = ["-m", "tests.chaos.upstream", "stdio", str(ledger), "p"]
        entries: dict[str, Any] = {id: {**server.connection, "name": id[0]} for id, server in servers.items()}
        entries["p"] = {"command": PYTHON, "args": child, "cwd": str(ROOT)}
        fleet = Fleet(redis, scratch, entries)
        stack.push_async_callback(fleet.stop)
        for kind in ("worker", "worker", "serve", "serve"):
            await fleet.add(other, kind)
        await eventually(lambda: fleet.connected(len(entries)), 30.0, "all upstreams are connected")
        balancing = asyncio.ensure_future(fleet.balance())
        await eventually(lambda: len(fleet.welcome) == 2, 10.0)
        load = asyncio.ensure_future(_load(fleet, calls))
        await asyncio.sleep(_SETTLED_S)
        try:
            for old in list(fleet.workers):
                await fleet.replace(old, ROOT)
            for old in list(fleet.front_ends):
                await fleet.replace(old, ROOT)
            for new in list(fleet.workers):
                await fleet.replace(new, other)
        finally:
            for task in (load, balancing):
                task.cancel()
                with contextlib.suppress(asyncio.CancelledError):
                    await task
    return _report(calls, ledger)


def _report(calls: list[tuple[str, Call]], ledger: Path) -> int:
    ran = collections.Counter(line.split()[0] for line in ledger.read_text().splitlines())
    failed = [(kind, call) for kind, call in calls if call.why]
    doubled = [call for _, call in calls if call.tool.endswith("_do") and ran[call.id] > 1]
    for kind, count in sorted(collections.Counter(kind for kind, _ in calls).items()):
        print(f"{count:6} calls of {kind}: {sum(one == kind for one, _ in failed)} failed")
    said = collections.Counter(f"{kind} {call.tool}: {call.code}: {call.why}"[:180] for kind, call in failed)
    for text, count in said.most_common(10):
        print(f"✗ {count} × {text}")
    print(f"{len(calls)} calls, {len(failed)} failed, {len(doubled)} ran twice")
    return len(failed) + len(doubled)


def main() -> None:
    """Play with the release in the folder that is named."""
    import tempfile

    with tempfile.TemporaryDirectory(prefix="gwskew-") as scratch:
        sys.exit(bool(asyncio.run(play(Path(sys.argv[1]).resolve(), Path(scratch)))))


if __name__ == "__main__":
    main()
