"""Tells the log and the audit log that tools of a pinned upstream changed. Every front end sees that; the first one
tells it."""

from __future__ import annotations

import logging

from gateway.telemetry.audit import AuditLog
from shared.errors import RegistryUnavailable
from shared.registry.pins import PinStore
from shared.registry.records import UpstreamRecord
from shared.tasks import spawn

_log = logging.getLogger(__name__)
_SHOWN = 50


class PinNews:
    """Tells news of pinned tools. ``audit`` is the audit log, or ``None``."""

    def __init__(self, store: PinStore, audit: AuditLog | None) -> None:
        self._store = store
        self._audit = audit

    def tell(self, record: UpstreamRecord, kind: str, tools: list[str]) -> None:
        """Begin to tell of tools of an upstream; ``kind`` is that of the event."""
        spawn(self._tell(record, kind, tools), "pin-news")

    async def _tell(self, record: UpstreamRecord, kind: str, tools: list[str]) -> None:
        spec = record.spec
        try:
            if not await self._store.first_to_tell(spec.id, record.catalog.digest, kind, *tools):
                return
        except RegistryUnavailable:
            pass  # told twice is better than not at all
        shown = tools[:_SHOWN]
        _log.warning(
            "upstream %s: %s: %s%s",
            spec.id,
            kind,
            ", ".join(shown),
            "" if len(shown) == len(tools) else f" and {len(tools) - len(shown)} more",
        )
        if self._audit is not None:
            self._audit.note(kind, group=spec.name, upstream=spec.id, tools=shown, count=len(tools))
