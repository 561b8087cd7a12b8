"""Who owned what before Redis was away: such an owner may only be late to say that it lives, so nobody claims what it
had, unless it has certainly ended.

While Redis is away nobody can remove the record of a worker that dies. But whoever is on the same machine sees that its
lock is free (``shared.registry.deaths``), and needs not wait for it when Redis is back.
"""

from __future__ import annotations

import socket
from collections.abc import Iterable, Mapping
from pathlib import Path

from shared.registry import deaths
from shared.registry.records import UpstreamRecord

_UNIX = "unix:"


class Incumbents:
    """The owners of slots, by upstream and slot."""

    def __init__(self) -> None:
        self._owners: dict[tuple[str, int], str] = {}
        self._beside: dict[str, Path] = {}  # the sockets of workers of this machine
        self._ended: set[str] = set()

    def meet(self, alive: Mapping[str, Mapping[str, str]]) -> None:
        """Note where the locks of these workers are, as their records say it."""
        wanted = {*alive, *self._owners.values()}
        self._beside = {worker: path for worker, path in self._beside.items() if worker in wanted}
        for worker, facts in alive.items():
            if facts.get("host") == socket.gethostname() and facts.get("address", "").startswith(_UNIX):
                self._beside[worker] = Path(facts["address"].removeprefix(_UNIX))

    def forget(self) -> None:
        """Forget who owned what."""
        self._owners.clear()
        self._ended.clear()

    def note(self, records: Iterable[UpstreamRecord]) -> None:
        """Note the owners of these upstreams, unless earlier ones are known, and who of them has ended."""
        for record in records:
            for slot, owner in record.owners:
                self._owners.setdefault((record.spec.id, slot), owner)
        self._ended.update(one for one in set(self._owners.values()) if self._lock_is_free(one) is True)

    def of(self, id: str, slot: int) -> str | None:
        """Return who owned a slot."""
        return self._owners.get((id, slot))

    def has_ended(self, worker: str) -> bool:
        """Whether a worker has ended, or was seen to have and has not gone on since: the file of its lock may be
        removed by now."""
        free = self._lock_is_free(worker)
        return free is True or (free is None and worker in self._ended)

    def _lock_is_free(self, worker: str) -> bool | None:
        path = self._beside.get(worker)
        return deaths.has_ended(path) if path is not None else None
