"""The records of API keys in Redis. Counterparts: the command line and the admin API write, front ends keep a copy.

Raises ``RegistryUnavailable`` if Redis does not answer.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable

import msgspec

from shared.access.keys import ApiKey
from shared.errors import EntryExists, EntryNotFound
from shared.registry.client import translated
from shared.registry.store import RegistryStore

_log = logging.getLogger(__name__)
MAX_KEYS = 100_000
"""Every front end keeps all keys in memory, some 400 bytes each."""


class KeyStore:
    """The API keys of a fleet."""

    def __init__(self, store: RegistryStore) -> None:
        self._store = store

    async def add(self, key: ApiKey) -> None:
        """Write a key. Raises ``EntryExists`` if its name is taken, or there are ``MAX_KEYS`` keys."""
        record = self._write(key)
        outcome = await self._store.run_script("KEY_ADD", key.name, record, MAX_KEYS)
        if outcome == b"exists":
            raise EntryExists(f"there is a key {key.name!r} already: revoke it first, or choose another name")
        if outcome == b"full":
            raise EntryExists(f"there are {MAX_KEYS} keys; revoke some that are not used")

    async def remove(self, name: str) -> None:
        """Revoke a key. Every front end hears of it by the change log. Raises ``EntryNotFound``."""
        if not await self._store.run_script("KEY_REMOVE", name):
            raise EntryNotFound(f"there is no key {name!r}; 'gateway keys list' shows those that there are")

    async def all(self) -> dict[str, ApiKey]:
        """Return all keys by their names."""
        async with translated():
            records = await self._store.redis.hgetall(self._store.keys.api_keys)
        found = (self._read(name.decode(), record) for name, record in records.items())
        return {key.name: key for key in found if key is not None}

    async def read(self, name: str) -> ApiKey | None:
        """Return one key, or ``None`` if there is none of this name."""
        async with translated():
            record = await self._store.redis.hget(self._store.keys.api_keys, name)
        return self._read(name, record) if record else None

    async def restore(self, keys: Iterable[ApiKey]) -> None:
        """Write keys back after Redis was emptied. A key that is there is not changed."""
        async with translated():
            for key in keys:
                await self._store.redis.hsetnx(self._store.keys.api_keys, key.name, self._write(key))

    async def renew(self) -> int:
        """Sign again what is signed under an older key. Return how many records that were."""

        def again(name: str, record: bytes) -> bytes | None:
            key = self._read(name, record)
            return self._write(key) if key is not None else None

        return await self._store.renew_records(self._store.keys.api_keys, again)

    def _write(self, key: ApiKey) -> bytes:
        return self._store.seals.enclose("api key", key.name, msgspec.json.encode(key))

    def _read(self, name: str, enclosed: bytes) -> ApiKey | None:
        record = self._store.seals.disclose("api key", name, enclosed)
        if record is None:
            _log.warning("the record of API key %r is not signed with the fleet's key, and the key is not valid", name)
            return None
        try:
            return msgspec.json.decode(record, type=ApiKey)
        except msgspec.MsgspecError as error:
            _log.warning("the record of API key %r cannot be read, and the key is not valid: %s", name, error)
            return None
