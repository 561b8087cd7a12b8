"""``shared.registry.batches``: what comes while some scripts are under way goes together, and each gets its answer."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from redis.exceptions import ConnectionError, NoScriptError, ResponseError

from shared.errors import RegistryUnavailable
from shared.registry.batches import Batches


class Script:
    """A script that answers its argument, once Redis answers."""

    sha = "sha"

    def __init__(self, redis: Redis) -> None:
        self._redis = redis

    async def __call__(self, args: Any) -> Any:
        self._redis.messages.append(1)
        await self._redis.answers.wait()
        return args[0]


class Redis:
    """Counts messages. ``wrong`` are errors for arguments, ``fails`` is what becomes of every message."""

    def __init__(self) -> None:
        self.answers = asyncio.Event()
        self.messages: list[int] = []
        self.wrong: dict[Any, Exception] = {}
        self.fails: Exception | None = None
        self._queued: list[Any] = []

    def pipeline(self, transaction: bool) -> Redis:
        self._queued = []
        return self

    def evalsha(self, sha: str, keys: int, *arguments: Any) -> None:
        self._queued.append(arguments[0])

    async def execute(self, raise_on_error: bool) -> list[Any]:
        queued = self._queued
        self.messages.append(len(queued))
        await asyncio.sleep(0)
        if self.fails is not None:
            raise self.fails
        return [self.wrong.get(one, one) for one in queued]


async def _begun(redis: Redis, arguments: list[Any]) -> list[asyncio.Task[Any]]:
    """Begin to run a script with each argument at once."""
    batches = Batches(redis, {"NAME": Script(redis)})
    tasks = [asyncio.ensure_future(batches.run("NAME", (one,))) for one in arguments]
    await asyncio.sleep(0)
    return tasks


async def test_few_run_by_themselves_and_the_rest_together() -> None:
    redis = Redis()
    tasks = await _begun(redis, list(range(500)))
    assert redis.messages == [1, 1, 1, 1]
    redis.answers.set()
    assert await asyncio.gather(*tasks) == list(range(500))
    assert len(redis.messages) < 20 and sum(redis.messages) == 500


async def test_large_ones_do_not_keep_small_ones_waiting() -> None:
    redis = Redis()
    large = "x" * 300_000
    arguments = [*["first"] * 4, large, large, "small"]
    tasks = await _begun(redis, arguments)
    redis.answers.set()
    assert await asyncio.gather(*tasks) == arguments
    assert redis.messages[4:] == [1, 1, 1]


async def test_one_that_fails_fails_alone() -> None:
    redis = Redis()
    redis.wrong[7] = ResponseError("OOM command not allowed")
    redis.wrong[8] = NoScriptError("NOSCRIPT")
    tasks = await _begun(redis, list(range(10)))
    redis.answers.set()
    found = await asyncio.gather(*tasks, return_exceptions=True)
    assert [one for one in found if isinstance(one, int)] == [0, 1, 2, 3, 4, 5, 6, 8, 9]
    assert isinstance(found[7], RegistryUnavailable) and "OOM" in str(found[7])


async def test_a_lost_connection_is_told_to_all_and_ends_nothing() -> None:
    redis = Redis()
    redis.fails = ConnectionError("gone")
    tasks = await _begun(redis, list(range(10)))
    redis.answers.set()
    found = await asyncio.gather(*tasks, return_exceptions=True)
    assert found[:4] == [0, 1, 2, 3]
    assert all(isinstance(one, RegistryUnavailable) for one in found[4:])


async def test_who_was_cancelled_is_not_run() -> None:
    redis = Redis()
    tasks = await _begun(redis, list(range(6)))
    tasks[4].cancel()
    await asyncio.sleep(0)
    redis.answers.set()
    with pytest.raises(asyncio.CancelledError):
        await tasks[4]
    assert await asyncio.gather(*tasks[:4], tasks[5]) == [0, 1, 2, 3, 5]
    assert sum(redis.messages) == 5
