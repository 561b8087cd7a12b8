"""Traces of a worker: a span for each call to an upstream, below the front end's. Counterpart:
``gateway.telemetry.traces``.

Waiting for a place, for a session or a connection, and questions that the upstream asks its client are spans below. The
trace context goes up to the upstream in ``_meta``, and in headers where there are any; also that of a trace that is not
recorded, so that the upstream does not record it either.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import partial
from random import getrandbits, randbytes
from typing import Any
from urllib.parse import urlsplit

import msgspec
from msgspec import Struct

from shared.errors import Refused
from shared.mcp.rope import Body
from shared.mcp.versions import LATEST_MODERN, Era
from shared.tracing import context, spans
from shared.tracing.context import BAGGAGE, PARENT, STATE
from shared.tracing.naming import named
from shared.tracing.tracing import Tracing
from worker.bridge.params import usual_end, with_trace
from worker.calls.call import Call, OnAnswer
from worker.calls.observer import ANSWERED, CANCELLED, UPSTREAM_ERROR, CallObserver, ObservedUpstream

_SHOWN_S = 0.001
"""Waiting that was shorter has no span."""
_MAX_QUESTIONS = 32
_MAX_FIXED = 4096
_READ = 64 * 1024
"""The size of a result, in bytes, up to which it is looked at whether a tool says that it failed."""
_NO_ERROR = frozenset((ANSWERED, CANCELLED))
_OVER = "not_answered"


class _Result(Struct, gc=False):
    failed: bool = msgspec.field(name="isError", default=False)


class _Error(Struct, gc=False):
    code: int = 0


_result = msgspec.json.Decoder(_Result)
_error = msgspec.json.Decoder(_Error)


class _Open(Struct, gc=False):
    """The span of a call that is not over. Implements ``worker.calls.call.CallSpan``.

    ``open`` are questions without an answer: their methods, and when they were asked.
    """

    add: Callable[[bytes], None]
    trace_id: bytes
    id: bytes
    parent: bytes
    state: str
    began_ns: int
    questions: int = 0
    open: dict[int, tuple[str, int]] | None = None
    links: list[bytes] | None = None
    rpc_code: int = 0
    tool_failed: bool = False

    def answered(self, is_error: bool, raw: Body) -> None:
        """Note which error it is, or whether a tool says that it failed."""
        if len(raw) > _READ:
            return
        text = bytes(raw)
        try:
            if is_error:
                self.rpc_code = _error.decode(text).code
            elif b'"isError"' in text:
                self.tool_failed = _result.decode(text).failed
        except (msgspec.DecodeError, RecursionError):
            pass

    def asked(self, method: str, on_answer: OnAnswer) -> OnAnswer:
        """Begin the span of a question."""
        if self.questions >= _MAX_QUESTIONS:
            return on_answer
        self.questions += 1
        if self.open is None:
            self.open = {}
        self.open[self.questions] = method, time.time_ns()
        return partial(self._replied, self.questions, on_answer)

    def went_on(self, trace: str) -> None:
        """Link the try of the client with which the call goes on."""
        sent = context.read(trace)
        if sent is not None and sent.sampled:
            links = self.links or []
            self.links = [*links, spans.link(sent.trace_id, sent.span_id)][:_MAX_QUESTIONS]

    def _replied(self, number: int, on_answer: OnAnswer, is_error: bool, raw: bytes) -> None:
        self._end_question(number, "refused" if is_error else "")
        on_answer(is_error, raw)

    def _end_question(self, number: int, why: str) -> None:
        method, began_ns = (self.open or {}).pop(number, ("", 0))
        if method:
            facts: dict[str, spans.Value] = {"mcp.method.name": method}
            if why:
                facts["error.type"] = why
            self.below(method, spans.CLIENT, facts, began_ns, time.time_ns())

    def end_questions(self) -> None:
        """End the spans of questions that got no answer."""
        for number in list(self.open or ()):
            self._end_question(number, _OVER)

    def below(self, name: str, kind: int, facts: dict[str, spans.Value], began_ns: int, ended_ns: int) -> None:
        """Make a span below this one."""
        content = spans.fixed(name, kind, facts) + (spans.FAILED if "error.type" in facts else b"")
        self.add(spans.span(self.trace_id, randbytes(8), self.id, content, began_ns, ended_ns, self.state))


class Traces:
    """A ``CallObserver`` that makes spans. ``counters`` are told of ends as well: calls that are not traced, which are
    nearly all, then cost least. ``clock`` is the one by which calls say when they started."""

    hears_begun = True

    def __init__(self, tracing: Tracing, counters: CallObserver, clock: Callable[[], float] = time.monotonic) -> None:
        self._note_end = counters.finished
        self._add = tracing.add
        self._clock = clock
        self._fixed: dict[tuple[Any, ...], bytes] = {}
        self._usual = b" "  # how params end that a context can be put into without looking: most clients repeat it

    def begun(self, call: Any, upstream: ObservedUpstream) -> None:
        """Begin a span if the call's trace is recorded, and put the context into what goes up to the upstream."""
        parent = call.trace  # which a front end wrote
        if not parent:
            return  # a request of the worker's own, or a trace that is not recorded and begins at the gateway
        if parent[-1] == "1":
            came_ns = time.time_ns()
            if call.entered_at or call.connected_at:  # it has waited before it got here
                came_ns -= int((self._clock() - call.started_at) * 1e9)
            id = getrandbits(64).to_bytes(8, "big")
            ids = bytes.fromhex(parent[3:35]), id, bytes.fromhex(parent[36:52])
            call.span = _Open(self._add, *ids, call.trace_state, came_ns)
            parent = f"{parent[:36]}{id.hex()}-01"
        self._carry(call, parent)

    def confirming(self, call: Call, method: str, on_answer: OnAnswer) -> OnAnswer:
        """Begin the span of a question that is asked before the call goes to an upstream, and return what takes the
        answer. The span is beside the worker's own span of the call, which begins when the call goes."""
        sent = context.read(call.trace) if call.trace else None
        if sent is None or not sent.sampled:
            return on_answer
        ids = bytes.fromhex(sent.trace_id), randbytes(8), bytes.fromhex(sent.span_id)
        state, began_ns = call.trace_state, time.time_ns()

        def answered(is_error: bool, raw: bytes) -> None:
            facts: dict[str, spans.Value] = {"mcp.method.name": method, "gateway.confirmation": True}
            if is_error:
                facts["error.type"] = "refused"
            content = spans.fixed(method, spans.CLIENT, facts) + (spans.FAILED if is_error else b"")
            self._add(spans.span(*ids, content, began_ns, time.time_ns(), state))
            on_answer(is_error, raw)

        return answered

    def _carry(self, call: Call, parent: str) -> None:
        """Put the trace context into the params of a call, and into lines of an HTTP head."""
        raw = parent.encode()
        state, baggage = call.trace_state, call.baggage
        if call.params.endswith(self._usual) and not state and not baggage:
            call.params = call.params[:-2] + b',"traceparent":"' + raw + b'"}}'
        elif raw not in call.params:  # the client's own, which is not recorded, is there already
            try:
                self._usual = usual_end(call.params) or self._usual
                call.params = with_trace(call.params, raw, state, baggage)
            except Refused:
                return  # the upstream says what is wrong with them
        lines = b"traceparent: " + raw + b"\r\n"
        if state:
            lines += b"tracestate: %b\r\n" % state.encode()
        if baggage:
            lines += b"baggage: %b\r\n" % baggage.encode()
        call.trace_lines = lines
        if call.passed is not None:  # the entry may let the client's own through
            replaced = (PARENT, STATE, BAGGAGE) if baggage else (PARENT, STATE)
            call.passed = {name: value for name, value in call.passed.items() if name not in replaced}

    def finished(self, call: Any, outcome: str, upstream: ObservedUpstream) -> None:
        """End the span."""
        self._note_end(call, outcome, upstream)
        if call.span is not None:
            self._end(call, outcome, upstream)

    def _end(self, call: Any, outcome: str, upstream: ObservedUpstream) -> None:
        span: _Open = call.span
        call.span = None
        ended_ns = time.time_ns()
        if call.entered_at or call.connected_at:
            self._show_waiting(call, span)
        if span.open:
            span.end_questions()
        if span.tool_failed and outcome is ANSWERED:
            error = "tool_error"
        elif outcome is UPSTREAM_ERROR:
            error = str(span.rpc_code)
        else:
            error = "" if outcome in _NO_ERROR else outcome
        carrier = call.carrier
        version = carrier.protocol_version if carrier is not None else ""
        key = (upstream.id, call.name, call.method, version, outcome, error, call.resent)
        fixed = self._fixed.get(key)
        if fixed is None:
            fixed = self._make_fixed(call, upstream, version, outcome, error)
            if len(self._fixed) >= _MAX_FIXED:
                self._fixed.clear()
            self._fixed[key] = fixed
        content = b"".join((fixed, *span.links)) if span.links else fixed
        ids = span.trace_id, span.id, span.parent
        self._add(spans.span(*ids, content, span.began_ns, ended_ns, span.state, True))

    def _show_waiting(self, call: Call, span: _Open) -> None:
        """Make spans of the time in which the call waited for a place, and for a session or a connection."""
        before = call.started_at
        for name, until in (("gateway.queue", call.entered_at), ("gateway.connect", call.connected_at)):
            if until - before >= _SHOWN_S:
                began_ns = span.began_ns + int((before - call.started_at) * 1e9)
                span.below(name, spans.INTERNAL, {}, began_ns, began_ns + int((until - before) * 1e9))
            before = max(before, until)

    def _make_fixed(self, call: Call, upstream: ObservedUpstream, version: str, outcome: str, error: str) -> bytes:
        name, values = named(call.method, call.name)
        values["gateway.group"] = upstream.group
        values["gateway.upstream"] = upstream.id
        values["gateway.outcome"] = outcome
        values["mcp.protocol.version"] = version or (LATEST_MODERN if call.upstream_era == Era.MODERN else "")
        if call.carrier is not None:
            values.update(_where(getattr(call.carrier.context.spec.connection, "url", "")))
        if call.resent:
            values["gateway.resent"] = True
        if outcome is UPSTREAM_ERROR:
            values["rpc.response.status_code"] = error
        if error:
            values["error.type"] = error
        told = {name: value for name, value in values.items() if value != ""}
        return spans.fixed(name, spans.CLIENT, told) + (spans.FAILED if error else b"")


def _where(url: str) -> dict[str, spans.Value]:
    """Return where an upstream is. One without a URL is a child process."""
    if not url:
        return {"network.transport": "pipe"}
    try:
        parts = urlsplit(url)
        host, port = parts.hostname, parts.port or {"http": 80, "https": 443}.get(parts.scheme)
    except ValueError:
        host, port = None, None
    if not host or port is None:
        return {"network.transport": "unix"}
    return {"network.transport": "tcp", "network.protocol.name": "http", "server.address": host, "server.port": port}
