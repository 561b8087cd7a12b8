"""One call under way in this worker: its single answer, its clock, and its era.

``LinkCall`` answers over a front end's link, ``OwnCall`` through a future. ``input.parked_call`` outlives the single
tries of its client. Every call is answered exactly once.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from shared.errors import CallError, NotDelivered, OutcomeUnknown
from shared.mcp import jsonrpc
from shared.mcp.methods import severity
from shared.mcp.rope import Body
from shared.mcp.tasks import METHODS as TASK_METHODS
from shared.mcp.versions import Era
from shared.models import UpstreamSpec
from worker.bridge import results
from worker.bridge.inputs import Need, may_require
from worker.calls.client_facts import NOBODY
from worker.calls.observer import ANSWERED, UPSTREAM_ERROR

_UNASKED = "info"
"""The log level for a client that set none, on a shared session whose level was set for another client."""
OnAnswer = Callable[[bool, bytes], None]
"""Takes the answer to a question: whether it is an error, and its JSON."""


class Surroundings(Protocol):
    """What a session knows of its upstream (``worker.sessions.context``)."""

    @property
    def spec(self) -> UpstreamSpec:
        """The upstream as it is registered."""


class CarryingSession(Protocol):
    """The upstream session that carries a call."""

    protocol_version: str

    @property
    def context(self) -> Surroundings:
        """What the session knows of its upstream."""

    @property
    def runs_tasks(self) -> bool:
        """Whether the upstream declares that it runs calls as tasks of 2025-11-25."""

    def submit(self, call: Call) -> None:
        """Send the call."""

    def hand_over(self, call: Call, heir: Call) -> None:
        """Send everything that arrives for ``call`` from now on to ``heir``."""

    def modern(self) -> CarryingSession | None:
        """Return the session of the same upstream that speaks the modern era, or ``None`` if there is none."""


class Holder(Protocol):
    """The object that has a call now, and can stop it upstream."""

    def abandon(self, call: Call, reason: str) -> bool:
        """Stop the call upstream. Return true if it was certainly not sent."""


class CallSpan(Protocol):
    """What is noted of a call that is traced (``worker.calls.traces``)."""

    def answered(self, is_error: bool, raw: Body) -> None:
        """Note the answer: the JSON of its ``result`` or ``error``."""

    def asked(self, method: str, on_answer: OnAnswer) -> OnAnswer:
        """Note a question that the upstream asks during the call. Return what takes the answer in place of
        ``on_answer``."""

    def went_on(self, trace: str) -> None:
        """Note that the client's next try goes on with the call; ``trace`` is the ``traceparent`` of that try."""


class CallEnd(Protocol):
    """Is notified when a call is over (``worker.calls.observer.Traffic``)."""

    def finished(self, call: Call, outcome: str) -> None:
        """Note that a call is over."""


class Call:
    """Base of all calls.

    ``params`` is JSON. ``era`` is the caller's era, ``upstream_era`` the era of the session that carries the call.
    ``carrier`` is that session, ``holder`` can stop the call.
    """

    ours = False
    """Whether the call is the worker's own. Such a call has no client that could be asked or notified."""

    __slots__ = (
        "baggage",
        "carrier",
        "client",
        "connected_at",
        "done",
        "entered_at",
        "era",
        "expires_at",
        "hard_limit",
        "headers",
        "holder",
        "method",
        "name",
        "observer",
        "params",
        "passed",
        "resent",
        "session",
        "span",
        "started_at",
        "subject_token",
        "timeout_s",
        "token",
        "trace",
        "trace_lines",
        "trace_state",
        "upstream_era",
    )

    def __init__(self, method: str, params: bytes, era: int, timeout_s: float) -> None:
        self.method = method
        self.params = params
        self.era = era
        self.upstream_era = era
        self.timeout_s = timeout_s
        self.started_at = 0.0
        self.expires_at = 0.0
        self.entered_at = 0.0  # when it got its place, where the upstream has a limit (``calls.gate``)
        self.hard_limit = 0.0
        self.session = ""
        self.name = ""
        self.token = b""
        self.trace = self.trace_state = self.baggage = ""  # W3C trace context and baggage
        self.trace_lines = b""  # the same as lines of an HTTP head, for the upstream
        self.span: CallSpan | None = None
        self.connected_at = 0.0  # when it got a session or a connection for which it had to wait
        self.subject_token = ""
        self.headers: dict[str, str] | None = None
        self.passed: dict[str, str] | None = None
        self.client = NOBODY
        self.done = False
        self.resent = False
        self.carrier: CarryingSession | None = None
        self.holder: Holder | None = None
        self.observer: CallEnd | None = None

    def learn_client(self) -> None:
        """Read the facts about the client that the call itself states, if it states any."""

    def answer(self, is_error: bool, raw: Body) -> None:
        """Take the upstream's answer: the JSON of its ``result`` or ``error``. A large answer may be a view."""
        if self.done:
            return
        modern = self.era == self.upstream_era == Era.MODERN
        if type(raw) is not bytes:
            if (self.method not in TASK_METHODS and results.plain(raw)) if modern else self.era == self.upstream_era:
                self.complete(is_error, raw)
                return
            raw = bytes(raw)
        if modern and not is_error:
            raw = results.typed(raw)
        if is_error or self.era != self.upstream_era or (modern and (b'"taskId"' in raw or may_require(raw))):
            try:
                self._bridge(is_error, raw)
            except CallError as error:
                self.fail(OutcomeUnknown(error.code, error.message, error.data))
        else:
            self.complete(is_error, raw)

    def _bridge(self, is_error: bool, raw: bytes) -> None:
        """Answer in the caller's era. Raises ``CallError`` if the answer cannot be expressed there."""
        if not is_error and self.era != self.upstream_era:
            raw = results.translate(raw, self.era, self.upstream_era, self.method)
        self.complete(is_error, raw)

    def complete(self, is_error: bool, raw: Body) -> None:
        """Answer the caller with ``raw``, which is in the caller's era."""
        if not self.done:
            if self.span is not None:
                self.span.answered(is_error, raw)
            self._finish(UPSTREAM_ERROR if is_error else ANSWERED)
            self._answered(is_error, raw)

    def fail(self, error: CallError) -> None:
        """Fail the call. ``NotDelivered`` allows sending it elsewhere."""
        if not self.done:
            self._finish(error.code)
            self._failed(error)

    def interim(self, message: bytes, now: float) -> None:
        """Pass on a notification before the answer, and restart the clock, up to the hard limit."""
        if not self.done:
            if self.expires_at:
                self.expires_at = min(now + self.timeout_s, self.hard_limit)
            self._interim(message)

    def extend(self, now: float, by_s: float) -> None:
        """Restart the clock, because the upstream goes on with the call and will be asked again after ``by_s``."""
        if not self.done and self.expires_at:
            self.expires_at = min(now + by_s + self.timeout_s, self.hard_limit)

    def receives(self, level: str, own: bool, raised: str) -> bool:
        """Whether the call's client receives a log message of ``level`` from a legacy session.

        ``own``: the session belongs to this client alone, so the upstream filters. ``raised``: the level that a shared
        session was set to for some client. Modern clients receive only what they asked for (2026-07-28, logging).
        """
        if self.era == Era.MODERN:
            return bool(self.client.log_level) and severity(level) >= severity(self.client.log_level)
        wanted = self.client.log_level or (_UNASKED if raised else "")
        return own or not wanted or severity(level) >= severity(wanted)

    def notice(self, method: str, params: bytes) -> None:
        """Take a notification that arrived on this call's stream and is not about the call itself."""

    @property
    def log_level(self) -> str:
        """The least severe level for which the call's client asked, or empty."""
        self.learn_client()
        return self.client.log_level

    def withdrawn(self, on_answer: OnAnswer) -> None:
        """Withdraw the question that was asked with ``on_answer``, because the upstream does not need the answer any
        more."""

    def ask(self, on_answer: OnAnswer, need: Need, carrier: CarryingSession) -> None:
        """Ask the client for input that the upstream needs during this call."""
        on_answer(True, jsonrpc.error_object(-32601, "this call has no client that could be asked"))

    def expire(self) -> None:
        """End the call, because its time is over. Called by the deadline wheel."""
        if self.done:
            return
        if self.stop(f"no answer in {self.timeout_s:g} s"):
            text = f"the upstream could not be given the call in {self.timeout_s:g} s; it was not sent"
            self.fail(NotDelivered("timeout", text))
        else:
            text = f"no answer from the upstream in {self.timeout_s:g} s; it may have run"
            self.fail(OutcomeUnknown("timeout", text))

    def stop(self, reason: str) -> bool:
        """Stop the call upstream, because no client waits any more. Return true if it was certainly not sent yet."""
        return self.holder is not None and self.holder.abandon(self, reason)

    def _finish(self, outcome: str) -> None:
        self.done = True
        self.expires_at = 0.0
        self._ended(outcome)

    def _ended(self, outcome: str) -> None:
        """Notify the observer that the call is over."""
        if self.observer is not None:
            self.observer.finished(self, outcome)

    def _answered(self, is_error: bool, raw: Body) -> None:
        raise AssertionError("a subclass answers")

    def _failed(self, error: CallError) -> None:
        raise AssertionError("a subclass answers")

    def _interim(self, message: bytes) -> None:
        """Pass on a notification. The base class has no receiver."""


def caller_of(call: Call) -> str:
    """Return whose call it is, for a fair share of an upstream: the principal's, else the client session's."""
    return call.client.principal or call.session
