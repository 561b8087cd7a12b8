"""Rendezvous hashing: every process ranks the same candidates the same way, without asking anyone.

Used by workers to decide who claims an upstream, and by front ends to keep one client session on one worker.
Removing a candidate moves only what it had (Thaler and Ravishankar, 1998).
"""

from __future__ import annotations

import functools
import hashlib
from collections.abc import Iterable


def rank(key: str, candidates: Iterable[str]) -> tuple[str, ...]:
    """``candidates``, best first, for ``key``."""
    return _ranked(key, tuple(candidates))


@functools.lru_cache(20_000)  # a worker asks for every upstream once a second, a front end for every call of a session
def _ranked(key: str, candidates: tuple[str, ...]) -> tuple[str, ...]:
    def score(candidate: str) -> bytes:
        return hashlib.blake2b(f"{key}\0{candidate}".encode(), digest_size=8).digest()

    return tuple(sorted(candidates, key=score, reverse=True))
