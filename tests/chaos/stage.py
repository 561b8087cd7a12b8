"""A fleet of separate processes: two front ends and two workers, each with a way of its own to Redis.

What ends is started again as a service manager would do it: front ends by their supervisor, the rest by ``mend``.
"""

from __future__ import annotations

import asyncio
import collections
import contextlib
import itertools
import os
import signal
from pathlib import Path
from typing import Any

import redis.asyncio as redis
from msgspec import structs

from gateway.supervisor.embedded_redis import find_server
from gateway.supervisor.lifecycle import Child, Supervisor
from shared.registry.members import Members
from shared.settings import Settings
from tests.chaos import processes
from tests.chaos.ground import Ground, children_elsewhere, counts
from tests.chaos.relay import Relay
from tests.fleet import PYTHON, Fleet, alive, eventually

_HERE, _THERE = "127.0.0.1", "127.0.0.2"


class RedisServer:
    """A redis-server on a Unix socket that appends what is written to a file."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._socket = str(folder / "redis.sock")
        self.client: Any = redis.Redis(unix_socket_path=self._socket, socket_timeout=2.0)
        self.process: asyncio.subprocess.Process | None = None

    async def start(self, empty: bool = False) -> None:
        """Start it and wait until it answers."""
        if empty:
            for file in self._folder.glob("appendonlydir/*"):
                file.unlink()
        self.process = await asyncio.create_subprocess_exec(
            find_server(), "--port", "0", "--unixsocket", self._socket, "--save", "", "--appendonly", "yes",
            "--dir", str(self._folder), "--loglevel", "warning", stdout=asyncio.subprocess.DEVNULL,
        )  # fmt: skip
        await eventually(self._answers, 10.0, "redis-server answers")

    async def _answers(self) -> bool:
        with contextlib.suppress(redis.RedisError, OSError):
            return bool(await self.client.ping())
        return False

    @property
    def url(self) -> str:
        """Where it is, without a relay."""
        return f"unix://{self._socket}"

    async def connect(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        """Open a connection, for a relay."""
        return await asyncio.open_unix_connection(self._socket)

    @property
    def running(self) -> bool:
        """Whether it runs."""
        return self.process is not None and alive(self.process.pid)

    async def signal(self, which: signal.Signals) -> None:
        """Send a signal, and wait for the end where that is what it means."""
        assert self.process is not None
        self.process.send_signal(which)
        if which is signal.SIGKILL:
            await self.process.wait()

    async def stop(self) -> None:
        """End it."""
        if self.running:
            await self.signal(signal.SIGKILL)
        await self.client.aclose()


class _Fleet(Fleet):
    """Each process has a relay of its own towards Redis; a ``remote`` worker has another one before it. ``before`` is
    put before the command of each worker. ``elsewhere``: the second worker is on another host; what is put before its
    command, the address of this host as seen there, and the address at which it listens."""

    def __init__(self, server: RedisServer, remote: bool, **settings: Any) -> None:
        super().__init__(server.url, 2, 2, **settings)
        self._server = server
        self._remote = remote
        self.relays: dict[Any, list[Relay]] = {}
        self.before: list[str] = []
        self.elsewhere: tuple[list[str], str, str] | None = None
        self._numbers = itertools.count()

    def every_relay(self) -> list[Relay]:
        """Return all relays."""
        return [relay for relays in self.relays.values() for relay in relays]

    async def add_frontend(self) -> Supervisor:
        """One more front end, with its relay."""
        relay, settings = await self._behind_a_relay()
        frontend = Supervisor(settings, with_workers=False)
        self.relays[frontend] = [relay]
        await frontend.start()
        self.frontends.append(frontend)
        return frontend

    async def add_worker(self) -> Child:
        """One more worker, with its relay."""
        environment = {name: value for name, value in os.environ.items() if not name.startswith("GATEWAY_")}
        away = self.elsewhere if next(self._numbers) == 1 else None
        before, here, bind = away or (self.before, _HERE, "")
        relay, settings = await self._behind_a_relay(here)
        links: list[Relay] = []
        if self._remote:
            link, settings = await self._behind_a_link(settings)
            links.append(link)
        if bind:
            address = bind.partition(":")[0]
            service = structs.replace(settings.service, rpc_bind=bind, rpc_advertise=address)
            settings = structs.replace(settings, service=service)
        worker = Child("worker", [*before, PYTHON, "-m", "worker"], environment, settings=settings)
        self.relays[worker] = [relay, *links]
        await worker.start()
        self.workers.append(worker)
        if self._remote or bind:
            await self._hide(worker)
        return worker

    async def _behind_a_relay(self, here: str = _HERE) -> tuple[Relay, Settings]:
        """Return a relay towards Redis, and settings that lead there."""
        relay = Relay(self._server.connect)
        await relay.start(here)
        registry = structs.replace(self.settings.registry, redis_url=f"redis://{here}:{relay.port}/0")
        return relay, structs.replace(self.settings, registry=registry)

    async def _behind_a_link(self, settings: Settings) -> tuple[Relay, Settings]:
        """Return a relay towards a worker, and the worker's settings: it listens on one loopback address and says that
        it is on another, where the relay is."""
        relay = Relay(lambda: asyncio.open_connection(_HERE, relay.port))
        await relay.start(_THERE)
        service = structs.replace(settings.service, rpc_bind=f"{_HERE}:{relay.port}", rpc_advertise=_THERE)
        return relay, structs.replace(settings, service=service)

    async def _hide(self, worker: Child) -> None:
        """Remove a worker's Unix socket, which front ends would prefer."""
        assert worker.process is not None
        pid = str(worker.process.pid)

        async def joined() -> str:
            facts = [one for one in (await self.worker_facts()).values() if one["pid"] == pid]
            return facts[0]["address"] if facts else ""

        address = await eventually(joined, 20.0, "the worker has joined")
        Path(address.removeprefix("unix:")).unlink()


class Stage(Ground):
    """See the module. ``settings`` are those of the gateway by field name. ``remote``: front ends reach workers over
    TCP, by way of a relay, as if they were on other machines."""

    def __init__(self, remote: bool = False, request_timeout_s: float = 8.0, **settings: Any) -> None:
        super().__init__(request_timeout_s)
        self.redis = RedisServer(self.folder)
        self.fleet = _Fleet(self.redis, remote, request_timeout_s=request_timeout_s, **settings)

    @property
    def urls(self) -> list[str]:
        return self.fleet.urls

    async def open(self) -> None:
        await super().open()
        self.stack.push_async_callback(self._close_relays)
        self.stack.push_async_callback(self.redis.stop)
        await self.redis.start()
        await self.stack.enter_async_context(self.fleet)
        for id, server in self.servers.items():
            await self.fleet.register(id, server.connection, connected=False, name=id[0])
        await self.fleet.register("p", self.child, connected=False)
        await self.fleet.connected(*self.servers, "p")

    async def _close_relays(self) -> None:
        await asyncio.gather(*(relay.stop() for relay in self.fleet.every_relay()))

    # ---- what may be hit

    async def worker_with(self, id: str) -> int:
        """Return the pid of the worker that owns an upstream."""
        return await self.fleet.pid_of_owner(id)

    async def worker_without(self, id: str) -> int:
        """Return the pid of a worker that does not own an upstream."""
        owner = await self.worker_with(id)
        return next(pid for pid in self.workers if pid != owner)

    @property
    def workers(self) -> list[int]:
        """The pids of running workers."""
        return [worker.process.pid for worker in self.fleet.workers if worker.process and alive(worker.process.pid)]

    def relays_of_worker(self, pid: int) -> list[Relay]:
        """Return what lies between a worker and Redis, and between front ends and the worker."""
        worker = next(one for one in self.fleet.workers if one.process and one.process.pid == pid)
        return self.fleet.relays[worker]

    def front_end(self, number: int) -> list[int]:
        """Return the pids of a front end: gunicorn, and what it forked."""
        process = self.fleet.frontends[number]._children[0].process
        assert process is not None
        return [process.pid, *processes.below(process.pid)]

    # ---- how it is afterwards

    async def mend(self) -> None:
        for relay in self.fleet.every_relay():
            relay.cut, relay.delay_s = False, 0.0
        await super().mend()
        if not self.redis.running:
            await self.redis.start()
        while len(self.workers) < 2:
            await self.fleet.add_worker()

    async def healthy(self) -> str:
        ttl_s = self.fleet.settings.fleet.heartbeat_ttl_s
        front_ends = await Members(self.fleet.store, "frontend", ttl_s).alive()
        workers = await Members(self.fleet.store, "worker", ttl_s).alive()
        if len(front_ends) != 2 or len(workers) != 2:
            return f"{len(front_ends)} front ends and {len(workers)} workers in Redis"
        if any(facts.get("workers") != "2" for facts in front_ends.values()):
            return "a front end is not linked to both workers"
        records = await self.fleet.store.load_all()
        if len(records) != 4:
            return f"{len(records)} of 4 upstreams registered"
        for id, record in records.items():
            if record.status != "connected":
                return f"{id} is {record.status}: {record.error}"
            if not {owner for _, owner in record.owners} <= set(workers):
                return f"{id} has an owner that is gone"
        return ""

    async def leftovers(self) -> list[str]:
        left = counts({"front end": 4, "worker": 2, "reaper": 2, "redis": 1}, self.apart)
        left += children_elsewhere(await self.worker_with("p"))
        run_dir = Path(self.fleet.settings.service.run_dir)
        suffixes = collections.Counter(path.suffix for path in run_dir.iterdir())
        left += [f"{suffixes[kind]} files *{kind}" for kind in (".sock", ".alive") if suffixes[kind] > 2]
        keys = self.fleet.store.keys
        for members in (keys.workers, keys.frontends):
            count = await self.fleet.store.redis.scard(members)
            if count != 2:
                left.append(f"{count} members in {members.removeprefix(keys.prefix)}")
        return left
