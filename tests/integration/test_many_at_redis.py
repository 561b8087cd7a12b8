"""A thousand requests of one process to Redis at once: all are answered over a bounded number of connections, and Redis
does not count as away. redis-py refuses the 101st connection of a pool.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator

import pytest_asyncio

from shared.models import HealthCheckResult
from shared.registry.breaker import BREAKER
from shared.registry.client import translated
from shared.registry.store import RegistryStore
from shared.settings import RegistrySettings

_MANY = 1000
_CONNECTIONS = 80


@pytest_asyncio.fixture
async def store(redis_url: str) -> AsyncIterator[RegistryStore]:
    store = RegistryStore(RegistrySettings(redis_url, f"many{os.getpid()}:", 20.0))
    yield store
    await store.close()


async def _connections(store: RegistryStore) -> int:
    return len(await store.redis.client_list())


async def test_reports_of_a_thousand_upstreams(store: RegistryStore) -> None:
    before = await _connections(store)
    with BREAKER.watched():
        numbers = await asyncio.gather(*(store.run_script("ANNOUNCE", "suspect", f"u{one}") for one in range(_MANY)))
        assert not BREAKER.away
    assert sorted(map(int, numbers)) == list(range(1, _MANY + 1))
    assert await store.last_change() == _MANY
    assert await _connections(store) - before < 10


async def test_questions_of_a_thousand_clients(store: RegistryStore) -> None:
    async def ask(one: int) -> object:
        async with translated():
            return await store.redis.hget(store.keys.server(f"u{one}"), "owner:0")

    before = await _connections(store)
    with BREAKER.watched():
        assert await asyncio.gather(*map(ask, range(_MANY))) == [None] * _MANY
        assert not BREAKER.away
    assert await _connections(store) - before < _CONNECTIONS


async def test_what_probes_found_of_a_thousand_upstreams(store: RegistryStore) -> None:
    fine = HealthCheckResult("fine", True, 1.5, None, 10.25)
    broken = HealthCheckResult("broken", False, None, "cannot connect: Zürich is away", 20.0)
    await store.report_health([(fine, 0, 1), (broken, 3, 0)])
    found = await store.healths(["fine", "broken", *(f"u{one}" for one in range(_MANY))])
    assert found["fine"] == fine and found["broken"] == broken
    assert len(found) == _MANY + 2 and list(found.values()).count(None) == _MANY
