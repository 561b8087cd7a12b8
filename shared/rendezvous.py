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


@functools.lru_cache(20_000)  # a worker ranks for every upstream once a second, a front end for every call of a session
def _ranked(key: str, candidates: tuple[str, ...]) -> tuple[str, ...]:
    def score(candidate: str) -> bytes:
        return hashlib.blake2b(f"{key}\0{candidate}".encode(), digest_size=8).digest()

    return tuple(sorted(candidates, key=score, reverse=True))
