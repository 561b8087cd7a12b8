"""Rendezvous hashing: every process ranks the same candidates in the same order, without communication.

Workers use the ranking to decide which of them claims an upstream; front ends use it to keep one client session on one
worker. Removing a candidate moves only the keys that it was first for (Thaler and Ravishankar, 1998).
"""

from __future__ import annotations

import functools
import hashlib
from collections.abc import Iterable


def rank(key: str, candidates: Iterable[str]) -> tuple[str, ...]:
    """Return ``candidates`` in their order for ``key``, best first."""
    return _ranked(key, tuple(candidates))


def first(key: str, candidates: Iterable[str]) -> str:
    """Return the best of ``candidates`` for a ``key`` that does not last. Nothing of it is kept."""
    return max(candidates, key=lambda candidate: _score(key, candidate))


@functools.lru_cache(20_000)  # a worker ranks for every upstream once a second
def _ranked(key: str, candidates: tuple[str, ...]) -> tuple[str, ...]:
    return tuple(sorted(candidates, key=lambda candidate: _score(key, candidate), reverse=True))


def _score(key: str, candidate: str) -> bytes:
    return hashlib.blake2b(f"{key}\0{candidate}".encode(), digest_size=8).digest()
