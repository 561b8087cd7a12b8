"""The front end's copy of the API keys: in memory, kept by the change log, so that a key costs no round trip.

A revoked key is invalid here as soon as the change log says so. While Redis is away the copy goes on being valid.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Iterable

from gateway.access.principal import FOR_EVER, Identity
from shared.access.keys import ApiKey, digest_of, well_formed
from shared.access.methods import ApiKeyMethod
from shared.errors import RegistryUnavailable
from shared.registry.api_keys import KeyStore
from shared.tasks import spawn

_log = logging.getLogger(__name__)


class ApiKeys:
    """The keys that this front end knows. ``revoked`` is called with the principal of a key that ended."""

    def __init__(self, store: KeyStore, method: ApiKeyMethod, revoked: Callable[[str], None]) -> None:
        self._store = store
        self._roles = method.roles
        self._revoked = revoked
        self._of_file = {key.record().digest: key.record() for key in method.keys}
        self._by_digest: dict[str, ApiKey] = dict(self._of_file)
        self._by_name: dict[str, ApiKey] = {}
        self._epoch = ""
        self._reloading: set[asyncio.Task[None]] = set()

    def take_method(self, method: ApiKeyMethod) -> None:
        """Take the keys and the roles that the file has now. Keys that have left it are revoked."""
        before, self._roles = self._of_file, method.roles
        self._of_file = {key.record().digest: key.record() for key in method.keys}
        for digest, record in before.items():
            if self._of_file.get(digest) != record:
                self._by_digest.pop(digest, None)
                self._revoked(record.principal)
        self._by_digest.update({key.digest: key for key in self._by_name.values()})
        self._by_digest.update(self._of_file)

    def look(self, key: str) -> Identity | None:
        """Return whom a key stands for, or ``None`` if it is not known here."""
        record = self._by_digest.get(digest_of(key))
        if record is None or not record.lasts(time.time()):
            return None
        roles = (*self._roles, *record.roles)
        return Identity(
            record.principal, "key", {"key": record.name}, expires_at=record.expires_at or FOR_EVER, given=roles
        )

    @staticmethod
    def well_formed(key: str) -> bool:
        """Whether a text can be a key, so that looking for one that was just made is worth a round trip."""
        return well_formed(key)

    async def load(self, epoch: str) -> None:
        """Take all keys from Redis, at the start and after a gap in the change log.

        ``epoch`` is that of the change log. If it is another one, and there are no keys, Redis was emptied: what is
        known here is written back. Without keys in the same epoch, all of them were revoked.
        """
        found = await self._store.all()
        emptied, self._epoch = epoch != self._epoch, epoch
        if not found and self._by_name and emptied:
            _log.warning("Redis has lost the API keys; writing %d of them back", len(self._by_name))
            await self._store.restore(self._by_name.values())
            found = await self._store.all()
        for name in [name for name in self._by_name if name not in found]:
            self._take(name, None)
        for name, key in found.items():
            self._take(name, key)

    def announce(self, name: str) -> None:
        """Begin to take one key from Redis, because the change log says that it changed."""
        task = spawn(self._reload(name), "reload-key")
        self._reloading.add(task)
        task.add_done_callback(self._reloading.discard)

    async def settled(self) -> None:
        """Wait until every key that was announced is taken."""
        while self._reloading:
            await asyncio.wait(set(self._reloading))

    async def _reload(self, name: str) -> None:
        """Take one key from Redis. If Redis does not answer, the key counts as revoked until Redis is back."""
        try:
            key = await self._store.read(name)
        except RegistryUnavailable:
            key = None
        self._take(name, key)

    def _take(self, name: str, key: ApiKey | None) -> None:
        before = self._by_name.pop(name, None)
        if before == key and key is not None:
            self._by_name[name] = key
            return
        if before is not None:
            self._by_digest.pop(before.digest, None)
            self._revoked(before.principal)
        if key is not None:
            self._by_name[name] = key
            self._by_digest[key.digest] = key
        self._by_digest.update(self._of_file)

    @property
    def known(self) -> Iterable[ApiKey]:
        """All keys that are known here, those of the file as well."""
        return (*self._of_file.values(), *self._by_name.values())
