"""Following the change log: every process keeps its own copy of the registry in memory.

Entries carry (epoch, sequence). An entry with the next number is applied. Any other entry (Redis was emptied or failed
over, or this process fell behind the log's bound) means that everything is loaded again. While Redis does not answer,
the copy stays and serves. Counterpart: ``shared.registry.scripts``, which appends to the log.
"""

from __future__ import annotations

import asyncio
import logging
from typing import Protocol

from redis.exceptions import RedisError

from shared.errors import RegistryUnavailable
from shared.registry.breaker import BREAKER
from shared.registry.client import connect, translated
from shared.registry.records import UpstreamRecord
from shared.registry.store import RegistryStore

_log = logging.getLogger(__name__)
RESTART = "restart"
"""The kind under which is announced that a user wants every worker to begin anew with an upstream."""
_BLOCK_MS = 1000
_SILENT_READS = 5
"""After so many reads without an entry is asked whether the log is still the same. One that was emptied mostly shows
sooner: processes find their records gone, join anew, and the entry about that has another epoch."""
_MAX_ENTRIES = 512
_GATHER_S, _GATHER_MANY_S, _MANY = 0.005, 0.05, 4
"""After records were loaded, changes are gathered for so long; longer, if they were more than a few. One upstream that
is registered, claimed, connected and listed changes six times, and thousands of them may change in turn."""


class Follower(Protocol):
    """The receiver of changes."""

    def on_snapshot(self, records: dict[str, UpstreamRecord]) -> None:
        """Handle all records, at the start and after a gap."""

    def on_upstreams(self, records: dict[str, UpstreamRecord | None], announced: dict[str, set[str]]) -> None:
        """Handle the changed records by upstream id; ``None`` means unregistered. ``announced`` holds the
        ``list_changed`` methods that upstreams announced, by upstream id."""

    def on_member(self, kind: str, id: str) -> None:
        """Handle an entry about something other than a record or the end of a session, by its kind.

        ``worker`` or ``frontend``: the process ``id`` joined or left. ``relist:METHOD``, ``look:`` or ``suspect:``: a
        worker's hint about upstream ``id`` to the worker that leads it. ``level:LEVEL``: client session ``id`` set its
        log level. ``key``: the API key named ``id`` was made or revoked. ``virtual``: the virtual server ``id`` was
        written or removed. ``pins``: what was approved of the tools of group ``id`` changed. ``restart``: a user
        wants the workers that have upstream ``id`` to begin anew with it.
        """

    def on_session_ended(self, sid: str, sequence: int) -> None:
        """Handle that a client session was deleted or revoked."""

    def on_connection(self, available: bool) -> None:
        """Handle that Redis does not answer, or answers again. In the second case a snapshot follows."""


def _place(fields: dict[bytes, bytes]) -> tuple[bytes, int]:
    """Return the epoch and the number of an entry. One that this fleet did not write is a gap."""
    number = fields.get(b"seq", b"")
    epoch = fields.get(b"epoch", b"")
    return epoch if epoch.isascii() else b"", int(number) if number.isdigit() and len(number) < 19 else 0


class ChangeFollower:
    """Reads ``gw:changes`` and calls ``follower``. ``run`` continues until cancelled."""

    def __init__(self, store: RegistryStore, follower: Follower) -> None:
        self._store = store
        self._follower = follower
        self._redis = connect(store.url, _BLOCK_MS / 1000 + 2.0)
        self._epoch = b""
        self.sequence = 0
        self.applied = 0
        """The number of the last change that ``follower`` has received."""
        self._position: bytes | str = "$"
        self._load_again_at = 0.0
        self._silent = 0  # reads since the last entry
        self.available = False
        self.ready = asyncio.Event()

    @property
    def place(self) -> tuple[str, int]:
        """(epoch, number) of the last change applied. The numbers are the same in every process that follows."""
        return self._epoch.decode(), self.applied

    async def close(self) -> None:
        await self._redis.aclose()

    async def run(self) -> None:
        """Follow until cancelled. A lost connection is opened again without limit."""
        with BREAKER.watched():
            await self._run()

    async def _run(self) -> None:
        wait_s = 0.05
        while True:
            try:
                await self._reload()
                wait_s = 0.05
                while True:
                    await self._read()
            except (TimeoutError, RegistryUnavailable, RedisError, OSError) as error:
                BREAKER.failed()
                if self.available:
                    _log.warning("Redis does not answer (%s); serving from memory", error)
                    self.available = False
                    self._follower.on_connection(False)
                await asyncio.sleep(wait_s)
                wait_s = min(wait_s * 2, 1.0)
            except Exception:  # whatever failed, following must go on; everything is loaded again
                _log.exception("following the change log failed")
                await asyncio.sleep(1.0)

    async def _reload(self) -> None:
        newest = await self._redis.xrevrange(self._store.keys.changes, count=1)
        BREAKER.answered()
        if newest:
            self._position, fields = newest[0]
            self._epoch, self.sequence = _place(fields)
        else:
            self._position, self._epoch, self.sequence = "0-0", b"", 0
        await self._store.restore_secret()
        records = await self._store.load_all()
        if not self.available:
            self.available = True
            self._follower.on_connection(True)
        self._follower.on_snapshot(records)
        self.applied = self.sequence
        self.ready.set()

    async def _read(self) -> None:
        loop = asyncio.get_running_loop()
        if (wait_s := self._load_again_at - loop.time()) > 0:
            await asyncio.sleep(wait_s)
        answer = await self._redis.xread(
            {self._store.keys.changes: self._position}, count=_MAX_ENTRIES, block=_BLOCK_MS
        )
        BREAKER.answered()
        if not answer:
            self._silent += 1
            if self._silent >= _SILENT_READS:
                self._silent = 0
                await self._check_epoch()
            return
        self._silent = 0
        entries = answer[0][1] if isinstance(answer, list) else next(iter(answer.values()))[0]
        changed: dict[str, None] = {}
        announced: dict[str, set[str]] = {}
        others: list[tuple[str, str, int]] = []
        for position, fields in entries:
            epoch, sequence = _place(fields)
            if (self._epoch and epoch != self._epoch) or sequence != self.sequence + 1:
                _log.info("the change log has a gap; loading the whole registry")
                await self._reload()
                return
            self._position, self._epoch, self.sequence = position, epoch, sequence
            kind, id = (fields.get(name, b"").decode("utf-8", "replace") for name in (b"kind", b"id"))
            if kind in ("server", "catalog"):
                changed[id] = None
            elif kind.startswith("announced:"):
                announced.setdefault(id, set()).add(kind.removeprefix("announced:"))
            else:
                others.append((kind, id, sequence))
        if changed or announced:
            self._follower.on_upstreams(await self._store.load(changed), announced)
            self._load_again_at = loop.time() + (_GATHER_MANY_S if len(changed) > _MANY else _GATHER_S)
        for kind, id, sequence in others:
            if kind == "session":
                self._follower.on_session_ended(id, sequence)
            else:
                self._follower.on_member(kind, id)
        self.applied = self.sequence

    async def is_current(self) -> bool:
        """Whether Redis still has the change log that is followed here: it was not emptied since. Raises
        ``RegistryUnavailable``."""
        async with translated():
            epoch = await self._store.redis.get(self._store.keys.epoch)
        return (epoch or b"") == self._epoch

    async def _check_epoch(self) -> None:
        """Load everything again if the log has another epoch. Called when no entry has arrived for a while."""
        epoch = await self._redis.get(self._store.keys.epoch)
        if (epoch or b"") != self._epoch:
            await self._reload()
