"""From a called name to its route, and from a route to the replica that gets the call. Pure.

Policies ask one predicate, ``Replica.available``; a balancer chooses among those that are.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Container
from typing import Any

from gateway.routing.catalog import Catalog, Replica, Route
from gateway.routing.entries import Entry
from gateway.routing.naming import split
from shared.errors import CallError, NotDelivered, Refused
from shared.mcp.listings import Kind
from shared.models import ServerStatus

_SUGGESTED_AMONG = 2000
_EXPRESSION = re.compile(r"\{([^{}]*)\}")


def find(catalog: Catalog, kind: Kind, name: str, scope: str | None, separator: str) -> Route | None:
    """The route of what a client names, or ``None``. A listed name beats an alias; ``{group}__{name}`` always works."""
    if scope is not None:
        group = catalog.groups.get(scope)
        return group.routes[kind].get(name) if group is not None else None
    route = catalog.routes[kind].get(name)
    if route is not None:
        return route
    parts = split(name, kind in (Kind.RESOURCES, Kind.TEMPLATES), separator)
    if parts is not None and parts[0] in catalog.groups:
        return catalog.groups[parts[0]].routes[kind].get(parts[1])
    return None


def unknown(catalog: Catalog, kind: Kind, name: str, scope: str | None) -> Refused:
    """The error (-32602) for a name that leads nowhere, with close matches in ``data``."""
    group = catalog.groups.get(scope) if scope is not None else None
    known = catalog.routes[kind] if scope is None else group.routes[kind] if group is not None else {}
    close = difflib.get_close_matches(name[:128], list(known)[:_SUGGESTED_AMONG], n=3, cutoff=0.6)
    word = kind.value.rstrip("s")
    return Refused("tool_unknown", f"unknown {word} {name[:128]!r}", {word: name[:128], "closeMatches": close})


def locate(catalog: Catalog, uri: str, scope: str | None, separator: str) -> list[tuple[Route, str]]:
    """Who may know a resource, and under which URI, best first. A listed URI leads to one place."""
    route = find(catalog, Kind.RESOURCES, uri, scope, separator)
    if route is not None:
        return [(route, route.entry.name)]
    marked = split(uri, True, separator) if scope is None else None
    if marked is not None and marked[0] in catalog.groups:  # made from a template that carries its group's mark
        uri, scope = marked[1], marked[0]
    return [(route, uri) for route in readers(catalog, uri, scope)]


def readers(catalog: Catalog, uri: str, scope: str | None) -> list[Route]:
    """Who may know an unlisted URI: most specific matching templates first, then groups that use its scheme.

    They are asked one after another, never all at once.
    """
    groups = [group for name, group in catalog.groups.items() if scope in (None, name)]
    matching: list[tuple[int, Route]] = []
    for group in groups:
        for template, route in group.routes[Kind.TEMPLATES].items():
            literal = matches(template, uri)
            if literal is not None:
                matching.append((literal, route))
    found: list[Route] = []
    for _, route in sorted(matching, key=lambda pair: -pair[0]):
        if all(one.group != route.group for one in found):
            found.append(route)
    scheme = uri.partition(":")[0]
    for group in groups:
        for kind in (Kind.RESOURCES, Kind.TEMPLATES):
            using = next((r for name, r in group.routes[kind].items() if name.partition(":")[0] == scheme), None)
            if using is not None and all(route.group != group.name for route in found):
                found.append(using)
    return found


def matches(template: str, uri: str) -> int | None:
    """How many literal characters of a URI template (RFC 6570) ``uri`` matches, or ``None`` when it does not.

    Each literal is placed at its leftmost fit: linear, whatever an upstream writes into its templates.
    """
    literals = _EXPRESSION.split(template)
    simple = [part[:1] not in "+#/.;?&" for part in literals[1::2]]
    texts = literals[::2]
    if len(texts) == 1:
        return len(template) if uri == template else None
    if not uri.startswith(texts[0]) or not uri.endswith(texts[-1]):
        return None
    at, end = len(texts[0]), len(uri) - len(texts[-1])
    if at > end:
        return None
    for index, text in enumerate(texts[1:]):
        last = index == len(texts) - 2
        found = end if last else uri.find(text, at, end)
        if found < at or (simple[index] and "/" in uri[at:found]):
            return None
        at = found + (0 if last else len(text))
    return sum(map(len, texts))


def anyone(catalog: Catalog, scope: str) -> Route | None:
    """A route to any replica of a group, for methods that the gateway does not know."""
    group = catalog.groups.get(scope)
    if group is None:
        return None
    entry = Entry(Kind.TOOLS, "", b"", b"", repeatable=False)
    replicas = tuple(group.replicas)
    return Route(scope, entry, replicas, group.balancer, any(replica.binds for replica in replicas))


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
        one.id: one.record.error or one.suspected or (last.message if last is not None else one.record.status.value)
        for one in route.replicas
    }
    detail = "; ".join(f"{id}: {reason}" for id, reason in list(reasons.items())[:3])
    return NotDelivered(
        "upstream_unavailable",
        f"no healthy replica of {route.group!r} ({detail})",
        {"group": route.group, "replicas": reasons},
    )
