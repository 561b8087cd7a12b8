"""One call on its way through this worker: the one answer that it gets, its clock, and its era.

``LinkCall`` answers over a front end's link, ``OwnCall`` a future; ``input.parked_call`` outlives its client's tries.
Whatever happens, a call is answered exactly once.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from shared.errors import CallError, NotDelivered, OutcomeUnknown
from shared.mcp import jsonrpc
from shared.mcp.methods import severity
from shared.mcp.rope import Body
from shared.mcp.versions import Era
from worker.bridge import results
from worker.bridge.inputs import Need, may_require
from worker.calls.client_facts import NOBODY
from worker.calls.observer import ANSWERED, UPSTREAM_ERROR, CallObserver

_UNASKED = "info"
"""From where a client that set no level hears a session that was made verbose for another one."""
OnAnswer = Callable[[bool, bytes], None]
"""Takes the answer to a question: whether it is an error, and its JSON."""


class Carrier(Protocol):
    """The upstream session that carries a call."""

    def submit(self, call: Call) -> None:
        """Send the call."""

    def hand_over(self, call: Call, heir: Call) -> None:
        """``heir`` gets what comes for ``call`` from now on."""


class Holder(Protocol):
    """Who has a call now, and can stop it upstream."""

    def abandon(self, call: Call, reason: str) -> bool:
        """Stop the call upstream; true when it was certainly not sent."""


class Call:
    """Base of all kinds. ``params`` is JSON; ``era`` is the caller's, ``upstream_era`` the one that carries the call;
    ``carrier`` is the session that does, ``holder`` who can stop the call."""

    ours = False
    """Whether the call is the worker's own: nobody is behind it to be asked or told."""

    __slots__ = (
        "carrier",
        "client",
        "done",
        "era",
        "expires_at",
        "hard_limit",
        "headers",
        "holder",
        "method",
        "name",
        "observer",
        "params",
        "resent",
        "session",
        "timeout_s",
        "token",
        "trace",
        "upstream_era",
    )

    def __init__(self, method: str, params: bytes, era: int, timeout_s: float) -> None:
        self.method = method
        self.params = params
        self.era = era
        self.upstream_era = era
        self.timeout_s = timeout_s
        self.expires_at = 0.0
        self.hard_limit = 0.0
        self.session = ""
        self.name = ""
        self.token = b""
        self.trace = ""
        self.headers: dict[str, str] | None = None
        self.client = NOBODY
        self.done = False
        self.resent = False
        self.carrier: Carrier | None = None
        self.holder: Holder | None = None
        self.observer: CallObserver | None = None

    def learn_client(self) -> None:
        """Note what the call itself says of its client."""

    def answer(self, is_error: bool, raw: Body) -> None:
        """The upstream's answer: the JSON of its ``result`` or ``error``; a large one may be a view."""
        if self.done:
            return
        modern = self.era == self.upstream_era == Era.MODERN
        if type(raw) is not bytes:
            if results.plain(raw) if modern else self.era == self.upstream_era:
                self.complete(is_error, raw)
                return
            raw = bytes(raw)
        if modern and not is_error:
            raw = results.typed(raw)
        if self.era != self.upstream_era or (modern and may_require(raw)):
            try:
                self._bridge(is_error, raw)
            except CallError as error:
                self.fail(OutcomeUnknown(error.code, error.message, error.data))
        else:
            self.complete(is_error, raw)

    def _bridge(self, is_error: bool, raw: bytes) -> None:
        """Answer in the caller's era. Raises ``CallError`` when it cannot be expressed there."""
        if not is_error and self.era != self.upstream_era:
            raw = results.translate(raw, self.era, self.upstream_era, self.method)
        self.complete(is_error, raw)

    def complete(self, is_error: bool, raw: Body) -> None:
        """The answer as the caller gets it."""
        if not self.done:
            self._finish(UPSTREAM_ERROR if is_error else ANSWERED)
            self._answered(is_error, raw)

    def fail(self, error: CallError) -> None:
        """The call failed on the way; ``NotDelivered`` lets it be sent elsewhere."""
        if not self.done:
            self._finish(error.code)
            self._failed(error)

    def interim(self, message: bytes, now: float) -> None:
        """A notification before the answer; it restarts the clock up to the hard limit."""
        if not self.done:
            if self.expires_at:
                self.expires_at = min(now + self.timeout_s, self.hard_limit)
            self._interim(message)

    def hears(self, level: str, own: bool, raised: str) -> bool:
        """Whether its client is told a log message of ``level`` from a legacy session.

        ``own``: the session is the client's own, so the upstream filters; ``raised``: the level that a shared session
        was set to for somebody. Modern clients hear only what they asked for (2026-07-28, logging).
        """
        if self.era == Era.MODERN:
            return bool(self.client.log_level) and severity(level) >= severity(self.client.log_level)
        wanted = self.client.log_level or (_UNASKED if raised else "")
        return own or not wanted or severity(level) >= severity(wanted)

    def notice(self, method: str, params: bytes) -> None:
        """A notification that came on this call's stream and is not about the call itself."""

    @property
    def log_level(self) -> str:
        """From which level on the call's client asked for log messages, or empty."""
        self.learn_client()
        return self.client.log_level

    def withdrawn(self, on_answer: OnAnswer) -> None:
        """Take back the question whose answer ``on_answer`` would take: the upstream does not want it any more."""

    def ask(self, on_answer: OnAnswer, need: Need, carrier: Carrier) -> None:
        """Ask the client for something that the upstream needs during this call."""
        on_answer(True, jsonrpc.error_object(-32601, "this call has no client that could be asked"))

    def expire(self) -> None:
        """Its time is over (called by the deadline wheel)."""
        if self.done:
            return
        if self.stop(f"no answer in {self.timeout_s:g} s"):
            text = f"the upstream could not be given the call in {self.timeout_s:g} s; it was not sent"
            self.fail(NotDelivered("timeout", text))
        else:
            text = f"no answer from the upstream in {self.timeout_s:g} s; it may have run"
            self.fail(OutcomeUnknown("timeout", text))

    def stop(self, reason: str) -> bool:
        """Tell the upstream that nobody waits any more; true when it was certainly not sent yet."""
        return self.holder is not None and self.holder.abandon(self, reason)

    def _finish(self, outcome: str) -> None:
        self.done = True
        self.expires_at = 0.0
        self._ended(outcome)

    def _ended(self, outcome: str) -> None:
        """Tell the observer that the call is over."""
        if self.observer is not None:
            self.observer.finished(self, outcome)

    def _answered(self, is_error: bool, raw: Body) -> None:
        raise AssertionError("a subclass answers")

    def _failed(self, error: CallError) -> None:
        raise AssertionError("a subclass answers")

    def _interim(self, message: bytes) -> None:
        """Nobody listens, unless a subclass does."""
