"""Tasks of 2025-11-25, which were experimental: the gateway waits for those that an upstream insists on.

A tool with ``taskSupport: required`` refuses an ordinary call (-32601) and has not run it. The call is then made as a
task, and ``tasks/result``, which blocks until the task is over, is its answer; what the upstream asks meanwhile comes
with that request (2025-11-25, tasks, "Input Required Status"). ``tasks/get`` shows that the task lives. Everything
happens on the call's own upstream session, to which such tasks belong. Counterpart: ``worker.input.tasks``.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import msgspec
from msgspec import Raw

from shared.errors import CallError, OutcomeUnknown, Refused
from shared.mcp import jsonrpc, tasks
from shared.mcp.methods import TOOLS_CALL
from shared.mcp.versions import Era
from shared.tasks import Deadlines
from worker.bridge import results, waited
from worker.bridge.inputs import Need
from worker.calls.call import CarryingSession, OnAnswer
from worker.calls.link_call import LinkCall
from worker.input.held_task import HeldTask
from worker.input.task_requests import OnEnd, TaskRequest
from worker.input.task_wait import TaskWait

_RESULT = "tasks/result"
_METHOD_NOT_FOUND = b"-32601"
_WORKING = Raw(b'"working"')


def insists_on_task(error: bytes, session: CarryingSession | None) -> bool:
    """Whether an upstream that runs tasks refused a call, because the tool needs one (2025-11-25, tasks, "Tool-Level
    Negotiation")."""
    if session is None or not session.runs_tasks or _METHOD_NOT_FOUND not in error:
        return False
    try:
        return bytes(jsonrpc.members(error).get("code", b"")) == _METHOD_NOT_FOUND
    except Refused:
        return False


Keep = Callable[[LinkCall, Mapping[str, Raw]], HeldTask]
"""Answers a call with the task that was made of it, and returns the task."""


class LegacyTaskWait(TaskWait):
    """One call that is made as a task on a legacy session."""

    __slots__ = ("_asking", "_keep", "_params")

    def __init__(
        self, call: LinkCall, session: CarryingSession, deadlines: Deadlines, keep: Keep | None = None
    ) -> None:
        """``keep`` answers the call with the task, and returns what stands for the call from then on."""
        super().__init__(call, session, deadlines)
        self._keep = keep
        self._params = call.params
        self._asking: _ResultRequest | None = None

    def start(self, left_s: float) -> None:
        """Make the call as a task, which the upstream may forget ``left_s`` after it was made."""
        call = self._call
        call.carrier = call.holder = self
        parts = jsonrpc.members(self._params)
        parts["task"] = Raw(msgspec.json.encode({"ttl": max(1, int(left_s * 1000))}))
        self._send(TaskRequest(TOOLS_CALL, jsonrpc.assemble(parts), self._timeout_s, self._deadlines, self._created),
                   call.era)  # fmt: skip

    def _created(self, outcome: bytes | CallError | None, error: bytes) -> None:
        call = self._call
        if self._over or call.done:
            if isinstance(outcome, bytes) and self._made(outcome):  # the client left before the task was there
                self._over = False
                self._cancel()
            return
        task = self._made(outcome) if isinstance(outcome, bytes) else {}
        if task:
            self._asking = _ResultRequest(self, self._timeout_s, self._deadlines, self._ended)
            self._asking.params = msgspec.json.encode({"taskId": self._id})
            self._asking.client, self._asking.session = call.client, call.session
            self._asking.passed, self._asking.subject_token = self._passed, self._subject_token
            if self._keep is not None and isinstance(call, LinkCall):
                self._call = self._keep(call, task)
                self._call.holder = self._call.carrier = self
            self._session.submit(self._asking)
            self._run(self._machine.observed(_going_on(task)))
        elif isinstance(outcome, bytes):
            self._deliver(waited.Deliver(False, outcome))  # it could do without a task after all
        elif outcome is not None:  # the call itself has failed, and may be sent elsewhere if it was not delivered
            self._end()
            call.fail(outcome)
        else:
            self._ended(None, error)

    def _made(self, result: bytes) -> dict[str, Raw]:
        """Return the task that the upstream made and note its id. It is empty if none was made."""
        try:
            task = jsonrpc.members(jsonrpc.members(result).get("task", jsonrpc.ABSENT))
            self._id = jsonrpc.text(task.get("taskId", jsonrpc.ABSENT), "taskId")
        except Refused:
            return {}
        return task

    def _ended(self, outcome: bytes | CallError | None, error: bytes) -> None:
        self._asking = None
        if self._over or self._call.done:
            return
        if isinstance(outcome, CallError):
            self._fail(waited.Fail(f"the upstream made a task of the call, whose result is lost: {outcome.message}"))
        else:
            self._deliver(waited.Deliver(outcome is None, error if outcome is None else outcome))

    # ---- what TaskWait does in the modern era

    def _tell(self, command: waited.Tell) -> None:
        if isinstance(self._call, HeldTask):
            self._call.told(command.message)
        else:
            super()._tell(command)

    def _request(self, method: str, members: Mapping[str, object], on_end: OnEnd) -> None:
        if not self._over:
            params = msgspec.json.encode({"taskId": self._id})
            self._send(TaskRequest(method, params, self._timeout_s, self._deadlines, on_end), Era.LEGACY)

    def _send(self, request: TaskRequest, era: int) -> None:
        request.era, request.client = era, self._call.client
        request.passed, request.subject_token = self._passed, self._subject_token
        request.expires_at = self._loop.time() + self._timeout_s
        self._deadlines.add(request)
        self._session.submit(request)

    def _observed(self, outcome: bytes | CallError | None, error: bytes) -> None:
        """Look at the task's state."""
        if self._over or self._call.done or not isinstance(outcome, bytes):
            super()._observed(outcome, error)
            return
        try:
            task = jsonrpc.members(outcome)
        except Refused:
            task = {}
        self._run(self._machine.observed(_going_on(task)))

    def question(self, on_answer: OnAnswer, need: Need) -> None:
        """Ask the client what the upstream asked on ``tasks/result``."""
        self._call.ask(on_answer, need, self)

    def question_withdrawn(self, on_answer: OnAnswer) -> None:
        """Withdraw a question."""
        self._call.withdrawn(on_answer)

    def _deliver(self, command: waited.Deliver) -> None:
        self._end()
        call, raw = self._call, command.raw
        if not command.is_error and call.era == Era.MODERN:
            try:
                raw = results.translate(raw, Era.MODERN, Era.LEGACY, TOOLS_CALL)
            except CallError as error:
                call.fail(OutcomeUnknown(error.code, error.message, error.data))
                return
        call.complete(command.is_error, raw)

    def _cancel(self) -> None:
        if self._id:
            self._request(tasks.CANCEL, {}, lambda outcome, error: None)
        self._end()

    def _end(self) -> None:
        super()._end()
        asking, self._asking = self._asking, None
        if asking is not None and not asking.done:
            asking.stop("the call is over")


def _going_on(task: Mapping[str, Raw]) -> dict[str, Raw]:
    """Return a task as one of the modern era that is not over: that it is over is known by its result alone."""
    names = {"statusMessage": "statusMessage", "pollInterval": "pollIntervalMs"}
    return {"status": _WORKING, **{new: task[old] for old, new in names.items() if old in task}}


class _ResultRequest(TaskRequest):
    """``tasks/result``. It has a client: what the upstream asks while it blocks is asked of the waiting call."""

    __slots__ = ("_wait",)
    ours = False

    def __init__(self, wait: LegacyTaskWait, timeout_s: float, deadlines: Deadlines, on_end: OnEnd) -> None:
        super().__init__(_RESULT, b"", timeout_s, deadlines, on_end)
        self.era = Era.LEGACY
        self._wait = wait

    def ask(self, on_answer: OnAnswer, need: Need, carrier: CarryingSession) -> None:
        self._wait.question(on_answer, need)

    def withdrawn(self, on_answer: OnAnswer) -> None:
        self._wait.question_withdrawn(on_answer)
