"""How long an upstream's lists are fresh. Pure.

The worker that reads the lists (``worker.ownership.owner``) and front ends (``gateway.routing.view``) must agree. A
list that was read again and has not changed is not announced in the change log. So front ends count a list's age from
its last change, modulo the time after which the worker reads it again.
"""

from __future__ import annotations


def relist_s(ttl_s: float | None, refresh_interval_s: float, list_ttl_s: float) -> float:
    """Return the seconds until lists are read again. A ``ttlMs`` of 0, the SDK's default, is not a wish to be
    polled."""
    return refresh_interval_s if not ttl_s else min(refresh_interval_s, max(ttl_s, list_ttl_s))


def left_s(ttl_s: float, age_s: float, relist_s: float) -> float:
    """Return what is left of ``ttl_s``, in seconds (2026-07-28, server/utilities/caching: never longer than the
    upstream said)."""
    return max(0.0, ttl_s - max(0.0, age_s) % relist_s)
