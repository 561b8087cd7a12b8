"""Input that upstreams need of clients during a call (elicitation, sampling, roots), in every pair of eras.

====== ======== ============================================================================================
client upstream how
====== ======== ============================================================================================
legacy legacy   relayed on the stream of the call; the id that a question gets names this worker, so that the answer
                reaches the worker from any front end
modern modern   ``input_required`` is passed on; its ``requestState`` is wrapped in a sealed one of the gateway, so that
                the retry reaches the same upstream
modern legacy   parked: the upstream's call stays alive here until the client comes back (``bridge.parked``)
legacy modern   asked: the client is asked by requests, then the call is sent again (``bridge.asked``)
any    any      confirmed: the gateway's own question whether a call is to be made, before it goes to the upstream
====== ======== ============================================================================================

``worker.bridge`` decides; this module has the tables, timers and seals. Counterparts: ``gateway.fleet.worker_link``
brings the answers of clients, ``gateway.protocol.outgoing_requests`` routes retries by the sealed state
(``shared.request_state``).
"""

from __future__ import annotations

import asyncio
import itertools
import os
import time
from collections.abc import Callable, Mapping
from functools import partial
from typing import Protocol

import msgspec
from msgspec import Raw

from shared import request_state
from shared.errors import CallError, OutcomeUnknown, Refused
from shared.mcp import jsonrpc
from shared.request_state import CONFIRMATION, MAX_INNER, RequestState, request_digest
from shared.secrets import FleetKey
from shared.settings import Settings
from shared.tasks import Deadlines
from worker.bridge import asked, inputs
from worker.bridge.inputs import MAX_REQUESTS, NEEDS, Need, Required
from worker.calls.call import CarryingSession, OnAnswer
from worker.calls.link_call import LinkCall
from worker.calls.replay import Replays
from worker.input.parked_call import ParkedCall
from worker.input.tasks import Tasks

MAX_OPEN = 10_000
"""The largest number of questions that may be open in this worker, all clients together."""
_CONFIRM = "confirm"
_NOT_CONFIRMED = "the user did not confirm the call"
OVER = jsonrpc.error_object(-32603, "the call that this belongs to is over")
FULL = jsonrpc.error_object(-32603, "too many questions are open already")
TOO_LARGE = jsonrpc.error_object(-32603, "the question is too large for the client's stream")


class Asker(Protocol):
    """A source of questions: a call, or a question outside of any call (``worker.input.unsolicited``)."""

    session: str
    expires_at: float

    def replied(self, question_id: str, now: float) -> OnAnswer:
        """Note that ``question_id`` is not open any more, and return the function that takes its answer."""

    def take_back(self, question_id: str) -> None:
        """Notify the client that ``question_id`` needs no answer any more."""

    def expire(self) -> None:
        """Give up, because the time for an answer is over."""


class ConfirmationTraces(Protocol):
    """What makes spans of questions before a call goes to its upstream (``worker.calls.traces``)."""

    def confirming(self, call: LinkCall, method: str, on_answer: OnAnswer) -> OnAnswer:
        """Begin a span, and return what takes the answer and ends the span."""


def _nothing(is_error: bool, raw: bytes) -> None:
    """Take an answer that nobody waits for."""


class InputBroker:
    """The open questions and parked calls of one worker. ``max_open`` limits the open questions of all clients
    together; ``traces`` is ``None`` where calls are not traced."""

    def __init__(
        self,
        worker: str,
        key: FleetKey,
        settings: Settings,
        deadlines: Deadlines,
        max_open: int = MAX_OPEN,
        traces: ConfirmationTraces | None = None,
    ) -> None:
        self._traces = traces
        self._worker = worker
        self._max_open = max_open
        self._key = key
        self._settings = settings
        self.deadlines = deadlines
        self._loop = asyncio.get_running_loop()
        self.max_bytes = settings.calls.max_result_bytes  # limit of upstreams' messages; front ends take slightly more
        self.tasks = Tasks(key, deadlines, worker, settings.calls.max_parked)
        self.replays = Replays(self._loop.time, settings.sessions)
        self._questions: dict[str, Asker] = {}
        self._tokens: dict[str, tuple[bytes, Callable[[bytes], None]]] = {}  # the upstream's tokens, by question
        self._numbers = itertools.count(1)
        self._parked: dict[str, ParkedCall] = {}
        self._parked_by: dict[str, int] = {}

    @property
    def input_timeout_s(self) -> float:
        """The time that a client may take, in seconds."""
        return self._settings.calls.input_timeout_s

    @property
    def parked(self) -> int:
        """The number of calls that wait for their clients."""
        return len(self._parked)

    @property
    def open_questions(self) -> int:
        """The number of questions that clients have not answered yet."""
        return len(self._questions)

    @property
    def remembers_anything(self) -> bool:
        """Whether a question is open, a call is parked, or any table still has an entry for one."""
        return bool(self._questions or self._tokens or self._parked or self._parked_by)

    # ---- confirmed: either client, before the call goes to the upstream

    def confirm(self, call: LinkCall, tool: str, go_on: Callable[[], None]) -> None:
        """Ask the client's user whether the call is to be made, and ``go_on`` if so.

        A modern client comes again with the answer and a sealed state (``take``).
        """
        call.learn_client()
        need = inputs.confirmation(tool, call.params)
        why = inputs.refusal(call.client.declared, need.method, need.params)
        if why is not None:
            text = f"{tool!r} runs only after a person has confirmed it, and nobody can be asked: {why[1]}"
            call.fail(Refused("confirmation_needed", text))
        elif call.era:
            if self._traces is not None:  # nobody waits: the client comes again, in a call of its own
                self._traces.confirming(call, need.method, _nothing)(False, b"")
            state = self._seal(call, fresh=True, round=CONFIRMATION)
            call.complete(False, inputs.write_required({_CONFIRM: need}, state))
        else:
            on_answer: OnAnswer = partial(self._confirmed, call, go_on)
            if self._traces is not None:
                on_answer = self._traces.confirming(call, need.method, on_answer)
            self.relay(call, need, on_answer)

    @staticmethod
    def _confirmed(call: LinkCall, go_on: Callable[[], None], is_error: bool, raw: bytes) -> None:
        if call.done:
            return
        if is_error or not inputs.is_accepted(raw):
            call.fail(Refused("confirmation_needed", _NOT_CONFIRMED))
        else:
            go_on()

    # ---- relayed: legacy client

    def enter(self, asker: Asker) -> str | None:
        """Return a new id for a question of ``asker``, or ``None`` if too many questions are open."""
        if len(self._questions) >= self._max_open:
            return None
        question_id = f"{self._worker}.{next(self._numbers)}"
        self._questions[question_id] = asker
        return question_id

    def addressed(self, question_id: str, need: Need) -> bytes:
        """Return ``params`` of the question ``question_id``, with a progress token by which the client's progress finds
        the question."""
        if need.on_progress is None:
            return need.params
        params, token = inputs.with_token(need.params, msgspec.json.encode(question_id))
        if token:
            self._tokens[question_id] = token, need.on_progress
        return params

    def relay(self, call: LinkCall, need: Need, on_answer: OnAnswer) -> None:
        """Ask the call's client. ``on_answer`` gets the answer, or an error if the call ends before."""
        if len(need.params) > self.max_bytes:
            on_answer(True, TOO_LARGE)
            return
        question_id = self.enter(call) if len(call.questions or ()) < MAX_REQUESTS else None
        if question_id is None:
            on_answer(True, FULL)
            return
        params = self.addressed(question_id, need)
        call.asked(
            question_id,
            on_answer,
            jsonrpc.request(msgspec.json.encode(question_id), need.method, params),
            self._loop.time(),
        )

    def reply(self, question_id: str, session: str, is_error: bool, raw: bytes) -> None:
        """Take a client's answer. An answer from another session than the one that was asked is ignored."""
        asker = self._questions.get(question_id)
        if asker is not None and asker.session == session:
            self._close(asker, question_id)(is_error, raw)

    def asker(self, question_id: str, session: str) -> Asker | None:
        """Return the source of an open question that was put to this session, or ``None``."""
        asker = self._questions.get(question_id)
        return asker if asker is not None and asker.session == session else None

    def progressed(self, question_id: str, session: str, params: bytes) -> None:
        """Pass on a client's progress with its answer."""
        token, on_progress = self._tokens.get(question_id, (b"", None))
        if on_progress is not None and self.asker(question_id, session) is not None:
            parts = jsonrpc.members(params)
            parts["progressToken"] = Raw(token)
            on_progress(jsonrpc.assemble(parts))

    def withdraw(self, asker: Asker, question_id: str) -> None:
        """Withdraw a question of the upstream. The client is notified that it need not answer any more."""
        self._close(asker, question_id)
        asker.take_back(question_id)

    def _close(self, asker: Asker, question_id: str) -> OnAnswer:
        del self._questions[question_id]
        self._tokens.pop(question_id, None)
        on_answer = asker.replied(question_id, self._loop.time())
        if asker.expires_at:
            self.deadlines.move(asker)  # the deadline wheel has it at the end of the client's time
        return on_answer

    def drop(self, questions: Mapping[str, OnAnswer]) -> None:
        """Answer the open questions of a call that is over with an error."""
        for question_id, on_answer in questions.items():
            self._questions.pop(question_id, None)
            self._tokens.pop(question_id, None)
            on_answer(True, OVER)

    # ---- asked: legacy client, modern upstream

    def ask_client(self, call: LinkCall, required: Required) -> None:
        """Ask the client for what the upstream's ``input_required`` names, then send the call again."""
        if not call.session:
            call.fail(OutcomeUnknown("upstream_protocol", "the upstream needs input, but the client has no session"))
            return
        if call.asking is None:
            call.asking = asked.Asking(call.client.declared)
        self._carry_out(call, call.asking.required(required))

    def _replied(self, call: LinkCall, key: str, is_error: bool, raw: bytes) -> None:
        if not call.done and call.asking is not None:
            self._carry_out(call, call.asking.replied(key, is_error, raw))

    def _carry_out(self, call: LinkCall, commands: list[asked.Command]) -> None:
        for command in commands:
            if call.done:
                return
            if isinstance(command, asked.Ask):
                need = inputs.for_legacy(command.need, os.urandom(12).hex())
                on_answer: OnAnswer = partial(self._replied, call, command.key)
                if call.span is not None:
                    on_answer = call.span.asked(need.method, on_answer)
                self.relay(call, need, on_answer)
            elif isinstance(command, asked.Resend):
                call.params = inputs.answering(call.params, command.responses, command.state)
                self._loop.call_later(command.wait_s, self._resend, call)
            else:
                call.fail(OutcomeUnknown("upstream_protocol", command.reason))

    @staticmethod
    def _resend(call: LinkCall) -> None:
        if not call.done and call.carrier is not None:
            call.carrier.submit(call)

    # ---- passed: modern client, modern upstream

    def wrap(self, call: LinkCall, result: bytes) -> tuple[bool, bytes]:
        """Return whether the result is an error, and the result.

        An ``input_required`` result gets the gateway's seal around its state; other results stay as they are. A client
        that did not declare what it would be asked for gets an error instead (2026-07-28, basic, -32021). Raises
        ``CallError``.
        """
        required = inputs.read_required(result)
        if required is None:
            return False, result
        call.learn_client()
        for need in required.needs.values():
            why = inputs.refusal(call.client.declared, need.method, need.params) if need.method in NEEDS else None
            if why is not None and why[1] == inputs.UNSAFE_URL:
                raise CallError("upstream_protocol", why[1])
            if why is not None:
                return True, inputs.capability_missing(need)
        if len(required.state) > MAX_INNER:
            raise CallError("upstream_protocol", f"the upstream's requestState is larger than {MAX_INNER} bytes")
        return False, inputs.with_state(result, self._seal(call, inner=required.state))

    def _seal(
        self, call: LinkCall | ParkedCall, inner: bytes = b"", parked: str = "", round: int = 0, fresh: bool = False
    ) -> str:
        expires = time.time() + self.input_timeout_s
        digest = request_digest(call.method, call.params)
        upstream, principal = call.upstream, call.client.principal
        state = RequestState(expires, upstream, self._worker, principal, digest, parked, round, inner, fresh)
        return request_state.seal(self._key, state)

    def take(self, call: LinkCall) -> bool:
        """Take a retry. Return true if ``call`` is dealt with here (a parked call continues, or the retry is refused),
        and false if it can be sent to the upstream."""
        try:
            parts = jsonrpc.members(call.params)
            text = jsonrpc.text(parts.get("requestState", jsonrpc.ABSENT), "requestState")
            state = request_state.unseal(self._key, text, call.client.principal)
            if state.digest != request_digest(call.method, call.params):
                raise Refused("invalid_params", "params.requestState belongs to another request")
            responses = inputs.responses_in(call.params)
            if state.parked:
                waiting = self._parked.get(state.parked)
                if waiting is None:
                    raise Refused("invalid_params", "the call that params.requestState continues is over")
                waiting.resume(call, state.round, {key: bytes(raw) for key, raw in responses.items()})
                return True
            if state.fresh:
                if state.round == CONFIRMATION:
                    if not inputs.is_accepted(responses.get(_CONFIRM, jsonrpc.ABSENT)):
                        raise Refused("confirmation_needed", _NOT_CONFIRMED)
                else:
                    _check_accepted(responses)
                responses = {}
            call.params = inputs.answering(call.params, responses, state.inner)
        except (CallError, RecursionError) as error:
            call.fail(
                error if isinstance(error, CallError) else Refused("invalid_params", "params are nested too deeply")
            )
            return True
        return False

    # ---- modern client, legacy upstream

    def require_urls(self, call: LinkCall, error: bytes) -> bytes | None:
        """Return a ``URLElicitationRequiredError`` as ``input_required``, or ``None`` if the client cannot be asked
        that."""
        needs = inputs.urls_required(error)
        if needs is None or any(inputs.refusal(call.client.declared, n.method, n.params) for n in needs.values()):
            return None
        return inputs.write_required(needs, self._seal(call, fresh=True))

    def park(self, call: LinkCall, carrier: CarryingSession) -> ParkedCall | None:
        """Return a parked call in place of ``call``, or ``None`` if its principal has too many of those."""
        principal = call.client.principal
        if self._parked_by.get(principal, 0) >= self._settings.calls.max_parked:
            return None
        waiting = ParkedCall(os.urandom(12).hex(), call, carrier, self)
        self._parked[waiting.id] = waiting
        self._parked_by[principal] = self._parked_by.get(principal, 0) + 1
        carrier.hand_over(call, waiting)
        return waiting

    def sealed_round(self, call: ParkedCall, round: int) -> str:
        """Return the state by which the client's next try finds ``call``, and restart the client's time."""
        call.expires_at = self._loop.time() + self.input_timeout_s
        self.deadlines.move(call)
        return self._seal(call, parked=call.id, round=round)

    def over(self, call: ParkedCall) -> None:
        """Forget a call that is not parked any more."""
        if self._parked.pop(call.id, None) is not None:
            left = self._parked_by[call.client.principal] = self._parked_by[call.client.principal] - 1
            if not left:
                del self._parked_by[call.client.principal]


def _check_accepted(responses: Mapping[str, Raw]) -> None:
    """Raise ``CallError`` unless the user went to every URL."""
    for raw in responses.values():
        action = bytes(jsonrpc.members(raw).get("action", b'"accept"'))
        if action != b'"accept"':
            raise CallError("cancelled", "the user did not go to the URL that the upstream requires")
