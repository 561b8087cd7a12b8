"""Pub/sub channels on which front ends wake each other. A message is a hint: no front end depends on receiving it."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Sequence

from redis.exceptions import RedisError

from shared.registry.client import translated
from shared.registry.store import RegistryStore

_log = logging.getLogger(__name__)
_AGAIN_S = 0.5
_WAIT_S = 60.0


async def wake(store: RegistryStore, whom: str, text: str) -> None:
    """Send ``text`` on the channel of ``whom``. Raises ``RegistryUnavailable``."""
    async with translated():
        await store.redis.publish(store.keys.wake(whom), text)


async def follow(
    store: RegistryStore,
    names: Sequence[str],
    heard: Callable[[str], Awaitable[None]],
    begun: Callable[[], Awaitable[None]],
) -> None:
    """Call ``heard`` for each message on the channels of ``names``, until cancelled. Call ``begun`` whenever messages
    may have been missed before."""
    while True:
        pubsub = store.redis.pubsub()
        try:
            await pubsub.subscribe(*map(store.keys.wake, names))
            await begun()
            while True:
                item = await pubsub.get_message(ignore_subscribe_messages=True, timeout=_WAIT_S)
                if item is not None:
                    try:
                        await heard(item["data"].decode())
                    except (ValueError, KeyError):  # anybody on Redis can write here
                        _log.warning("a wake-up cannot be understood: %.100r", item["data"])
        except (RedisError, OSError):
            await asyncio.sleep(_AGAIN_S)
        finally:
            await pubsub.aclose()
