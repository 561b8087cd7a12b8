"""The registry's copy in this front end: records, the catalogue built from them, and the views made of the catalogue.

The copy follows the change log (``shared.registry.changes``); a burst of changes costs one rebuild, in which calls get
their turns. Listeners
(``RegistryEvents``) are notified when watched views list something else, workers join or leave, and sessions end.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Mapping
from typing import Protocol

from gateway.fleet.pins import Pins
from gateway.fleet.virtual_servers import VirtualServers
from gateway.routing.catalog import Catalog
from gateway.routing.policy import ViewPolicy
from gateway.routing.steps import Steps, at_once
from gateway.routing.view import ViewKey
from gateway.routing.views import Views
from shared.errors import RegistryUnavailable
from shared.models import ServerStatus
from shared.registry.changes import ChangeFollower
from shared.registry.pins import PinStore
from shared.registry.records import UpstreamRecord
from shared.registry.store import RegistryStore
from shared.registry.virtual_servers import VirtualServerStore
from shared.settings import Settings
from shared.tasks import spawn

_log = logging.getLogger(__name__)
_OVER = object()
_COALESCE_S = 0.01
_TURN_S = 0.005
"""So long a rebuild goes on in one turn of the loop."""
_PAUSE = 4
"""Between two rebuilds is a pause of so many times the last one's duration, so that thousands of upstreams that are
registered one after another do not keep the front end from its calls."""
_CATCH_UP_S = 1.0
_LENIENT_S = 5.0
"""After a gap in the change log, workers have this long to write back what Redis lost."""


class RegistryEvents(Protocol):
    """What the registry view calls when something changes in the fleet."""

    def lists_changed(self, changes: Mapping[ViewKey, set[str]]) -> None:
        """Called when watched views list something else, with the ``list_changed`` methods of each view."""

    def workers_changed(self) -> None:
        """Called when a worker joined or left."""

    def session_ended(self, sid: str) -> None:
        """Called when a client session was ended, at any front end."""

    def key_changed(self, name: str) -> None:
        """Called when an API key was made or revoked."""

    def level_set(self, sid: str, level: str) -> None:
        """Called when a client session set its log level, at any front end."""

    def announced(self, kind: str, id: str) -> None:
        """Called for what is announced and is nothing of the above."""

    def changes_missed(self) -> None:
        """Called after a gap in the change log: other events may have been missed, and the registry is loaded again."""


class RegistryView:
    """The registry's copy, with ``records`` and ``catalog`` of one rebuild and ``views`` made from them."""

    def __init__(self, store: RegistryStore, settings: Settings, policy: ViewPolicy | None = None) -> None:
        self.settings = settings
        self.records: dict[str, UpstreamRecord] = {}
        self._latest: dict[str, UpstreamRecord] = {}  # becomes ``records`` with the next rebuild
        self.catalog = Catalog(settings.routing, settings.health.refresh_interval_s, settings.hedge.hedge_after)
        self.views = Views(self.catalog, policy)
        self.follower = ChangeFollower(store, self)
        self._events: RegistryEvents | None = None
        self._loop = asyncio.get_running_loop()
        self._scheduled: asyncio.TimerHandle | None = None
        self._turns: asyncio.Task[None] | None = None
        self._steps: Steps[None] | None = None  # of the rebuild that is under way
        self._paused_until = 0.0
        self._catching_up: asyncio.Task[None] | None = None
        self._announced: dict[str, set[str]] = {}  # by group
        self._store = store
        self.virtual = VirtualServers(VirtualServerStore(store), self._rebuild_soon)
        self.pins = Pins(PinStore(store), self._rebuild_soon)
        self._lenient_until = 0.0
        self._gaps = 0
        self._waiters: list[asyncio.Future[None]] = []

    async def run(self, events: RegistryEvents) -> None:
        """Follow the change log until cancelled, and notify ``events``."""
        self._events = events
        await self.follower.run()

    async def begin(self) -> None:
        """Return when the copy is whole for the first time. Raises ``RegistryUnavailable``."""
        await self.follower.ready.wait()
        await self.virtual.load(self.place[0])
        self.pins.load_again(self.place[0])
        await asyncio.wait((spawn(self.pins.settled(), "pins"),), timeout=_CATCH_UP_S)  # until then nothing is shown
        self._rebuild()

    @property
    def available(self) -> bool:
        """Whether Redis answers."""
        return self.follower.available

    @property
    def place(self) -> tuple[str, int]:
        """The epoch and number of the last change applied. A change has the same place in every process."""
        return self.follower.place

    # ---- shared.registry.changes.Follower

    def on_snapshot(self, records: dict[str, UpstreamRecord]) -> None:
        """Take all records, at the start and after a gap in the change log."""
        if self.follower.ready.is_set():
            # Redis may have been emptied: workers write back what they own, and calls must flow meanwhile.
            if self._events is not None:
                self._events.changes_missed()
            self.virtual.load_again(self.place[0])
            self.pins.load_again(self.place[0])
            self._lenient_until = self._loop.time() + _LENIENT_S
            self._gaps += 1
            spawn(self._reload_after_gap(self._gaps), "settle-after-gap")
            known = self._latest
            self._latest = {**known, **{id: one for id, one in records.items() if self._fit(one, known.get(id))}}
        else:
            self._latest = dict(records)
        self._rebuild()
        if self._events is not None:
            self._events.workers_changed()

    def on_upstreams(self, records: dict[str, UpstreamRecord | None], announced: dict[str, set[str]]) -> None:
        """Take the records that changed; a record is ``None`` if its upstream was unregistered.

        ``announced`` has the ``list_changed`` methods that upstreams announced, by upstream id.
        """
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
        """Whether ``record`` may replace ``known`` while workers write back to Redis: not if it says less."""
        if known is None or not known.catalog.digest:
            return True
        return record is not None and bool(record.catalog.digest) and bool(record.owners)

    async def _reload_after_gap(self, gap: int) -> None:
        """Take all records as they are in Redis once workers had ``_LENIENT_S`` to write back what it had lost."""
        await asyncio.sleep(_LENIENT_S)
        if gap != self._gaps:
            return  # there was another gap, after which this is done again
        try:
            records = await self._store.load_all()
            if not await self.follower.is_current():
                return  # Redis was emptied again, which the follower is about to see
        except RegistryUnavailable:
            return  # the follower loads everything when Redis is back
        self._latest = records
        self._rebuild_soon()

    def on_member(self, kind: str, id: str) -> None:
        """Take a virtual server or pins that changed, or notify the listener of what changed: a worker joined or left,
        an API key, a session's log level."""
        if kind == "virtual":
            self.virtual.announce(id, self.place[0])
        elif kind == "pins":
            self.pins.announce(id)
        if self._events is None:
            return
        if kind == "worker":
            self._events.workers_changed()
        elif kind == "key":
            self._events.key_changed(id)
        elif kind.startswith("level:"):
            self._events.level_set(id, kind.removeprefix("level:"))
        else:
            self._events.announced(kind, id)

    def on_session_ended(self, sid: str, sequence: int) -> None:
        """Notify the listener that a client session was ended."""
        if self._events is not None:
            self._events.session_ended(sid)

    def on_connection(self, available: bool) -> None:
        """Do nothing: calls are served from memory while Redis is away."""

    # ---- rebuilding

    @property
    def is_rebuilding(self) -> bool:
        """Whether a rebuild is under way that leaves others their turns of the loop."""
        return self._turns is not None and not self._turns.done()

    def _rebuild_soon(self) -> None:
        if self._scheduled is None:
            at = max(self._loop.time() + _COALESCE_S, self._paused_until)
            self._scheduled = self._loop.call_at(at, self._rebuild_in_turns)

    def take_policy(self, policy: ViewPolicy | None) -> None:
        """Hide other entries from now on: views are made anew, and who watches one hears what changed."""
        self.views.take(policy)
        self._rebuild()

    def _rebuild(self) -> None:
        """Rebuild at once, in place of a rebuild that is under way or is to come."""
        self._unschedule()
        if self._steps is not None:
            self._steps.close()
        at_once(self._rebuilding())

    def _unschedule(self) -> None:
        if self._scheduled is not None:
            self._scheduled.cancel()
            self._scheduled = None

    def _rebuild_in_turns(self) -> None:
        self._unschedule()
        if self.is_rebuilding:
            self._rebuild_soon()  # what is under way has not seen everything
        else:
            self._turns = spawn(self._take_turns(), "rebuild")

    async def _take_turns(self) -> None:
        steps = self._steps = self._rebuilding()
        spent_s, going_on = 0.0, True
        while going_on:
            began = time.perf_counter()
            going_on = next(steps, _OVER) is None
            while going_on and time.perf_counter() - began < _TURN_S:
                going_on = next(steps, _OVER) is None
            spent_s += time.perf_counter() - began
            await asyncio.sleep(0)
        self._paused_until = self._loop.time() + _PAUSE * spent_s

    def _rebuilding(self) -> Steps[None]:
        records = dict(self._latest)
        announced, self._announced = self._announced, {}
        try:
            self.catalog.take_virtual(self.virtual.servers)
            self.pins.watch(records.values())
            self.catalog.take_pins(self.pins.known)
            yield from self.catalog.rebuilding(records, time.time())
            self.records = records
            self.wake()
            changes = yield from self.views.advancing(announced)
            announced = {}
        finally:  # also where the steps end early: the next rebuild tells it
            for group, methods in announced.items():
                self._announced.setdefault(group, set()).update(methods)
        if changes and self._events is not None:
            self._events.lists_changed(changes)

    async def catch_up(self) -> None:
        """Wait until the copy has all changes that Redis held when this was called, but no longer than ``_CATCH_UP_S``.

        A client that knows of a change then finds the change here. It costs one round trip, which concurrent callers
        share. It is used before an error is answered and by the admin API, never in the path of a successful call.
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
        await self._rebuilt()  # an upstream may be pinned now
        await asyncio.wait((spawn(self._settled(), "settle"),), timeout=max(deadline - self._loop.time(), 0.0))
        await self._rebuilt()

    async def _rebuilt(self) -> None:
        """Wait for the rebuild that is under way, and the one that is to come."""
        for _ in range(2):
            if self._turns is not None and not self._turns.done():
                await asyncio.wait((self._turns,))
            if self._scheduled is None:
                return
            self._rebuild_in_turns()

    async def _settled(self) -> None:
        """Wait until virtual servers and pins are as they were announced."""
        await self.virtual.settled()
        await self.pins.settled()

    def wake(self) -> None:
        """Wake the tasks in ``wait_change``."""
        waiters, self._waiters = self._waiters, []
        for waiter in waiters:
            if not waiter.done():
                waiter.set_result(None)

    async def wait_change(self, timeout_s: float) -> None:
        """Wait until the next rebuild or link change, but no longer than ``timeout_s``."""
        waiter = self._loop.create_future()
        self._waiters.append(waiter)
        try:
            async with asyncio.timeout(timeout_s):
                await waiter
        except TimeoutError:
            pass

    async def expire_grace(self) -> None:
        """Rebuild the catalogue whenever an upstream has been down for ``catalog_grace_s``, until cancelled.

        The upstream's entries leave the lists then.
        """
        while True:
            await asyncio.sleep(1.0)
            grace_s = self.settings.routing.catalog_grace_s
            now = time.time()
            if any(
                record.status is not ServerStatus.CONNECTED and grace_s <= now - record.status_since < grace_s + 2
                for record in self.records.values()
            ):
                self._rebuild_soon()
