"""Rendezvous hashing: every process ranks the same candidates the same way, without asking anyone.

Used by workers to decide who claims an upstream, and by front ends to keep one client session on one worker.
Removing a candidate moves only what it had (Thaler and Ravishankar, 1998).
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable


def rank(key: str, candidates: Iterable[str]) -> list[str]:
    """``candidates``, best first, for ``key``."""

    def score(candidate: str) -> bytes:
        return hashlib.blake2b(f"{key}\0{candidate}".encode(), digest_size=8).digest()

    return sorted(candidates, key=score, reverse=True)
