"""The telemetry of a front end: the observers of calls, what is counted, traces, the audit log."""

from __future__ import annotations

import asyncio

from gateway.telemetry import access_log
from gateway.telemetry.audit import AuditLog
from gateway.telemetry.counters import Counters
from gateway.telemetry.elicitations import Elicitations
from gateway.telemetry.failed_calls import FailedCalls
from gateway.telemetry.observer import CallObserver, Observers
from gateway.telemetry.tallies import Tallies
from gateway.telemetry.traces import Traces
from shared import logs
from shared.access.rules import AccessRules
from shared.registry.audit import AuditStore
from shared.registry.failed_calls import FailedCallStore
from shared.registry.store import RegistryStore
from shared.settings import Settings
from shared.tasks import spawn
from shared.tracing.tracing import FLUSH_S, audit_exporter, tracing


class FrontEndTelemetry:
    """Makes and holds it. ``audit`` and ``elicitations`` are ``None`` without an audit log, ``traces`` without traces.
    ``observer`` is all observers of calls in one."""

    def __init__(self, settings: Settings, store: RegistryStore, id: str, rules: AccessRules) -> None:
        telemetry = settings.telemetry
        self._flush_s = min(FLUSH_S, settings.fleet.drain_timeout_s)
        self.failed = FailedCalls(FailedCallStore(store), id, telemetry.trace_url)
        self.counters = Counters(telemetry.metrics_max_tools, self.failed.note)
        self.tallies = Tallies(telemetry.metrics_max_tools)
        self.audit: AuditLog | None = None
        self._exported = None
        if rules.audit is not None:
            self._exported = audit_exporter(settings.service.name, id) if rules.audit.otlp else None
            self.audit = AuditLog(rules.audit, AuditStore(store), id, self.tallies.audited, self._exported)
        self.elicitations = Elicitations(self.audit) if self.audit is not None else None
        self._tracing = tracing(settings, "frontend", id)
        self.traces = Traces(self._tracing, self.counters) if self._tracing is not None else None
        self._lines = logs.Lines("gateway.access", *access_log.NAMES)
        self.observer = self._observer(telemetry.access_log)

    def _observer(self, writes_lines: bool) -> CallObserver:
        observers: list[CallObserver] = [self.traces or self.counters]
        if self.audit is not None:
            observers.append(self.audit)
        observer = observers[0] if len(observers) == 1 else Observers(*observers)
        return access_log.AccessLog(self._lines, observer) if writes_lines else observer

    def run(self) -> list[asyncio.Task[None]]:
        """Begin to write failed calls and the audit log. Return the tasks that do."""
        tasks = [spawn(self.failed.run(), "failed-calls")]
        if self.audit is not None:
            if self._exported is not None:
                self._exported.start()
            tasks.append(spawn(self.audit.run(), "audit"))
        return tasks

    def export_traces(self) -> None:
        """Begin to export traces, if there are any."""
        if self._tracing is not None:
            self._tracing.exporter.start()

    async def close(self) -> None:
        """Write the lines of the access log, and export the traces that wait."""
        self._lines.flush()
        if self._tracing is not None:
            await self._tracing.exporter.close(self._flush_s)
