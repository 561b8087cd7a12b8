"""Real fleets for tests: front ends on ports of their own, workers, SDK upstreams; every process reaped.

``Fleet`` starts each front end and each worker by itself, so that a test can address one of them, stop it or kill it.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import os
import signal
import sys
import tempfile
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

from msgspec import structs

from gateway.supervisor.lifecycle import Child, Supervisor
from shared.models import ServerStatus, make_spec
from shared.registry.members import Members
from shared.registry.records import UpstreamRecord
from shared.registry.store import RegistryStore
from shared.settings import Settings, build
from tests.machine import measure, scaled, stretched

_numbers = iter(range(1, 10_000))
PYTHON = sys.executable
ROOT = Path(__file__).resolve().parent.parent


async def eventually(condition: Callable[[], Any], within_s: float = 10.0, what: str = "") -> Any:
    """Wait until ``condition()`` (awaited if need be) is true; its value. Fails with ``what`` after ``within_s``.

    That is on an idle machine: it waits longer on a slow one, which is measured again before it gives up.
    """
    loop = asyncio.get_running_loop()
    began = loop.time()
    limit_s = scaled(within_s)
    while True:
        value = condition()
        if isinstance(value, Awaitable):
            value = await value
        if value:
            return value
        if loop.time() - began > limit_s:
            limit_s = within_s * measure()
            if loop.time() - began > limit_s:
                raise AssertionError(f"not within {within_s:g} s, here {limit_s:.1f} s: {what or condition}")
        await asyncio.sleep(0.02)


class SdkServer:
    """A child running ``tests.servers.sdk``."""

    def __init__(self, transport: str, name: str) -> None:
        self.transport = transport
        self.name = name
        self.port = 0
        self.process: asyncio.subprocess.Process | None = None

    async def start(self) -> SdkServer:
        """Start it and learn its port (the same one again after a restart)."""
        self.process = await asyncio.create_subprocess_exec(
            PYTHON, "-m", "tests.servers.sdk", self.transport, self.name,
            stdout=asyncio.subprocess.PIPE, env=dict(os.environ, TEST_PORT=str(self.port)),
            cwd=Path(__file__).resolve().parent.parent,
        )  # fmt: skip
        assert self.process.stdout is not None
        self.port = int(await self.process.stdout.readline())
        await eventually(self._listens, 15.0, f"{self.name} listens")
        return self

    async def _listens(self) -> bool:
        try:
            _, writer = await asyncio.open_connection("127.0.0.1", self.port)
        except OSError:
            return False
        writer.close()
        return True

    @property
    def connection(self) -> dict[str, Any]:
        """For ``register``."""
        if self.transport == "sse":
            return {"type": "sse", "url": f"http://127.0.0.1:{self.port}"}
        return {"type": "http", "url": f"http://127.0.0.1:{self.port}/mcp"}

    async def kill(self) -> None:
        """``kill -9``."""
        if self.process is not None and self.process.returncode is None:
            self.process.kill()
            await self.process.wait()

    async def __aenter__(self) -> SdkServer:
        return await self.start()

    async def __aexit__(self, *_: object) -> None:
        await self.kill()


def stdio_connection(name: str = "stdio") -> dict[str, Any]:
    """An SDK server over stdio."""
    root = Path(__file__).resolve().parent.parent
    return {
        "type": "stdio",
        "command": PYTHON,
        "args": ["-m", "tests.servers.sdk", "stdio", name],
        "cwd": str(root),
    }


def script_connection(code: str) -> dict[str, Any]:
    """A Python one-off over stdio."""
    return {"type": "stdio", "command": PYTHON, "args": ["-u", "-c", code]}


class Fleet:
    """See the module. ``settings`` are overrides by field name, in seconds."""

    def __init__(self, redis_url: str, frontends: int = 1, workers: int = 1, **settings: Any) -> None:
        self.prefix = f"t{os.getpid()}x{next(_numbers)}:"
        self._scratch = tempfile.TemporaryDirectory(prefix="gwtest-")
        self.settings: Settings = build(
            overrides={
                "redis_url": redis_url,
                "key_prefix": self.prefix,
                "port": 0,
                "run_dir": self._scratch.name,
                "log_level": "warning",
                "drain_timeout_s": stretched(5.0),
                **settings,
            }
        )
        self._counts = (frontends, workers)
        self.frontends: list[Supervisor] = []
        self.workers: list[Child] = []
        # The tests' own look into Redis waits longer than processes do: on a busy machine they must go on without it.
        patient = structs.replace(
            self.settings.registry, redis_timeout_s=max(10.0, self.settings.registry.redis_timeout_s)
        )
        self.store = RegistryStore(patient, self.settings.access.secret)

    async def __aenter__(self) -> Fleet:
        frontends, workers = self._counts
        await asyncio.gather(*(self.add_worker() for _ in range(workers)))
        await asyncio.gather(*(self.add_frontend() for _ in range(frontends)))
        await eventually(self._linked, 20.0, "front ends are linked to workers")
        return self

    async def __aexit__(self, *_: object) -> None:
        await asyncio.gather(*(frontend.stop() for frontend in self.frontends))
        await asyncio.gather(*(worker.stop(scaled(15.0)) for worker in self.workers))
        await self.store.close()
        self._scratch.cleanup()

    async def _linked(self) -> bool:
        alive = await Members(self.store, "frontend", 5.0).alive()
        workers = len(await Members(self.store, "worker", 5.0).alive())
        wanted = sum(1 for worker in self.workers if worker.process and worker.process.returncode is None)
        return (
            workers >= wanted
            and len(alive) >= len(self.frontends)
            and all(int(facts["workers"]) >= wanted for facts in alive.values())
        )

    # ---- processes

    async def add_frontend(self) -> Supervisor:
        """One more front end (its own gunicorn, its own port)."""
        frontend = Supervisor(self.settings, with_workers=False)
        await frontend.start()
        self.frontends.append(frontend)
        return frontend

    def kill_frontend(self, number: int) -> None:
        """``kill -9`` for a front end and its gunicorn."""
        self.signal_frontend(number, signal.SIGKILL)

    def signal_frontend(self, number: int, which: signal.Signals) -> None:
        """Send a signal to a front end and its gunicorn."""
        process = self.frontends[number]._children[0].process
        assert process is not None
        os.killpg(process.pid, which)

    async def add_worker(self) -> Child:
        """One more worker."""
        environment = {name: value for name, value in os.environ.items() if not name.startswith("GATEWAY_")}
        worker = Child("worker", [PYTHON, "-m", "worker"], environment, settings=self.settings)
        await worker.start()
        self.workers.append(worker)
        return worker

    @property
    def urls(self) -> list[str]:
        """MCP endpoints of the front ends."""
        return [f"{frontend.url}/mcp" for frontend in self.frontends]

    @property
    def url(self) -> str:
        """The first front end."""
        return self.frontends[0].url

    def signal_worker(self, pid: int, which: signal.Signals) -> None:
        """Signal one worker by pid (one of ours)."""
        assert pid in {worker.process.pid for worker in self.workers if worker.process}
        os.kill(pid, which)

    async def worker_facts(self) -> dict[str, dict[str, str]]:
        """Live workers by id."""
        return await Members(self.store, "worker", 5.0).alive()

    async def pid_of_owner(self, id: str, slot: int = 0) -> int:
        """The pid of the worker that owns a slot of an upstream."""
        record = (await self.store.load([id]))[id]
        assert record is not None
        return int((await self.worker_facts())[record.owner(slot) or ""]["pid"])

    # ---- upstreams

    async def register(self, id: str, connection: dict[str, Any], connected: bool = True, **options: Any) -> None:
        """Register, and wait until connected and visible on every front end (unless told not to)."""
        await self.store.register(make_spec(id, connection, **options))
        if connected:
            await self.connected(id)

    async def connected(self, *ids: str, within_s: float = 30.0) -> None:
        """Wait until these are connected and routed by every front end."""
        for id in ids:
            await eventually(functools.partial(self._is, id, ServerStatus.CONNECTED), within_s, f"{id} connected")
        await asyncio.gather(*(self._routed(frontend, ids, within_s) for frontend in self.frontends))

    async def _routed(self, frontend: Supervisor, ids: tuple[str, ...], within_s: float) -> None:
        import aiohttp

        headers = {"Authorization": f"Bearer {self.settings.access.admin_token}"}
        anyhow = aiohttp.TCPConnector(ssl=False)  # certificates are what tests of TLS are about, and no others
        async with aiohttp.ClientSession(headers=headers, connector=anyhow) as session:

            async def shown() -> bool:
                async with session.get(f"{frontend.url}/admin/v1/servers") as response:
                    status = {one["id"]: one["status"] for one in await response.json()}
                return all(status.get(id) == "connected" for id in ids)

            await eventually(shown, within_s, f"{ids} connected on {frontend.url}")

    async def record(self, id: str) -> UpstreamRecord | None:
        """What the registry says."""
        return (await self.store.load([id]))[id]

    async def _is(self, id: str, status: ServerStatus) -> bool:
        record = await self.record(id)
        return record is not None and record.status is status

    async def failed(self, id: str, within_s: float = 20.0) -> str:
        """Wait until an upstream is in ``error``; the reason."""
        await eventually(lambda: self._is(id, ServerStatus.ERROR), within_s, f"{id} in error")
        record = await self.record(id)
        assert record is not None
        return record.error or ""


def alive(pid: int) -> bool:
    """Whether a process exists (and is no zombie)."""
    with contextlib.suppress(OSError):
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    return False
