"""The last calls that failed, of all front ends, in Redis: a bounded list of JSON, newest last. Raises
``RegistryUnavailable``."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec
from msgspec import Struct

from shared.registry.client import translated
from shared.registry.store import RegistryStore

MOST = 500
"""How many failed calls are kept."""
_KEPT_S = 24 * 3600


class FailedCall(Struct, rename="camel", frozen=True, omit_defaults=True):
    """A call that was not answered with a result.

    ``at`` is Unix time in seconds, ``request`` the id of its trace and of its access lines, empty where it has none;
    ``id`` is the JSON of the client's request id. ``outcome`` is as in the metrics, ``error`` what the client was told,
    if the gateway itself said it.
    """

    at: float
    outcome: str
    method: str
    name: str = ""
    group: str = ""
    upstream: str = ""
    principal: str = ""
    era: str = ""
    attempts: int = 0
    ms: float = 0.0
    request: str = ""
    id: str = ""
    error: str = ""
    frontend: str = ""


class FailedCallStore:
    """The list of failed calls of a fleet."""

    def __init__(self, store: RegistryStore) -> None:
        self._store = store

    async def append(self, calls: Sequence[FailedCall]) -> None:
        """Append calls; the newest ``MOST`` stay, for a day."""
        key = self._store.keys.failed_calls
        async with translated():
            pipe = self._store.redis.pipeline(transaction=False)
            pipe.rpush(key, *map(msgspec.json.encode, calls))
            pipe.ltrim(key, -MOST, -1)
            pipe.expire(key, _KEPT_S)
            await pipe.execute()

    async def latest(self) -> list[FailedCall]:
        """Return what is kept, oldest first. What cannot be read was written by another version, and is left out."""
        async with translated():
            lines = await self._store.redis.lrange(self._store.keys.failed_calls, 0, -1)
        found = []
        for line in lines:
            try:
                found.append(msgspec.json.decode(line, type=FailedCall))
            except msgspec.MsgspecError:
                continue
        return found
