"""The ids by which clients know tasks: sealed, so that any front end finds the upstream that has the task.

A worker seals the id when an upstream answers that it made a task (``worker.input.tasks``). A front end reads the
seal to route what a client asks about the task (``gateway.fleet.known_tasks``). Nothing about a task is stored, so ids
outlive restarts of front ends, and of workers too unless a worker keeps the task.
"""

from __future__ import annotations

from msgspec import Struct

from shared.errors import CallError
from shared.secrets import FleetKey

MAX_OWN_ID = 1024
"""The longest id of an upstream that is carried, in bytes: the sealed id has to fit into a header (``Mcp-Name``)."""
MAX_TASK_ID = 4096
"""The longest id of a client that is read, in characters."""


class TaskId(Struct, array_like=True, frozen=True):
    """What a client's task id holds: the upstream, the principal for whom the task was made, the upstream's own id, and
    the upstream's name of the tool that was called. ``worker`` is the one that keeps the task, whose own id it then
    is, or empty if the upstream itself shows it (``worker.input.held_task``)."""

    upstream: str
    principal: str
    own: str
    tool: str
    worker: str = ""


def seal(key: FleetKey, task: TaskId) -> str:
    """Return the id for the client. Raises ``CallError`` if the upstream's own id is too long to be carried."""
    if len(task.own.encode()) > MAX_OWN_ID:
        raise CallError("upstream_protocol", f"the upstream's taskId is longer than {MAX_OWN_ID} bytes")
    return key.seal(task, b"task")


def unseal(key: FleetKey, text: str, principal: str) -> TaskId | None:
    """Return what an id holds, or ``None`` if it was not made for this principal, or by another fleet, or never."""
    task = key.unseal(text, TaskId, b"task") if len(text) <= MAX_TASK_ID else None
    return task if task is not None and task.principal == principal else None
