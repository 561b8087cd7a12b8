"""What was approved of tools, in Redis. Counterparts: the admin API writes, front ends keep a copy
(``gateway.fleet.pins``).

Raises ``RegistryUnavailable`` if Redis does not answer.
"""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Iterator, Mapping

import msgspec

from shared.errors import CallError, EntryNotFound
from shared.pins import MAX_PINNED, GroupPins, Pinned
from shared.registry.client import translated
from shared.registry.store import RegistryStore

_log = logging.getLogger(__name__)
_TOLD_S = 86_400
_FIELD = b"tool:"


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
            approved = self._store.seals.disclose("pin", f"{group}\0{name}", record)
            if approved is None:
                _log.warning("what was approved of tool %r of %s is not signed with the fleet's key", name, group)
                continue
            try:
                tools[name] = msgspec.json.decode(approved, type=Pinned)
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
        record = self._enclosed(group, tool, pinned)
        outcome = await self._store.run_script("PIN_APPROVE", group, tool, record, MAX_PINNED)
        if outcome == b"missing":
            raise EntryNotFound(f"group {group!r} has no pins: its upstreams have listed nothing since they are pinned")
        if outcome == b"full":
            raise CallError("entry_exists", f"{MAX_PINNED} tools of group {group!r} are approved; no more can be")

    async def withdraw(self, group: str, tool: str) -> bool:
        """Forget the approved definition of a tool, which then counts as new. Return False if none was approved."""
        return bool(await self._store.run_script("PIN_WITHDRAW", group, tool))

    async def first_to_tell(self, *news: str) -> bool:
        """Return whether no other process has told of this yet, within a day."""
        key = self._store.keys.told(hashlib.sha256("\0".join(news).encode()).hexdigest())
        async with translated():
            return bool(await self._store.redis.set(key, "1", nx=True, ex=_TOLD_S))

    async def renew(self) -> int:
        """Sign again what is signed under an older key. Return how many records that were."""
        place = self._store.keys.pins("")
        async with translated():
            groups = [key.decode().removeprefix(place) async for key in self._store.redis.scan_iter(match=place + "*")]
        return sum([await self._renew_group(group) for group in groups])

    async def _renew_group(self, group: str) -> int:
        found = await self.read(group)
        tools = found.tools if found is not None else {}

        def again(field: str, record: bytes) -> bytes | None:
            name = field.removeprefix(_FIELD.decode())
            return self._enclosed(group, name, tools[name]) if name in tools and name != field else None

        return await self._store.renew_records(self._store.keys.pins(group), again)

    def _enclosed(self, group: str, tool: str, pinned: Pinned) -> bytes:
        return self._store.seals.enclose("pin", f"{group}\0{tool}", msgspec.json.encode(pinned))

    def _fields(self, group: str, tools: Mapping[str, Pinned]) -> Iterator[str | bytes]:
        for name, pinned in tools.items():
            yield name
            yield self._enclosed(group, name, pinned)
