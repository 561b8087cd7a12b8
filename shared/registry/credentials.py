"""Tokens for upstreams in Redis, sealed with the fleet's key, and the right to renew one.

A record is sealed for its upstream and its place, so that one cannot be put in the place of another. Raises
``RegistryUnavailable`` if Redis does not answer.
"""

from __future__ import annotations

from typing import TypeVar

from msgspec import Struct

from shared.registry.client import translated
from shared.registry.store import RegistryStore
from shared.secrets import FleetKey

T = TypeVar("T", bound=Struct)
MAX_SEALED = 8192
"""The longest sealed text of a URL that is read, in characters."""


class CredentialStore:
    """The sealed records of all upstreams. ``place`` tells the records of one upstream apart."""

    def __init__(self, store: RegistryStore, key: FleetKey) -> None:
        self._store = store
        self._key = key

    async def read(self, upstream: str, place: str, kind: type[T]) -> T | None:
        """Return a record, or ``None`` if there is none that this fleet wrote there."""
        async with translated():
            sealed = await self._store.redis.hget(self._store.keys.credentials(upstream), place)
        return self._key.unseal(sealed.decode("latin-1"), kind, _purpose(upstream, place)) if sealed else None

    async def write(self, upstream: str, place: str, record: Struct) -> None:
        """Write a record. It goes with its upstream when that is removed."""
        sealed = self._key.seal(record, _purpose(upstream, place))
        async with translated():
            await self._store.redis.hset(self._store.keys.credentials(upstream), place, sealed)

    async def remove(self, upstream: str, place: str) -> None:
        """Remove a record."""
        async with translated():
            await self._store.redis.hdel(self._store.keys.credentials(upstream), place)

    async def places(self, upstream: str) -> list[str]:
        """Return the places of all records of an upstream."""
        async with translated():
            return sorted(one.decode() for one in await self._store.redis.hkeys(self._store.keys.credentials(upstream)))

    def seal(self, claims: Struct, purpose: bytes) -> str:
        """Return ``claims`` as text that only this fleet can read or make, for a URL."""
        return self._key.seal(claims, purpose)

    def unseal(self, text: str, kind: type[T], purpose: bytes) -> T | None:
        """Return the claims in ``text``, or ``None`` if this fleet did not seal it for this ``purpose``."""
        return self._key.unseal(text, kind, purpose) if len(text) <= MAX_SEALED else None

    async def announce(self, upstream: str) -> None:
        """Have the worker that leads an upstream look at it at once."""
        await self._store.run_script("ANNOUNCE", "suspect:", upstream)

    async def lock(self, upstream: str, place: str, holder: str, limit_s: float) -> bool:
        """Take the right to renew a record. Return false if another process has it. It ends after ``limit_s``."""
        async with translated():
            key = self._store.keys.renewal(upstream, place)
            return bool(await self._store.redis.set(key, holder, nx=True, px=int(limit_s * 1000)))

    async def unlock(self, upstream: str, place: str, holder: str) -> None:
        """Give the right back, if ``holder`` still has it."""
        await self._store.run_script("UNLOCK", self._store.keys.renewal(upstream, place), holder)


def _purpose(upstream: str, place: str) -> bytes:
    return f"credential\0{upstream}\0{place}".encode()
