"""A rolling restart: every worker and every front end is replaced, one after the other; the new one is ready before the
old one retires.

New processes run the code that is on disk now and have the settings that the file has now. Workers come first, so that
what is new proves itself to front ends that serve. Once a new one has come the old ones are marked, so that upstreams
move to new workers only, once each. Front ends share one socket: the new gunicorn grows by one and the old one shrinks
by one (SIGTTIN, SIGTTOU) until nothing is left of the old one. If a process does not become ready, what it should have
replaced stays, and so does everything after it.

``Restarts`` hears who asks: a front end (the admin API), a signal, or Python. What happens is written to Redis
(``shared.registry.rolls``), where front ends read it for whoever asked.
"""

from __future__ import annotations

import asyncio
import logging
import os
import secrets
import signal
import socket
import time
from collections.abc import Awaitable, Callable
from functools import partial

from gateway.supervisor.lifecycle import FIXED, Child, Supervisor
from gateway.supervisor.start_checks import check_start
from shared import supervision
from shared.errors import GatewayError, RegistryUnavailable, RestartRefused, StartError
from shared.models import ServerStatus, now_s
from shared.registry.members import LEAVING, RETIRING, Members
from shared.registry.rolls import Roll, Rolls, RollStep
from shared.registry.store import RegistryStore
from shared.settings import KNOBS, Settings
from shared.tasks import cancel, spawn
from shared.transports import traits

_log = logging.getLogger(__name__)
_READY_S = 60.0
"""How long a new process may take until it is ready."""
_SETTLED_S = 60.0
"""How long upstreams that moved may take to connect before the next worker is replaced all the same."""
_LOOK_S = 0.05
Facts = dict[str, str]


def changed_settings(before: Settings, after: Settings) -> list[str]:
    """Return the names of the settings that differ, as they are written in a file."""
    return sorted(
        key
        for key, knob in KNOBS.items()
        if getattr(getattr(before, knob.section), knob.field) != getattr(getattr(after, knob.section), knob.field)
    )


class Restarts:
    """Takes requests for a restart, one at a time. ``reread`` returns the settings as they are now, and raises
    ``ConfigError``; ``restarted`` is called after each restart that went through."""

    def __init__(
        self,
        supervisor: Supervisor,
        reread: Callable[[], Settings],
        restarted: Callable[[], None] = lambda: None,
        say: Callable[[RollStep], None] = lambda step: None,
    ) -> None:
        assert supervisor.store is not None
        self._supervisor = supervisor
        self._store = supervisor.store
        self._rolls = Rolls(supervisor.store, f"{socket.gethostname()}:{os.getpid()}")
        self._reread = reread
        self._restarted = restarted
        self._say = say
        self._running: asyncio.Task[Roll] | None = None
        asyncio.get_running_loop().add_reader(supervisor.control, self._heard)

    def _heard(self) -> None:
        for id in supervision.asked(self._supervisor.control):
            self.begin(id)

    def begin(self, id: str = "") -> asyncio.Task[Roll]:
        """Start a restart, or return the one that is under way."""
        if self._running is None or self._running.done():
            self._running = spawn(self._run(id or secrets.token_hex(8)), "rolling-restart")
        return self._running

    async def run(self) -> Roll:
        """Replace every process. Raises ``RestartRefused`` if that is under way already, and ``StartError`` or
        ``ConfigError`` with the reason if it could not be done."""
        if self._running is not None and not self._running.done():
            raise RestartRefused("a restart is under way")
        roll = await asyncio.shield(self.begin())
        if roll.error:
            raise StartError(roll.error)
        return roll

    async def _run(self, id: str) -> Roll:
        roll = Roll(id, began_at=now_s())
        try:
            given = self._supervisor.completed(await asyncio.to_thread(self._reread))
            check_start(given)
            roll.changed = changed_settings(self._supervisor.given, given)
            roll.not_applied = [key for key in roll.changed if key in FIXED]
            roll.changed = [key for key in roll.changed if key not in FIXED]
            await _Rolling(self._supervisor, self._store, roll, given, self._note).run()
        except GatewayError as error:
            roll.state, roll.error = "failed", str(error)
            _log.error("the restart ended early: %s", error)
        except Exception as error:  # whoever asked must hear of it
            roll.state, roll.error = "failed", f"{type(error).__name__}: {error}"
            raise
        else:
            roll.state = "done"
            self._restarted()
        finally:
            if roll.state == "running":
                roll.state, roll.error = "failed", "the gateway is stopping"
            roll.ended_at = now_s()
            await self._write(roll)
        return roll

    async def _note(self, roll: Roll, step: RollStep | None) -> None:
        if step is not None:
            self._say(step)
        await self._write(roll)

    async def _write(self, roll: Roll) -> None:
        try:
            await self._rolls.write(roll)
        except RegistryUnavailable as error:
            _log.warning("who asked for the restart will not hear of it: %s", error)

    async def close(self) -> None:
        """Hear no more requests, and give a restart up that is under way."""
        asyncio.get_running_loop().remove_reader(self._supervisor.control)
        await cancel(self._running)


class _Rolling:
    """One restart."""

    def __init__(
        self,
        supervisor: Supervisor,
        store: RegistryStore,
        roll: Roll,
        given: Settings,
        note: Callable[[Roll, RollStep | None], Awaitable[None]],
    ) -> None:
        ttl_s = supervisor.settings.fleet.heartbeat_ttl_s
        self._supervisor = supervisor
        self._store = store
        self._roll = roll
        self._given = given
        self._settings = supervisor.running_with(given)
        self._report = note
        self._workers = Members(store, "worker", ttl_s)
        self._frontends = Members(store, "frontend", ttl_s)
        self._marked: list[tuple[Members, str]] = []
        self._began = 0.0

    async def run(self) -> None:
        """Replace everything. Raises ``StartError``."""
        gunicorn, *old = self._supervisor.children
        service = self._settings.service
        count = service.workers if old else 0  # 'gateway serve' has none
        self._roll.steps = [
            *(RollStep(f"worker {number + 1}") for number in range(max(count, len(old)))),
            *(RollStep(f"front end {number + 1}") for number in range(service.frontends)),
        ]
        await self._report(self._roll, None)
        try:
            for number in range(max(count, len(old))):
                before = old[number] if number < len(old) else None
                await self._replace_worker(self._roll.steps[number], number, before, old[number:], number < count)
            await self._replace_front_ends(gunicorn, self._roll.steps[-service.frontends :])
            self._supervisor.apply(self._given)
        finally:
            await self._unmark()

    # ---- workers

    async def _replace_worker(
        self, step: RollStep, number: int, before: Child | None, old: list[Child], wanted: bool
    ) -> None:
        """Start a worker, if one is ``wanted`` in this place, and drain the one ``before``. ``old`` are those that are
        still to be replaced."""
        new = None
        connected = await self._connected()
        if wanted:
            new = self._supervisor.worker(number + 1, self._settings)
            await self._start(step, new, partial(self._worker_ready, new))
        try:
            pids = {str(child.process.pid) for child in old if child.process is not None}
            await self._mark(self._workers, pids, "pid")
        except RegistryUnavailable:
            if new is not None:
                await self._supervisor.retire(new)
            raise
        await self._supervisor.settle(new, before)
        if before is not None:
            await self._become(step, "draining")
            await self._children_moved(before)
            await self._supervisor.retire(before)
            await self._settled(connected)
        await self._become(step, "replaced" if new is not None else "removed")

    async def _worker_ready(self, child: Child) -> int:
        """Return the pid of a new worker once it has joined and every front end here is linked to it, else 0."""
        assert child.process is not None
        me = (socket.gethostname(), str(child.process.pid))
        links = len(await self._own_front_ends())
        for facts in (await self._workers.alive()).values():
            if (facts.get("host"), facts.get("pid")) == me and int(facts.get("links") or 0) >= links:
                return child.process.pid
        return 0

    async def _children_moved(self, worker: Child) -> None:
        """Have a worker hand its stdio upstreams over while it still takes calls. One at which a call is always under
        way stays, and moves while the worker drains."""
        assert worker.process is not None
        me = (socket.gethostname(), str(worker.process.pid))
        deadline = time.monotonic() + self._settings.fleet.drain_timeout_s
        try:
            alive = await self._workers.alive()
            id = next((id for id, facts in alive.items() if (facts.get("host"), facts.get("pid")) == me), "")
            await self._workers.mark(id, LEAVING, "1")
            while not worker.ended and time.monotonic() < deadline:
                owned = [one for one in (await self._store.load_all()).values() if one.owner(0) == id]
                if not any(traits(one.spec.transport).runs_once for one in owned):
                    return
                await asyncio.sleep(_LOOK_S * 4)
        except RegistryUnavailable as error:
            _log.debug("what is idle moves when the worker drains: %s", error)

    async def _connected(self) -> set[str]:
        try:
            records = await self._store.load_all()
        except RegistryUnavailable:
            return set()
        return {id for id, record in records.items() if record.status is ServerStatus.CONNECTED}

    async def _settled(self, connected: set[str]) -> None:
        """Wait until the upstreams that were ``connected``, and moved, are so again, or have failed."""
        moving = (ServerStatus.CONNECTING, ServerStatus.REGISTERED)
        deadline = time.monotonic() + _SETTLED_S
        while time.monotonic() < deadline:
            try:
                records = await self._store.load_all()
                alive = await self._workers.alive()
            except RegistryUnavailable:
                return
            left = [records[id] for id in connected if id in records]
            if not any(one.status in moving or not any(owner in alive for _, owner in one.owners) for one in left):
                return
            await asyncio.sleep(_LOOK_S * 4)

    # ---- front ends

    async def _replace_front_ends(self, old: Child, steps: list[RollStep]) -> None:
        """Start a gunicorn beside the old one; it takes one front end after the other over."""
        supervisor = self._supervisor
        new = supervisor.front_ends(self._settings)
        whole = new.command
        new.command = [*whole[:-1], "--workers", "1", whole[-1]]
        left = supervisor.settings.service.frontends
        shrunk = 0
        try:
            for number, step in enumerate(steps, 1):
                ready = partial(self._front_end_ready, new, number)
                if number == 1:
                    await self._start(step, new, ready)
                    assert old.process is not None
                    await self._mark(self._frontends, {str(old.process.pid)}, "master")
                else:
                    self._signal(new, signal.SIGTTIN)
                    await self._ready(step, new, ready)
                if left - shrunk > 1:
                    self._signal(old, signal.SIGTTOU)
                    shrunk += 1
                    await self._become(step, "replaced")
        except BaseException:
            for _ in range(shrunk):
                self._signal(old, signal.SIGTTIN)
            await supervisor.retire(new)
            raise
        new.command = whole  # if it dies, the next one has all of them at once
        await supervisor.settle(new, old)
        await self._become(steps[-1], "draining")
        await supervisor.retire(old)
        for step in steps:
            if step.state != "replaced":
                await self._become(step, "replaced")

    def _signal(self, child: Child, which: signal.Signals) -> None:
        if child.process is not None and not child.ended:
            child.process.send_signal(which)

    async def _front_end_ready(self, child: Child, number: int) -> int:
        """Return the pid of the youngest front end of a gunicorn once it has ``number`` of them that reach as many
        workers as the others do, else 0."""
        assert child.process is not None
        here = await self._own_front_ends()
        links = {id: int(facts.get("workers") or 0) for id, facts in here.items()}
        mine = {id for id, facts in here.items() if facts.get("master") == str(child.process.pid)}
        wanted = max((count for id, count in links.items() if id not in mine), default=0)
        wanted = min(wanted, len(await self._workers.alive()))
        ready = [id for id in mine if links[id] >= wanted]
        if len(ready) < number:
            return 0
        youngest = max(ready, key=lambda id: float(here[id].get("started_at") or 0))
        return int(here[youngest]["pid"])

    async def _own_front_ends(self) -> dict[str, Facts]:
        me = (socket.gethostname(), str(os.getpid()))
        alive = await self._frontends.alive()
        return {id: facts for id, facts in alive.items() if (facts.get("host"), facts.get("supervisor")) == me}

    # ---- both

    async def _start(self, step: RollStep, child: Child, ready: Callable[[], Awaitable[int]]) -> None:
        """Start a child and wait until it is ready. One that is not is stopped. Raises ``StartError``."""
        try:
            await self._supervisor.trial(child)
            await self._ready(step, child, ready)
        except BaseException:
            await self._supervisor.retire(child)
            raise

    async def _ready(self, step: RollStep, child: Child, ready: Callable[[], Awaitable[int]]) -> None:
        """Wait until ``ready`` returns a pid. Raises ``StartError`` if the child ends, or takes too long."""
        await self._become(step, "starting")
        deadline = time.monotonic() + _READY_S
        while True:
            assert child.process is not None
            if child.ended:
                await asyncio.sleep(0.1)  # its last lines of stderr are still on their way
                why = f"the new one ended (code {child.process.returncode}: {child.reason})"
                break
            try:
                if pid := await ready():
                    step.pid = pid
                    return
            except RegistryUnavailable as error:
                _log.debug("waiting for Redis: %s", error)
            if time.monotonic() > deadline:
                why = f"the new one was not ready in {_READY_S:g} s ({child.reason})"
                break
            await asyncio.sleep(_LOOK_S)
        await self._become(step, "failed")
        raise StartError(f"{step.process} was not replaced: {why}; the old ones that are left go on")

    async def _become(self, step: RollStep, state: str) -> None:
        if state == "starting":
            self._began = time.monotonic()
        step.state = state  # type: ignore[assignment]
        step.took_s = round(time.monotonic() - self._began, 2)
        _log.info("restart: %s %s%s", step.process, state, f" (new pid {step.pid})" if step.pid else "")
        await self._report(self._roll, step)

    async def _mark(self, members: Members, values: set[str], field: str) -> None:
        """Mark our processes whose fact ``field`` is one of ``values`` as about to be replaced."""
        known = {id for _, id in self._marked}
        for id, facts in (await members.alive()).items():
            if facts.get("host") == socket.gethostname() and facts.get(field) in values and id not in known:
                self._marked.append((members, id))
                await members.mark(id, RETIRING, "1")

    async def _unmark(self) -> None:
        """Take the marks from processes that stay."""
        for members, id in self._marked:
            try:
                await members.mark(id, RETIRING, "")
            except RegistryUnavailable:
                return
