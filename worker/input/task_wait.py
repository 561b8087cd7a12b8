"""Waiting for the task of a modern upstream, in the name of a client that knows no tasks.

Counterparts: ``worker.input.tasks`` begins to wait, ``bridge.waited`` decides what is to be done.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from functools import partial

import msgspec
from msgspec import Raw

from shared.errors import CallError, OutcomeUnknown, Refused
from shared.mcp import jsonrpc, tasks
from shared.mcp.methods import PROGRESS, TOOLS_CALL
from shared.mcp.versions import Era
from shared.tasks import Deadlines
from worker.bridge import params as bridge_params
from worker.bridge import results, waited
from worker.calls.call import Call, CarryingSession, OnAnswer, Surroundings
from worker.calls.client_facts import ClientFacts
from worker.calls.link_call import LinkCall
from worker.input.task_requests import OnEnd, TaskRequest

_UNKNOWN = -32602
_LONGEST_TOLD = 2000
"""The longest ``statusMessage`` that is told as progress, in characters."""


class TaskWait:
    """One call whose task the gateway waits for. It carries the call in place of the upstream session, so that a
    call that has to be parked for its client's input can take over (``hand_over``)."""

    __slots__ = (
        "_call",
        "_client",
        "_deadlines",
        "_id",
        "_loop",
        "_machine",
        "_meta",
        "_over",
        "_passed",
        "_questions",
        "_session",
        "_subject_token",
        "_timeout_s",
        "_timer",
        "protocol_version",
    )

    def __init__(self, call: LinkCall, session: CarryingSession, deadlines: Deadlines) -> None:
        call.learn_client()
        self._call: Call = call
        self._session = session
        self.protocol_version = session.protocol_version
        self._deadlines = deadlines
        self._loop = asyncio.get_running_loop()
        self._machine = waited.Waited()
        self._questions: dict[str, OnAnswer] = {}
        self._timer: asyncio.TimerHandle | None = None
        self._over = False
        self._id = ""
        self._timeout_s = call.timeout_s
        self._passed, self._subject_token = call.passed, call.subject_token
        self._client = _declaring(call.client)
        if call.era == Era.MODERN:
            params = tasks.params_declaring(call.params)
        else:
            facts = self._client.capabilities, self._client.client_info
            params = bridge_params.translate(b"{}", Era.LEGACY, Era.MODERN, None, *facts)
        meta = jsonrpc.members(jsonrpc.meta_of(params))
        meta.pop("progressToken", None)
        self._meta = jsonrpc.assemble(meta)

    def declare(self, call: LinkCall) -> None:
        """Send the call again, and declare the extension: what the upstream then makes of it is waited for."""
        if call.era == Era.MODERN:
            call.params = tasks.params_declaring(call.params)
        else:
            call.client = self._client
        self._session.submit(call)

    def begin(self, id: str, created: dict[str, Raw]) -> None:
        """Wait for the task ``id`` of the upstream, which was just ``created``."""
        self._id = id
        self._call.carrier = self._call.holder = self
        self._run(self._machine.observed(created, created=True))

    # ---- worker.calls.call.CarryingSession and Holder

    @property
    def context(self) -> Surroundings:
        """What the upstream session knows of its upstream."""
        return self._session.context

    @property
    def runs_tasks(self) -> bool:
        """No: the call is a task already."""
        return False

    def submit(self, call: Call) -> None:
        """Never called: the call is with the upstream already."""
        raise AssertionError("a task is waited for once")

    def hand_over(self, call: Call, heir: Call) -> None:
        """Answer ``heir`` instead of ``call`` from now on."""
        if call is self._call:
            self._call = heir

    def modern(self) -> CarryingSession | None:
        """Return the session that has the task."""
        return self._session

    def abandon(self, call: Call, reason: str) -> bool:
        """Cancel the task, because no client waits any more."""
        if call is self._call and not self._over:
            self._cancel()
            if isinstance(call, LinkCall) and not call.expires_at:  # the wheel of deadlines has taken it out
                took = f"{self._loop.time() - call.started_at:.0f} s (requestTimeoutMax)"
                text = f"the upstream made a task of the call, which was not over in {took}; it was told to cancel it"
                call.fail(OutcomeUnknown("timeout", text))
        return False

    # ---- what is to be done

    def _run(self, commands: list[waited.Command]) -> None:
        for command in commands:
            if self._over or self._call.done:
                return
            if isinstance(command, waited.Poll):
                self._call.extend(self._loop.time(), command.after_s)
                self._timer = self._loop.call_later(command.after_s, self._poll)
            elif isinstance(command, waited.Ask):
                on_answer = self._questions[command.key] = partial(self._replied, command.key)
                self._call.ask(on_answer, command.need, self)
            elif isinstance(command, waited.Withdraw):
                self._withdraw(command.key)
            elif isinstance(command, waited.Update):
                members = {"inputResponses": {key: Raw(raw) for key, raw in command.responses.items()}}
                self._request(tasks.UPDATE, members, self._updated)
            elif isinstance(command, waited.Tell):
                self._tell(command)
            elif isinstance(command, waited.Deliver):
                self._deliver(command)
            else:
                self._fail(command)

    def _poll(self) -> None:
        self._request(tasks.GET, {}, self._observed)

    def _request(self, method: str, members: Mapping[str, object], on_end: OnEnd) -> None:
        if self._over:
            return
        params = msgspec.json.encode({"taskId": self._id, **members, "_meta": Raw(self._meta)})
        request = TaskRequest(method, params, self._timeout_s, self._deadlines, on_end)
        request.name = self._id
        request.passed, request.subject_token = self._passed, self._subject_token
        request.expires_at = self._loop.time() + self._timeout_s
        self._deadlines.add(request)
        self._session.submit(request)

    def _observed(self, outcome: bytes | CallError | None, error: bytes) -> None:
        if self._over or self._call.done:
            return
        if isinstance(outcome, bytes):
            try:
                self._run(self._machine.observed(jsonrpc.members(outcome)))
            except Refused:
                self._run(self._machine.troubled("its answer is not an object"))
        elif isinstance(outcome, CallError):
            self._run(self._machine.troubled(outcome.message))
        else:
            text = error[:_LONGEST_TOLD].decode("utf-8", "replace")
            self._run(self._machine.troubled(text, certain=b"%d" % _UNKNOWN in error))

    def _updated(self, outcome: bytes | CallError | None, error: bytes) -> None:
        if not isinstance(outcome, bytes) and not self._over and not self._call.done:
            text = outcome.message if outcome is not None else error[:_LONGEST_TOLD].decode("utf-8", "replace")
            self._run([waited.Fail(f"the upstream's task did not take the client's input: {text}", cancel=True)])

    def _replied(self, key: str, is_error: bool, raw: bytes) -> None:
        self._questions.pop(key, None)
        if not self._over and not self._call.done:
            self._run(self._machine.replied(key, is_error, raw))

    def _withdraw(self, key: str) -> None:
        on_answer = self._questions.pop(key, None)
        if on_answer is not None:
            self._call.withdrawn(on_answer)

    def _tell(self, command: waited.Tell) -> None:
        if self._call.token:
            said = {"progressToken": Raw(self._call.token), "progress": command.step}
            params = msgspec.json.encode({**said, "message": command.message[:_LONGEST_TOLD]})
            self._call.interim(jsonrpc.notification(PROGRESS, params), self._loop.time())

    def _deliver(self, command: waited.Deliver) -> None:
        self._end()
        call, raw = self._call, command.raw
        if not command.is_error:
            try:
                modern = call.era == Era.MODERN
                raw = results.typed(raw) if modern else results.translate(raw, call.era, Era.MODERN, TOOLS_CALL)
            except CallError as error:
                call.fail(OutcomeUnknown(error.code, error.message, error.data))
                return
        call.complete(command.is_error, raw)

    def _fail(self, command: waited.Fail) -> None:
        if command.cancel:
            self._cancel()
        self._end()
        self._call.fail(OutcomeUnknown("upstream_protocol", command.reason))

    def _cancel(self) -> None:
        if self._id:
            self._request(tasks.CANCEL, {}, lambda outcome, error: None)
        self._end()

    def _end(self) -> None:
        self._over = True
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None


def _declaring(client: ClientFacts) -> ClientFacts:
    """Return the facts of a client as if it declared the extension. Sessions share facts, so this is a copy."""
    try:
        capabilities = tasks.declaring(client.capabilities)
    except Refused:
        capabilities = tasks.declaring(b"{}")
    facts = ClientFacts(client.principal, client.version, capabilities, client.client_info, client.log_level)
    facts.alone = client.alone
    return facts
