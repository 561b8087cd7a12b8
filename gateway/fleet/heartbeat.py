"""Keeping this front end's record in Redis alive, and up to date when other front ends wait for a change of it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from shared.errors import RegistryUnavailable
from shared.registry.members import Members
from shared.tasks import next_tick


class Heartbeat:
    """Writes this front end's record. ``facts`` returns its content."""

    def __init__(self, members: Members, id: str, facts: Callable[[], dict[str, str]], every_s: float) -> None:
        self._members = members
        self._id = id
        self._facts = facts
        self._every_s = every_s
        self._now = asyncio.Event()

    async def join(self) -> None:
        """Write the record and announce it. Raises ``RegistryUnavailable``."""
        await self._members.join(self._id, self._facts())

    async def run(self) -> None:
        """Renew the record until cancelled: every ``every_s``, and after ``beat_now``."""
        while True:
            self._now.clear()
            try:
                if not await self._members.beat(self._id, self._facts()):
                    await self._members.join(self._id, self._facts())
            except RegistryUnavailable:
                pass
            try:
                async with asyncio.timeout_at(next_tick(self._every_s)):
                    await self._now.wait()
            except TimeoutError:
                pass

    def beat_now(self) -> None:
        """Renew the record at once, because another front end waits until it shows a change."""
        self._now.set()

    async def leave(self) -> None:
        """Remove the record and announce that, if Redis answers."""
        try:
            await self._members.leave(self._id)
        except RegistryUnavailable:
            pass
