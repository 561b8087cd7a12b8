"""How long an upstream's lists are fresh: what the worker that reads them and front ends agree on.

A list that was read again without a change is announced to nobody, so front ends count its age from the last change,
modulo the time after which the worker reads it again. Pure.
"""

from __future__ import annotations


def relist_s(ttl_s: float | None, refresh_interval_s: float, list_ttl_s: float) -> float:
    """How long until lists are read again. A ``ttlMs`` of 0, the SDK's default, is no wish to be polled."""
    return refresh_interval_s if not ttl_s else min(refresh_interval_s, max(ttl_s, list_ttl_s))


def left_s(ttl_s: float, age_s: float, relist_s: float) -> float:
    """What is left of ``ttl_s`` (2026-07-28, server/utilities/caching: never longer than the upstream said)."""
    return max(0.0, ttl_s - max(0.0, age_s) % relist_s)
