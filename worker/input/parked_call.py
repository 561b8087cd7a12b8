"""The upstream's side of a parked call, which outlives the tries of its modern client. ``bridge.parked`` decides."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Protocol

from msgspec import Raw

from shared.errors import CallError, OutcomeUnknown, Refused
from shared.mcp import jsonrpc
from shared.mcp.rope import Body
from shared.mcp.versions import Era
from worker.bridge import inputs, parked
from worker.bridge.inputs import Need
from worker.calls.call import Call, CarryingSession, OnAnswer
from worker.calls.link_call import LinkCall

GATHER_S = 0.02
"""The time for which the first question of a round waits for others, in seconds."""


class Parking(Protocol):
    """The keeper of parked calls (``worker.input.broker``)."""

    def sealed_round(self, call: ParkedCall, round: int) -> str:
        """Return the state by which the client's next try finds ``call``, and restart the client's time."""

    def over(self, call: ParkedCall) -> None:
        """Forget a call that is not parked any more."""


class ParkedCall(Call):
    """The call that the upstream session carries in place of the client's first try."""

    __slots__ = ("_loop", "_machine", "_parking", "_progress", "_waiter", "id", "upstream")

    def __init__(self, id: str, first: LinkCall, carrier: CarryingSession, parking: Parking) -> None:
        super().__init__(first.method, first.params, Era.MODERN, first.timeout_s)
        self.id = id
        self.upstream = first.upstream
        self.upstream_era = Era.LEGACY
        self.client = first.client
        self.token = first.token
        self.carrier = carrier
        self.holder = first.holder
        self.observer, first.observer = first.observer, None
        self.trace = first.trace
        self.span, first.span = first.span, None
        self.started_at = first.started_at
        self.name = first.name
        self._parking = parking
        self._machine = parked.Parked()
        self._progress = b""
        self._waiter: LinkCall | None = None
        self._loop = asyncio.get_running_loop()
        self._wait(first)

    def _wait(self, call: LinkCall) -> None:
        self._waiter = call
        call.holder = self
        self.token = call.token
        self.expires_at = 0.0  # while a try waits, its own clock runs

    def ask(self, on_answer: OnAnswer, need: Need, carrier: CarryingSession) -> None:
        """Handle a question of the upstream during this call."""
        why = inputs.refusal(self.client.declared, need.method, need.params)
        if why is not None:
            on_answer(True, jsonrpc.error_object(*why))
        else:
            self._run(self._machine.asked(on_answer, need))

    def withdrawn(self, on_answer: OnAnswer) -> None:
        """Withdraw the question that was asked with ``on_answer``, because the upstream does not need the answer any
        more."""
        self._run(self._machine.withdrawn(on_answer))

    def notice(self, method: str, params: bytes) -> None:
        """Pass a notification that the gateway does not know on to the waiting try. If none waits, drop it."""
        if self._waiter is not None:
            self._waiter.notice(method, params)

    def resume(self, call: LinkCall, round: int, responses: Mapping[str, bytes]) -> None:
        """Continue with the client's next try."""
        commands = self._machine.retried(round, responses)
        if commands and isinstance(commands[0], parked.Refuse):
            call.fail(Refused("invalid_params", commands[0].reason))
            return
        if self.span is not None:
            self.span.went_on(call.trace)
        self._wait(call)
        self._run(commands)
        if self._progress and self._waiter is not None and self.token:
            parts = jsonrpc.members(jsonrpc.decode(self._progress).params)
            parts["progressToken"] = Raw(self.token)
            call.interim(jsonrpc.notification("notifications/progress", jsonrpc.assemble(parts)), self._loop.time())
            self._progress = b""

    def abandon(self, call: Call, reason: str) -> bool:
        """Note that the client left a try. ``bridge.parked`` decides whether the upstream's call goes on."""
        if call is self._waiter:
            self._run(self._machine.left(reason))
        return False

    def expire(self) -> None:
        """Give up, because the client did not come back in time."""
        self._run(self._machine.expired())

    def _run(self, commands: list[parked.Command]) -> None:
        for command in commands:
            if isinstance(command, parked.Gather):
                self._loop.call_later(GATHER_S, self._gathered)
            elif isinstance(command, parked.Require):
                waiter, self._waiter = self._waiter, None
                if waiter is not None:
                    state = self._parking.sealed_round(self, command.round)
                    waiter.complete(False, inputs.write_required(command.needs, state))
            elif isinstance(command, parked.Reply):
                command.question(command.is_error, command.raw)
            elif isinstance(command, parked.Deliver):
                self._deliver(command.outcome)
            elif isinstance(command, parked.Cancel):
                self.stop(command.reason)
                self.done = True
                self._ended("cancelled")
        if self._machine.phase is parked.Phase.OVER:
            self.expires_at = 0.0
            self._parking.over(self)

    def _gathered(self) -> None:
        self._run(self._machine.gathered())

    def _deliver(self, outcome: tuple[bool, bytes] | CallError) -> None:
        waiter, self._waiter = self._waiter, None
        if waiter is None:
            return
        if isinstance(outcome, CallError):
            waiter.fail(OutcomeUnknown(outcome.code, outcome.message, outcome.data))
        elif outcome[0]:
            waiter.upstream_era = Era.LEGACY
            waiter.answer(*outcome)  # an error may ask for input again: URL elicitation
        else:
            waiter.complete(*outcome)

    # ---- worker.calls.call.Call

    def _finish(self, outcome: str) -> None:
        """Note that the upstream has answered. The clock runs on, because the client may still have to come back."""
        self.done = True
        self._ended(outcome)

    def _answered(self, is_error: bool, raw: Body) -> None:
        self._run(self._machine.answered((is_error, bytes(raw))))

    def _failed(self, error: CallError) -> None:
        self._run(self._machine.answered(error))

    def extend(self, now: float, by_s: float) -> None:
        """Restart the clock of the waiting try. While none waits, the client's time runs."""
        if self._waiter is not None:
            self._waiter.extend(now, by_s)

    def interim(self, message: bytes, now: float) -> None:
        """Pass progress on to the waiting try. While none waits, the newest is kept, and log messages are dropped."""
        if self._waiter is not None:
            self._waiter.interim(message, now)
        elif b'"notifications/progress"' in message[:64]:
            self._progress = message
