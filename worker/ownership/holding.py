"""One upstream that this worker owns: its record, its connection, and who leads it. Made by ``inventory``."""

from __future__ import annotations

import asyncio
from collections import deque
from typing import Protocol

from shared.connections import HttpConnection, origin_of
from shared.errors import CallError
from shared.own_settings import for_upstream
from shared.registry.credentials import CredentialStore
from shared.registry.records import ListedCatalog, UpstreamRecord
from shared.settings import Settings
from shared.transports import traits
from worker.calls.observer import CallObserver
from worker.ownership.make_upstream import make_upstream
from worker.ownership.owner import Owner
from worker.sessions.context import UnsolicitedPath


def is_of(record: UpstreamRecord) -> bool:
    """Whether the URL that was found belongs to the entry as it is now. An entry's headers go to its own host and to no
    other."""
    connection = record.spec.connection
    if not isinstance(connection, HttpConnection):
        return False
    try:
        return origin_of(connection.url) == origin_of(record.url_in_use)
    except ValueError:
        return False


_UNUSED_S = 2.0
"""A child that was called within this time is in use: while it moves, the next call would wait for it to start."""
_PUT_OFF_S = 60.0
"""For how long its move is put off because of that."""


class Leaders(Protocol):
    """Reaches the worker that leads an upstream."""

    def hint_leader(self, kind: str, id: str, method: str) -> None:
        """Send a hint about an upstream to its leader."""

    def listed(self, id: str) -> ListedCatalog:
        """Return the lists of an upstream as they were read last."""


class Holding:
    """One owned upstream. Implements ``worker.ownership.upstream.UpstreamEvents``."""

    def __init__(
        self,
        record: UpstreamRecord,
        settings: Settings,
        worker: str,
        leaders: Leaders,
        unsolicited: UnsolicitedPath,
        observer: CallObserver | None,
        credentials: CredentialStore | None,
    ) -> None:
        self.record = record
        self.settings = for_upstream(settings, record.spec.settings)
        self.lines: deque[str] = deque(maxlen=settings.upstreams.log_lines)
        self.upstream = make_upstream(
            record.spec, self.settings, worker, self, unsolicited, self.lines.append, observer, credentials
        )
        self.owner: Owner | None = None
        self.task: asyncio.Task[None] | None = None
        self.leaving = False
        self._leaders = leaders
        self._calls_seen = 0
        self._used_at = self._wanted_at = 0.0

    @property
    def runs_once(self) -> bool:
        """Whether only a single worker may run the upstream."""
        return traits(self.record.spec.transport).runs_once

    def movable(self, now: float) -> bool:
        """Whether a handover now would disturb no client. ``now`` is loop time. Asked again and again while another
        worker should have the upstream."""
        traffic = self.upstream.traffic
        if self.runs_once:
            self._wanted_at = self._wanted_at or now
            if traffic.count != self._calls_seen:
                self._calls_seen, self._used_at = traffic.count, now
            if now - self._used_at < _UNUSED_S and now - self._wanted_at < _PUT_OFF_S:
                return False
        return not self.upstream.holds_state

    def announced(self, method: str) -> None:
        """Handle that the upstream announced a changed list: its leader reads the list again."""
        if self.owner is not None:
            self.owner.announced(method)
        else:
            self._leaders.hint_leader("relist", self.record.spec.id, method)

    def trouble(self, error: CallError) -> None:
        """Handle that a call found the upstream gone: its leader checks at once."""
        if self.owner is not None:
            self.owner.trouble(error)
        else:
            self._leaders.hint_leader("suspect", self.record.spec.id, "")

    def look(self) -> None:
        """Have the leader read the lists again, because a session of a client lists something else."""
        if self.owner is not None:
            self.owner.look()
        else:
            self._leaders.hint_leader("look", self.record.spec.id, "")

    def listed(self) -> ListedCatalog:
        """Return the lists as they were read last, by any worker."""
        return self._leaders.listed(self.record.spec.id)
