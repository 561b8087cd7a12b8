"""What front ends leave for each other in Redis: messages for standing streams, and wake-ups on pub/sub channels.

A session's outbox (``gw:outbox:{sid}``) is a stream, kept for a minute after the last message. Places in it are part of
the event ids of Streamable HTTP's GET stream, so that any front end can go on where another one stopped.
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
"""A place: the id of an entry (milliseconds, number) and its number among the session's messages."""
_PLACE = re.compile(r"\d{1,19}-\d{1,19}-\d{1,19}", re.ASCII)


def is_place(text: str) -> bool:
    """Whether ``text`` can be a place in an outbox."""
    return _PLACE.fullmatch(text) is not None


def missing(before: str, after: str) -> int:
    """How many messages there were between two places, one read after the other."""
    return max(0, int(after.rpartition("-")[2]) - int(before.rpartition("-")[2]) - 1)


class Left(NamedTuple):
    """One message, its place, and how many before it had to be dropped."""

    place: str
    message: bytes
    dropped: int


class Outbox:
    """See the module. Everything raises ``RegistryUnavailable`` while Redis is away."""

    def __init__(self, store: RegistryStore, frontend: str) -> None:
        self._store = store
        self._frontend = frontend

    async def leave(
        self, sid: str, messages: Sequence[bytes], to: str, newest: int = 0, bytes_kept: int = 0, dropped: int = 0
    ) -> tuple[int, int]:
        """Leave messages for a session and wake the front end ``to`` (empty: nobody); messages and bytes there before.

        About ``newest`` messages and ``bytes_kept`` are kept: the oldest notifications make room, never questions or
        answers. ``newest`` 0: all are kept. ``dropped``: so many before these were dropped on their way.
        """
        kinds = ("told" if newest and message.startswith(NOTIFICATION) else "kept" for message in messages)
        entries = [part for kind, message in zip(kinds, messages, strict=True) for part in (kind, message)]
        limits = (newest, bytes_kept, dropped)
        count, size = await self._store.run_script("LEAVE", sid, str(KEPT_MS), to, *limits, *entries)
        return int(count), int(size)

    async def begin(self, sid: str) -> str:
        """The place up to which a session's messages were taken."""
        async with translated():
            taken = await self._store.redis.hget(self._store.keys.session(sid), "taken")
        return taken.decode() if taken is not None else START

    async def after(self, sid: str, place: str) -> list[Left]:
        """The next messages left after ``place``; none when there are no more."""
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
        """Everything up to ``place`` was taken, and nobody will come back for it."""
        await self._store.run_script("CLEAR", sid, place.rpartition("-")[0])

    async def wake(self, frontend: str, text: str) -> None:
        """Say something to a front end, or to ``EVERYONE``."""
        await wakeups.wake(self._store, frontend, text)

    async def wake_if_possible(self, frontend: str, text: str) -> None:
        """``wake``, where it does no harm that nobody hears it while Redis is away."""
        try:
            await self.wake(frontend, text)
        except RegistryUnavailable:
            pass

    def hint_everyone(self, kind: str, sid: str, id: str) -> None:
        """Tell every front end something about a session, without waiting for it."""
        spawn(self.wake_if_possible(EVERYONE, f"{kind} {sid} {id}"), "hint-everyone")

    async def follow(self, heard: Callable[[str], Awaitable[None]], begun: Callable[[], Awaitable[None]]) -> None:
        """Hear what others say until cancelled; ``begun`` whenever something may have gone unheard."""
        await wakeups.follow(self._store, (self._frontend, EVERYONE), heard, begun)
