"""Keeping the inventory and the registry in agreement, also after Redis was emptied or away.

What the change log says is applied as it comes. After a gap both sides may know more than the other: Redis may have
lost what this worker runs, and other workers may have taken it over meanwhile. Then this worker writes back what it
runs *before* it applies anything: another worker that wrote the same upstream back first has written only its own slot.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable
from typing import Protocol

from shared.errors import RegistryUnavailable
from shared.registry.records import UpstreamRecord
from shared.tasks import cancel, spawn

_RETRY_S = 0.5
"""The seconds until another try, if Redis does not answer."""


class Reader(Protocol):
    """Reads the registry (``shared.registry.store``)."""

    async def load_all(self) -> dict[str, UpstreamRecord]:
        """Return every upstream. Raises ``RegistryUnavailable``."""

    async def load(self, ids: Iterable[str]) -> dict[str, UpstreamRecord | None]:
        """Return these upstreams; ``None`` means unregistered. Raises ``RegistryUnavailable``."""


class Running(Protocol):
    """What runs here (``worker.ownership.inventory``)."""

    records: dict[str, UpstreamRecord]

    def apply(self, records: dict[str, UpstreamRecord | None]) -> None:
        """Start, update and stop upstreams so that they agree with these records."""

    def replace_all(self, records: dict[str, UpstreamRecord]) -> None:
        """Apply a snapshot."""

    async def reassert(self) -> None:
        """Write back what Redis lost. Raises ``RegistryUnavailable``."""


class Reconciliation:
    """Applies snapshots and changes to the inventory. ``applied`` is called after each.

    ``be_known`` writes this worker's own record, without which the registry takes it for dead and lets it own nothing.
    """

    def __init__(
        self,
        store: Reader,
        running: Running,
        be_known: Callable[[], Awaitable[None]],
        applied: Callable[[], None],
    ) -> None:
        self._be_known = be_known
        self._store = store
        self._running = running
        self._applied = applied
        self._started = False
        self._again = False
        self._at_work = False
        self._missed: set[str] = set()
        self._task: asyncio.Task[None] | None = None

    def snapshot(self, records: dict[str, UpstreamRecord]) -> None:
        """Handle all records. The first snapshot is taken as it is, each later one comes after a gap."""
        if not self._started:
            self._started = True
            self._running.replace_all(records)
            self._applied()
        else:
            self._running.apply({id: one for id, one in records.items() if id not in self._running.records})
            self._again = True
            if not self._at_work:
                self._at_work = True
                self._task = spawn(self._reconcile(), "reconcile")

    def changes(self, records: dict[str, UpstreamRecord | None]) -> None:
        """Handle changed records. While a gap is being closed they may be incomplete, and are read again later."""
        if self._at_work:
            self._missed.update(records)
        else:
            self._running.apply(records)
            self._applied()

    async def _reconcile(self) -> None:
        while self._again:
            self._applied()
            self._again = False
            self._missed.clear()
            try:
                await self._be_known()
                await self._running.reassert()
                records: dict[str, UpstreamRecord | None] = {**await self._store.load_all()}
                while self._missed:
                    missed, self._missed = self._missed, set()
                    records.update(await self._store.load(missed))
            except RegistryUnavailable:
                self._again = True
                await asyncio.sleep(_RETRY_S)
                continue
            self._running.replace_all({id: one for id, one in records.items() if one is not None})
        self._at_work = False
        self._applied()

    async def close(self) -> None:
        """Stop."""
        await cancel(self._task)
