"""How Redis itself is doing: what it keeps on disk, its memory, its clock; for ``gateway doctor``."""

from __future__ import annotations

import time
from typing import Any

from msgspec import Struct
from redis.exceptions import RedisError

from shared.registry.client import translated
from shared.registry.store import RegistryStore


class RedisCondition(Struct, rename="camel"):
    """What Redis says of itself.

    ``persistent``: whether it keeps what it holds on disk, and ``saved``: whether the last attempt succeeded.
    ``most_bytes`` is 0 without a limit; ``eviction`` is what happens when that is reached. ``ahead_s`` is by how much
    its clock is ahead of this process's. A value is ``None`` where Redis does not say it (``INFO`` may be forbidden).
    """

    version: str = ""
    persistent: bool | None = None
    saved: bool | None = None
    used_bytes: int | None = None
    most_bytes: int | None = None
    eviction: str = ""
    ahead_s: float | None = None


async def condition(store: RegistryStore) -> RedisCondition:
    """Return how Redis is doing. Raises ``RegistryUnavailable`` if it does not answer."""
    found = RedisCondition()
    async with translated():
        began = time.time()
        seconds, micros = await store.redis.time()
        found.ahead_s = round(seconds + micros / 1e6 - (began + time.time()) / 2, 3)
    facts = await _said(store, "info") or {}
    found.version = str(facts.get("redis_version", ""))
    found.used_bytes, found.most_bytes = facts.get("used_memory"), facts.get("maxmemory")
    found.eviction = str(facts.get("maxmemory_policy", ""))
    if "aof_enabled" in facts:
        snapshots = await _said(store, "config_get", "save")
        saves = None if snapshots is None else bool(snapshots.get("save"))
        found.persistent = True if facts["aof_enabled"] else saves
        last = (facts.get("aof_last_write_status", "ok"), facts.get("rdb_last_bgsave_status", "ok"))
        found.saved = all(one == "ok" for one in last)
    return found


async def _said(store: RegistryStore, command: str, *arguments: str) -> dict[str, Any] | None:
    """Return the answer to a command that an access list may forbid, or ``None``."""
    async with translated():
        try:
            return dict(await getattr(store.redis, command)(*arguments))
        except RedisError as error:
            if "NOPERM" in str(error) or "unknown command" in str(error).lower():
                return None
            raise
