"""A call whose upstream made a task of it, for a client that knows no tasks: the gateway waits for the task. Pure.

Tasks extension, "Task Polling" and "Task Update Requests". Events come in (``observed``, ``replied``, ``troubled``),
commands go out; the driver is ``worker.input.tasks``. The task is polled as often as the upstream suggests. What it
needs of the client is asked once for each key, in whatever way the client can be asked, and the answers are given
together. A client's error answer becomes ``action: cancel`` for elicitation and ends the task otherwise.
"""

from __future__ import annotations

from collections.abc import Mapping

import msgspec
from msgspec import Raw, Struct

from shared.errors import Refused
from shared.mcp import jsonrpc
from worker.bridge.asked import CANCEL_ACTION
from worker.bridge.inputs import ELICIT, MAX_REQUESTS, Need

DEFAULT_POLL_S = 1.0
SHORTEST_POLL_S = 0.05
LONGEST_POLL_S = 30.0
"""A task is polled at least and at most so often, whatever the upstream suggests: many suggest nothing."""
MAX_TROUBLES = 3
"""How many polls in a row may fail."""
MAX_QUESTIONS = 256
"""How much input one task may need while the gateway waits for it."""


class Poll(Struct, frozen=True):
    """Ask for the task's state after ``after_s``."""

    after_s: float


class Ask(Struct, frozen=True):
    """Ask the client this question."""

    key: str
    need: Need


class Withdraw(Struct, frozen=True):
    """The task needs the answer to this question no longer."""

    key: str


class Update(Struct, frozen=True):
    """Give these answers to the task."""

    responses: dict[str, bytes]


class Tell(Struct, frozen=True):
    """Tell the client how far the task is. ``step`` counts what was told."""

    message: str
    step: int


class Deliver(Struct, frozen=True):
    """Answer the call with the task's result or error."""

    is_error: bool
    raw: bytes


class Fail(Struct, frozen=True):
    """Fail the call. ``cancel``: the task goes on upstream and is to be cancelled."""

    reason: str
    cancel: bool = False


Command = Poll | Ask | Withdraw | Update | Tell | Deliver | Fail


def read_created(result: bytes) -> dict[str, Raw] | None:
    """Return a ``CreateTaskResult``, or ``None`` if it is another result."""
    try:
        parts = jsonrpc.members(result)
    except Refused:
        return None
    return parts if bytes(parts.get("resultType", b"")) == b'"task"' and "taskId" in parts else None


class Waited:
    """The state of one task that the gateway waits for."""

    def __init__(self) -> None:
        self._message = ""
        self._step = 0
        self._troubles = 0
        self._seen: set[str] = set()
        self._open: dict[str, Need] = {}
        self._responses: dict[str, bytes] = {}

    def observed(self, task: Mapping[str, Raw], created: bool = False) -> list[Command]:
        """Handle the task's state. A task that was just ``created`` does not say its result yet."""
        self._troubles = 0
        try:
            status = jsonrpc.text(task.get("status", jsonrpc.ABSENT), "status")
            message = _text(task.get("statusMessage"))
            commands = self._told(message) if status in ("working", "input_required") else []
            if status == "working" or (created and status in ("input_required", "completed", "failed")):
                after_s = 0.0 if status != "working" else _poll_s(task)
                return [*commands, *self._withdrawn(()), Poll(after_s)]
            if status == "input_required":
                return [*commands, *self._asked(task)]
            if status == "completed":
                return [Deliver(False, jsonrpc.assemble(jsonrpc.members(task.get("result", jsonrpc.ABSENT))))]
            if status == "failed":
                return [Deliver(True, jsonrpc.assemble(jsonrpc.members(task.get("error", jsonrpc.ABSENT))))]
        except (Refused, msgspec.DecodeError) as error:
            return [Fail(f"the upstream's task: {error}", cancel=True)]
        if status == "cancelled":
            return [
                Fail(f"the upstream cancelled the task: {message}" if message else "the upstream cancelled the task")
            ]
        return [Fail(f"the upstream's task has the unknown status {status[:64]!r}", cancel=True)]

    def replied(self, key: str, is_error: bool, raw: bytes) -> list[Command]:
        """Handle the client's answer to one of the questions."""
        need = self._open.pop(key, None)
        if need is None:
            return []
        if is_error and need.method != ELICIT:
            self._open.clear()
            return [Fail(f"the client refused {need.method}: {raw[:200].decode('utf-8', 'replace')}", cancel=True)]
        self._responses[key] = CANCEL_ACTION if is_error else raw
        if self._open:
            return []
        responses, self._responses = self._responses, {}
        return [Update(responses)]

    def troubled(self, reason: str, certain: bool = False) -> list[Command]:
        """Handle that the state could not be read. ``certain``: the upstream says that there is no such task."""
        self._troubles += 1
        if certain or self._troubles >= MAX_TROUBLES:
            return [Fail(f"the upstream made a task of the call, whose state cannot be read: {reason}")]
        return [Poll(DEFAULT_POLL_S * self._troubles)]

    def _told(self, message: str) -> list[Command]:
        if not message or message == self._message:
            return []
        self._message = message
        self._step += 1
        return [Tell(message, self._step)]

    def _asked(self, task: Mapping[str, Raw]) -> list[Command]:
        needs = jsonrpc.members(task.get("inputRequests", jsonrpc.ABSENT))
        fresh = {key: raw for key, raw in needs.items() if key not in self._seen}
        if len(needs) > MAX_REQUESTS or len(self._seen) + len(fresh) > MAX_QUESTIONS:
            return [Fail(f"the upstream's task needs more than {MAX_QUESTIONS} inputs", cancel=True)]
        commands: list[Command] = self._withdrawn(needs)
        for key, raw in fresh.items():
            request = jsonrpc.members(raw)
            method = jsonrpc.text(request.get("method", jsonrpc.ABSENT), "method")
            need = Need(method, bytes(request.get("params", b"")))
            self._seen.add(key)
            self._open[key] = need
            commands.append(Ask(key, need))
        return [*commands, Poll(_poll_s(task))]

    def _withdrawn(self, needed: Mapping[str, Raw] | tuple[()]) -> list[Command]:
        gone = [key for key in self._open if key not in needed]
        for key in gone:
            del self._open[key]
        return [Withdraw(key) for key in gone]


def _text(raw: Raw | None) -> str:
    return "" if raw is None or bytes(raw) == b"null" else jsonrpc.text(raw, "statusMessage")


def _poll_s(task: Mapping[str, Raw]) -> float:
    raw = task.get("pollIntervalMs")
    if raw is None or bytes(raw) == b"null":
        return DEFAULT_POLL_S
    return min(max(msgspec.json.decode(raw, type=float) / 1000, SHORTEST_POLL_S), LONGEST_POLL_S)
