"""A front end's call. The answer goes back on the link, and may be kept for a client that lost its connection.

Counterpart: ``gateway.fleet.worker_link``.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol

import msgspec

from shared.errors import CallError, NotDelivered, OutcomeUnknown
from shared.mcp import jsonrpc
from shared.mcp.methods import CANCELLED, ELICITED
from shared.mcp.rope import Body
from shared.mcp.versions import Era
from shared.rpc import messages as rpc
from shared.rpc.connection import SLACK, Link
from shared.tasks import Deadlines
from worker.bridge import inputs, results
from worker.bridge.asked import Asking
from worker.bridge.inputs import Need, Required, may_require
from worker.calls.call import Call, CarryingSession, OnAnswer
from worker.calls.client_facts import client_in
from worker.calls.replay import KeptOutcome, Replay, Replays

_WORDS = 2000
"""The longest text of an upstream that an error repeats, in characters, because heads of frames are small."""


class AnsweringFrontEnd(Protocol):
    """The front end that takes a call's answer (``worker.rpc_server.FrontEndPeer``)."""

    name: str
    calls: dict[int, LinkCall]


class TaskAnswers(Protocol):
    """Knows what modern upstreams answer about tasks (``worker.input.tasks``)."""

    def answered(self, call: LinkCall, is_error: bool, raw: bytes) -> bytes | None:
        """Return the answer as the client gets it, or ``None`` if the call goes on. Raises ``CallError``."""


class Broker(Protocol):
    """Gets the input that upstreams need from clients (``worker.input.broker``)."""

    replays: Replays
    deadlines: Deadlines
    max_bytes: int

    @property
    def tasks(self) -> TaskAnswers:
        """What is known of tasks."""

    @property
    def input_timeout_s(self) -> float:
        """The time that a client may take, in seconds."""

    def relay(self, call: LinkCall, need: Need, on_answer: OnAnswer) -> None:
        """Ask the call's client on the stream of the call."""

    def park(self, call: LinkCall, carrier: CarryingSession) -> Call | None:
        """Return a call that outlives the tries of its client, or ``None`` if the client has too many of those."""

    def wrap(self, call: LinkCall, result: bytes) -> tuple[bool, bytes]:
        """Return whether the result is an error, and the result with the gateway's seal around the upstream's state."""

    def ask_client(self, call: LinkCall, required: Required) -> None:
        """Ask the client, then send the call again."""

    def require_urls(self, call: LinkCall, error: bytes) -> bytes | None:
        """Return a ``URLElicitationRequiredError`` as a result that asks for input, or ``None`` if that is not
        possible."""

    def withdraw(self, asker: LinkCall, question_id: str) -> None:
        """Withdraw a question."""

    def drop(self, questions: dict[str, OnAnswer]) -> None:
        """Answer the open questions of a call that is over with an error."""


class LinkCall(Call):
    """A front end's call. ``questions`` holds those that its client has not answered yet, by their ids."""

    __slots__ = (
        "asking",
        "broker",
        "dropped",
        "frontend",
        "link",
        "listed_name",
        "number",
        "questions",
        "replay",
        "request",
        "task",
        "upstream",
    )

    def __init__(
        self,
        frontend: AnsweringFrontEnd,
        link: Link,
        head: rpc.Call,
        params: bytes,
        timeout_s: float,
        broker: Broker,
    ) -> None:
        super().__init__(head.method, params, head.era, timeout_s)
        self.frontend = frontend
        self.link = link
        self.number = head.call
        self.upstream = head.upstream
        self.session = head.session
        self.name = head.name
        self.token = head.token
        self.headers = head.headers
        self.passed = head.passed
        self.request = head.request
        self.listed_name = head.listed_name
        self.trace, self.trace_state, self.baggage = head.trace, head.trace_state, head.baggage
        self.subject_token = head.subject_token
        self.dropped = 0  # notifications that the front end did not take in time
        self.broker = broker
        self.replay: Replay | None = None
        self.questions: dict[str, OnAnswer] | None = None
        self.asking: Asking | None = None
        self.task: object = None  # the id of the task that the request is about, or what waits for a task

    def learn_client(self) -> None:
        """Read the client's facts from a modern request, which states them itself (2026-07-28, basic, ``_meta``)."""
        if self.era == Era.MODERN and not self.client.version:
            meta = jsonrpc.meta_of(self.params)
            if meta:
                self.client = client_in(self.client.principal, meta)

    # ---- questions of the upstream

    def ask(self, on_answer: OnAnswer, need: Need, carrier: CarryingSession) -> None:
        """Ask the client for input: relay the question (legacy client) or park the call (modern client)."""
        if self.done:  # on a stream that the upstream did not close after its answer
            on_answer(True, jsonrpc.error_object(-32603, "the call that this belongs to is over"))
            return
        self.learn_client()
        why = inputs.refusal(self.client.declared, need.method, need.params, self.client.alone)
        if why is None and self.era == Era.LEGACY and not self.session:
            why = -32601, "a client without a session cannot be asked"
        if why is not None:
            on_answer(True, jsonrpc.error_object(*why))
        elif self.era == Era.LEGACY:
            self.broker.relay(self, need, on_answer)
        else:
            parked = self.broker.park(self, carrier)
            if parked is None:
                on_answer(
                    True, jsonrpc.error_object(-32603, "too many calls of this client wait for input (maxParked)")
                )
            else:
                parked.ask(on_answer, need, carrier)

    def asked(self, question_id: str, on_answer: OnAnswer, message: bytes, now: float) -> None:
        """Send a question to the client. The client's time (``inputTimeout``) then runs instead of the call's."""
        if self.questions is None:
            self.questions = {}
        self.questions[question_id] = on_answer
        limit_s = self.broker.input_timeout_s
        self.hard_limit = max(self.hard_limit, now + limit_s + self.timeout_s)
        self.expires_at = now + limit_s
        self._tell(message, must=True)

    def replied(self, question_id: str, now: float) -> OnAnswer:
        """Remove question ``question_id`` and return the function that takes its answer. After the last answer the
        call's clock runs again."""
        assert self.questions is not None
        on_answer = self.questions.pop(question_id)
        if not self.questions and not self.done:
            self.expires_at = now + self.timeout_s
        return on_answer

    def notice(self, method: str, params: bytes) -> None:
        """Pass a notification on to the client.

        The end of an elicitation by URL goes to a legacy client only (2025-11-25, elicitation); the modern era has no
        such notification. Notifications that the gateway does not know are passed on unread.
        """
        if not self.done and (method != ELICITED or self.era == Era.LEGACY):
            self._interim(jsonrpc.notification(method, params))

    def withdrawn(self, on_answer: OnAnswer) -> None:
        """Withdraw the question that was asked with ``on_answer``, because the upstream does not need the answer any
        more."""
        for question_id, one in (self.questions or {}).items():
            if one is on_answer:
                self.broker.withdraw(self, question_id)
                return

    def take_back(self, question_id: str) -> None:
        """Send the client ``notifications/cancelled`` for a question."""
        self._tell(jsonrpc.notification(CANCELLED, msgspec.json.encode({"requestId": question_id})))

    def expire(self) -> None:
        """End the call, because its time is over. While a question is open, the client is the one that took too
        long."""
        if not self.questions:
            super().expire()
        elif not self.done:
            text = f"the client did not answer what the upstream asked in {self.broker.input_timeout_s:g} s"
            self.stop(text)
            self.fail(OutcomeUnknown("timeout", f"{text}; the call may have run"))

    def extend(self, now: float, by_s: float) -> None:
        """Restart the clock, unless a question is open."""
        if not self.questions:
            super().extend(now, by_s)

    def interim(self, message: bytes, now: float) -> None:
        """Pass on a notification, which does not restart the clock while a question is open."""
        if self.questions:
            self._interim(message)
        else:
            super().interim(message, now)

    def _bridge(self, is_error: bool, raw: bytes) -> None:
        upstream_era = self.upstream_era
        if is_error or self.task is not None or (upstream_era == Era.MODERN and b'"taskId"' in raw):
            said = self.broker.tasks.answered(self, is_error, raw)
            if said is None:
                return
            raw = said
        if self.era == Era.MODERN and upstream_era == Era.MODERN:
            is_error, raw = (True, raw) if is_error else self.broker.wrap(self, raw)
        elif self.era == Era.LEGACY and upstream_era == Era.MODERN and not is_error:
            required = inputs.read_required(raw) if may_require(raw) else None
            if required is not None:
                self.broker.ask_client(self, required)
                return
        elif self.era == Era.MODERN and is_error and b"-32042" in raw:
            self.learn_client()
            required_urls = self.broker.require_urls(self, raw)
            if required_urls is not None:
                self.complete(False, required_urls)
                return
        if not is_error and self.era != upstream_era:
            raw = results.translate(raw, self.era, upstream_era, self.method)
        elif is_error and self.era != upstream_era and self.era == Era.LEGACY and self.method == "resources/read":
            raw = results.not_found(raw)
        self.complete(is_error, raw)

    # ---- the answer

    def _finish(self, outcome: str) -> None:
        self.frontend.calls.pop(self.number, None)
        super()._finish(outcome)
        self.broker.deadlines.forget(self)
        self.params = b""
        self.subject_token = ""
        if self.questions:
            questions, self.questions = self.questions, None
            for question_id in questions:
                self.take_back(question_id)
            self.broker.drop(questions)

    def _answered(self, is_error: bool, raw: Body) -> None:
        if len(raw) > self.broker.max_bytes + SLACK:  # a round of many questions may be that large
            self._failed(OutcomeUnknown("upstream_protocol", "what the upstream asks is larger than maxResultBytes"))
            return
        if is_error and inputs.has_unsafe_url(bytes(raw)):
            self._failed(OutcomeUnknown("upstream_protocol", inputs.UNSAFE_URL))
            return
        if self.dropped:
            self.link.send(rpc.Interim(self.number, dropped=self.dropped))
        self.link.send(rpc.Answer(self.number, is_error), raw)
        if self.replay is not None:
            if len(raw) > self.broker.replays.limit_bytes:
                lost = "the answer was larger than what is kept for a lost stream; the call has run"
                self._keep(lambda link, number: link.send(rpc.Failed(number, "outcome_unknown", lost, True)), 0)
            else:
                kept = bytes(raw)  # a view would keep the whole message in memory
                self._keep(lambda link, number: link.send(rpc.Answer(number, is_error), kept), len(kept))

    def _failed(self, error: CallError) -> None:
        data = {"upstream": self.upstream, **{key: str(value)[:_WORDS] for key, value in list(error.data.items())[:16]}}
        # After the client was asked for input, the call is not repeated without its knowledge.
        delivered = not isinstance(error, NotDelivered) or self.asking is not None
        text = error.message[:_WORDS]
        self.link.send(rpc.Failed(self.number, error.code, text, delivered, data))
        if self.replay is not None:
            self._keep(lambda link, number: link.send(rpc.Failed(number, error.code, text, delivered, data)), 0)

    def _interim(self, message: bytes) -> None:
        self._tell(message)

    def _tell(self, message: bytes, must: bool = False) -> None:
        if self.session and self.era == Era.LEGACY:
            self.keep()
        if len(message) > self.broker.max_bytes + SLACK:
            self.dropped += 1
            return
        sequence = self.broker.replays.add(self.replay, message) if self.replay is not None else 0
        if must or not self.link.congested:  # on a congested link notifications are dropped, questions never
            dropped, self.dropped = self.dropped, 0
            self.link.send(rpc.Interim(self.number, sequence=sequence, dropped=dropped), message)
        else:
            self.dropped += 1

    # ---- resuming

    def keep(self) -> None:
        """Keep all messages from now on, because the client may resume the stream."""
        if self.replay is None:
            self.replay = self.broker.replays.open((self.frontend.name, self.number), self.session, self.request, self)
            self.replay.name, self.replay.listed_name = self.name, self.listed_name

    def _keep(self, send: Callable[[Any, int], None], size: int) -> None:
        assert self.replay is not None
        self.broker.replays.end(self.replay, KeptOutcome(send, size))

    def move(self, frontend: AnsweringFrontEnd, link: Link, number: int) -> None:
        """Continue on another link, or under another number: the client has resumed the stream there."""
        if not self.link.closed:
            self.link.send(rpc.Failed(self.number, "cancelled", "the client resumed the stream elsewhere", True))
        self.frontend.calls.pop(self.number, None)
        self.frontend, self.link, self.number = frontend, link, number
        frontend.calls[number] = self
