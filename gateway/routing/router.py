"""From a called name to its route, and from a route to the replica that gets the call. Pure.

Policies ask one predicate, ``Replica.available``; a balancer chooses among those that are.
"""

from __future__ import annotations

import difflib
from collections.abc import Container
from typing import Any

from gateway.routing.catalog import Catalog, Replica, Route
from shared.errors import CallError, NotDelivered, Refused
from shared.models import ServerStatus

_SUGGESTED_AMONG = 2000


def find(catalog: Catalog, name: str, scope: str | None, separator: str) -> Route:
    """The route of a tool by the name a client calls. Raises ``Refused`` (-32602) with close matches in ``data``.

    A listed name beats an alias; ``{group}__{name}`` can always be called.
    """
    if scope is None:
        route = catalog.routes.get(name)
        if route is not None:
            return route
        group, found, own = name.partition(separator)
        if found and group in catalog.groups:
            route = catalog.groups[group].routes.get(own)
    else:
        route = catalog.groups[scope].routes.get(name) if scope in catalog.groups else None
    if route is not None:
        return route
    known = catalog.routes if scope is None else catalog.groups[scope].routes if scope in catalog.groups else {}
    close = difflib.get_close_matches(name[:128], list(known)[:_SUGGESTED_AMONG], n=3, cutoff=0.6)
    raise Refused("tool_unknown", f"unknown tool {name[:128]!r}", {"tool": name[:128], "closeMatches": close})


def choose(route: Route, tried: Container[str], now: float) -> Replica | None:
    """The replica for a call, among the available ones that were not ``tried``; ``None`` when there is none."""
    candidates = [one for one in route.replicas if one.available(now) and one.id not in tried]
    if not candidates:
        return None
    return candidates[0] if len(candidates) == 1 else route.balancer.choose(candidates)


def might_come(route: Route) -> bool:
    """Whether waiting a moment may help: a replica is starting, or changing hands."""
    return any(
        one.record.status in (ServerStatus.REGISTERED, ServerStatus.CONNECTING)
        or (one.record.status is ServerStatus.CONNECTED and not one.record.owners)
        for one in route.replicas
    )


def unavailable(route: Route, last: CallError | None) -> CallError:
    """The error for a call that nobody can take: it names the group and each replica's last word."""
    reasons: dict[str, Any] = {
        one.id: one.record.error or (last.message if last is not None else one.record.status.value)
        for one in route.replicas
    }
    detail = "; ".join(f"{id}: {reason}" for id, reason in list(reasons.items())[:3])
    return NotDelivered(
        "upstream_unavailable",
        f"no healthy replica of {route.group!r} ({detail})",
        {"group": route.group, "replicas": reasons},
    )
