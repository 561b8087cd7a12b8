"""Traces of a front end: a span for each call of a client, from its arrival to its answer. Counterpart:
``worker.calls.traces``, whose spans of the same call are below it.

Span and attributes follow OpenTelemetry's semantic conventions for MCP; what they do not name is ``gateway.*``. Waiting
and repeated attempts are spans below, a failed attempt is an event. Arguments, results, principals and session ids are
in none of them.
"""

from __future__ import annotations

import time
from random import getrandbits, randbytes
from typing import Any

import msgspec
from msgspec import Struct

from gateway.telemetry.observer import ANSWERED, LISTENING, CallObserver, ClientHead, ObservedCall, arrived
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


class _Open(Struct, gc=False):
    """The span of a call that is not over. ``attempt_id`` is that of an attempt that is not the first: the first one
    has no span beside the worker's."""

    trace_id: bytes
    id: bytes
    parent: bytes
    state: str
    began_ns: int
    attempt_id: bytes = b""
    attempt_ns: int = 0
    more: bytes = b""
    """A link and events."""
    events: int = 0


class Traces:
    """A ``CallObserver`` that makes spans. ``counters`` are told of attempts and ends as well: calls that are not
    traced, which are nearly all, then cost least."""

    hears_begun = True

    def __init__(self, tracing: Tracing, counters: CallObserver) -> None:
        self._note_attempt = counters.attempted
        self._note_end = counters.finished
        self._sampler = tracing.sampler
        self._bound = tracing.sampler.bound
        self._baggage = tracing.baggage
        self._add = tracing.add
        self._fixed: dict[tuple[Any, ...], bytes] = {}

    def begun(self, call: ObservedCall) -> None:
        """Begin a span if the trace is sampled. A context that the client sent goes on in any case."""
        meta, client, parent = call.meta, call.client, None
        if call.trace:
            parent = context.read(call.trace)
        elif (client is not None and client.trace is not None) or (meta is not None and meta.trace_parent):
            parent = arrived(call)
        if parent is None:
            low = getrandbits(64)
            if low >= self._bound:
                return  # it is no trace: what goes up to the upstream is what came
            if not call.method or call.method == OWN_LIST:  # resumed, or asked by the gateway for a list
                return
            ids = getrandbits(128).to_bytes(16, "big")
            trace, id = ids[:8] + low.to_bytes(8, "big"), ids[8:]
            call.trace = f"00-{trace.hex()}-{id.hex()}-01"
            call.span = span = _Open(trace, id, b"", "", time.time_ns())
        else:
            self._go_on(call, parent)
            span = call.span
        if span is not None and client is not None and (client.trace is not None or client.waited_s):
            self._note_head(span, client.trace, client.waited_s)

    def _go_on(self, call: ObservedCall, parent: Context) -> None:
        """Begin a span below what the client sent, or, if that is not sampled, only pass it on."""
        call.trace_state = parent.state
        if self._baggage:
            call.baggage = parent.baggage
        sampled = self._sampler.takes(int(parent.trace_id[16:], 16), parent.sampled)
        if not sampled or not call.method or call.method == OWN_LIST:  # without a method: resumed
            call.trace = written(parent.trace_id, parent.span_id, False)
            return
        id = randbytes(8)
        ids = bytes.fromhex(parent.trace_id), id, bytes.fromhex(parent.span_id)
        call.span = _Open(*ids, parent.state, time.time_ns())
        call.trace = written(parent.trace_id, id.hex(), True)

    def _note_head(self, span: _Open, sent: Context | None, waited_s: float) -> None:
        """Link what the headers say to a span whose parent was in ``_meta``, and show how long admission took."""
        if sent is not None and (sent.trace_id, sent.span_id) != (span.trace_id.hex(), span.parent.hex()):
            span.more += spans.link(sent.trace_id, sent.span_id)
        waited_ns = int(waited_s * 1e9)
        if waited_ns >= _SHOWN_NS:
            arrived_ns = span.began_ns - waited_ns
            self._below(span, "gateway.admit", {}, arrived_ns, span.began_ns)
            span.began_ns = arrived_ns

    def attempted(self, call: ObservedCall, upstream: str, worker: str) -> None:
        """Show how long the call waited for a replica, or begin the span of an attempt that is not the first."""
        self._note_attempt(call, upstream, worker)
        span = call.span
        if span is None:
            return
        now_ns = time.time_ns()
        if call.attempts > 1:
            span.attempt_id, span.attempt_ns = randbytes(8), now_ns
            call.trace = written(span.trace_id.hex(), span.attempt_id.hex(), True)
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
        if span.events < _MAX_EVENTS:
            facts: dict[str, spans.Value] = {
                "gateway.attempt": call.attempts,
                "gateway.upstream": call.upstream,
                "error.type": code,
            }
            span.events += 1
            span.more += spans.event("gateway.attempt.failed", now_ns, facts)
        self._end_attempt(call, span, now_ns, code)

    def finished(self, call: ObservedCall, outcome: str, seconds: float) -> None:
        """End the span."""
        self._note_end(call, outcome, seconds)
        if call.span is not None:
            self._end(call, outcome)

    def _end(self, call: ObservedCall, outcome: str) -> None:
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
        content = fixed + span.more
        if call.id:  # a listen that the gateway passes on has none of a client
            content += _REQUEST_ID.of(call.id if call.id.isdigit() else _shown_id(call.id))
        if call.attempts > 1:
            content += spans.attributes({"gateway.attempts": call.attempts})
        ids = span.trace_id, span.id, span.parent
        self._add(spans.span(*ids, content, span.began_ns, now_ns, span.state, True))

    def refused(self, head: ClientHead, message: Message, params: Params, era: Era, code: str) -> None:
        """Make the span of a request that was refused before it became a call. What it names is not in the span: any
        text could be there."""
        call = ObservedCall(method=message.method, era=era, id=bytes(message.id), client=head, meta=params.meta)
        self.begun(call)
        self._end(call, code)

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
            span.attempt_id = b""

    def _below(
        self,
        span: _Open,
        name: str,
        facts: dict[str, spans.Value],
        began_ns: int,
        ended_ns: int,
        failed: bool = False,
        id: bytes = b"",
    ) -> None:
        """Make a span below that of a call."""
        content = spans.fixed(name, spans.INTERNAL, facts) + (spans.FAILED if failed else b"")
        ids = span.trace_id, id or randbytes(8), span.id
        self._add(spans.span(*ids, content, began_ns, ended_ns, span.state))


def _shown_id(raw: bytes) -> bytes:
    """Return a request id as text."""
    return escaped(str(msgspec.json.decode(raw))[: spans.MAX_TEXT]).encode("utf-8", "replace")
