"""What every stage has: the upstreams over the network, and the ledger of what they executed."""

from __future__ import annotations

import asyncio
import collections
import contextlib
import os
import signal
import tempfile
from collections.abc import Collection
from pathlib import Path
from typing import Any

from tests.chaos import processes
from tests.chaos.load import Client
from tests.fleet import PYTHON, ROOT, alive

TOOLS = ["h_do", "s_do", "p_do", "h_read", "s_read", "p_read"]
GROUPS = ("h", "s", "p")


class Server:
    """An upstream over the network; it comes back on the same port. ``bind`` is the address at which it listens,
    ``host`` how it is called in its URL, if otherwise."""

    def __init__(self, transport: str, prefix: str, ledger: Path) -> None:
        self.transport = transport
        self.bind, self.host = "127.0.0.1", ""
        self._arguments = (transport, str(ledger), prefix)
        self._port = 0
        self.process: asyncio.subprocess.Process | None = None

    async def start(self) -> Server:
        """Start it and wait until it listens."""
        self.process = await asyncio.create_subprocess_exec(
            PYTHON, "-m", "tests.chaos.upstream", *self._arguments, f"{self.bind}:{self._port}",
            stdout=asyncio.subprocess.PIPE, cwd=ROOT,
        )  # fmt: skip
        assert self.process.stdout is not None
        self._port = int(await self.process.stdout.readline())
        return self

    @property
    def connection(self) -> dict[str, Any]:
        """For ``register``."""
        path = "sse" if self.transport == "sse" else "mcp"
        return {"type": self.transport, "url": f"http://{self.host or self.bind}:{self._port}/{path}"}

    @property
    def running(self) -> bool:
        """Whether it runs."""
        return self.process is not None and alive(self.process.pid)

    def signal(self, which: signal.Signals) -> None:
        """Send a signal."""
        assert self.process is not None
        self.process.send_signal(which)

    async def stop(self) -> None:
        """``kill -9``."""
        if self.running:
            self.signal(signal.SIGKILL)
            assert self.process is not None
            await self.process.wait()


class Ground:
    """Two replicas ``h`` over Streamable HTTP, ``s`` over HTTP+SSE, and the child ``p`` over stdio, which a gateway
    has to start. ``urls``: the MCP endpoints of its front ends. Subclasses know the gateway."""

    def __init__(self, request_timeout_s: float = 8.0) -> None:
        scratch = tempfile.TemporaryDirectory(prefix="gwchaos-")
        self.folder = Path(scratch.name)
        self.ledger = self.folder / "ledger"
        self.ledger.touch()
        self.request_timeout_s = request_timeout_s
        self.apart = frozenset(processes.below(os.getpid()))  # what other tests of this process have started
        self.servers = {
            "h1": Server("http", "h", self.ledger),
            "h2": Server("http", "h", self.ledger),
            "s": Server("sse", "s", self.ledger),
        }
        self.child = {
            "type": "stdio",
            "command": PYTHON,
            "args": ["-m", "tests.chaos.upstream", "stdio", str(self.ledger), "p"],
            "cwd": str(ROOT),
        }
        self.stack = contextlib.AsyncExitStack()
        self.stack.callback(scratch.cleanup)

    @property
    def urls(self) -> list[str]:
        """The MCP endpoints of the front ends."""
        raise NotImplementedError

    async def open(self) -> None:
        """Start what is not of the gateway, then the gateway."""
        self.stack.enter_context(processes.adopting())
        for server in self.servers.values():
            self.stack.push_async_callback(server.stop)
        await asyncio.gather(*(server.start() for server in self.servers.values()))

    async def mend(self) -> None:
        """Start again what has ended, and continue what was stopped."""
        for pid in processes.below(os.getpid()):
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.kill(pid, signal.SIGCONT)
        await asyncio.gather(*(server.start() for server in self.servers.values() if not server.running))

    async def healthy(self) -> str:
        """Return what is not yet as it should be, or an empty string."""
        raise NotImplementedError

    async def leftovers(self) -> list[str]:
        """Return what runs that should not, and what stands in Redis or in the run directory without a process."""
        raise NotImplementedError

    async def all_answer(self, clients: list[Client]) -> str:
        """Let these clients call every group at every front end; return what went wrong, or an empty string."""
        asked = [(client, f"{group}_do", url) for client in clients for group in GROUPS for url in self.urls]
        calls = await asyncio.gather(*(client.do(tool, url=url) for client, tool, url in asked))
        return next((f"{call.era} {call.tool}: {call.code} {call.why}" for call in calls if call.why), "")

    def executions(self) -> dict[str, list[str]]:
        """Return the tools that were executed for each call."""
        found: dict[str, list[str]] = collections.defaultdict(list)
        for line in self.ledger.read_text().splitlines():
            id, tool, _ = line.split()
            found[id].append(tool)
        return found

    async def __aenter__(self) -> Any:
        try:
            await self.open()
        except BaseException:
            await self.stack.aclose()
            raise
        return self

    async def __aexit__(self, *_: object) -> None:
        try:
            await self.mend()
        finally:
            await self.stack.aclose()


def counts(expected: dict[str, int], apart: Collection[int]) -> list[str]:
    """Return how the processes below this one differ from these numbers by role; those ``apart`` do not count."""
    everything = processes.by_role()
    running = {role: [pid for pid in everything[role] if pid not in apart] for role in expected}
    return [
        f"{len(running[role])} processes '{role}' instead of {count}"
        for role, count in expected.items()
        if len(running[role]) != count
    ]


def children_elsewhere(owner: int) -> list[str]:
    """Return what is wrong with the stdio children, which only the worker ``owner`` may have, one for each era."""
    everywhere, own = (processes.by_role(root)["stdio child"] for root in (None, owner))
    if 1 <= len(own) <= 2 and set(everywhere) == set(own):
        return []
    return [f"{len(everywhere)} stdio children, {len(own)} of them of the owner"]
