"""The front end's copy of what was approved of tools, kept by the change log.

What a group lists when it is pinned for the first time is trusted: the first front end that sees it writes it down.
While Redis is away the copy goes on being obeyed. After Redis was emptied, what is known here is written back before
anything is trusted.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterable, Mapping

from msgspec import Raw, structs

from gateway.routing.pinning import differences_of
from shared.choices import Pin
from shared.errors import RegistryUnavailable
from shared.mcp.listings import Kind
from shared.models import ServerEntry, now_s
from shared.pins import FIRST_USE, MAX_PINNED, GroupPins, Pinned, definitions
from shared.registry.pins import PinStore
from shared.registry.records import UpstreamRecord
from shared.tasks import cancel, spawn

_log = logging.getLogger(__name__)
_AGAIN_S = 1.0


class Pins:
    """The pins that this front end knows. ``changed`` is called when they are others than before."""

    def __init__(self, store: PinStore, changed: Callable[[], None]) -> None:
        self._store = store
        self._changed = changed
        self.known: Mapping[str, GroupPins] = {}
        """What was approved, by group."""
        self._wanted: dict[str, UpstreamRecord] = {}  # by pinned group, the upstream whose lists are trusted at first
        self._reading: dict[str, asyncio.Task[None]] = {}
        self._again: set[str] = set()
        self._lost: dict[str, bool] = {}  # groups whose pins Redis may have lost; whether it was emptied
        self._epoch = ""

    def watch(self, records: Iterable[UpstreamRecord]) -> None:
        """Begin to read what was approved of the groups that are pinned and not known, once they have listed
        something."""
        wanted: dict[str, UpstreamRecord] = {}
        for record in records:
            if record.spec.pin is not Pin.OFF and record.catalog.digest:
                known = wanted.get(record.spec.name)
                if known is None or record.sequence < known.sequence:
                    wanted[record.spec.name] = record
        self._wanted = wanted
        for group in wanted:
            if group not in self.known and group not in self._reading:
                self._begin(group)

    def announce(self, group: str) -> None:
        """Begin to read what was approved of a group, because the change log says that it changed."""
        if group in self._wanted or group in self.known:
            self._begin(group)

    def load_again(self, epoch: str) -> None:
        """Begin to read everything again, because the change log had a gap, and write back what Redis has lost. With
        another ``epoch`` it was emptied, and what others trusted since then does not count."""
        self._lost.update(dict.fromkeys(self.known, bool(self._epoch) and epoch != self._epoch))
        self._epoch = epoch
        for group in self.known:
            self._begin(group)

    async def settled(self) -> None:
        """Wait until everything that was announced is read."""
        while self._reading:
            await asyncio.wait(set(self._reading.values()))

    async def close(self) -> None:
        """Stop reading. What is known goes on being obeyed."""
        self._again.clear()
        await cancel(*self._reading.values())

    def _begin(self, group: str) -> None:
        if group in self._reading:
            self._again.add(group)
            return
        task = self._reading[group] = spawn(self._read(group), "pins")
        task.add_done_callback(lambda done: self._ended(group))

    def _ended(self, group: str) -> None:
        """Read again what was announced while nobody read any more."""
        self._reading.pop(group, None)
        if group in self._again:
            self._again.discard(group)
            self._begin(group)

    async def _read(self, group: str) -> None:
        """Read the pins of a group, again until Redis answers and nothing was announced meanwhile."""
        while True:
            self._again.discard(group)
            try:
                found = await self._found(group)
            except RegistryUnavailable:
                await asyncio.sleep(_AGAIN_S)
                continue
            if group not in self._again:
                break
        if found != self.known.get(group):
            others = {one: pins for one, pins in self.known.items() if one != group}
            self.known = others if found is None else {**others, group: found}
            self._changed()

    async def _found(self, group: str) -> GroupPins | None:
        known, record = self.known.get(group), self._wanted.get(group)
        found = await self._store.read(group)
        is_lost = found is None or (self._lost.get(group, False) and known is not None and found.since > known.since)
        if group in self._lost and known is not None and record is not None and is_lost:
            _log.warning("Redis lost what was approved of the tools of %s; writing it back", group)
            await self._store.restore(group, known)
            found = await self._store.read(group)
        self._lost.pop(group, None)
        if found is None and record is not None:
            await self._store.begin(group, trusted(record), record.spec.id)
            found = await self._store.read(group)
        return found


def public_entry(record: UpstreamRecord, known: Mapping[str, GroupPins]) -> ServerEntry:
    """Return the public entry of an upstream with the tools that clients may see, and those that differ from what was
    approved. ``known`` is what was approved, by group: what is not known is not approved."""
    entry, spec = record.entry(), record.spec
    if spec.pin is Pin.OFF:
        return entry
    pins = known.get(spec.name)
    differing = {} if pins is None else differences_of(definitions(record.catalog.document(Kind.TOOLS)), pins)
    if spec.pin is Pin.BLOCK:
        kept = () if pins is None else tuple(one for one in entry.tools if one.name not in differing)
        entry = structs.replace(entry, tools=kept)
    return structs.replace(entry, differing=differing)


def trusted(record: UpstreamRecord) -> GroupPins:
    """Return the pins that take what an upstream lists now as approved."""
    now = now_s()
    listed = list(definitions(record.catalog.document(Kind.TOOLS)).items())[:MAX_PINNED]
    return GroupPins(now, {name: Pinned(now, FIRST_USE, Raw(definition)) for name, definition in listed})
