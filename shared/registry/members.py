"""Heartbeats: which workers and front ends are alive. Each process has one hash with a TTL, which its heartbeats renew.

Ownership of upstreams has no TTL of its own. A process that joins or leaves announces that in the change log, so that
no process has to poll.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Literal

from shared.registry.client import translated
from shared.registry.store import RegistryStore

_log = logging.getLogger(__name__)
_MOST_FOREIGN = 100
"""So many foreign records are told of, each once."""
_RENEWED = 10
"""So often in a row a record is only renewed; then it is written again, as somebody may have changed it in Redis."""
RETIRING = "retiring"
"""The mark on a member that is about to be replaced, as another one has come: it keeps what it has and gets nothing
new."""
LEAVING = "leaving"
"""The mark on one that retires and drains next: it hands over what it can without keeping a call waiting."""
_MARKS = (RETIRING.encode(), LEAVING.encode())
MemberKind = Literal["worker", "frontend"]


class Members:
    """The workers or the front ends that Redis knows."""

    def __init__(self, store: RegistryStore, kind: MemberKind, ttl_s: float) -> None:
        self._store = store
        self._kind = kind
        self._ttl_ms = int(ttl_s * 1000)
        self._set = store.keys.workers if kind == "worker" else store.keys.frontends
        self._foreign: set[str] = set()
        self._written: tuple[str, Mapping[str, str]] | None = None
        self._renewed = 0
        self._key = store.keys.worker if kind == "worker" else store.keys.frontend

    async def join(self, id: str, facts: Mapping[str, str]) -> None:
        """Write the record of member ``id`` and announce it."""
        async with translated():
            pipe = self._store.redis.pipeline(transaction=True)
            pipe.hset(self._key(id), mapping=self._signed(id, facts))
            pipe.pexpire(self._key(id), self._ttl_ms)
            pipe.sadd(self._set, id)
            await pipe.execute()
        await self._store.run_script("ANNOUNCE", self._kind, id)

    async def beat(self, id: str, facts: Mapping[str, str]) -> bool:
        """Renew the record of member ``id``. Return false, and write nothing, if the record has expired: other
        processes then count the member as dead, and the member must join anew.

        The check and the write are one step. If an expired record came back with its old facts, other processes would
        believe that the member was alive all the time.
        """
        if self._written == (id, facts) and self._renewed < _RENEWED:
            self._renewed += 1
            async with translated():
                alive = bool(await self._store.redis.pexpire(self._key(id), self._ttl_ms))
        else:
            fields = [part for fact in self._signed(id, facts).items() for part in fact]
            self._renewed = 0
            alive = bool(await self._store.run_script("BEAT", self._key(id), str(self._ttl_ms), *fields))
        self._written = (id, facts) if alive else None
        return alive

    async def leave(self, id: str) -> None:
        """Delete the record of member ``id`` and announce that."""
        async with translated():
            pipe = self._store.redis.pipeline(transaction=True)
            pipe.delete(self._key(id))
            pipe.srem(self._set, id)
            await pipe.execute()
        await self._store.run_script("ANNOUNCE", self._kind, id)

    async def joined_at(self, id: str) -> str:
        """Return when a member joined last, as its record says it."""
        async with translated():
            value = await self._store.redis.hget(self._key(id), "joined_at")
        return bytes(value).decode() if value else ""

    async def bury(self, id: str, joined_at: str) -> bool:
        """Delete the record of a dead member that joined at this time, and announce that, if no other process did so
        before. Return false if the member has joined anew: it lives."""
        found = int(await self._store.run_script("BURY", self._key(id), self._set, self._kind, id, joined_at))
        if found > 0:
            _log.warning("%s %s died, or stands still; what it had is taken over", self._kind, id)
        return found >= 0

    async def mark(self, id: str, field: str, value: str) -> None:
        """Write a fact about member ``id`` that is not its own, beside those that its heartbeats write, and announce
        it. An empty ``value`` takes the fact away."""
        await self._store.run_script("MARK", self._key(id), self._kind, id, field, value)

    async def marked(self, id: str, field: str) -> str:
        """Return a fact that ``mark`` wrote, or an empty string."""
        async with translated():
            value = await self._store.redis.hget(self._key(id), field)
        return bytes(value).decode() if value else ""

    async def alive(self) -> dict[str, dict[str, str]]:
        """Return the facts of each live member by id. Ids whose record has expired are removed from the set."""
        async with translated():
            ids = sorted(id.decode() for id in await self._store.redis.smembers(self._set))
            pipe = self._store.redis.pipeline(transaction=False)
            for id in ids:
                pipe.hgetall(self._key(id))
            rows = await pipe.execute() if ids else []
        gone = [part for id, row in zip(ids, rows, strict=True) if not row for part in (id, self._key(id))]
        if gone:
            await self._store.run_script("EXPIRED", self._set, *gone)
        return {id: facts for id, row in zip(ids, rows, strict=True) if row and (facts := self._read(id, row))}

    def _signed(self, id: str, facts: Mapping[str, str]) -> dict[str, str | bytes]:
        return self._store.seals.sign_fields(self._kind, id, facts)

    def _read(self, id: str, row: Mapping[bytes, bytes]) -> dict[str, str]:
        """Return a member's own facts, as it signed them, and its marks; nothing if they are not its own."""
        own = self._store.seals.signed_fields(self._kind, id, row)
        if own is None:
            if id not in self._foreign and len(self._foreign) < _MOST_FOREIGN:
                self._foreign.add(id)
                _log.warning("%s %s is not signed with the fleet's key in Redis: it does not count", self._kind, id)
            return {}
        marks = {mark: row[mark] for mark in _MARKS if mark in row}
        return {key.decode(): value.decode() for key, value in {**own, **marks}.items()}
