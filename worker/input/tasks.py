"""Tasks that modern upstreams make of calls (``io.modelcontextprotocol/tasks``), towards every client.

A client that declares the extension gets the task, under an id of the gateway's that leads back to the upstream
(``shared.task_ids``). For any other client the gateway waits: ``bridge.waited`` decides what is to be done for that,
and ``task_wait`` does it. An upstream that refuses such a client's call because it needs the extension (-32021) gets
the call again in the modern era, with the extension declared by the gateway; it has not run it the first time. One of
the handshake era that needs a task of 2025-11-25 gets the call as one (``legacy_tasks``).

Counterpart: ``gateway.fleet.known_tasks``.
"""

from __future__ import annotations

import asyncio

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
from worker.input.legacy_tasks import LegacyTaskWait, insists_on_task
from worker.input.task_wait import TaskWait


class Tasks:
    """What the worker knows of tasks: how their ids are sealed. Tasks themselves are not kept."""

    def __init__(self, key: FleetKey, deadlines: Deadlines) -> None:
        self._key = key
        self._deadlines = deadlines
        self.tally = Tally("gateway_tasks", "Tasks that upstreams made of calls, and who waits for them", ("waits",))

    def prepare(self, call: LinkCall) -> None:
        """Put the upstream's id in place of the client's, in a request about a task. Raises ``Refused``."""
        id = tasks.id_in(call.params)
        task = task_ids.unseal(self._key, id, call.client.principal)
        if task is None or task.upstream != call.upstream:
            raise Refused("invalid_params", "unknown task")  # the front end has checked this
        call.params = tasks.with_id(call.params, task.own)
        call.name = task.own
        call.task = id

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
                call.task = legacy = LegacyTaskWait(call, session, self._deadlines)
                legacy.start(call.hard_limit - asyncio.get_running_loop().time())
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
