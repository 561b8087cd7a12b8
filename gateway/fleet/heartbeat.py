"""Keeping this front end's record in Redis alive, and up to date when somebody waits for it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from shared.errors import RegistryUnavailable
from shared.registry.members import Members


class Heartbeat:
    """See the module. ``facts`` gives what others may know of this front end."""

    def __init__(self, members: Members, id: str, facts: Callable[[], dict[str, str]], every_s: float) -> None:
        self._members = members
        self._id = id
        self._facts = facts
        self._every_s = every_s
        self._now = asyncio.Event()

    async def join(self) -> None:
        """Become visible. Raises ``RegistryUnavailable``."""
        await self._members.join(self._id, self._facts())

    async def run(self) -> None:
        """Beat until cancelled."""
        while True:
            self._now.clear()
            try:
                if not await self._members.beat(self._id, self._facts()):
                    await self._members.join(self._id, self._facts())
            except RegistryUnavailable:
                pass
            try:
                async with asyncio.timeout(self._every_s):
                    await self._now.wait()
            except TimeoutError:
                pass

    def beat_now(self) -> None:
        """Let the record say at once what changed: somebody waits until it does."""
        self._now.set()

    async def leave(self) -> None:
        """Stop being visible, if Redis answers."""
        try:
            await self._members.leave(self._id)
        except RegistryUnavailable:
            pass
