"""The documents of virtual servers in Redis. Counterparts: the admin API and the configuration follower write, front
ends keep a copy (``gateway.fleet.virtual_servers``).

Raises ``RegistryUnavailable`` if Redis does not answer.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable

import msgspec
from msgspec import Struct, structs

from shared.errors import ConfigError, EntryDeclared, EntryExists, EntryNotFound
from shared.registry.client import translated
from shared.registry.store import RegistryStore
from shared.virtual_servers import VirtualServer, read

_log = logging.getLogger(__name__)
MAX_VIRTUAL_SERVERS = 1000
"""Every front end keeps all of them in memory, and compares those that are watched at each change."""


class Declared(Struct, frozen=True):
    """A virtual server and where it comes from: ``file`` or ``api``."""

    source: str
    server: VirtualServer


class _Record(Struct, frozen=True, omit_defaults=True):
    """The JSON in Redis. ``source`` comes first: the scripts look at it."""

    source: str
    document: dict[str, object]
    signature: str = ""


class VirtualServerStore:
    """The virtual servers of a fleet."""

    def __init__(self, store: RegistryStore) -> None:
        self._store = store

    async def put(self, one: Declared) -> bool:
        """Write a virtual server, and return whether there was none of this name.

        Raises ``EntryDeclared`` if a file declares it and ``one`` is from elsewhere, and ``EntryExists`` if there are
        ``MAX_VIRTUAL_SERVERS``. Every front end hears of it by the change log.
        """
        name = one.server.name
        outcome = await self._store.run_script("VIRTUAL_PUT", name, self._write(one), one.source, MAX_VIRTUAL_SERVERS)
        if outcome == b"declared":
            raise EntryDeclared(
                f"virtual server {name!r} is declared by the gateway's configuration file: change it there"
            )
        if outcome == b"full":
            raise EntryExists(f"there are {MAX_VIRTUAL_SERVERS} virtual servers; remove some that are not used")
        return bool(outcome == b"made")

    async def remove(self, name: str, source: str = "api") -> None:
        """Remove a virtual server. Raises ``EntryNotFound``, and ``EntryDeclared`` if a file declares it and ``source``
        is another one."""
        outcome = await self._store.run_script("VIRTUAL_REMOVE", name, source)
        if outcome == b"declared":
            raise EntryDeclared(
                f"virtual server {name!r} is declared by the gateway's configuration file, which would bring it back: "
                "remove it there"
            )
        if outcome == b"missing":
            raise EntryNotFound(
                f"there is no virtual server {name!r}; 'gateway virtual list' shows those that there are"
            )

    async def all(self) -> dict[str, Declared]:
        """Return all virtual servers by their names."""
        async with translated():
            records = await self._store.redis.hgetall(self._store.keys.virtual)
        found = {name.decode(): self._read(name.decode(), record) for name, record in records.items()}
        return {name: one for name, one in sorted(found.items()) if one is not None}

    async def read(self, name: str) -> Declared | None:
        """Return one virtual server, or ``None`` if there is none of this name."""
        async with translated():
            record = await self._store.redis.hget(self._store.keys.virtual, name)
        return self._read(name, record) if record else None

    async def restore(self, servers: Iterable[Declared]) -> None:
        """Write virtual servers back after Redis was emptied. One that is there is not changed."""
        async with translated():
            for one in servers:
                await self._store.redis.hsetnx(self._store.keys.virtual, one.server.name, self._write(one))

    async def renew(self) -> int:
        """Sign again what is signed under an older key. Return how many records that were."""

        def again(name: str, record: bytes) -> bytes | None:
            one = self._read(name, record)
            return self._write(one) if one is not None else None

        return await self._store.renew_records(self._store.keys.virtual, again)

    def _write(self, one: Declared) -> bytes:
        record = _Record(one.source, one.server.document)
        signature = self._store.seals.sign("virtual server", one.server.name, msgspec.json.encode(record))
        return msgspec.json.encode(structs.replace(record, signature=signature))

    def _read(self, name: str, record: bytes) -> Declared | None:
        try:
            found = msgspec.json.decode(record, type=_Record)
            plain = msgspec.json.encode(structs.replace(found, signature=""))
            if not self._store.seals.signed("virtual server", name, plain, found.signature):
                _log.warning("virtual server %r is not signed with the fleet's key, and it is not served", name)
                return None
            return Declared(found.source, read(name, found.document))
        except (msgspec.MsgspecError, ConfigError) as error:
            _log.warning("the record of virtual server %r cannot be read, and it is not served: %s", name, error)
            return None
