"""Tasks that modern upstreams make of calls (``io.modelcontextprotocol/tasks``), towards every client.

A client that declares the extension gets the task, under an id of the gateway's that leads back to the upstream
(``shared.task_ids``). For any other client the gateway waits: ``bridge.waited`` decides what is to be done for that,
and ``task_wait`` does it. An upstream that refuses such a client's call because it needs the extension (-32021) gets
the call again in the modern era, with the extension declared by the gateway; it has not run it the first time. One of
the handshake era that needs a task of 2025-11-25 gets the call as one (``legacy_tasks``); a client that declares the
extension gets that task too, which this worker keeps for it (``held_task``).

Counterpart: ``gateway.fleet.known_tasks``.
"""

from __future__ import annotations

import asyncio
import os
from collections import Counter
from collections.abc import Mapping

from msgspec import Raw

from shared import task_ids
from shared.errors import Refused
from shared.mcp import jsonrpc, tasks
from shared.mcp.methods import TOOLS_CALL
from shared.mcp.versions import Era
from shared.metrics.tally import Tally
from shared.secrets import FleetKey
from shared.task_ids import TaskId
from shared.tasks import Deadlines
from worker.bridge import waited
from worker.calls.link_call import LinkCall
from worker.input.held_task import LIFE_S, HeldTask
from worker.input.legacy_tasks import LegacyTaskWait, insists_on_task
from worker.input.task_wait import TaskWait


class Tasks:
    """What the worker knows of tasks: how their ids are sealed, and those of handshake-era upstreams that it keeps for
    clients, at most ``max_kept`` of one principal."""

    def __init__(self, key: FleetKey, deadlines: Deadlines, worker: str = "", max_kept: int = 1000) -> None:
        self._key = key
        self._deadlines = deadlines
        self._worker = worker
        self._max_kept = max_kept
        self._held: dict[str, HeldTask] = {}
        self._held_by: Counter[str] = Counter()
        self.tally = Tally("gateway_tasks", "Tasks that upstreams made of calls, and who waits for them", ("waits",))

    @property
    def kept(self) -> int:
        """How many tasks are kept here."""
        return len(self._held)

    def take(self, call: LinkCall) -> bool:
        """Take a request about a task. Return true if it is answered here, and false if it can be sent to the upstream:
        then the upstream's id is in place of the client's. Raises ``Refused``."""
        id = tasks.id_in(call.params)
        task = task_ids.unseal(self._key, id, call.client.principal)
        if task is None or task.upstream != call.upstream:
            raise Refused("invalid_params", "unknown task")  # the front end has checked this
        if task.worker:
            self._answer(call, id, self._held.get(task.own))
            return True
        call.params = tasks.with_id(call.params, task.own)
        call.name = task.own
        call.task = id
        return False

    # ---- tasks that are kept here

    @staticmethod
    def _answer(call: LinkCall, id: str, held: HeldTask | None) -> None:
        if held is None:
            raise Refused("invalid_params", "unknown task: it is over for long, or its worker has ended")
        if call.method == tasks.GET:
            call.complete(False, held.document(id, resultType="complete"))
            return
        if call.method == tasks.UPDATE:
            held.update(jsonrpc.members(jsonrpc.members(call.params).get("inputResponses", jsonrpc.ABSENT)))
        else:
            held.cancel()
        call.complete(False, b'{"resultType":"complete"}')

    def _keep(self, call: LinkCall, created: Mapping[str, Raw]) -> HeldTask:
        """Answer a call with the task that a handshake-era upstream has made of it, and keep the task."""
        own, principal = os.urandom(12).hex(), call.client.principal
        held = self._held[own] = HeldTask(own, call, created, self._forget)
        self._held_by[principal] += 1
        self._deadlines.add(held)
        self.tally.count("client")
        id = task_ids.seal(self._key, TaskId(call.upstream, principal, own, call.name, self._worker))
        call.complete(False, held.document(id, resultType="task"))
        return held

    def _forget(self, held: HeldTask) -> None:
        if self._held.pop(held.id, None) is not None:
            self._held_by[held.client.principal] -= 1
            self._held_by += Counter()  # without those that have none left

    def answered(self, call: LinkCall, is_error: bool, raw: bytes) -> bytes | None:
        """Return a modern upstream's answer as the client gets it, or ``None`` if the call goes on. Raises
        ``CallError``."""
        if call.method in tasks.METHODS:
            named = not is_error and b'"taskId"' in raw and isinstance(call.task, str)
            return tasks.with_id(raw, str(call.task)) if named else raw
        if call.method != TOOLS_CALL:
            return raw
        wait, session = call.task if isinstance(call.task, TaskWait) else None, call.carrier
        if is_error:
            if wait is None and call.upstream_era == Era.LEGACY and insists_on_task(raw, session):
                assert session is not None
                kept = self._is_declared(call) and self._held_by[call.client.principal] < self._max_kept
                keep = self._keep if kept and self._worker else None
                call.task = legacy = LegacyTaskWait(call, session, self._deadlines, keep)
                left_s = call.hard_limit - asyncio.get_running_loop().time()
                legacy.start(left_s if keep is None else LIFE_S)
                return None
            if wait is not None or not _needs_extension(raw) or self._is_declared(call):
                return raw
            session = session.modern() if session is not None else None
            if session is None:
                return raw
            call.task = wait = TaskWait(call, session, self._deadlines)
            wait.declare(call)
            return None
        created = waited.read_created(raw)
        if created is None or session is None:
            return raw
        own = jsonrpc.text(created["taskId"], "taskId")
        if wait is None and self._is_declared(call):
            self.tally.count("client")
            task = TaskId(call.upstream, call.client.principal, own, call.name)
            return tasks.with_id(raw, task_ids.seal(self._key, task))
        call.task = wait = wait or TaskWait(call, session, self._deadlines)
        self.tally.count("gateway")
        wait.begin(own, created)
        return None

    @staticmethod
    def _is_declared(call: LinkCall) -> bool:
        call.learn_client()
        return call.era == Era.MODERN and tasks.declares(call.client.capabilities)


def _needs_extension(error: bytes) -> bool:
    """Whether an error says that the client must declare the extension."""
    if b"-32021" not in error or tasks.EXTENSION.encode() not in error:
        return False
    try:
        return bytes(jsonrpc.members(error).get("code", b"")) == b"-32021"
    except Refused:
        return False
