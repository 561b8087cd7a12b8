"""What a rolling restart does and did, for whoever asked for it. A record in Redis for each supervisor.

Counterparts: ``gateway.supervisor.rolling`` writes, ``gateway.admin`` reads.
"""

from __future__ import annotations

from typing import Literal

import msgspec
from msgspec import Struct

from shared.registry.client import translated
from shared.registry.store import RegistryStore

_KEPT_MS = 24 * 3600 * 1000


class RollStep(Struct, rename="camel"):
    """One process. ``pid`` is that of the new one, 0 if there is none (yet)."""

    process: str
    state: Literal["waiting", "starting", "draining", "replaced", "removed", "failed"] = "waiting"
    pid: int = 0
    took_s: float = 0.0


class Roll(Struct, rename="camel"):
    """One rolling restart. Times are Unix seconds."""

    id: str
    state: Literal["running", "done", "failed"] = "running"
    began_at: float = 0.0
    ended_at: float = 0.0
    error: str = ""
    changed: list[str] = []
    """The settings that the new processes have otherwise than the old ones."""
    not_applied: list[str] = []
    """The settings that changed in the file and need a stop and a start."""
    steps: list[RollStep] = []


class Rolls:
    """The last rolling restart of one supervisor (``host:pid``)."""

    def __init__(self, store: RegistryStore, supervisor: str) -> None:
        self._store = store
        self._key = store.keys.roll(supervisor)

    async def write(self, roll: Roll) -> None:
        """Raises ``RegistryUnavailable``."""
        async with translated():
            await self._store.redis.set(self._key, msgspec.json.encode(roll), px=_KEPT_MS)

    async def read(self) -> Roll | None:
        """Return the record, or ``None`` if there was no restart. Raises ``RegistryUnavailable``."""
        async with translated():
            raw = await self._store.redis.get(self._key)
        return msgspec.json.decode(raw, type=Roll) if raw else None
