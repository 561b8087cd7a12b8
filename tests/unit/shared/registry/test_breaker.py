"""``shared.registry.breaker`` and ``client.translated``: only the first request waits for a Redis that hangs."""

from __future__ import annotations

import pytest
from redis.exceptions import ConnectionError, ResponseError
from redis.exceptions import TimeoutError as RedisTimeout

from shared.errors import RegistryUnavailable
from shared.registry.breaker import BREAKER, Breaker
from shared.registry.client import translated


async def _ask(error: Exception | None = None) -> str:
    """What asking Redis comes to, if Redis is asked: ``asked``."""
    asked = ""
    try:
        async with translated():
            asked = "asked"
            if error is not None:
                raise error
    except RegistryUnavailable:
        return asked or "not asked"
    return asked


@pytest.mark.parametrize("error", [RedisTimeout("slow"), ConnectionError("gone"), TimeoutError(), OSError("no route")])
async def test_after_no_answer_nobody_else_asks_until_the_follower_has_one(error: Exception) -> None:
    with BREAKER.watched():
        assert await _ask(error) == "asked"
        assert await _ask() == "not asked"
        BREAKER.answered()
        assert await _ask() == "asked"


async def test_an_error_of_redis_is_an_answer() -> None:
    with BREAKER.watched():
        assert await _ask(ResponseError("OOM command not allowed")) == "asked"
        assert await _ask() == "asked"


async def test_a_process_without_a_follower_always_asks() -> None:
    assert await _ask(RedisTimeout("slow")) == "asked"
    assert await _ask() == "asked"
    with BREAKER.watched():
        await _ask(RedisTimeout("slow"))
    assert await _ask() == "asked"


def test_the_last_follower_that_leaves_closes_it() -> None:
    breaker = Breaker()
    with breaker.watched():
        with breaker.watched():
            breaker.failed()
        assert breaker.away
    assert not breaker.away
