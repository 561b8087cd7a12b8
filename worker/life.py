"""The lock by which other processes of this machine see that the worker lives (``shared.registry.deaths``).

The reaper holds it too. When the worker stands still, the reaper kills its children and gives the lock up, and then
another worker may start them. A worker that goes on afterwards may have been taken for dead: before it starts a child
it takes the lock again, and joins anew, so that whoever saw the lock free before cannot remove its record any more.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from pathlib import Path

from shared.registry import deaths

_log = logging.getLogger(__name__)


class Life:
    """The lock of one worker. ``rejoin`` writes the worker's record as of now."""

    def __init__(self, socket: Path, rejoin: Callable[[], Awaitable[None]]) -> None:
        self._socket = socket
        self._rejoin = rejoin
        self._resuming = asyncio.Lock()
        self._counts = True
        self.descriptor = deaths.hold(socket)

    async def counts(self) -> bool:
        """Whether this worker may start children, after it has taken back what it lost. Raises
        ``RegistryUnavailable``."""
        if self._counts and not deaths.has_ended(self._socket):
            return True
        async with self._resuming:
            if deaths.has_ended(self._socket):
                self._counts = False
                if not deaths.hold_again(self.descriptor):
                    return False
            if not self._counts:
                _log.warning("this process stood still, and its children were killed; joining anew")
                await self._rejoin()
                self._counts = True
        return True

    def drop(self) -> None:
        """Remove the lock's file, because the worker has left in order."""
        deaths.drop(self._socket)
