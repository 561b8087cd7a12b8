"""The supervisor behind ``gateway up``, ``gateway serve`` and ``Gateway.start``: Redis, workers, front ends.

If a process fails to start, everything is stopped and the reason is raised. Later, a worker that dies is replaced with
backoff; gunicorn replaces front ends. SIGTERM drains front ends first, then workers, then Redis, and leaves nothing
behind.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import shutil
import signal
import socket
import sys
import tempfile
from collections import deque
from collections.abc import Awaitable, Callable
from pathlib import Path

from msgspec import structs

from gateway.supervisor.embedded_redis import EmbeddedRedis
from gateway.supervisor.processes import longer, persistently, spawn_child
from gateway.supervisor.start_checks import check_start, with_admin_token
from gateway.supervisor.state_directory import StateDirectory
from shared import supervision
from shared.child_environment import for_process
from shared.connections import mask_url
from shared.errors import RegistryUnavailable, StartError
from shared.handover import offered
from shared.live_rules import VARIABLE as RULES
from shared.live_rules import Board
from shared.metrics.instance_directory import VARIABLE
from shared.registry import deaths
from shared.registry.members import Members
from shared.registry.store import RegistryStore
from shared.safe_python import SAFE_PYTHON
from shared.settings import Settings
from shared.tasks import cancel, spawn

_log = logging.getLogger(__name__)
_READY_S = 30.0
SETTLED_S = 10.0
"""A child that lived longer than this is replaced at once."""
_KEPT_LINES = 30
FRONT_ENDS = "front ends"
"""The name of gunicorn as a child."""
FIXED = ("host", "port", "tls.certFile", "tls.keyFile", "redisUrl", "keyPrefix", "runDir", "stateDir", "ephemeral")
"""The settings that all processes share: they need a stop and a start, as processes are replaced one by one."""

Preparation = Callable[[RegistryStore], Awaitable[None]]
"""What is written to the registry before any process reads it."""


class Child:
    """One supervised process, with its last lines of stderr in ``last_words``."""

    def __init__(
        self,
        name: str,
        command: list[str],
        environment: dict[str, str],
        fds: tuple[int, ...] = (),
        cwd: Path | None = None,
        settings: Settings | None = None,
    ) -> None:
        """``settings`` are handed to the process whenever it is started."""
        self.name = name
        self.restarts = 0
        self.last_words: deque[str] = deque(maxlen=_KEPT_LINES)
        self.process: asyncio.subprocess.Process | None = None
        self.board: Board | None = None
        """Where front ends read rules of access that have changed."""
        self.command = command
        self._environment = environment
        self._fds = fds
        self._cwd = cwd
        self._settings = settings
        self._reader: asyncio.Task[None] | None = None

    @property
    def is_worker(self) -> bool:
        """Whether the process owns upstreams, which others take over when it dies."""
        return self.name != FRONT_ENDS

    @property
    def ended(self) -> bool:
        """Whether the process was started and has ended."""
        return self.process is not None and self.process.returncode is not None

    async def start(self) -> None:
        """Start the process, and copy its stderr to this process's stderr."""
        with offered(self._settings) as (variables, fds):
            self.process = await spawn_child(
                self.command,
                {**self._environment, **variables},
                (*self._fds, *fds),
                cwd=self._cwd,
                stderr=asyncio.subprocess.PIPE,
            )
        self._reader = spawn(self._forward(self.process), f"stderr {self.name}")

    async def _forward(self, process: asyncio.subprocess.Process) -> None:
        assert process.stderr is not None
        while chunk := await process.stderr.read(65536):
            with contextlib.suppress(OSError):  # whoever read it is gone; the child must not wait for a reader
                sys.stderr.buffer.write(chunk)
                sys.stderr.buffer.flush()
            self.last_words.extend(chunk.decode("utf-8", "replace").splitlines())

    async def stop(self, wait_s: float) -> None:
        """Stop the process: SIGTERM, then SIGKILL after ``wait_s``."""
        process = self.process
        if process is None:
            return
        if process.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                process.send_signal(signal.SIGTERM)
            try:
                async with asyncio.timeout(wait_s):
                    await process.wait()
            except TimeoutError:
                _log.warning("%s does not stop; killing it", self.name)
                with contextlib.suppress(ProcessLookupError):
                    os.killpg(process.pid, signal.SIGKILL)
                await process.wait()
        if self._reader is not None:
            await self._reader

    def kill(self) -> None:
        """End the process and its process group at once (SIGKILL); ``stop`` then has nothing to wait for."""
        if self.process is not None and self.process.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self.process.pid, signal.SIGKILL)

    def forget(self) -> None:
        """Give back what the process would inherit if it were started again, which it is not."""
        if self.board is not None:
            self.board.close()
            self.board = None

    @property
    def reason(self) -> str:
        """Why the process ended: the last line of its stderr that reports an error, else the last line."""
        lines = [line for line in self.last_words if line.strip()]
        telling = [line for line in lines if "rror" in line or "annot" in line] or lines
        return telling[-1].strip() if telling else "it said nothing"


class Supervisor:
    """Starts, watches and stops the processes of one gateway; without workers for ``gateway serve``."""

    def __init__(self, settings: Settings, with_workers: bool = True) -> None:
        self._with_workers = with_workers
        named = settings.access.admin_token
        settings = with_admin_token(settings)
        self._token_of_run = "" if named else settings.access.admin_token
        self._given = settings
        self.settings = settings
        self.store: RegistryStore | None = None
        self._scratch: Path | None = None
        self._redis: EmbeddedRedis | None = None
        self._state: StateDirectory | None = None
        self._children: list[Child] = []
        self._retiring: list[Child] = []  # they drain, and others have taken their places
        self._watches: dict[Child | None, asyncio.Task[None]] = {}
        self._control: socket.socket | None = None
        self._control_of_children: socket.socket | None = None
        self._socket: socket.socket | None = None
        self._stopping = False
        self._ready = False

    @property
    def url(self) -> str:
        """The URL at which the gateway listens."""
        host = self.settings.service.host
        shown = {"0.0.0.0": "127.0.0.1", "::": "[::1]"}.get(host, f"[{host}]" if ":" in host else host)
        return f"{self.settings.tls.scheme}://{shown}:{self.settings.service.port}"

    async def start(self, prepare: Preparation | None = None) -> None:
        """Start everything, and return when requests are served.

        Raises ``ConfigError``, ``StartError`` or ``RegistryUnavailable``, and what ``prepare`` raises.
        """
        check_start(self._given)
        try:
            await self._start(prepare)
        except BaseException:
            await self.stop()
            raise

    async def _start(self, prepare: Preparation | None) -> None:
        self._bind()
        self._scratch = Path(tempfile.mkdtemp(prefix="gateway-"))
        if not self.settings.registry.redis_url:
            service = self.settings.service
            if service.state_dir and not service.ephemeral:
                self._state = StateDirectory(Path(service.state_dir))
                await self._state.open()
            self._redis = EmbeddedRedis(self._scratch, self._state)
            await self._redis.start()
            self.settings = structs.replace(
                self.settings, registry=structs.replace(self.settings.registry, redis_url=self._redis.url)
            )
        if not self.settings.service.run_dir:
            service = structs.replace(self.settings.service, run_dir=str(self._scratch))
            self.settings = structs.replace(self.settings, service=service)
        self.store = RegistryStore(self.settings.registry, self.settings.access.secret)
        try:
            await self.store.ping()
        except RegistryUnavailable as error:
            raise StartError(
                f"cannot reach Redis at {mask_url(self.settings.registry.redis_url)}: {error.__cause__}"
            ) from error
        if self._state is not None:
            await self.store.forget_run()
        if prepare is not None:
            await prepare(self.store)
        await self._start_children()
        await self._wait_ready()
        self._ready = True
        for child in self._children:
            self._watch(child)
        if self._redis is not None:
            self._watches[None] = spawn(self._watch_redis(), "watch redis")

    def _bind(self) -> None:
        host, port = self.settings.service.host, self.settings.service.port
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        listener = socket.socket(family, socket.SOCK_STREAM)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listener.bind((host, port))
        except OSError as error:
            listener.close()
            raise StartError(f"cannot listen on {host}:{port}: {error.strerror}; choose another with --port") from error
        listener.listen(1024)
        listener.set_inheritable(True)
        self._socket = listener
        service = structs.replace(self.settings.service, port=listener.getsockname()[1])
        self.settings = structs.replace(self.settings, service=service)

    async def _start_children(self) -> None:
        self._control, self._control_of_children = supervision.pair()
        self._children.append(self.front_ends(self.settings))
        if self._with_workers:
            for number in range(1, self.settings.service.workers + 1):
                self._children.append(self.worker(number, self.settings))
        await asyncio.gather(*(child.start() for child in self._children))

    def _environment(self, settings: Settings) -> dict[str, str]:
        assert self._scratch is not None
        environment = for_process(os.environ, settings.upstreams.stdio_environment)
        figures = str(self._scratch / "figures")
        return {**environment, "GATEWAY_SUPERVISOR_PID": str(os.getpid()), VARIABLE: figures}

    def worker(self, number: int, settings: Settings) -> Child:
        """Return a worker that is to be started."""
        command = [*SAFE_PYTHON, "-m", "worker"]
        return Child(f"worker {number}", command, self._environment(settings), settings=settings)

    def front_ends(self, settings: Settings) -> Child:
        """Return a gunicorn that is to be started, for all front ends."""
        assert self._socket is not None and self._scratch is not None and self._control_of_children is not None
        listening, control = self._socket.fileno(), self._control_of_children.fileno()
        command = [
            *SAFE_PYTHON,
            "-m",
            "gunicorn",
            "-c",
            "python:gateway.supervisor.gunicorn_conf",
            "gateway.app:create",
        ]
        board = Board.make()
        environment = {
            **self._environment(settings),
            RULES: str(board.descriptor),
            "GATEWAY_LISTEN_FD": str(listening),
            supervision.VARIABLE: str(control),
        }
        # gunicorn puts its working directory on the import path, so it starts in a directory of its own.
        inherited = (listening, control, board.descriptor)
        child = Child(FRONT_ENDS, command, environment, inherited, self._scratch, settings)
        child.board = board
        return child

    def take_rules(self, text: str) -> None:
        """Give all front ends other rules of access, those that are still to be started as well."""
        for child in (*self._children, *self._retiring):
            if child.board is not None:
                child.board.write(text)

    async def _wait_ready(self) -> None:
        """Wait until every process has joined the fleet. Raises ``StartError`` if one fails, or after ``_READY_S``."""
        assert self.store is not None
        frontends = Members(self.store, "frontend", self.settings.fleet.heartbeat_ttl_s)
        workers = Members(self.store, "worker", self.settings.fleet.heartbeat_ttl_s)
        deadline = asyncio.get_running_loop().time() + _READY_S
        wanted_workers = self.settings.service.workers if self._with_workers else 0
        while True:
            for child in self._children:
                assert child.process is not None
                if child.process.returncode is not None:
                    await asyncio.sleep(0.1)  # its last lines of stderr are still on their way
                    raise StartError(f"{child.name} could not start: {child.reason}")
            # A shared Redis has front ends of other gateways as well; only those of this supervisor count.
            me = (socket.gethostname(), str(os.getpid()))
            everyone = await frontends.alive()
            up = {id: facts for id, facts in everyone.items() if (facts["host"], facts.get("supervisor")) == me}
            linked = sum(1 for facts in up.values() if int(facts.get("workers", "0")) >= min(1, wanted_workers))
            if (
                len(up) >= self.settings.service.frontends
                and len(await workers.alive()) >= wanted_workers
                and (linked >= 1 or not wanted_workers)
            ):
                return
            if asyncio.get_running_loop().time() > deadline:
                raise StartError(f"the gateway was not ready in {_READY_S:g} s")
            await asyncio.sleep(0.02)

    # ---- afterwards

    @property
    def given(self) -> Settings:
        """The settings as they were given, of the processes that were started last."""
        return self._given

    @property
    def children(self) -> list[Child]:
        """gunicorn, then the workers."""
        return list(self._children)

    @property
    def control(self) -> socket.socket:
        """Where requests of front ends come in (``shared.supervision``)."""
        assert self._control is not None
        return self._control

    def completed(self, given: Settings) -> Settings:
        """Return ``given`` with the admin token of this run, where it needs one and names none."""
        if given.access.admin_token or not self._token_of_run:
            return with_admin_token(given)
        needs = with_admin_token(given).access.admin_token
        token = self._token_of_run if needs else ""
        return structs.replace(given, access=structs.replace(given.access, admin_token=token))

    def running_with(self, given: Settings) -> Settings:
        """Return ``given`` as processes get it that are started beside running ones: what these share stays."""
        now = self.settings
        service = structs.replace(
            given.service,
            host=now.service.host,
            port=now.service.port,
            run_dir=now.service.run_dir,
            state_dir=now.service.state_dir,
            ephemeral=now.service.ephemeral,
        )
        tls = structs.replace(given.tls, tls_cert_file=now.tls.tls_cert_file, tls_key_file=now.tls.tls_key_file)
        registry = structs.replace(given.registry, redis_url=now.registry.redis_url, key_prefix=now.registry.key_prefix)
        return structs.replace(given, service=service, tls=tls, registry=registry)

    def apply(self, given: Settings) -> None:
        """Note the settings that all processes have from now on."""
        self.settings, self._given = self.running_with(given), given

    def _watch(self, child: Child) -> None:
        self._watches[child] = spawn(self.watch(child), f"watch {child.name}")

    async def trial(self, child: Child) -> None:
        """Start a child that is to take the place of another one. It is stopped with the rest, and not watched yet."""
        self._retiring.append(child)
        await child.start()

    async def settle(self, new: Child | None, old: Child | None) -> None:
        """Give ``new`` the place of ``old``, which is watched no longer and to be stopped with ``retire``."""
        if old is not None:
            await cancel(self._watches.pop(old, None))
        if new is not None and new in self._retiring:
            self._retiring.remove(new)
        if old is None:
            assert new is not None
            self._children.append(new)
        else:
            at = self._children.index(old)
            self._children[at : at + 1] = [] if new is None else [new]
            self._retiring.append(old)
        if new is not None:
            self._watch(new)

    async def retire(self, child: Child) -> None:
        """Drain and stop a child whose place is taken, or that could not take one."""
        await child.stop(self._stop_s)
        child.forget()
        if child in self._retiring:
            self._retiring.remove(child)

    @property
    def _stop_s(self) -> float:
        """How long a process may take to drain. gunicorn loses a SIGTERM to a child that is just being forked, so it
        may take all of it. Before requests were served there is nothing to drain."""
        fleet = self.settings.fleet
        return fleet.drain_timeout_s + fleet.drain_delay_s + 10.0 if self._ready else 2.0

    async def watch(self, child: Child) -> None:
        """Replace a child whenever it dies: at once if it had settled, else with backoff; other children go on."""
        fleet, wait_s = self.settings.fleet, 0.0
        loop = asyncio.get_running_loop()
        while True:
            assert child.process is not None
            started = loop.time()
            code = await child.process.wait()
            if self._stopping:
                return
            wait_s = 0.0 if loop.time() - started > SETTLED_S else longer(wait_s, fleet)
            _log.warning("%s ended (code %s: %s); starting another in %.1f s", child.name, code, child.reason, wait_s)
            if child.is_worker:
                spawn(self._report_death(child.process.pid), f"death of {child.name}")
            spawn(self._note_restart(child), f"restart of {child.name}")  # also while Redis does not answer
            await asyncio.sleep(wait_s)
            child.restarts += 1
            wait_s = await persistently(child.start, child.name, wait_s, fleet)

    async def _report_death(self, pid: int) -> None:
        """Have the upstreams of a dead worker taken over as soon as nothing of it runs any more."""
        assert self.store is not None
        ttl_s = self.settings.fleet.heartbeat_ttl_s
        workers = Members(self.store, "worker", ttl_s)
        try:
            alive = await workers.alive()
        except RegistryUnavailable:
            return
        for id, facts in alive.items():
            if (facts.get("host"), facts.get("pid")) == (socket.gethostname(), str(pid)):
                await deaths.report(workers, id, facts.get("address", ""), ttl_s)

    async def _note_restart(self, child: Child) -> None:
        """Count a restart, for ``gateway status``."""
        assert self.store is not None
        with contextlib.suppress(Exception):
            await self.store.redis.hincrby(self.store.keys.restarts, child.name, 1)

    async def _watch_redis(self) -> None:
        """Replace the embedded Redis when it dies. Front ends and workers write back their state without a restart."""
        assert self._redis is not None
        while True:
            assert self._redis.process is not None
            await self._redis.process.wait()
            if self._stopping:
                return
            _log.warning("redis-server ended; starting another")
            wait_s = self.settings.fleet.restart_min_s
            while True:
                await asyncio.sleep(wait_s)
                try:
                    await self._redis.start()
                except StartError as error:
                    wait_s = min(wait_s * 2, self.settings.fleet.restart_max_s)
                    _log.error("%s; trying again in %.1f s", error, wait_s)
                else:
                    break

    def kill(self) -> None:
        """End front ends and workers at once, with what they run; ``stop`` then waits for nothing."""
        self._stopping = True
        for child in (*self._children, *self._retiring):
            child.kill()

    async def stop(self) -> None:
        """Drain and stop front ends, then workers, then Redis."""
        self._stopping = True
        await cancel(*self._watches.values())
        if self._socket is not None:
            self._socket.close()
        wait_s = self._stop_s
        retiring = [asyncio.ensure_future(child.stop(wait_s)) for child in self._retiring]
        for group in (self._children[:1], self._children[1:]):
            await asyncio.gather(*(child.stop(wait_s) for child in group))
        await asyncio.gather(*retiring)
        for control in (self._control, self._control_of_children):
            if control is not None:
                control.close()
        for child in (*self._children, *self._retiring):
            child.forget()
        if self.store is not None:
            await self.store.close()
        if self._redis is not None:
            await self._redis.stop()
        if self._state is not None:
            self._state.close()
        if self._scratch is not None:
            shutil.rmtree(self._scratch, ignore_errors=True)
