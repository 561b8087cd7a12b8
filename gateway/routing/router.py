"""From a route to the replica that gets the call, and the error if no replica can take it. Pure.

The group's balancer chooses among the replicas that are available (``Replica.available``), and among those to be
avoided only if there are no others: a replica that serves badly is better than none.
"""

from __future__ import annotations

from collections.abc import Container
from typing import Any

from gateway.routing.routes import Replica, Route
from shared.errors import CallError, NotDelivered
from shared.models import ServerStatus


def choose(route: Route, tried: Container[str], now: float) -> Replica | None:
    """Return the replica for a call, among the available ones that were not ``tried``, or ``None`` if there is none.

    ``now`` is loop time.
    """
    candidates = [one for one in route.replicas if one.available(now) and one.id not in tried]
    if not candidates:
        return None
    if len(candidates) == 1:
        return candidates[0]
    welcome = [one for one in candidates if one.avoid_until <= now]
    if len(welcome) < len(candidates):
        safe = route.entry.repeatable
        for one in candidates:
            if one.avoid_until > now and one.watch is not None and one.watch.takes(now, safe, len(candidates)):
                return one
    if not welcome:
        return min(candidates, key=lambda one: one.avoid_until)
    return welcome[0] if len(welcome) == 1 else route.balancer.choose(welcome)


def might_come(route: Route) -> bool:
    """Return whether a replica may be available soon: one is starting, or moving to another worker."""
    return any(
        one.record.status in (ServerStatus.REGISTERED, ServerStatus.CONNECTING)
        or (one.record.status is ServerStatus.CONNECTED and not one.record.owners)
        for one in route.replicas
    )


def unavailable(route: Route, last: CallError | None) -> CallError:
    """Return the error for a call that no replica can take, with the group and the last error of each replica.

    Clients see it, so it has no addresses, paths or commands.
    """
    reasons: dict[str, Any] = {
        one.id: one.record.spec.connection.concealed(
            one.record.error or one.suspected or (last.message if last is not None else one.record.status.value)
        )
        for one in route.replicas
    }
    detail = "; ".join(f"{id}: {reason}" for id, reason in list(reasons.items())[:3])
    return NotDelivered(
        "upstream_unavailable",
        f"no healthy replica of {route.group!r} ({detail})",
        {"group": route.group, "replicas": reasons},
    )
