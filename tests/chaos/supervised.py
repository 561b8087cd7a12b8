"""What ``gateway up`` starts: two front ends on one socket, two workers and a Redis of its own with its data.

The supervisor starts again what ends; who starts the supervisor again, as systemd would, is ``mend``.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import random
import signal
import socket
from collections.abc import Mapping
from typing import Any

import aiohttp

from tests.chaos import processes
from tests.chaos.ground import Ground, children_elsewhere, counts
from tests.fleet import PYTHON, ROOT, alive, eventually

_START_S = 40.0


def _lasting_port() -> int:
    """Return a free port that stays free while nobody listens: the kernel gives none below 32768 to those who connect
    (Linux, ``ip_local_port_range``), and a client that tries again and again may otherwise get the very one."""
    for port in random.sample(range(20_000, 30_000), 100):
        with socket.socket() as free, contextlib.suppress(OSError):
            free.bind(("127.0.0.1", port))
            return port
    raise AssertionError("no port is free")


class Supervised(Ground):
    """See the module. ``settings`` are further ones of the gateway, ``more`` further upstreams, as in a file."""

    settings: Mapping[str, Any] = {}

    def __init__(self, request_timeout_s: float = 8.0) -> None:
        super().__init__(request_timeout_s)
        self.more: dict[str, Any] = {}
        self._url = f"http://127.0.0.1:{_lasting_port()}"  # for all lives of the gateway: clients know no other
        self._http = aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=self.request_timeout_s))
        self.process: asyncio.subprocess.Process | None = None

    @property
    def urls(self) -> list[str]:
        return [f"{self._url}/mcp"]

    async def open(self) -> None:
        self.stack.push_async_callback(self._http.close)
        await super().open()
        self.stack.push_async_callback(self.stop)
        entries: dict[str, Any] = {id: {**one.connection, "name": id[0]} for id, one in self.servers.items()}
        settings = {
            "frontends": 2,
            "workers": 2,
            "logLevel": "warning",
            "port": int(self._url.rpartition(":")[2]),
            "stateDir": str(self.folder / "state"),
            "requestTimeout": int(self.request_timeout_s * 1000),
            **self.settings,
        }
        document = {"gateway": settings, "mcpServers": {**entries, "p": self.child, **self.more}}
        (self.folder / "gateway.json").write_text(json.dumps(document))
        await self.start()

    async def start(self) -> None:
        """Start the supervisor, and wait until everything is there."""
        environment = {name: value for name, value in os.environ.items() if not name.startswith("GATEWAY_")}
        self.process = await asyncio.create_subprocess_exec(
            PYTHON, "-m", "gateway", "up", "--config", str(self.folder / "gateway.json"),
            cwd=ROOT, env=environment, stdout=asyncio.subprocess.DEVNULL,
        )  # fmt: skip
        await eventually(self._well, _START_S, "the gateway is up")

    async def stop(self) -> None:
        """Stop the supervisor, which stops the rest."""
        if self.process is not None and self.process.returncode is None:
            self.process.send_signal(signal.SIGTERM)
            await self.process.wait()

    async def _well(self) -> bool:
        try:
            return not await self.healthy()
        except (aiohttp.ClientError, TimeoutError):
            return False

    async def mend(self) -> None:
        await super().mend()
        if self.process is not None and not alive(self.process.pid):
            await eventually(lambda: not processes.by_role(), 20.0, "what the supervisor had started ends with it")
            await self.start()

    async def _ask(self, path: str) -> Any:
        async with self._http.get(f"{self._url}/admin/v1/{path}") as response:
            return await response.json()

    async def healthy(self) -> str:
        front_ends, workers = await self._ask("frontends"), await self._ask("workers")
        if len(front_ends) != 2 or len(workers) != 2:
            return f"{len(front_ends)} front ends and {len(workers)} workers in Redis"
        servers = await self._ask("servers")
        bad = [f"{one['id']} is {one['status']}" for one in servers if one["status"] != "connected"]
        all_of_them = len(self.servers) + 1 + len(self.more)
        shown = f"{len(servers)} of {all_of_them} upstreams registered"
        return ", ".join(bad) or ("" if len(servers) == all_of_them else shown)

    async def leftovers(self) -> list[str]:
        left = counts({"supervisor": 1, "front end": 3, "worker": 2, "reaper": 2, "redis": 1}, self.apart)
        owners = [pid for pid in processes.by_role()["worker"] if processes.by_role(pid)["stdio child"]]
        return left + children_elsewhere(owners[0] if owners else 0)
