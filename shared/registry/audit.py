"""The audit log in Redis: a bounded stream, newest events last. Raises ``RegistryUnavailable``."""

from __future__ import annotations

from collections.abc import Sequence

from shared.registry.client import translated
from shared.registry.store import RegistryStore

MAX_EVENTS = 100_000
"""How many events are kept, about."""


class AuditStore:
    """The stream of audit events of a fleet."""

    def __init__(self, store: RegistryStore) -> None:
        self._store = store

    async def append(self, lines: Sequence[bytes]) -> None:
        """Append events, each the JSON of an object."""
        async with translated():
            pipe = self._store.redis.pipeline(transaction=False)
            for line in lines:
                pipe.xadd(self._store.keys.audit, {"event": line}, maxlen=MAX_EVENTS, approximate=True)
            await pipe.execute()

    async def after(self, place: str, count: int) -> list[tuple[str, bytes]]:
        """Return up to ``count`` events after ``place`` with their places, oldest first."""
        async with translated():
            first = f"({place}" if place else "-"
            rows = await self._store.redis.xrange(self._store.keys.audit, min=first, count=count)
        return [(id.decode(), fields[b"event"]) for id, fields in rows if b"event" in fields]

    async def latest(self, count: int) -> list[tuple[str, bytes]]:
        """Return the last ``count`` events with their places, oldest first."""
        async with translated():
            rows = await self._store.redis.xrevrange(self._store.keys.audit, count=count)
        return [(id.decode(), fields[b"event"]) for id, fields in reversed(rows) if b"event" in fields]
