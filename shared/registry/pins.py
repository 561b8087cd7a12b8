"""What was approved of tools, in Redis. Counterparts: the admin API writes, front ends keep a copy
(``gateway.fleet.pins``).

Raises ``RegistryUnavailable`` if Redis does not answer.
"""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Iterator, Mapping

import msgspec
from msgspec import structs

from shared.errors import CallError, EntryNotFound
from shared.pins import MAX_PINNED, GroupPins, Pinned
from shared.registry.client import translated
from shared.registry.store import RegistryStore

_log = logging.getLogger(__name__)
_TOLD_S = 86_400
_FIELD = b"tool:"
_PURPOSE = "pin"


class PinStore:
    """The pins of a fleet."""

    def __init__(self, store: RegistryStore) -> None:
        self._store = store

    async def read(self, group: str) -> GroupPins | None:
        """Return what was approved of a group, or ``None`` if it has no pins (yet)."""
        async with translated():
            found = await self._store.redis.hgetall(self._store.keys.pins(group))
        if b"since" not in found:
            return None
        tools: dict[str, Pinned] = {}
        for field, record in found.items():
            if not field.startswith(_FIELD):
                continue
            name = field.removeprefix(_FIELD).decode("utf-8", "replace")
            try:
                pinned = msgspec.json.decode(record, type=Pinned)
                plain = structs.replace(pinned, signature="")
                if self._store.seals.signed(
                    _PURPOSE, _place(group, name), msgspec.json.encode(plain), pinned.signature
                ):
                    tools[name] = plain
                else:
                    _log.warning("what was approved of tool %r of %s is not signed with the fleet's key", name, group)
            except msgspec.MsgspecError as error:
                _log.warning("what was approved of tool %r of %s cannot be read: %s", name, group, error)
        return GroupPins(float(found[b"since"]), tools)

    async def begin(self, group: str, pins: GroupPins, id: str) -> bool:
        """Make these the pins of a group that has none, and return whether they are now. ``id`` is the upstream whose
        tools they are; nothing is made if it is not registered, or not pinned, any more."""
        return bool(
            await self._store.run_script("PINS_BEGIN", group, repr(pins.since), id, *self._fields(group, pins.tools))
        )

    async def restore(self, group: str, pins: GroupPins) -> None:
        """Write pins back after Redis was emptied, unless there are some that were made earlier."""
        await self._store.run_script("PINS_BEGIN", group, repr(pins.since), "", *self._fields(group, pins.tools))

    async def approve(self, group: str, tool: str, pinned: Pinned) -> None:
        """Make this the approved definition of a tool. Every front end hears of it by the change log.

        Raises ``EntryNotFound`` if the group has no pins, and ``CallError`` if it has too many.
        """
        record = self._signed(group, tool, pinned)
        outcome = await self._store.run_script("PIN_APPROVE", group, tool, record, MAX_PINNED)
        if outcome == b"missing":
            raise EntryNotFound(f"group {group!r} has no pins: its upstreams have listed nothing since they are pinned")
        if outcome == b"full":
            raise CallError("entry_exists", f"{MAX_PINNED} tools of group {group!r} are approved; no more can be")

    async def first_to_tell(self, *news: str) -> bool:
        """Return whether no other process has told of this yet, within a day."""
        key = self._store.keys.told(hashlib.sha256("\0".join(news).encode()).hexdigest())
        async with translated():
            return bool(await self._store.redis.set(key, "1", nx=True, ex=_TOLD_S))

    async def renew(self) -> int:
        """Sign again what is signed under an older key. Return how many records that were."""
        renewed, keys = 0, self._store.keys
        async with translated():
            places = [place async for place in self._store.redis.scan_iter(match=keys.pins("*"), count=1000)]
        for place in places if self._store.seals.rotating else ():
            group = place.decode().removeprefix(keys.pins(""))
            pins = await self.read(group)
            for tool, pinned in pins.tools.items() if pins is not None else ():
                field, again = f"tool:{tool}", self._signed(group, tool, pinned)
                async with translated():
                    record = await self._store.redis.hget(place, field)
                if record is not None and record != again:
                    renewed += int(await self._store.run_script("RENEW", place, field, record, again))
        return renewed

    def _signed(self, group: str, tool: str, pinned: Pinned) -> bytes:
        signature = self._store.seals.sign(_PURPOSE, _place(group, tool), msgspec.json.encode(pinned))
        return msgspec.json.encode(structs.replace(pinned, signature=signature))

    def _fields(self, group: str, tools: Mapping[str, Pinned]) -> Iterator[str | bytes]:
        for name, pinned in tools.items():
            yield name
            yield self._signed(group, name, pinned)


def _place(group: str, tool: str) -> str:
    return f"{group}\0{tool}"
