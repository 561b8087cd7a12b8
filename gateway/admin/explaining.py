"""Explains where a call of a tool would go and why, and why a tool that clients do not see is not there."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import msgspec

from gateway.admin.overview import traffic
from gateway.admin.schemas import Explanation, ReplicaState, TrafficOfUpstream
from gateway.fleet.dispatch import Dispatcher
from gateway.fleet.ejection import Ejection
from gateway.fleet.registry_view import RegistryView
from gateway.routing.catalog import Catalog
from gateway.routing.entries import parsing
from gateway.routing.naming import labels
from gateway.routing.routes import Replica, Route
from gateway.routing.steps import at_once
from shared.choices import Duty, Pin
from shared.errors import EntryNotFound, RegistryUnavailable
from shared.knobs import suggestion
from shared.mcp.listings import Kind
from shared.metrics.publisher import Publisher
from shared.registry.store import RegistryStore

_MOST_REASONS = 5


def tool_at(catalog: Catalog, tool: str, server: str = "") -> Route:
    """Return the route of a tool at ``/mcp``, or at the endpoint of a group or virtual server. Raises ``EntryNotFound``
    that says why there is no such tool."""
    if not catalog.serves(server):
        near = suggestion(server, [*catalog.groups, *catalog.virtual])
        raise EntryNotFound(f"no group and no virtual server {server!r}{near}")
    view = catalog.view(server)
    route = view.find(Kind.TOOLS, tool)
    if route is not None:
        return route
    reasons = list(_reasons(catalog, tool, server))
    if reasons:
        more = f"; and {len(reasons) - _MOST_REASONS} more" if len(reasons) > _MOST_REASONS else ""
        raise EntryNotFound(f"clients see no tool {tool!r}: {'; '.join(reasons[:_MOST_REASONS])}{more}")
    error = view.unknown(Kind.TOOLS, tool)
    close = ", ".join(error.data.get("closeMatches", ()))
    what_helps = f"close: {close}" if close else "'gateway tools' lists those that there are"
    raise EntryNotFound(f"{error.message}; {what_helps}")


def _reasons(catalog: Catalog, tool: str, server: str) -> Iterator[str]:
    """Yield why upstreams that list ``tool`` under this name, or with their group before it, do not show it."""
    separator, short = catalog.settings.separator, labels(catalog.groups)
    virtual = catalog.virtual_server(server) is not None
    for group in catalog.groups.values():
        if server not in ("", group.name) and not virtual:
            continue
        own = tool.removeprefix(f"{short[group.name]}{separator}")
        if virtual and own in group.routes[Kind.TOOLS]:
            yield f"group {group.name!r} has it, and virtual server {server!r} does not show it under this name"
            continue
        for replica in group.replicas:
            why = _hidden(catalog, replica, own)
            if why:
                yield f"upstream {replica.id!r} has it, and {why}"


def _hidden(catalog: Catalog, replica: Replica, tool: str) -> str:
    """Return why an upstream that lists a tool does not show it; empty if it shows it, or lists none of this name."""
    spec = replica.record.spec
    why = ""
    if replica.record.duty is Duty.DISABLED:
        why = f"is disabled: 'gateway servers enable {spec.id}'"
    elif not spec.shows(tool):
        why = "its entry hides it (includeTools, excludeTools)"
    elif spec.pin is Pin.BLOCK and spec.name not in catalog.pinning.pins:
        why = "what was approved of its group is not known yet"
    elif spec.pin is Pin.BLOCK:
        state = catalog.pinning.differing.get(spec.id, {}).get(tool)
        why = f"holds it back, because it is {state}: 'gateway tools diff {spec.id} {tool}'" if state else ""
    return why if why and _lists(replica, tool) else ""


def _lists(replica: Replica, tool: str) -> bool:
    """Whether an upstream lists a tool, shown or not."""
    document = replica.record.catalog.document(Kind.TOOLS)
    if msgspec.json.encode(tool) not in document:  # most list no such tool, and long lists take long to read
        return False
    return any(entry.name == tool for entry in at_once(parsing(Kind.TOOLS, document)))


class Explaining:
    """Explains calls by what one front end knows, and by what all processes counted."""

    def __init__(
        self,
        store: RegistryStore,
        registry: RegistryView,
        dispatcher: Dispatcher,
        ejection: Ejection,
        figures: Publisher,
    ) -> None:
        self._store = store
        self._registry = registry
        self._dispatcher = dispatcher
        self._ejection = ejection
        self._figures = figures

    async def explain(self, tool: str, server: str = "") -> Explanation:
        """Return where a call of ``tool`` would go, and why. Raises ``EntryNotFound``."""
        await self._registry.catch_up()
        counted = {one.upstream: one for one in traffic(await self._figures.added()).upstreams}
        route = tool_at(self._registry.catalog, tool, server)
        found = self._explanation(tool, route, counted)
        with contextlib.suppress(RegistryUnavailable):  # the copy here has no news of probes that changed nothing
            healths = await self._store.healths([one.id for one in found.candidates])
            for one in found.candidates:
                one.last_health_check = healths.get(one.id) or one.last_health_check
        return found

    def _explanation(self, tool: str, route: Route, counted: dict[str, TrafficOfUpstream]) -> Explanation:
        now = self._dispatcher.now()
        able = [replica for replica in route.replicas if replica.available(now) and not replica.drains]
        choice: str | None = None
        if not able:
            because = "no replica is available; a call is answered with upstream_unavailable"
        elif len(able) == 1:
            choice, because = able[0].id, "it is the only available replica"
        else:
            welcome = [one for one in able if one.avoid_until <= now]
            if len(welcome) == 1:
                choice, because = welcome[0].id, "the others are ejected or avoided"
            else:
                likely, because = route.balancer.likely(welcome or able)
                choice = likely.id if likely is not None else None
        candidates = [self._candidate(replica, route, counted, now) for replica in self._replicas(route)]
        strategy = type(route.balancer).__name__
        return Explanation(tool, route.group, route.entry.name, strategy, candidates, choice, because)

    def _replicas(self, route: Route) -> list[Replica]:
        """Return the replicas that have the tool, and then those of the group that have not."""
        group = self._registry.catalog.groups.get(route.group)
        return list(dict.fromkeys((*route.replicas, *(group.replicas if group is not None else ()))))

    def _candidate(
        self, replica: Replica, route: Route, counted: dict[str, TrafficOfUpstream], now: float
    ) -> ReplicaState:
        record, has_it = replica.record, replica in route.replicas
        up = has_it and replica.available(now) and not replica.drains
        reason = self._ejection.state(replica, now)
        if record.duty is not Duty.ACTIVE:
            reason = record.duty.value
        elif not has_it and replica.up:
            reason = _hidden(self._registry.catalog, replica, route.entry.name) or "lists no such tool"
        elif not up:
            suspected = "refused a call just now" if replica.suspect_until > now else record.status.value
            reason = record.error or suspected
        figures = counted.get(replica.id) or TrafficOfUpstream(route.group, replica.id)
        return ReplicaState(
            replica.id,
            record.status.value,
            up,
            reason or None,
            replica.in_flight,
            replica.in_flight_elsewhere,
            replica.weight,
            [owner for _, owner in record.owners],
            record.spec.isolation.value,
            round(replica.latency_s * 1000, 1) if replica.latency_s else None,
            figures.waiting,
            figures.calls,
            figures.errors,
            record.health,
        )
