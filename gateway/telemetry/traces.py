"""Traces of a front end: a span for each call of a client, from its arrival to its answer. Counterpart:
``worker.calls.traces``, whose spans of the same call are below it.

Span and attributes follow OpenTelemetry's semantic conventions for MCP; what they do not name is ``gateway.*``. Waiting
and repeated attempts are spans below, a failed attempt is an event. Arguments, results, principals and session ids are
in none of them.
"""

from __future__ import annotations

import time
from random import getrandbits
from typing import Any

import msgspec

from gateway.telemetry.observer import ANSWERED, LISTENING, ClientHead, ObservedCall, arrived
from shared.logs import escaped
from shared.mcp.jsonrpc import Message, Params
from shared.mcp.methods import OWN_LIST
from shared.mcp.versions import Era
from shared.tracing import context, spans
from shared.tracing.context import Context, written
from shared.tracing.naming import named
from shared.tracing.tracing import Tracing

_SHOWN_NS = 1_000_000
"""Waiting that was shorter (nanoseconds) has no span."""
_MAX_EVENTS = 32
_MAX_FIXED = 4096
_REQUEST_ID = spans.TextAttribute("jsonrpc.request.id")
_NO_ERROR = frozenset((ANSWERED, LISTENING, "abandoned", "cancelled"))


class _Open:
    """The span of a call that is not over."""

    __slots__ = (
        "attempt_id",
        "attempt_ns",
        "began_ns",
        "events",
        "id",
        "link",
        "parent",
        "state",
        "trace_id",
    )

    def __init__(self, trace_id: str, parent: str, state: str, began_ns: int) -> None:
        self.trace_id = trace_id
        self.id = f"{getrandbits(64):016x}"
        self.parent = parent
        self.state = state
        self.began_ns = began_ns
        self.attempt_id = ""  # of an attempt that is not the first: the first one has no span beside the worker's
        self.attempt_ns = 0
        self.link = b""
        self.events: list[bytes] = []


class Traces:
    """A ``CallObserver`` that makes spans."""

    def __init__(self, tracing: Tracing) -> None:
        self._sampler = tracing.sampler
        self._bound = tracing.sampler.bound
        self._baggage = tracing.baggage
        self._add = tracing.add
        self._fixed: dict[tuple[Any, ...], bytes] = {}

    def begun(self, call: ObservedCall) -> None:
        """Begin a span if the trace is sampled. A context that the client sent goes on in any case."""
        parent = context.read(call.trace) if call.trace else arrived(call)
        if parent is None:
            low = getrandbits(64)
            if low >= self._bound:
                return  # it is no trace: what goes up to the upstream is what came
            trace_id, span_id, state = f"{getrandbits(64):016x}{low:016x}", "", ""
        else:
            trace_id, span_id, state = parent.trace_id, parent.span_id, parent.state
            call.trace_state = state
            if self._baggage:
                call.baggage = parent.baggage
            if not self._sampler.takes(int(trace_id[16:], 16), parent.sampled):
                call.trace = written(trace_id, span_id, False)
                return
        if not call.method or call.method == OWN_LIST:  # resumed, or asked by the gateway for a list
            call.trace = written(trace_id, span_id or f"{getrandbits(64):016x}", False)
            return
        call.span = span = _Open(trace_id, span_id, state, time.time_ns())
        call.trace = written(trace_id, span.id, True)
        if call.client is not None:
            self._note_head(span, call.client.trace, call.client.waited_s)

    def _note_head(self, span: _Open, sent: Context | None, waited_s: float) -> None:
        """Link what the headers say to a span whose parent was in ``_meta``, and show how long admission took."""
        if sent is not None and (sent.trace_id, sent.span_id) != (span.trace_id, span.parent):
            span.link = spans.link(sent.trace_id, sent.span_id)
        waited_ns = int(waited_s * 1e9)
        if waited_ns >= _SHOWN_NS:
            arrived_ns = span.began_ns - waited_ns
            self._below(span, "gateway.admit", {}, arrived_ns, span.began_ns)
            span.began_ns = arrived_ns

    def attempted(self, call: ObservedCall, upstream: str, worker: str) -> None:
        """Show how long the call waited for a replica, or begin the span of an attempt that is not the first."""
        call.upstream = upstream
        span = call.span
        if span is None:
            return
        now_ns = time.time_ns()
        if call.attempts > 1:
            span.attempt_id, span.attempt_ns = f"{getrandbits(64):016x}", now_ns
            call.trace = written(span.trace_id, span.attempt_id, True)
        else:
            waited_ns = int(call.client.waited_s * 1e9) if call.client is not None else 0
            if now_ns - span.began_ns - waited_ns >= _SHOWN_NS:
                self._below(span, "gateway.wait", {}, span.began_ns + waited_ns, now_ns)

    def attempt_failed(self, call: ObservedCall, code: str) -> None:
        """Note why an attempt failed, and end its span if it has one."""
        span = call.span
        if span is None:
            return
        now_ns = time.time_ns()
        if len(span.events) < _MAX_EVENTS:
            facts: dict[str, spans.Value] = {
                "gateway.attempt": call.attempts,
                "gateway.upstream": call.upstream,
                "error.type": code,
            }
            span.events.append(spans.event("gateway.attempt.failed", now_ns, facts))
        self._end_attempt(call, span, now_ns, code)

    def finished(self, call: ObservedCall, outcome: str, seconds: float) -> None:
        """End the span."""
        span = call.span
        if span is None:
            return
        call.span = None
        now_ns = time.time_ns()
        if span.attempt_id:
            self._end_attempt(call, span, now_ns, outcome)
        key = (call.group, call.upstream, call.name, call.method, call.era, outcome)
        fixed = self._fixed.get(key)
        if fixed is None:
            fixed = self._make_fixed(call, outcome)
        content = [fixed, span.link, *span.events, _REQUEST_ID.of(_shown_id(call.id))]
        if call.attempts > 1:
            content.append(spans.attributes({"gateway.attempts": call.attempts}))
        self._add(
            spans.span(
                bytes.fromhex(span.trace_id),
                bytes.fromhex(span.id),
                bytes.fromhex(span.parent),
                b"".join(content),
                span.began_ns,
                now_ns,
                span.state,
                True,
            )
        )

    def refused(self, head: ClientHead, message: Message, params: Params, era: Era, code: str) -> None:
        """Make the span of a request that was refused before it became a call. What it names is not in the span: any
        text could be there."""
        call = ObservedCall(method=message.method, era=era, id=bytes(message.id), client=head, meta=params.meta)
        self.begun(call)
        self.finished(call, code, 0.0)

    def _make_fixed(self, call: ObservedCall, outcome: str) -> bytes:
        name, values = named(call.method, call.name)
        values["network.transport"] = "tcp"
        values["network.protocol.name"] = "http"
        values["gateway.era"] = Era(bool(call.era)).word
        if call.group:
            values["gateway.group"] = call.group
        if call.upstream:
            values["gateway.upstream"] = call.upstream
        values["gateway.outcome"] = outcome
        failed = outcome not in _NO_ERROR
        if failed:
            values["error.type"] = outcome
        fixed = spans.fixed(name, spans.SERVER, values) + (spans.FAILED if failed else b"")
        if len(self._fixed) >= _MAX_FIXED:
            self._fixed.clear()
        self._fixed[call.group, call.upstream, call.name, call.method, call.era, outcome] = fixed
        return fixed

    def _end_attempt(self, call: ObservedCall, span: _Open, now_ns: int, outcome: str) -> None:
        if span.attempt_id:
            facts: dict[str, spans.Value] = {
                "gateway.attempt": call.attempts,
                "gateway.upstream": call.upstream,
                "gateway.outcome": outcome,
            }
            self._below(
                span, "gateway.retry", facts, span.attempt_ns, now_ns, outcome not in _NO_ERROR, span.attempt_id
            )
            span.attempt_id = ""

    def _below(
        self,
        span: _Open,
        name: str,
        facts: dict[str, spans.Value],
        began_ns: int,
        ended_ns: int,
        failed: bool = False,
        id: str = "",
    ) -> None:
        """Make a span below that of a call."""
        content = spans.fixed(name, spans.INTERNAL, facts) + (spans.FAILED if failed else b"")
        ids = bytes.fromhex(span.trace_id), bytes.fromhex(id or f"{getrandbits(64):016x}"), bytes.fromhex(span.id)
        self._add(spans.span(*ids, content, began_ns, ended_ns, span.state))


def _shown_id(raw: bytes) -> bytes:
    """Return a request id as text."""
    if raw.isdigit():
        return raw
    return escaped(str(msgspec.json.decode(raw))[: spans.MAX_TEXT]).encode("utf-8", "replace")
