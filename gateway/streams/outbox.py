"""What front ends leave for each other in Redis: messages for standing streams, and wake-ups on pub/sub channels.

A session's outbox (``gw:outbox:{sid}``) is a Redis stream, kept for a minute after the last message. A *place* in it is
part of the event ids of Streamable HTTP's GET stream, so that any front end can resume a stream of another.
"""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable, Sequence
from typing import NamedTuple

from gateway.streams.standing_stream import NOTIFICATION
from shared.errors import RegistryUnavailable
from shared.registry import wakeups
from shared.registry.client import translated
from shared.registry.store import RegistryStore
from shared.tasks import spawn

KEPT_MS = 60_000
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
    """One message in an outbox, its place, and how many messages before it were dropped."""

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

    async def leave(
        self, sid: str, messages: Sequence[bytes], to: str, newest: int = 0, bytes_kept: int = 0, dropped: int = 0
    ) -> tuple[int, int]:
        """Leave messages for a session, and wake the front end ``to``, or none if ``to`` is empty.

        Return how many messages, and how many bytes, the outbox held before.

        The outbox keeps about ``newest`` messages and ``bytes_kept`` bytes. The oldest notifications are dropped first;
        questions and answers are never dropped. With ``newest`` 0 all messages are kept. ``dropped`` is how many
        messages before these were dropped on their way here.
        """
        kinds = ("told" if newest and message.startswith(NOTIFICATION) else "kept" for message in messages)
        entries = [part for kind, message in zip(kinds, messages, strict=True) for part in (kind, message)]
        limits = (newest, bytes_kept, dropped)
        count, size = await self._store.run_script("LEAVE", sid, str(KEPT_MS), to, *limits, *entries)
        return int(count), int(size)

    async def begin(self, sid: str) -> str:
        """Return the place up to which a session's messages were taken."""
        async with translated():
            taken = await self._store.redis.hget(self._store.keys.session(sid), "taken")
        return taken.decode() if taken is not None else START

    async def after(self, sid: str, place: str) -> list[Left]:
        """Return the next messages after ``place``, at most 50; an empty list if there are no more."""
        async with translated():
            start = f"({place.rpartition('-')[0]}"
            rows = await self._store.redis.xrange(self._store.keys.outbox(sid), start, count=_PAGE)
        found: list[Left] = []
        for at, fields in rows:
            here = f"{at.decode()}-{fields[b'seq'].decode()}"
            found.append(Left(here, fields[b"message"], missing(place, here)))
            place = here
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
