"""The registry's copy in this front end: records, and the catalogue built from them.

Follows the change log; a burst of changes costs one rebuild. Tells the streams when lists changed, the pool when
workers come and go, the session table when sessions end.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable

from gateway.routing.catalog import Catalog
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


class RegistryView:
    """See the module. Callbacks are set by the composition root."""

    def __init__(self, store: RegistryStore, settings: Settings) -> None:
        self.settings = settings
        self.records: dict[str, UpstreamRecord] = {}
        self._latest: dict[str, UpstreamRecord] = {}  # becomes ``records`` with the next rebuild
        self.catalog = Catalog(settings.routing, settings.health.refresh_interval_s)
        self.follower = ChangeFollower(store, self)
        self.on_lists_changed: Callable[[set[str]], None] = lambda methods: None
        self.on_workers_changed: Callable[[], None] = lambda: None
        self.on_session_gone: Callable[[str], None] = lambda sid: None
        self.on_level: Callable[[str, str], None] = lambda sid, level: None
        self.on_gap: Callable[[], None] = lambda: None
        self._loop = asyncio.get_running_loop()
        self._scheduled: asyncio.TimerHandle | None = None
        self._catching_up: asyncio.Task[None] | None = None
        self._announced: set[str] = set()
        self._store = store
        self._lenient_until = 0.0
        self._waiters: list[asyncio.Future[None]] = []

    @property
    def available(self) -> bool:
        """Whether Redis answers."""
        return self.follower.available

    # ---- shared.registry.changes.Follower

    def on_snapshot(self, records: dict[str, UpstreamRecord]) -> None:
        if self.follower.ready.is_set():
            # Redis may have been emptied: workers write back what they own, and calls must flow meanwhile.
            self.on_gap()
            self._lenient_until = self._loop.time() + _LENIENT_S
            spawn(self._settle(), "settle-after-gap")
            known = self._latest
            self._latest = {**known, **{id: one for id, one in records.items() if self._fit(one, known.get(id))}}
        else:
            self._latest = dict(records)
        self._rebuild()
        self.on_workers_changed()

    def on_upstreams(self, records: dict[str, UpstreamRecord | None], listed: set[str]) -> None:
        lenient = self._loop.time() < self._lenient_until
        for id, record in records.items():
            if lenient and not self._fit(record, self._latest.get(id)):
                continue
            if record is None:
                self._latest.pop(id, None)
            else:
                self._latest[id] = record
        self._announced |= listed
        self._rebuild_soon()

    @staticmethod
    def _fit(record: UpstreamRecord | None, known: UpstreamRecord | None) -> bool:
        """Whether a record may replace what we know while Redis is being filled again: not with less."""
        if known is None or not known.catalog.digest:
            return True
        return record is not None and bool(record.catalog.digest) and bool(record.owners)

    async def _settle(self) -> None:
        """After a gap has had its time, what Redis says is what there is."""
        await asyncio.sleep(_LENIENT_S)
        try:
            self._latest = await self._store.load_all()
        except RegistryUnavailable:
            return  # the follower loads everything when Redis is back
        self._rebuild_soon()

    def on_member(self, kind: str, id: str) -> None:
        if kind == "worker":
            self.on_workers_changed()
        elif kind.startswith("level:"):
            self.on_level(id, kind.removeprefix("level:"))

    def on_session_ended(self, sid: str, sequence: int) -> None:
        self.on_session_gone(sid)

    def on_connection(self, available: bool) -> None:
        """Calls keep flowing from memory either way."""

    # ---- rebuilding

    def _rebuild_soon(self) -> None:
        if self._scheduled is None:
            self._scheduled = self._loop.call_later(_COALESCE_S, self._rebuild)

    def _rebuild(self) -> None:
        if self._scheduled is not None:
            self._scheduled.cancel()
            self._scheduled = None
        self.records = dict(self._latest)
        changed = self.catalog.rebuild(self.records, time.time())
        changed |= self._announced
        self._announced = set()
        self.wake()
        if changed:
            self.on_lists_changed(changed)

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
        """Whoever waits for a change looks again."""
        waiters, self._waiters = self._waiters, []
        for waiter in waiters:
            if not waiter.done():
                waiter.set_result(None)

    async def wait_change(self, timeout_s: float) -> None:
        """Until the next rebuild or link change, or ``timeout_s``."""
        waiter = self._loop.create_future()
        self._waiters.append(waiter)
        try:
            async with asyncio.timeout(timeout_s):
                await waiter
        except TimeoutError:
            pass

    async def expire_grace(self) -> None:
        """Entries of upstreams that stay down leave the lists when their grace is over."""
        while True:
            await asyncio.sleep(1.0)
            grace_s = self.settings.routing.catalog_grace_s
            now = time.time()
            if any(
                record.status is not ServerStatus.CONNECTED and grace_s <= now - record.status_since < grace_s + 2
                for record in self.records.values()
            ):
                self._rebuild_soon()
