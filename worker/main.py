"""Composition root of the worker process: ``python -m worker`` (or ``gateway worker``).

Starts the reaper, listens for front ends, joins the registry, claims upstreams and sends heartbeats. On SIGTERM the
worker drains: it takes no more calls, lets running ones finish (bounded), hands its upstreams over, and leaves.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import secrets
import signal
import socket
import sys
import tempfile
from pathlib import Path
from typing import ClassVar

from shared import logs, memory
from shared.child_environment import for_child, for_process
from shared.errors import GatewayError, RegistryUnavailable
from shared.handover import received
from shared.metrics.families import Family, Sample, gauge
from shared.metrics.instance_directory import VARIABLE
from shared.metrics.publisher import Publisher
from shared.models import now_s
from shared.registry.changes import ChangeFollower
from shared.registry.credentials import CredentialStore
from shared.registry.members import Members
from shared.registry.records import UpstreamRecord
from shared.registry.store import RegistryStore
from shared.rpc.link_tls import OFFER
from shared.safe_python import SAFE_PYTHON
from shared.seclusion import keep_descriptors, seclude
from shared.secrets import FleetKey
from shared.settings import Settings
from shared.tasks import Deadlines, cancel, spawn, tick
from shared.tracing.tracing import FLUSH_S, check_traces, tracing
from shared.version import VERSION
from worker import reaper
from worker.calls import access_log
from worker.calls.observer import CallObserver, Counters
from worker.calls.traces import Traces
from worker.front_ends import FrontEnds
from worker.input.broker import InputBroker
from worker.input.unsolicited import UnsolicitedMessages
from worker.life import Life
from worker.metrics_port import MetricsPort
from worker.ownership.inventory import Inventory
from worker.ownership.placement import Placement
from worker.ownership.reconciliation import Reconciliation
from worker.rpc_server import RpcServer
from worker.transports.confinement import check_user

_log = logging.getLogger(__name__)
_SILENT = 0.6
"""The share of ``heartbeatTtl`` for which a worker's loop may stand still before the reaper kills its children."""
_STALE = 0.4
"""The share of ``heartbeatTtl`` after which a worker without a successful heartbeat ends its children itself
(``stdioOnRedisLoss: stop``), while it still counts as alive."""

_HOPES, _ASK_AGAIN_S = 0.5, 0.1
"""The share of ``drainTimeout`` for which a worker that is to leave serves on while Redis is away, and how often it
asks whether Redis is back."""


class Worker:
    """One worker. Its id is its incarnation: random, new at every start. It drains when ``stopping`` is set."""

    FIGURES: ClassVar = {
        "gateway_worker_in_flight": "Calls of front ends under way in workers",
        "gateway_worker_links": "Links from front ends",
        "gateway_parked_calls": "Calls that wait for input of their clients",
    }
    """What a worker holds, as gauges without labels."""

    def __init__(self, settings: Settings, store: RegistryStore, key: FleetKey, stopping: asyncio.Event) -> None:
        self.settings = settings
        self.id = secrets.token_hex(6)
        self.started_at = self.joined_at = now_s()
        self.store = store
        self.members = Members(self.store, "worker", settings.fleet.heartbeat_ttl_s)
        loop_time = asyncio.get_running_loop().time
        self.counters = Counters(settings.telemetry.metrics_max_tools, loop_time)
        self.figures = Publisher("worker", self.id, self._counted, list, store, settings.fleet.heartbeat_ttl_s)
        self.metrics_port = MetricsPort(settings, self.figures.instance)
        self.deadlines = deadlines = Deadlines(asyncio.get_running_loop().time)
        self.front_ends = FrontEnds()
        self._tracing = tracing(settings, "worker", self.id)
        traces = Traces(self._tracing, self.counters, loop_time) if self._tracing is not None else None
        observer: CallObserver = traces or self.counters
        broker = InputBroker(self.id, key, settings, deadlines, traces=traces)
        unsolicited = UnsolicitedMessages(broker, deadlines, settings, self.front_ends)
        self._lines = logs.Lines("worker.access", *access_log.NAMES)
        if settings.telemetry.access_log:
            observer = access_log.AccessLog(self._lines, observer, loop_time)
        credentials = CredentialStore(store, key)
        self.inventory = Inventory(self.store, self.id, settings, unsolicited, observer, credentials, self._may_start)
        self.rpc = RpcServer(self.id, key, settings, self.front_ends, broker, unsolicited, self.inventory, deadlines)
        self.follower = ChangeFollower(self.store, self)
        self.placement = Placement(
            self.store, self.members, self.inventory, self.id, settings, lambda: self.follower.available
        )
        self.reconciliation = Reconciliation(self.store, self.inventory, self._be_known, self.placement.wake.set)
        self.stopping = stopping
        self._beaten_at = asyncio.get_running_loop().time()
        self._stopping_stdio: asyncio.Task[None] | None = None
        self._reaper: asyncio.subprocess.Process | None = None
        self._scratch = ""
        self._path = self._socket_path()
        self._life: Life | None = None

    # ---- shared.registry.changes.Follower

    def on_snapshot(self, records: dict[str, UpstreamRecord]) -> None:
        if self.follower.ready.is_set():
            self.placement.settle()  # Redis may have been emptied, also without having been away
        self.reconciliation.snapshot(records)

    def on_upstreams(self, records: dict[str, UpstreamRecord | None], announced: dict[str, set[str]]) -> None:
        self.reconciliation.changes(records)

    def on_member(self, kind: str, id: str) -> None:
        if kind == "worker":
            self.placement.look()
        elif kind == logs.LOG_LEVEL:
            logs.set_level(id)
            _log.info("this process logs at %s from now on", logs.level())
        else:
            self.inventory.hint(kind, id)

    def on_session_ended(self, sid: str, sequence: int) -> None:
        self.rpc.end_session(sid)

    def on_connection(self, available: bool) -> None:
        """Do nothing: what is owned is served on, and a snapshot follows when Redis answers again."""

    # ---- life

    async def run(self) -> None:
        """Run until ``stopping`` is set, then drain."""
        self._life = Life(self._path, self._rejoin)
        await self._start_reaper()
        await self.rpc.start(self._path)
        if VARIABLE not in os.environ:  # front ends of the same instance show this worker's figures
            await self.metrics_port.start()
        await self.members.join(self.id, self._facts())
        self.figures.start()
        if self._tracing is not None:
            self._tracing.exporter.start()
        tasks = [
            spawn(self.deadlines.run(), "deadlines"),
            spawn(self._stay_alive(), "alive"),
            spawn(self.follower.run(), "follow-changes"),
        ]
        beating = spawn(self._beat(), "heartbeat")
        await self.follower.ready.wait()
        placing = spawn(self.placement.run(), "placement")
        memory.tune()
        _log.info("worker %s is up (pid %d)", self.id, os.getpid())
        await self.stopping.wait()
        await self._drain(tasks, beating, placing)

    def _socket_path(self) -> Path:
        directory = self.settings.service.run_dir
        if not directory:
            directory = self._scratch = tempfile.mkdtemp(prefix="gateway-worker-")
        return Path(directory) / f"{self.id}.sock"

    def _facts(self) -> dict[str, str]:
        return {
            "incarnation": self.id,
            "address": self.rpc.unix_address,
            "tcp": self.rpc.tcp_address,
            OFFER: self.rpc.offer,
            "pid": str(os.getpid()),
            "host": socket.gethostname(),
            "started_at": str(self.started_at),
            "joined_at": str(self.joined_at),
            "version": VERSION,
            "load": str(self.front_ends.in_flight),
            "links": str(len(self.front_ends.peers)),
            "calls": str(self.counters.calls),
            "errors": str(self.counters.errors),
            "failures": str(self.counters.failures),
            "parked": str(self.rpc.broker.parked),
            "draining": "1" if self.rpc.draining else "0",
        }

    def _counted(self) -> list[Family]:
        found = self.counters.families()
        values = (self.front_ends.in_flight, len(self.front_ends.peers), self.rpc.broker.parked)
        for (name, text), value in zip(self.FIGURES.items(), values, strict=True):
            family = gauge(name, text)
            family.samples.append(Sample((), value))
            found.append(family)
        links = self.rpc.traffic.families("worker")
        return [*found, *links, self.rpc.broker.tasks.tally.family, *self.inventory.figures()]

    async def _be_known(self) -> None:
        """Renew this worker's record, or join anew if Redis has it no more. Raises ``RegistryUnavailable``."""
        if not await self.members.beat(self.id, self._facts()):
            self.placement.settle()  # this process stood still, or Redis was emptied: others may have to join as well
            self.joined_at = now_s()  # others counted us as dead: join as a new worker, and get a share as one
            self.inventory.was_cut_off()
            await self.members.join(self.id, self._facts())

    async def _rejoin(self) -> None:
        """Join as of now: this process stood still, and others may take it for dead. Raises ``RegistryUnavailable``."""
        self.joined_at = now_s()
        await self._be_known()

    async def _may_start(self) -> bool:
        """Whether this worker may start a child for an upstream that it owns. Raises ``RegistryUnavailable``."""
        return self._life is None or await self._life.counts()

    async def _beat(self) -> None:
        """Send a heartbeat, write batched reports and do housekeeping, once every ``heartbeat_s``."""
        loop = asyncio.get_running_loop()
        failed = False
        while True:
            try:
                began = loop.time()
                if failed:
                    self.placement.settle()  # those of others failed as well, perhaps for longer
                await self._may_start()  # or it stood still, and takes back its lock
                await self._be_known()
                self._beaten_at, failed = began, False
                if self._stopping_stdio is not None and self._stopping_stdio.done():
                    self._stopping_stdio = None
                    self.inventory.start_stdio()
                await self.inventory.flush()
            except RegistryUnavailable:
                failed = True
                self.placement.settle()
            except Exception:  # without heartbeats the others would count us as dead
                _log.exception("a heartbeat failed")
            self.inventory.trim()
            if self._orphaned:
                _log.warning("the supervisor is gone; stopping")
                self.stopping.set()
            await tick(self.settings.fleet.heartbeat_s)

    @property
    def _orphaned(self) -> bool:
        """Whether the supervisor that started this worker is gone, and everything ends."""
        supervised = os.environ.get("GATEWAY_SUPERVISOR_PID")
        return bool(supervised) and str(os.getppid()) != supervised

    def _guard_stdio(self) -> None:
        """Stop the stdio children before other workers start them elsewhere (``stdioOnRedisLoss: stop``).

        Other workers count this one as dead once its last heartbeat is ``heartbeatTtl`` old, and then start its
        children. The children here end before that, whether Redis refuses or hangs.
        """
        old_s = asyncio.get_running_loop().time() - self._beaten_at
        fleet = self.settings.fleet
        if (
            self.settings.upstreams.stdio_on_redis_loss == "stop"
            and self._stopping_stdio is None
            and old_s > max(fleet.heartbeat_ttl_s * _STALE, 1.5 * fleet.heartbeat_s)
        ):
            _log.warning("no heartbeat reached Redis for %.1f s; stopping stdio upstreams (stdioOnRedisLoss)", old_s)
            self._stopping_stdio = spawn(self.inventory.stop_stdio(), "stop-stdio")

    async def _stay_alive(self) -> None:
        """Show the reaper and the RPC server that the loop runs. After a stall, drop links whose calls are stale."""
        while True:
            if self.rpc.stalled():
                _log.warning("this process stood still; dropping links instead of running stale calls")
                self.front_ends.drop()
                self.joined_at = now_s()
            self.rpc.alive()
            self._guard_stdio()
            if self._reaper is not None and self._reaper.stdin is not None:
                if self._reaper.returncode is not None:
                    _log.warning("the reaper died; starting another")
                    with contextlib.suppress(OSError):  # no descriptor is free, for now: calls go on meanwhile
                        await self._start_reaper()
                else:
                    self._reaper.stdin.write(b".")
            await tick(0.25)

    async def _start_reaper(self) -> None:
        assert self._life is not None
        silence_s = max(1.0, self.settings.fleet.heartbeat_ttl_s * _SILENT)
        self._reaper = await asyncio.create_subprocess_exec(
            *(*SAFE_PYTHON, "-S", reaper.__file__, self.id, str(silence_s), str(self._life.descriptor)),
            stdin=asyncio.subprocess.PIPE,
            pass_fds=(self._life.descriptor,),  # as long as it lives, children may live
            env=for_child(os.environ, ()),  # children can read the reaper's environment
        )

    async def _serve_on(self, until: float) -> None:
        """Go on as before while Redis does not answer, as no other worker could take over what this one has, but no
        longer than ``until`` (loop time)."""
        loop = asyncio.get_running_loop()
        others = any(worker != self.id for worker in self.placement.workers)
        while others and self.inventory.holds_any and not self._orphaned and loop.time() < until:
            try:
                await self.store.ping()
                return
            except RegistryUnavailable:
                await asyncio.sleep(_ASK_AGAIN_S)

    async def _drain(
        self, tasks: list[asyncio.Task[None]], beating: asyncio.Task[None], placing: asyncio.Task[None]
    ) -> None:
        loop = asyncio.get_running_loop()
        deadline = loop.time() + self.settings.fleet.drain_timeout_s
        await self._serve_on(loop.time() + self.settings.fleet.drain_timeout_s * _HOPES)
        _log.info("worker %s drains: %d calls in flight", self.id, self.front_ends.in_flight)
        self.rpc.go_away()
        self.inventory.draining = True
        await cancel(placing)
        with contextlib.suppress(RegistryUnavailable):
            await self.members.beat(self.id, self._facts())
        with contextlib.suppress(RegistryUnavailable):
            await self.placement.leave(all_of_them=False)  # new calls go to the other workers from now on
        children = spawn(self.placement.leave_children(), "leave-children")
        while (self.front_ends.in_flight or self.rpc.broker.parked) and loop.time() < deadline:
            await asyncio.sleep(0.02)
        await cancel(children)
        with contextlib.suppress(RegistryUnavailable):
            await self.placement.leave()
        await self.inventory.close()
        if self._tracing is not None:
            await self._tracing.exporter.close(min(FLUSH_S, self.settings.fleet.drain_timeout_s))
        self._lines.flush()
        self.metrics_port.close()
        await self.figures.stop()
        await cancel(beating)  # a heartbeat after the record is gone would write another one
        with contextlib.suppress(RegistryUnavailable):
            await self.inventory.flush()
            await self.members.leave(self.id)
        await cancel(*tasks)
        await self.reconciliation.close()
        await self.rpc.close()
        await self.follower.close()
        await self.store.close()
        if self._reaper is not None and self._reaper.stdin is not None:
            self._reaper.stdin.close()
            await self._reaper.wait()
        if self._life is not None:
            self._life.drop()
        if self._scratch:
            with contextlib.suppress(OSError):
                os.rmdir(self._scratch)


async def _run(settings: Settings) -> None:
    stopping = asyncio.Event()
    loop = asyncio.get_running_loop()
    for which in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):  # a worker has no file to read again on SIGHUP
        loop.add_signal_handler(which, stopping.set)
    store = RegistryStore(settings.registry, settings.access.secret)
    await store.ping()
    await Worker(settings, store, await store.fleet_key(), stopping).run()


def main() -> int:
    """Run the worker. Return exit code 0 after a drain, 1 if it could not start, 2 for wrong settings."""
    import uvloop

    try:
        settings = received()
        keep_descriptors()
        check_user(settings.upstreams)
        check_traces(settings)
        seclude(for_process(os.environ, settings.upstreams.stdio_environment))
        logs.configure("worker", settings.service.log_level, settings.telemetry.log_format)
        uvloop.run(_run(settings))
    except GatewayError as error:
        print(f"worker: {error}", file=sys.stderr)
        return 2 if error.code == "config" else 1
    return 0
