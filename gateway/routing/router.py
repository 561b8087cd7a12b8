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

RESTART_S = 3.0
"""How long a child that ended may take to be there again for calls to wait for it; then they fail at once."""


def choose(route: Route, tried: Container[str], now: float) -> Replica | None:
    """Return the replica for a call that is bound to none, among the available ones that were not ``tried``, or
    ``None`` if there is none.

    ``now`` is loop time.
    """
    if len(route.replicas) == 1:
        (only,) = route.replicas
        return only if only.available(now) and not only.drains and only.id not in tried else None
    candidates = [one for one in route.replicas if one.available(now) and not one.drains and one.id not in tried]
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


def might_come(route: Route, now: float, now_s: float) -> bool:
    """Return whether a replica may be available soon: one is starting, moving to another worker, or a child that has
    just ended and is started again.

    ``now`` is loop time, ``now_s`` Unix time.
    """
    return any(
        one.record.status in (ServerStatus.REGISTERED, ServerStatus.CONNECTING)
        or (one.record.status is ServerStatus.CONNECTED and not one.record.owners)
        or (one.runs_once and _starts_again(one, now, now_s))
        for one in route.replicas
    )


def _starts_again(child: Replica, now: float, now_s: float) -> bool:
    """Whether a child was there until just now: its worker starts it again at once, and says so only if that fails."""
    if child.record.status is ServerStatus.CONNECTED:
        return child.suspect_until > now  # a call found that it is gone before the registry says so
    return child.fell and abs(now_s - child.record.status_since) < RESTART_S


def _reason(replica: Replica, last: CallError | None) -> str:
    """Return why a replica without an error gets no call. ``last``: how the call failed, there or elsewhere."""
    if last is not None and last.data.get("upstream", replica.id) == replica.id:
        return last.message
    status = replica.record.status
    if replica.drains and replica.up:
        return "it is draining and takes no new calls"
    return "no worker that has it can be reached" if status is ServerStatus.CONNECTED else status.value


def unavailable(route: Route, last: CallError | None) -> CallError:
    """Return the error for a call that no replica can take, with the group and the last error of each replica.

    Clients see it, so it has no addresses, paths or commands.
    """
    reasons: dict[str, Any] = {
        one.id: one.record.spec.connection.concealed(one.record.error or one.suspected or _reason(one, last))
        for one in route.replicas
    }
    detail = "; ".join(f"{id}: {reason}" for id, reason in list(reasons.items())[:3])
    refused = last is not None and bool(last.data.get("http"))  # it is there, and answered this call with an HTTP error
    what = f"no replica of {route.group!r} took the call" if refused else f"no healthy replica of {route.group!r}"
    return NotDelivered(
        "upstream_unavailable",
        f"{what} ({detail})",
        {"group": route.group, "replicas": reasons},
    )
