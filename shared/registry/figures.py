"""What each process of the fleet counted, in Redis: for ``/metrics?scope=fleet``, ``gateway top`` and the dashboard.

A process writes its figures every few seconds (``shared.metrics.publisher``). They expire when it is gone.
"""

from __future__ import annotations

from collections.abc import Iterable

from shared.registry.client import translated
from shared.registry.store import RegistryStore

_KEPT_S = 60


class FiguresStore:
    """The packed figures in Redis. Raises ``RegistryUnavailable`` if Redis does not answer."""

    def __init__(self, store: RegistryStore) -> None:
        self._store = store

    async def write(self, packed: bytes, id: str) -> None:
        """Write the figures of process ``id``."""
        async with translated():
            await self._store.redis.set(self._store.keys.figures(id), packed, ex=_KEPT_S)

    async def read(self, ids: Iterable[str]) -> list[bytes]:
        """Return the figures of these processes, without those that are not there."""
        keys = [self._store.keys.figures(id) for id in ids]
        if not keys:
            return []
        async with translated():
            return [raw for raw in await self._store.redis.mget(keys) if raw]

    async def forget(self, id: str) -> None:
        """Remove the figures of a process that ends."""
        async with translated():
            await self._store.redis.delete(self._store.keys.figures(id))
