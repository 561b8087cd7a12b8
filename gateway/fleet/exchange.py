"""Exchange of in-flight counts between front ends through Redis, for the strategy least-connections.

There is one pipelined exchange every 100 ms (not one for each call), and only while a group uses a strategy that reads
counts. Each front end writes absolute counts to a hash that expires, so that the counts of a dead front end vanish.
"""

from __future__ import annotations

import asyncio
import contextlib

from gateway.fleet.registry_view import RegistryView
from shared.errors import RegistryUnavailable
from shared.registry.client import translated
from shared.registry.members import Members
from shared.registry.store import RegistryStore
from shared.tasks import tick

_EXPIRES_MS = 3000
_LOOK_EVERY = 10
_IDLE_S = 1.0
"""How often is looked whether a group uses such a strategy, and whether there is another front end."""
_MOST = 1_000_000


class InFlightExchange:
    """Publishes this front end's counts, and sums those of others into ``Replica.in_flight_elsewhere``."""

    def __init__(
        self, store: RegistryStore, members: Members, frontend: str, registry: RegistryView, every_s: float
    ) -> None:
        self._store = store
        self._members = members
        self._frontend = frontend
        self._registry = registry
        self._every_s = every_s
        self._others: list[str] = []
        self._published: dict[str, int] = {}

    async def run(self) -> None:
        """Exchange counts until cancelled."""
        rounds = 0
        while True:
            await (asyncio.sleep(self._every_s) if self._others else tick(_IDLE_S))
            groups = self._registry.catalog.groups.values()
            if not any(group.balancer.counts_calls for group in groups):
                self._others = []
                continue
            try:
                if rounds % _LOOK_EVERY == 0 or not self._others:
                    self._others = [id for id in await self._members.alive() if id != self._frontend]
                rounds += 1
                if self._others:
                    await self._exchange()
            except RegistryUnavailable:
                self._others = []
                for replica in self._registry.catalog.replicas:
                    replica.in_flight_elsewhere = 0

    async def _exchange(self) -> None:
        mine = {replica.id: replica.in_flight for replica in self._registry.catalog.replicas if replica.in_flight}
        key = self._store.keys.inflight(self._frontend)
        async with translated():
            pipe = self._store.redis.pipeline(transaction=False)
            if mine != self._published:
                pipe.delete(key)
                if mine:
                    pipe.hset(key, mapping=mine)
            pipe.pexpire(key, _EXPIRES_MS)
            for other in self._others:
                pipe.hgetall(self._store.keys.inflight(other))
            rows = (await pipe.execute())[-len(self._others) :]
        self._published = mine
        totals: dict[str, int] = {}
        for row in rows:
            for id, count in row.items():
                with contextlib.suppress(ValueError):  # Redis may hold anything
                    totals[id.decode()] = totals.get(id.decode(), 0) + min(max(int(count), 0), _MOST)
        for replica in self._registry.catalog.replicas:
            replica.in_flight_elsewhere = totals.get(replica.id, 0)
