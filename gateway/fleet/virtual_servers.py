"""The front end's copy of the virtual servers, kept by the change log.

While Redis is away the copy goes on being served. After Redis was emptied, what is known here is written back.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Coroutine, Mapping
from typing import Any

from shared.errors import RegistryUnavailable
from shared.registry.virtual_servers import Declared, VirtualServerStore
from shared.tasks import spawn
from shared.virtual_servers import VirtualServer

_log = logging.getLogger(__name__)
_AGAIN_S = 1.0


class VirtualServers:
    """The virtual servers that this front end knows. ``changed`` is called when they are others than before."""

    def __init__(self, store: VirtualServerStore, changed: Callable[[], None]) -> None:
        self._store = store
        self._changed = changed
        self._known: dict[str, Declared] = {}
        self._epoch = ""
        self._one_by_one = asyncio.Lock()  # an older answer must not come after a newer one
        self._reading: set[asyncio.Task[None]] = set()

    @property
    def known(self) -> Mapping[str, Declared]:
        """All that are known here, by name."""
        return self._known

    @property
    def servers(self) -> Mapping[str, VirtualServer]:
        """All that are known here, by name, without where they come from."""
        return {name: one.server for name, one in self._known.items()}

    async def load(self, epoch: str) -> None:
        """Take all virtual servers from Redis. ``epoch`` is that of the change log: with another one, Redis was
        emptied. Raises ``RegistryUnavailable``."""
        async with self._one_by_one:
            await self._load(epoch)

    async def _load(self, epoch: str) -> None:
        if self._known and epoch != self._epoch:
            _log.warning("Redis may have lost the virtual servers; writing back what it lost of %d", len(self._known))
            await self._store.restore(self._known.values())
        self._epoch = epoch
        found = await self._store.all()
        kept = {name: self._known[name] if self._known.get(name) == one else one for name, one in found.items()}
        if kept != self._known:
            self._known = kept
            self._changed()

    def load_again(self, epoch: str) -> None:
        """Begin to take all virtual servers from Redis, again until Redis answers: the change log had a gap."""
        self._begin(self._load_until_answered(epoch))

    def announce(self, name: str, epoch: str) -> None:
        """Begin to take one virtual server from Redis, because the change log says that it changed."""
        self._epoch = epoch
        self._begin(self._read(name))

    async def settled(self) -> None:
        """Wait until everything that was announced is taken."""
        while self._reading:
            await asyncio.wait(set(self._reading))

    def _begin(self, reading: Coroutine[Any, Any, None]) -> None:
        task = spawn(reading, "virtual-servers")
        self._reading.add(task)
        task.add_done_callback(self._reading.discard)

    async def _load_until_answered(self, epoch: str) -> None:
        while True:
            try:
                await self.load(epoch)
                return
            except RegistryUnavailable:
                await asyncio.sleep(_AGAIN_S)

    async def _read(self, name: str) -> None:
        """Take one virtual server. If Redis does not answer, it stays as it is until Redis is back."""
        async with self._one_by_one:
            try:
                found = await self._store.read(name)
            except RegistryUnavailable:
                return
            if found == self._known.get(name):
                return
            known = {one: server for one, server in self._known.items() if one != name}
            self._known = known if found is None else {**known, name: found}
            self._changed()
