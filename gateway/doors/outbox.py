"""What front ends leave for each other in Redis: messages for standing streams, and wake-ups on pub/sub channels.

A session's outbox (``gw:outbox:{sid}``) is a stream, kept for a minute after the last message. Places in it are part of
the event ids of Streamable HTTP's GET stream, so that any front end can go on where another one stopped.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Awaitable, Callable, Sequence

from redis.exceptions import RedisError

from shared.registry.client import translated
from shared.registry.store import RegistryStore

KEPT_MS = 60_000
EVERYONE = "all"
START = "0-0"
_PLACE = re.compile(r"\d{1,19}-\d{1,19}", re.ASCII)


def is_place(text: str) -> bool:
    """Whether ``text`` can be a place in an outbox."""
    return _PLACE.fullmatch(text) is not None


def _order(place: str) -> tuple[int, int]:
    milliseconds, _, number = place.partition("-")
    return int(milliseconds), int(number)


class Outbox:
    """See the module. Everything raises ``RegistryUnavailable`` while Redis is away."""

    def __init__(self, store: RegistryStore, frontend: str) -> None:
        self._store = store
        self._frontend = frontend

    async def leave(self, sid: str, messages: Sequence[bytes], to: str, newest: int | None) -> int:
        """Leave messages for a session and wake the front end ``to`` (empty: nobody); how many were there before.

        ``newest``: about so many are kept; ``None``: all of them.
        """
        key = self._store.keys.outbox(sid)
        async with translated():
            pipe = self._store.redis.pipeline(transaction=True)
            pipe.xlen(key)
            for message in messages:
                pipe.xadd(key, {"message": message}, maxlen=newest, approximate=True)
            pipe.pexpire(key, KEPT_MS)
            if to:
                pipe.publish(self._store.keys.wake(to), f"outbox {sid}")
            return int((await pipe.execute())[0])

    async def after(self, sid: str, place: str) -> list[tuple[str, bytes]]:
        """Messages left after ``place`` (empty: after what was taken last), with their own places."""
        async with translated():
            rows = await self._store.redis.xrange(self._store.keys.outbox(sid), f"({place or START}")
            found = [(at.decode(), fields[b"message"]) for at, fields in rows]
            if found and not place:
                taken = await self._store.redis.hget(self._store.keys.session(sid), "taken")
                if taken is not None:
                    found = [one for one in found if _order(one[0]) > _order(taken.decode())]
        return found

    async def clear(self, sid: str, place: str) -> None:
        """Everything up to ``place`` was taken, and nobody will come back for it."""
        milliseconds, number = _order(place)
        async with translated():
            await self._store.redis.xtrim(
                self._store.keys.outbox(sid), minid=f"{milliseconds}-{number + 1}", approximate=False
            )

    async def wake(self, frontend: str, text: str) -> None:
        """Say something to a front end, or to ``EVERYONE``."""
        async with translated():
            await self._store.redis.publish(self._store.keys.wake(frontend), text)

    async def follow(self, heard: Callable[[str], Awaitable[None]], begun: Callable[[], Awaitable[None]]) -> None:
        """Hear what others say until cancelled; ``begun`` whenever something may have gone unheard."""
        while True:
            pubsub = self._store.redis.pubsub()
            try:
                await pubsub.subscribe(self._store.keys.wake(self._frontend), self._store.keys.wake(EVERYONE))
                await begun()
                while True:
                    item = await pubsub.get_message(ignore_subscribe_messages=True, timeout=1.0)
                    if item is not None:
                        await heard(item["data"].decode())
            except (RedisError, OSError):
                await asyncio.sleep(0.5)
            finally:
                await pubsub.aclose()
