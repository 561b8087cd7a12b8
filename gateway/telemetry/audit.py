"""The audit log: who did what, when, and how it ended. One event for each call, each refusal and each change.

Events are noted on the hot path as plain values, and written by a task of its own in batches: as lines of JSON to a
file or to standard output, and to a bounded stream in Redis, which ``gateway audit tail`` reads; as log records (OTLP)
to a collector. What cannot be kept is counted, and the loss is an event as well.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import logging
import os
import sys
import time
from collections import deque
from pathlib import Path
from typing import Any, Protocol

import msgspec
import orjson
from msgspec import Raw

from gateway.telemetry.elicitations import about, answers_in
from gateway.telemetry.observer import LISTENING, ObservedCall
from gateway.telemetry.redaction import read_pointer, redacted
from shared.access.rules import AuditDocument
from shared.errors import CallError, RegistryUnavailable
from shared.mcp import jsonrpc
from shared.mcp.text import without_lone_surrogates
from shared.metrics.tally import Tally
from shared.registry.audit import AuditStore
from shared.tracing.log_records import INFO, WARN, record

_log = logging.getLogger(__name__)
_WAITING = 20_000
_WAITING_BYTES = 32 * 1024 * 1024
"""Events, and bytes of arguments in them, that may wait to be written; more are lost and counted."""
_EVERY_S = 0.2
_BATCH = 500
_MAX_ARGUMENTS = 64 * 1024
"""Longer arguments are noted as a digest."""
_MAX_DEPTH = 200
"""So are arguments that are nested deeper."""
_TURN_S = 0.005
"""So long lines are made in one go; then others have a turn."""
_EXPORTED = ("principal", "method", "group", "upstream", "outcome", "session", "client")
"""What of an event is an attribute of its log record."""
_CLOSE_S = 3.0
"""How long a front end that ends may take to export what waits."""
_CHAIN_START = "0" * 64

_Event = tuple[float, str, dict[str, Any], bytes | None]


class LogExporter(Protocol):
    """What sends log records to a collector (``shared.tracing.exporter``)."""

    lost: int

    def add(self, span: bytes) -> None:
        """Take a record, or lose it if too many wait."""

    async def close(self, within_s: float) -> None:
        """Send what waits, but no longer than ``within_s``."""


class AuditLog:
    """The audit log of one front end. It is a ``CallObserver``, and ``note`` takes all other events."""

    hears_begun = False

    def __init__(
        self,
        wanted: AuditDocument,
        store: AuditStore,
        frontend: str,
        tally: Tally | None = None,
        exporter: LogExporter | None = None,
    ) -> None:
        """``tally`` counts events by what became of them: written, lost, or not exported."""
        self.wanted = wanted
        self._exporter = exporter
        self._not_exported = 0
        self._tally = tally or Tally("gateway_audit_events", "", ("result",))
        self.lost = 0
        self.failing = ""
        """Why events cannot be written now, or empty."""
        self.missing_in_redis = 0
        self._store = store
        self._frontend = frontend
        self._waiting: deque[_Event] = deque()
        self._waiting_bytes = 0
        self._lost_before = 0
        self._number = 0
        self._previous = _CHAIN_START
        self._pointers = [read_pointer(one) for one in wanted.redact]

    # ---- CallObserver

    def begun(self, call: ObservedCall) -> None:
        """Do nothing: a call is noted when it is over."""

    def attempted(self, call: ObservedCall, upstream: str, worker: str) -> None:
        """Note on the call where it goes."""
        call.upstream = upstream

    def attempt_failed(self, call: ObservedCall, code: str) -> None:
        """Do nothing: the end of the call is noted."""

    def finished(self, call: ObservedCall, outcome: str, seconds: float) -> None:
        """Note a call that is over."""
        facts: dict[str, Any] = {
            "principal": call.principal,
            "method": call.method,
            "group": call.group,
            "name": call.name,
            "upstream": call.upstream,
            "outcome": outcome,
            "durationMs": round(seconds * 1000, 3) if outcome is not LISTENING else None,
        }
        if call.attempts > 1:
            facts["attempts"] = call.attempts
        if call.trace:
            facts["trace"] = call.trace
        session = getattr(call, "session", None)
        if session is not None:
            facts["session"] = session.sid
            facts["client"] = session.client_info
        params = getattr(call, "params", b"")
        facts["requestBytes"] = len(params)
        if call.result_bytes:
            facts["resultBytes"] = call.result_bytes
        self._add("call", facts, bytes(params) if self.wanted.arguments != "none" else None)
        if call.answers:
            for action, question in answers_in(bytes(params)):
                self.note("elicitation", outcome=action, question=question, **about(call))

    # ---- other events

    def note(self, kind: str, **facts: Any) -> None:
        """Note an event that is no call: ``denied``, ``authentication``, ``admin``, ``elicitation``."""
        self._add(kind, facts, None)

    def _add(self, kind: str, facts: dict[str, Any], params: bytes | None) -> None:
        size = len(params) if params is not None else 0
        if len(self._waiting) >= _WAITING or self._waiting_bytes + size > _WAITING_BYTES:
            self.lost += 1
            self._tally.count("lost")
            return
        self._waiting_bytes += size
        self._waiting.append((time.time(), kind, facts, params))

    @property
    def waiting(self) -> int:
        """How many events wait to be written."""
        return len(self._waiting)

    def check(self) -> None:
        """Raise ``CallError`` if events must be written and cannot be (``required``)."""
        if self.wanted.required and (self.failing or len(self._waiting) >= _WAITING):
            raise CallError("audit_unavailable", "calls are refused because the audit log cannot be written")

    # ---- writing

    async def run(self) -> None:
        """Write events until cancelled, and those that are left then."""
        try:
            while True:
                await asyncio.sleep(_EVERY_S)
                await self.flush()
        finally:
            await self.flush()
            if self._exporter is not None:
                await self._exporter.close(_CLOSE_S)

    async def flush(self) -> None:
        """Write the events that wait, in batches."""
        while self._waiting:
            batch = [self._waiting[at] for at in range(min(_BATCH, len(self._waiting)))]
            chain = (self._number, self._previous)
            try:
                lines = await self._lines(batch)
                await self._write(lines)
            except asyncio.CancelledError:
                self._number, self._previous = chain
                raise
            except (OSError, RegistryUnavailable) as error:
                self._number, self._previous = chain
                if not self.failing:
                    _log.error("the audit log cannot be written: %s", error)
                self.failing = str(error) or type(error).__name__
                return
            if self.failing:
                _log.warning("the audit log is written again")
                self.failing = ""
            self._tally.count("written", by=len(batch))
            self._export(batch, lines)
            for _ in batch:
                params = self._waiting.popleft()[3]
                self._waiting_bytes -= len(params) if params is not None else 0
            if self.lost > self._lost_before:
                lost, self._lost_before = self.lost - self._lost_before, self.lost
                self._add("lost", {"events": lost}, None)

    def _export(self, batch: list[_Event], lines: list[bytes]) -> None:
        exporter = self._exporter
        if exporter is None:
            return
        for (at, kind, facts, _), line in zip(batch, lines, strict=True):
            severity = INFO if kind == "call" or facts.get("outcome") == "asked" else WARN
            said = orjson.loads(line)
            values = {f"gateway.{name}": str(said[name]) for name in _EXPORTED if name in said}
            values["event.name"] = f"gateway.audit.{kind}"
            exporter.add(record(int(at * 1e9), severity, line, values, str(facts.get("trace") or "")))
        if exporter.lost > self._not_exported:
            self._tally.count("not_exported", by=exporter.lost - self._not_exported)
            self._not_exported = exporter.lost

    async def _lines(self, batch: list[_Event]) -> list[bytes]:
        """Return the lines of events. Arguments may be large, so others have their turns meanwhile."""
        lines, began = [], time.perf_counter()
        for event in batch:
            lines.append(self._line(event))
            if time.perf_counter() - began > _TURN_S:
                await asyncio.sleep(0)
                began = time.perf_counter()
        return lines

    def _line(self, event: _Event) -> bytes:
        at, kind, facts, params = event
        shown: dict[str, Any] = {"time": _iso(at), "event": kind, "frontend": self._frontend}
        shown.update((name, value) for name, value in facts.items() if value not in (None, ""))
        if "session" in shown:
            shown["session"] = hashlib.sha256(str(shown["session"]).encode()).hexdigest()[:12]
        if "client" in shown:
            shown["client"] = _client(shown["client"])
        if params is not None:
            shown.update(self._arguments(params))
        if self.wanted.chain:
            self._number += 1
            shown["number"], shown["previous"] = self._number, self._previous
        try:
            line = orjson.dumps(shown, default=repr)
        except (TypeError, ValueError):  # names of callers and tools may hold halves of characters
            line = without_lone_surrogates(json.dumps(shown, default=repr, separators=(",", ":")).encode())
        if self.wanted.chain:
            self._previous = hashlib.sha256(line).hexdigest()
        return line

    def _arguments(self, params: bytes) -> dict[str, Any]:
        """Return what the log says of a call's arguments. A member that is there twice has all its values: which one
        counted is the upstream's to say. What cannot be read is noted by its digest, never left out."""
        repeated = False

        def members(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
            nonlocal repeated
            found = dict(pairs)
            if len(found) < len(pairs):
                repeated = True
                values: dict[str, list[Any]] = {}
                for name, value in pairs:
                    values.setdefault(name, []).append(value)
                found = {name: one[0] if len(one) == 1 else one for name, one in values.items()}
            return found

        try:
            raw = bytes(jsonrpc.arguments_of(Raw(params))) or b"{}"
            digest = {"sha256": hashlib.sha256(raw).hexdigest(), "bytes": len(raw)}
            if self.wanted.arguments == "digest" or len(raw) > _MAX_ARGUMENTS:
                return {"arguments": digest}
            arguments = json.loads(raw, object_pairs_hook=members)
            _check_depth(arguments)
        except (CallError, ValueError, RecursionError):
            return {"params": {"sha256": hashlib.sha256(params).hexdigest(), "bytes": len(params)}}
        shown = arguments if self.wanted.arguments == "full" else redacted(arguments, self._pointers)
        return {"arguments": shown, "repeated": True} if repeated else {"arguments": shown}

    async def _write(self, lines: list[bytes]) -> None:
        data = b"".join(line + b"\n" for line in lines)
        if self.wanted.file:
            await asyncio.to_thread(_append, Path(self.wanted.file), data)
        if self.wanted.stdout:
            sys.stdout.buffer.write(data)
            sys.stdout.buffer.flush()
        if not self.wanted.redis:
            return
        try:
            await self._store.append(lines)
        except RegistryUnavailable:
            if not (self.wanted.file or self.wanted.stdout or self._exporter is not None):
                raise
            self.missing_in_redis += len(lines)  # they are kept elsewhere


class Required:
    """A quota that refuses calls while the audit log cannot be written, and asks the caller's own limits otherwise.

    Implements ``observer.Quota``.
    """

    def __init__(self, log: AuditLog, inner: Any) -> None:
        self._log = log
        self._inner = inner

    def take(self, call: ObservedCall) -> bool:
        """See ``Quota``."""
        self._log.check()
        return self._inner is None or self._inner.take(call)

    async def acquire(self, call: ObservedCall) -> None:
        """See ``Quota``."""
        self._log.check()
        if self._inner is not None:
            await self._inner.acquire(call)

    def release(self, call: ObservedCall) -> None:
        """See ``Quota``."""
        if self._inner is not None:
            self._inner.release(call)


def _check_depth(arguments: Any) -> None:
    """Raise ``RecursionError`` for arguments that are nested so deep that a reader of the log may not read the line."""
    left = [(arguments, 0)]
    while left:
        value, depth = left.pop()
        if depth > _MAX_DEPTH:
            raise RecursionError
        if isinstance(value, dict):
            left += [(inner, depth + 1) for inner in value.values()]
        elif isinstance(value, list):
            left += [(inner, depth + 1) for inner in value]


def verify(lines: Any) -> tuple[int, list[str]]:
    """Return how many lines of an audit log are in whole chains, and what is wrong with the others.

    Each process writes a chain of its own: every line has the digest of the line before it. A chain whose beginning is
    missing was rotated away, or cut.
    """
    last: dict[str, tuple[int, str]] = {}
    good, problems = 0, []
    for place, line in enumerate(lines, 1):
        try:
            event = orjson.loads(line)
            whose, number, previous = event["frontend"], event["number"], event["previous"]
        except (orjson.JSONDecodeError, KeyError, TypeError):
            problems.append(f"line {place} is no line of a chained audit log")
            continue
        before = last.get(whose)
        if before is None and number != 1:
            problems.append(f"line {place}: the first {number - 1} events of front end {whose} are missing")
        elif before is not None and (number != before[0] + 1 or previous != before[1]):
            problems.append(f"line {place}: it does not follow event {before[0]} of front end {whose}")
        elif before is None and previous != _CHAIN_START:
            problems.append(f"line {place}: the chain of front end {whose} does not begin here")
        else:
            good += 1
        last[whose] = (number, hashlib.sha256(line.rstrip(b"\n")).hexdigest())
    return good, problems


def _append(path: Path, data: bytes) -> None:
    """Append to a file that only this user can read. It is opened each time, so that it may be rotated."""
    descriptor = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        view = memoryview(data)
        while view:
            view = view[os.write(descriptor, view) :]
    finally:
        os.close(descriptor)


def _iso(at: float) -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(at)) + f".{int(at % 1 * 1e6):06d}Z"


def _client(info: bytes) -> str:
    try:
        return str(msgspec.json.decode(info, type=dict[str, Any]).get("name", ""))[:100]
    except msgspec.DecodeError:
        return ""
