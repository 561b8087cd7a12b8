"""What front ends leave for each other in Redis: messages for standing streams, and wake-ups on pub/sub channels.

A session's outbox (``gw:outbox:{sid}``) is a Redis stream, kept for a minute after the last message. A *place* in it is
part of the event ids of Streamable HTTP's GET stream, so that any front end can resume a stream of another.

Messages are signed where the fleet has a configured key: a client must not be asked, or told, what somebody else wrote
to Redis.
"""

from __future__ import annotations

import asyncio
import logging
import re
from collections.abc import Awaitable, Callable, Sequence
from typing import NamedTuple

from gateway.streams.standing_stream import NOTIFICATION
from shared.errors import RegistryUnavailable
from shared.registry import wakeups
from shared.registry.client import translated
from shared.registry.store import RegistryStore
from shared.tasks import spawn

_log = logging.getLogger(__name__)
KEPT_MS = 60_000
_LARGE = 256 * 1024
"""Bytes of a message from which on its signature is made beside the loop."""
_MOST_WARNED = 100
_PAGE = 50
EVERYONE = "all"
START = "0-0-0"
"""The place before all messages. A place consists of the id of a Redis stream entry (milliseconds, number) and the
number of the message among those of the session."""
_PLACE = re.compile(r"\d{1,19}-\d{1,19}-\d{1,19}", re.ASCII)


def is_place(text: str) -> bool:
    """Return whether ``text`` has the form of a place in an outbox."""
    return _PLACE.fullmatch(text) is not None


def missing(before: str, after: str) -> int:
    """Return how many messages were dropped between two places of which one was read right after the other."""
    return max(0, int(after.rpartition("-")[2]) - int(before.rpartition("-")[2]) - 1)


class Left(NamedTuple):
    """One message in an outbox, its place, and how many messages before it were dropped. The message is empty if it is
    not one of this fleet."""

    place: str
    message: bytes
    dropped: int


class Outbox:
    """The outboxes of all sessions, and wake-ups between front ends; ``frontend`` is this front end's id.

    While Redis is away, the coroutines raise ``RegistryUnavailable`` unless they say otherwise.
    """

    def __init__(self, store: RegistryStore, frontend: str) -> None:
        self._store = store
        self._frontend = frontend
        self._warned: set[str] = set()

    async def leave(
        self, sid: str, messages: Sequence[bytes], to: str, newest: int = 0, bytes_kept: int = 0, dropped: int = 0
    ) -> tuple[int, int]:
        """Leave messages for a session, and wake the front end ``to``, or none if ``to`` is empty.

        Return how many messages, and how many bytes, the outbox held before.

        The outbox keeps about ``newest`` messages and ``bytes_kept`` bytes. The oldest notifications are dropped first;
        questions and answers are never dropped. With ``newest`` 0 all messages are kept. ``dropped`` is how many
        messages before these were dropped on their way here.
        """
        entries: list[str | bytes] = []
        for message in messages:
            kind = "told" if newest and message.startswith(NOTIFICATION) else "kept"
            entries += [kind, message, await self._signature(sid, message)]
        limits = (newest, bytes_kept, dropped)
        count, size = await self._store.run_script("LEAVE", sid, str(KEPT_MS), to, *limits, *entries)
        return int(count), int(size)

    async def _signature(self, sid: str, message: bytes) -> str:
        sign = self._store.seals.sign
        if len(message) > _LARGE and self._store.seals.active:
            return await asyncio.to_thread(sign, "outbox", sid, message)
        return sign("outbox", sid, message)

    async def _is_ours(self, sid: str, message: bytes, signature: str) -> bool:
        signed = self._store.seals.signed
        if len(message) > _LARGE and self._store.seals.active:
            return await asyncio.to_thread(signed, "outbox", sid, message, signature)
        return signed("outbox", sid, message, signature)

    def _warn(self, sid: str) -> None:
        if sid not in self._warned and len(self._warned) < _MOST_WARNED:
            self._warned.add(sid)
            _log.warning("a message for a client in Redis is not signed with the fleet's key: it is not shown")

    async def begin(self, sid: str) -> str:
        """Return the place up to which a session's messages were taken."""
        async with translated():
            taken = await self._store.redis.hget(self._store.keys.session(sid), "taken")
        place = taken.decode("ascii", "replace") if taken is not None else START
        return place if is_place(place) else START

    async def after(self, sid: str, place: str) -> list[Left]:
        """Return the next messages after ``place``, at most 50; an empty list if there are no more."""
        async with translated():
            start = f"({place.rpartition('-')[0]}"
            rows = await self._store.redis.xrange(self._store.keys.outbox(sid), start, count=_PAGE)
        found: list[Left] = []
        for at, fields in rows:
            message, signature = fields.get(b"message", b""), fields.get(b"signature", b"")
            here = f"{at.decode()}-{fields.get(b'seq', b'').decode('ascii', 'replace')}"
            if is_place(here) and await self._is_ours(sid, message, signature.decode("ascii", "replace")):
                found.append(Left(here, message, missing(place, here)))
                place = here
            else:
                self._warn(sid)
                found.append(Left(f"{at.decode()}-{place.rpartition('-')[2]}", b"", 0))
        return found

    async def clear(self, sid: str, place: str) -> None:
        """Remove the messages up to ``place``: they were taken, and no client will resume before them."""
        await self._store.run_script("CLEAR", sid, place.rpartition("-")[0])

    async def wake(self, frontend: str, text: str) -> None:
        """Send ``text`` to a front end, or to ``EVERYONE``."""
        await wakeups.wake(self._store, frontend, text)

    async def wake_if_possible(self, frontend: str, text: str) -> None:
        """Send ``text`` like ``wake``, and ignore that Redis is away."""
        try:
            await self.wake(frontend, text)
        except RegistryUnavailable:
            pass

    def hint_everyone(self, kind: str, sid: str, id: str) -> None:
        """Send a hint about a session to every front end, in the background. Redis may be away."""
        spawn(self.wake_if_possible(EVERYONE, f"{kind} {sid} {id}"), "hint-everyone")

    async def follow(self, heard: Callable[[str], Awaitable[None]], begun: Callable[[], Awaitable[None]]) -> None:
        """Call ``heard`` for each wake-up until cancelled, and ``begun`` whenever wake-ups may have been missed.

        Wake-ups are those to this front end and to ``EVERYONE``. While Redis is away this goes on trying.
        """
        await wakeups.follow(self._store, (self._frontend, EVERYONE), heard, begun)
