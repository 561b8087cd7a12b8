"""The ``requestState`` of retries that were used, for all front ends. Raises ``RegistryUnavailable``."""

from __future__ import annotations

from shared.registry.client import translated
from shared.registry.store import RegistryStore


class StateMarks:
    """Marks of states, which last as long as the states do."""

    def __init__(self, store: RegistryStore) -> None:
        self._store = store

    async def first(self, digest: str, lasts_s: float) -> bool:
        """Mark a state by its digest for ``lasts_s``, and return whether no front end had marked it."""
        async with translated():
            key = self._store.keys.used(digest)
            return bool(await self._store.redis.set(key, "1", nx=True, px=max(1, int(lasts_s * 1000))))
