"""The registry's copy in this front end: records, the catalogue built from them, and the views that are made of it.

Follows the change log; a burst of changes costs one rebuild. Whoever listens (``RegistryEvents``) hears which views
list something else, that workers came or went, and that sessions ended.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Mapping
from typing import Protocol

from gateway.routing.catalog import Catalog
from gateway.routing.policy import ViewPolicy
from gateway.routing.view import ViewKey
from gateway.routing.views import Views
from shared.errors import RegistryUnavailable
from shared.models import ServerStatus
from shared.registry.changes import ChangeFollower
from shared.registry.records import UpstreamRecord
from shared.registry.store import RegistryStore
from shared.settings import Settings
from shared.tasks import spawn

_log = logging.getLogger(__name__)
_COALESCE_S = 0.01
_CATCH_UP_S = 1.0
_LENIENT_S = 5.0
"""After a gap in the change log, workers have this long to write back what Redis lost."""


class RegistryEvents(Protocol):
    """Hears what happens in the fleet."""

    def lists_changed(self, changes: Mapping[ViewKey, set[str]]) -> None:
        """Watched views list something else: the ``list_changed`` methods of each."""

    def workers_changed(self) -> None:
        """A worker came or went."""

    def session_ended(self, sid: str) -> None:
        """A client session was ended somewhere."""

    def level_set(self, sid: str, level: str) -> None:
        """A client session set its log level, at some front end."""

    def changes_missed(self) -> None:
        """Something may have gone unheard; the registry is being loaded again."""


class RegistryView:
    """See the module."""

    def __init__(self, store: RegistryStore, settings: Settings, policy: ViewPolicy | None = None) -> None:
        self.settings = settings
        self.records: dict[str, UpstreamRecord] = {}
        self._latest: dict[str, UpstreamRecord] = {}  # becomes ``records`` with the next rebuild
        self.catalog = Catalog(settings.routing, settings.health.refresh_interval_s)
        self.views = Views(self.catalog, policy)
        self.views.watch(self.catalog.everything)
        self.follower = ChangeFollower(store, self)
        self._events: RegistryEvents | None = None
        self._loop = asyncio.get_running_loop()
        self._scheduled: asyncio.TimerHandle | None = None
        self._catching_up: asyncio.Task[None] | None = None
        self._announced: dict[str, set[str]] = {}  # by group
        self._store = store
        self._lenient_until = 0.0
        self._waiters: list[asyncio.Future[None]] = []

    async def run(self, events: RegistryEvents) -> None:
        """Follow the change log until cancelled; ``events`` hears what happens."""
        self._events = events
        await self.follower.run()

    @property
    def available(self) -> bool:
        """Whether Redis answers."""
        return self.follower.available

    @property
    def place(self) -> tuple[str, int]:
        """The epoch and number of the last change applied; the same on every process that follows."""
        return self.follower.place

    # ---- shared.registry.changes.Follower

    def on_snapshot(self, records: dict[str, UpstreamRecord]) -> None:
        """Take everything, at the start and after a gap."""
        if self.follower.ready.is_set():
            # Redis may have been emptied: workers write back what they own, and calls must flow meanwhile.
            if self._events is not None:
                self._events.changes_missed()
            self._lenient_until = self._loop.time() + _LENIENT_S
            spawn(self._settle(), "settle-after-gap")
            known = self._latest
            self._latest = {**known, **{id: one for id, one in records.items() if self._fit(one, known.get(id))}}
        else:
            self._latest = dict(records)
        self._rebuild()
        if self._events is not None:
            self._events.workers_changed()

    def on_upstreams(self, records: dict[str, UpstreamRecord | None], announced: dict[str, set[str]]) -> None:
        """Take what changed."""
        lenient = self._loop.time() < self._lenient_until
        for id, record in records.items():
            if lenient and not self._fit(record, self._latest.get(id)):
                continue
            if record is None:
                self._latest.pop(id, None)
            else:
                self._latest[id] = record
        for id, methods in announced.items():
            if id in self._latest:
                self._announced.setdefault(self._latest[id].spec.name, set()).update(methods)
        self._rebuild_soon()

    @staticmethod
    def _fit(record: UpstreamRecord | None, known: UpstreamRecord | None) -> bool:
        """Whether a record may replace what is known while Redis is being filled again: not with less."""
        if known is None or not known.catalog.digest:
            return True
        return record is not None and bool(record.catalog.digest) and bool(record.owners)

    async def _settle(self) -> None:
        """Take what Redis says, after a gap has had its time."""
        await asyncio.sleep(_LENIENT_S)
        try:
            self._latest = await self._store.load_all()
        except RegistryUnavailable:
            return  # the follower loads everything when Redis is back
        self._rebuild_soon()

    def on_member(self, kind: str, id: str) -> None:
        """Pass on that a worker came or went, or that a session set its log level."""
        if self._events is None:
            return
        if kind == "worker":
            self._events.workers_changed()
        elif kind.startswith("level:"):
            self._events.level_set(id, kind.removeprefix("level:"))

    def on_session_ended(self, sid: str, sequence: int) -> None:
        """Pass on that a client session was ended."""
        if self._events is not None:
            self._events.session_ended(sid)

    def on_connection(self, available: bool) -> None:
        """Do nothing: calls keep flowing from memory either way."""

    # ---- rebuilding

    def _rebuild_soon(self) -> None:
        if self._scheduled is None:
            self._scheduled = self._loop.call_later(_COALESCE_S, self._rebuild)

    def _rebuild(self) -> None:
        if self._scheduled is not None:
            self._scheduled.cancel()
            self._scheduled = None
        self.records = dict(self._latest)
        self.catalog.rebuild(self.records, time.time())
        announced, self._announced = self._announced, {}
        changes = self.views.advance(announced)
        self.wake()
        if changes and self._events is not None:
            self._events.lists_changed(changes)

    async def catch_up(self) -> None:
        """Apply what the registry held when this was called, bounded: who was told of a change finds it here.

        One round trip, shared by all who ask meanwhile; for the way to an error, never for the path of a call.
        """
        if self._catching_up is None or self._catching_up.done():
            self._catching_up = spawn(self._catch_up(), "catch-up")
        await asyncio.shield(self._catching_up)

    async def _catch_up(self) -> None:
        deadline = self._loop.time() + _CATCH_UP_S
        try:
            sequence = await self._store.last_change()
        except RegistryUnavailable:
            return
        while self.follower.applied < sequence and self._loop.time() < deadline:
            await asyncio.sleep(0.005)
        if self._scheduled is not None:
            self._rebuild()

    def wake(self) -> None:
        """Let whoever waits for a change look again."""
        waiters, self._waiters = self._waiters, []
        for waiter in waiters:
            if not waiter.done():
                waiter.set_result(None)

    async def wait_change(self, timeout_s: float) -> None:
        """Wait until the next rebuild or link change, or ``timeout_s``."""
        waiter = self._loop.create_future()
        self._waiters.append(waiter)
        try:
            async with asyncio.timeout(timeout_s):
                await waiter
        except TimeoutError:
            pass

    async def expire_grace(self) -> None:
        """Let entries of upstreams that stay down leave the lists when their grace is over; until cancelled."""
        while True:
            await asyncio.sleep(1.0)
            grace_s = self.settings.routing.catalog_grace_s
            now = time.time()
            if any(
                record.status is not ServerStatus.CONNECTED and grace_s <= now - record.status_since < grace_s + 2
                for record in self.records.values()
            ):
                self._rebuild_soon()
