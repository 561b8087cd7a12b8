"""Heartbeats: which workers and front ends are alive. One hash with a TTL each; only these expire.

A member that joins or leaves announces it in the change log, so that nobody has to poll.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

from shared.registry.client import translated
from shared.registry.store import RegistryStore

Kind = Literal["worker", "frontend"]


class Members:
    """Workers or front ends, as Redis knows them."""

    def __init__(self, store: RegistryStore, kind: Kind, ttl_s: float) -> None:
        self._store = store
        self._kind = kind
        self._ttl_ms = int(ttl_s * 1000)
        self._set = store.keys.workers if kind == "worker" else store.keys.frontends
        self._key = store.keys.worker if kind == "worker" else store.keys.frontend

    async def join(self, id: str, facts: Mapping[str, str]) -> None:
        """Become visible, and say so."""
        async with translated():
            pipe = self._store.redis.pipeline(transaction=True)
            pipe.hset(self._key(id), mapping=dict(facts))
            pipe.pexpire(self._key(id), self._ttl_ms)
            pipe.sadd(self._set, id)
            await pipe.execute()
        await self._store.run_script("ANNOUNCE", self._kind, id)

    async def beat(self, id: str, facts: Mapping[str, str]) -> bool:
        """Stay visible. False, and nothing is written: the record has expired, so others count us as dead; join anew.

        In one step: whoever saw the old facts come back would take us for somebody who was here all the time.
        """
        fields = [part for fact in facts.items() for part in fact]
        return bool(await self._store.run_script("BEAT", self._key(id), str(self._ttl_ms), *fields))

    async def leave(self, id: str) -> None:
        """Stop being visible, and say so."""
        async with translated():
            pipe = self._store.redis.pipeline(transaction=True)
            pipe.delete(self._key(id))
            pipe.srem(self._set, id)
            await pipe.execute()
        await self._store.run_script("ANNOUNCE", self._kind, id)

    async def alive(self) -> dict[str, dict[str, str]]:
        """Facts of each live member by id; ids whose record has expired are forgotten."""
        async with translated():
            ids = sorted(id.decode() for id in await self._store.redis.smembers(self._set))
            pipe = self._store.redis.pipeline(transaction=False)
            for id in ids:
                pipe.hgetall(self._key(id))
            rows = await pipe.execute() if ids else []
            gone = [id for id, row in zip(ids, rows, strict=True) if not row]
            if gone:
                await self._store.redis.srem(self._set, *gone)
        return {
            id: {key.decode(): value.decode() for key, value in row.items()}
            for id, row in zip(ids, rows, strict=True)
            if row
        }
