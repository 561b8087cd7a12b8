"""Groups, routes and listed names, built from registry records. Pure; rebuilt when records change.

Parsed lists are kept by upstream and digest, so a rebuild parses only the lists that changed. ``view(endpoint)`` makes
the view of an endpoint when it is first needed.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from operator import is_

from msgspec import structs

from gateway.balancers import Balancer, make
from gateway.routing.endpoints import ASKED, named
from gateway.routing.entries import Entry, parsing, unlisted_resource
from gateway.routing.hedges import Hedge
from gateway.routing.naming import GIVEN, assigning
from gateway.routing.outliers import Watch
from gateway.routing.pinning import Pinning
from gateway.routing.routes import Group, Replica, Route
from gateway.routing.steps import Steps, at_once, chunks
from gateway.routing.view import Listed, Scope, View, empty
from gateway.routing.virtual import VirtualView
from shared.choices import STRATEGIES, Duty
from shared.mcp.listings import Kind
from shared.models import ServerStatus, UpstreamSpec
from shared.pins import GroupPins
from shared.registry.records import UpstreamRecord
from shared.settings import RoutingSettings
from shared.virtual_servers import VirtualServer


class Catalog:
    """One front end's catalogue.

    ``groups`` are in registration order; ``everything`` is the view of all groups; ``generation`` counts rebuilds.
    """

    def __init__(self, settings: RoutingSettings, refresh_interval_s: float = 300.0, hedge_after: str = "") -> None:
        self.settings = settings
        self._hedge_after = hedge_after
        self._refresh_interval_s = refresh_interval_s
        self._parsed: dict[str, tuple[str, UpstreamSpec, dict[Kind, list[Entry]]]] = {}
        self._replicas: dict[str, Replica] = {}
        self._balancers: dict[str, tuple[str, Balancer]] = {}
        self._hedges: dict[str, dict[str, Hedge]] = {}  # by group and tool, so that what was measured stays
        self._views: dict[str, View] = {}
        self._wall_s = 0.0
        self._virtual: dict[str, VirtualView] = {}
        self._kept: dict[
            str, tuple[list[Group], View]
        ] = {}  # views of virtual servers, with the groups as they show them
        self._members: dict[str, list[UpstreamRecord]] = {}  # the records of each group, as of the last rebuild
        self.pinning = Pinning()
        self.groups: dict[str, Group] = {}
        self.everything = empty(("", ""), settings)
        self.generation = 0

    def replica(self, id: str) -> Replica | None:
        """Return the replica of the upstream with this id, or ``None`` if it is not registered."""
        return self._replicas.get(id)

    @property
    def replicas(self) -> Iterable[Replica]:
        """All replicas of all groups."""
        return self._replicas.values()

    def view(self, endpoint: str) -> View:
        """Return the view of ``/servers/{endpoint}``, or of ``/mcp`` for an empty name."""
        return self._views.get(endpoint) or at_once(self.viewing(endpoint))

    def viewing(self, endpoint: str) -> Steps[View]:
        """Return what ``view`` returns, in steps."""
        view = self._views.get(endpoint)
        if view is not None:
            return view
        virtual = self._virtual.get(endpoint)
        if virtual is not None:  # before a group of this name, which may have been registered later by anyone
            made = yield from self._view_of_virtual(virtual)
            return self._views.setdefault(endpoint, made)
        group = self.groups.get(endpoint)
        if group is None:
            return empty((endpoint, ""), self.settings)  # not kept: clients can make up any number of names
        view = self._views[endpoint] = self._view_of(group)
        return view

    @property
    def virtual(self) -> Collection[str]:
        """The names of the virtual servers."""
        return self._virtual.keys()

    def serves(self, endpoint: str) -> bool:
        """Whether there is this endpoint: ``/mcp``, a group or a virtual server."""
        name = named(endpoint)
        return not name or name in self.groups or name in self._virtual

    def is_of_one_group(self, endpoint: str) -> bool:
        """Whether clients of an endpoint reach one group only: not those of ``/mcp`` and of virtual servers."""
        name = endpoint.partition(ASKED)[0]  # as ``named``, on the path of calls
        return bool(name) and name not in self._virtual

    def virtual_server(self, name: str) -> VirtualServer | None:
        """Return the virtual server of this name, or ``None``."""
        virtual = self._virtual.get(name)
        return virtual.server if virtual is not None else None

    def take_virtual(self, servers: Mapping[str, VirtualServer]) -> None:
        """Serve these virtual servers from the next rebuild on."""
        known, self._virtual = self._virtual, {}
        for name, server in servers.items():
            before = known.get(name)
            self._virtual[name] = before if before is not None and before.server is server else VirtualView(server)
            if self._virtual[name] is not before:
                self._kept.pop(name, None)
        for name in [name for name in self._kept if name not in servers]:
            del self._kept[name]

    def take_pins(self, pins: Mapping[str, GroupPins]) -> None:
        """Hold tools to what was approved of them, by group, from the next rebuild on."""
        for name in self.pinning.take(pins):
            self._members.pop(name, None)

    def rebuild(self, records: Mapping[str, UpstreamRecord], wall_s: float) -> None:
        """Do at once what ``rebuilding`` does."""
        at_once(self.rebuilding(records, wall_s))

    def rebuilding(self, records: Mapping[str, UpstreamRecord], wall_s: float) -> Steps[None]:
        """Build groups and views from all records, given by upstream id, in steps. ``wall_s`` is Unix time.

        Groups and views are exchanged in the last step; steps that are not taken to the end have no effect on them.
        """
        self._wall_s = wall_s
        members: dict[str, list[UpstreamRecord]] = {}
        for record in sorted(records.values(), key=lambda one: one.sequence):
            members.setdefault(record.spec.name, []).append(record)
        groups: dict[str, Group] = {}
        for name, own in members.items():
            before = self._members.get(name, ())
            if len(before) == len(own) and all(map(is_, before, own)):
                groups[name] = self.groups[name]  # of thousands of groups, one has changed
                continue
            for record in own:
                yield from self._take(record, groups)
            yield from self._finish(groups[name])
        everything = yield from self._merging(groups, Scope(self.settings, self._refresh_interval_s, groups), "")
        for id in [id for id in self._replicas if id not in records]:
            del self._replicas[id]
            self._parsed.pop(id, None)
            self.pinning.forget(id)
        self._members = members
        for name in [name for name in self._balancers if name not in groups]:
            del self._balancers[name]
            self._hedges.pop(name, None)
        self.groups = groups
        self.everything = everything
        self._views = {"": everything}
        self.generation += 1

    def _take(self, record: UpstreamRecord, groups: dict[str, Group]) -> Steps[None]:
        id = record.spec.id
        replica = self._replicas.get(id)
        if replica is None:
            replica = self._replicas[id] = Replica(record)
        else:
            if record.status is ServerStatus.CONNECTED and record.status_since > replica.record.status_since:
                replica.suspect_until, replica.suspected = 0.0, ""
                if replica.watch is not None:
                    replica.watch.try_soon()
            replica.update(record)
        parsed = self._parsed.get(id)
        if parsed is None or parsed[0] != record.catalog.digest or parsed[1] != record.spec:
            self._parsed[id] = (record.catalog.digest, record.spec, (yield from _parsing_all(record)))
        group = groups.get(record.spec.name)
        if group is None:
            group = groups[record.spec.name] = Group(record.spec.name, make(self.settings.balancer))
        group.replicas.append(replica)

    def _finish(self, group: Group) -> Steps[None]:
        chosen = next(
            (r.record.spec.balancer for r in group.replicas if r.record.spec.balancer is not None),
            self.settings.balancer,
        )
        if chosen not in STRATEGIES:  # registered by another version
            chosen = self.settings.balancer
        kept = self._balancers.get(group.name)
        if kept is None or kept[0] != chosen:
            kept = self._balancers[group.name] = (chosen, make(chosen))
        group.balancer = kept[1]
        compared = len(group.replicas) > 1 and (self.settings.outlier_ejection or group.balancer.measures)
        for replica in group.replicas:
            if not compared:
                if replica.watch is not None:
                    replica.watch, replica.avoid_until = None, 0.0
            elif replica.watch is None:
                replica.watch = Watch(replica)
        hedges = self._hedges_of(group)
        interfaces: dict[str, list[Replica]] = {}
        for kind in Kind:
            having: dict[str, tuple[Entry, list[Replica]]] = {}
            for replica in group.replicas:
                if replica.record.duty is Duty.DISABLED:
                    continue
                entries: Sequence[Entry] = self._parsed[replica.id][2][kind]
                if kind is Kind.TOOLS:
                    entries = self.pinning.shown(replica.record.spec, entries)
                for entry in entries:
                    first = having.get(entry.name)
                    if first is None:
                        having[entry.name] = (entry, [replica])
                    elif first[1][-1] is not replica:
                        first[1].append(replica)
                yield
            if kind is Kind.TOOLS:
                interfaces = {entry.ui: replicas for entry, replicas in having.values() if entry.ui}
            elif kind is Kind.RESOURCES:
                for uri, replicas in interfaces.items():
                    having.setdefault(uri, (unlisted_resource(uri), replicas))
            routes: dict[str, Route] = {}
            for some in chunks(having.items()):
                for name, (entry, replicas) in some:
                    routes[name] = Route(
                        group.name,
                        entry,
                        tuple(replicas),
                        group.balancer,
                        any(replica.binds for replica in replicas),
                        hedge=hedges(name) if hedges is not None and entry.read_only and len(replicas) > 1 else None,
                    )
                yield
            group.routes[kind] = routes

    def _hedges_of(self, group: Group) -> Callable[[str], Hedge] | None:
        """Return what gives each read-only tool of a group its hedge, or ``None`` if its late calls are not sent
        twice."""
        own = (one.record.spec.settings.get("hedge") for one in group.replicas)
        after = next((str(one["after"]) for one in own if isinstance(one, dict) and "after" in one), self._hedge_after)
        if not after:
            self._hedges.pop(group.name, None)
            return None
        before = self._hedges.get(group.name, {})
        found = self._hedges[group.name] = {}

        def hedge(tool: str) -> Hedge:
            known = before.get(tool)
            found[tool] = known if known is not None and known.after == after else Hedge(after)
            return found[tool]

        return hedge

    # ---- views

    def view_with(self, endpoint: str, own: Mapping[str, Mapping[Kind, Sequence[Entry]]]) -> View:
        """Return the view of an endpoint for a client whose own upstream sessions list something else, by group."""
        groups = {
            name: group.with_own(self._approved(group, own[name])) if name in own else group
            for name, group in self.groups.items()
        }
        if not endpoint:
            return at_once(self._merging(groups, Scope(self.settings, self._refresh_interval_s, groups), ""))
        virtual = self._virtual.get(endpoint)
        if virtual is not None:
            shown = virtual.groups(groups)
            return at_once(self._merging(shown, self._virtual_scope(virtual, shown, groups), endpoint))
        return self._view_of(groups[endpoint]) if endpoint in groups else empty((endpoint, ""), self.settings)

    def _approved(self, group: Group, own: Mapping[Kind, Sequence[Entry]]) -> Mapping[Kind, Sequence[Entry]]:
        """Return what a client's own upstream session lists, without tools that nobody approved."""
        tools = own.get(Kind.TOOLS)
        if tools is None:
            return own
        specs = [replica.record.spec for replica in group.replicas if replica.binds]
        return {**own, Kind.TOOLS: self.pinning.shown_of_own(specs, tools)}

    def _view_of_virtual(self, virtual: VirtualView) -> Steps[View]:
        """Return the view of a virtual server: the one it had if no upstream that it shows has changed."""
        name, shown = virtual.server.name, (yield from virtual.showing(self.groups))
        groups = list(shown.values())
        kept = self._kept.get(name)
        if kept is not None and len(kept[0]) == len(groups) and all(map(is_, kept[0], groups)):
            return kept[1]
        view = yield from self._merging(shown, self._virtual_scope(virtual, shown, self.groups), name)
        self._kept.pop(name, None)
        if all(one.record.status is ServerStatus.CONNECTED for group in groups for one in group.replicas):
            self._kept[name] = groups, view  # nothing in it leaves the lists by the passing of time
        return view

    def _virtual_scope(self, virtual: VirtualView, shown: Iterable[str], groups: Mapping[str, Group]) -> Scope:
        """Return the scope of a virtual server's view. Its groups are whole: it has to tell what they hide."""
        whole = {name: groups[name] for name in shown}
        return Scope(
            self.settings,
            self._refresh_interval_s,
            whole,
            admits=virtual.admits(whole),
            instructions=virtual.server.instructions,
        )

    def _merging(self, groups: Mapping[str, Group], scope: Scope, endpoint: str) -> Steps[View]:
        """Return a view of several groups in one namespace, in steps."""
        routes: dict[Kind, dict[str, Route]] = {}
        lists: dict[Kind, list[Listed]] = {}
        listed_uris: dict[tuple[str, str], str] = {}
        steady = {name for name, group in groups.items() if group.steady}
        for kind in Kind:
            routes[kind], lists[kind] = {}, []
            if not any(group.routes[kind] for group in groups.values()):
                continue  # thousands of groups may have tools, and nothing else
            since = []
            for group in groups.values():
                since.append((group.name, _since(group, kind)))
                yield
            named = yield from assigning(
                since,
                self.settings.naming,
                self.settings.separator,
                are_uris=kind in (Kind.RESOURCES, Kind.TEMPLATES),
            )
            routes[kind] = {listed: groups[group].routes[kind][own] for listed, (group, own) in named.items()}
            yield
            if kind is Kind.RESOURCES:
                listed_uris = {place: listed for listed, place in named.items()}
            places = {
                name: {own: place for place, own in enumerate(group.routes[kind])}
                for name, group in groups.items()
                if group.routes[kind]
            }
            yield
            merged: list[Listed] = []
            for some in chunks(named.items()):
                merged += [
                    Listed((groups[group].sequence, places[group][own]), listed, routes[kind][listed])
                    for listed, (group, own) in some
                    if group in steady or self._is_listed(routes[kind][listed])
                ]
                yield
            lists[kind] = sorted(merged, key=lambda entry: entry.place)
            yield
        scope = structs.replace(scope, listed_uris=listed_uris)
        return View((endpoint, ""), scope, routes, lists, whole=not endpoint)

    def _view_of(self, group: Group) -> View:
        """Return the view of ``/servers/{name}``, with the group's entries under the upstream's names."""
        lists = {
            kind: [
                Listed((group.sequence, place), own, route)
                for place, (own, route) in enumerate(group.routes[kind].items())
                if self._is_listed(route)
            ]
            for kind in Kind
        }
        scope = Scope(self.settings, self._refresh_interval_s, {group.name: group}, group)
        return View((group.name, ""), scope, group.routes, lists)

    def _is_listed(self, route: Route) -> bool:
        """Whether an entry is listed now: a replica is connected, or was until less than ``catalog_grace_s`` ago."""
        grace_s = self.settings.catalog_grace_s
        return any(
            replica.record.status is ServerStatus.CONNECTED
            or (replica.record.catalog.digest and self._wall_s - replica.record.status_since < grace_s)
            for replica in route.replicas
        )


def _since(group: Group, kind: Kind) -> dict[str, float]:
    """Return since when a group has had each of its entries: since the first of its replicas has. A name that a virtual
    server gave was there before all others.

    What only one client sees takes no other entry's name.
    """
    routes = group.routes[kind]
    if not routes:
        return {}
    records = [replica.record for replica in group.replicas]
    if len(records) == 1 and not records[0].catalog.added.get(kind.value):  # as nearly always
        since = dict.fromkeys(routes, records[0].registered_at)
    else:
        since = {
            name: min(replica.record.offered_since(kind, route.entry.name) for replica in route.replicas)
            for name, route in routes.items()
        }
    since |= dict.fromkeys(group.own.get(kind, ()), float("inf"))
    return since | dict.fromkeys(group.given.get(kind, ()), GIVEN)


def _parsing_all(record: UpstreamRecord) -> Steps[dict[Kind, list[Entry]]]:
    """Return what an upstream lists, without the tools that its registration hides: they do not exist here.

    There is nothing if its lists cannot be read, so that other upstreams are not affected.
    """
    found = {}
    for kind in Kind:
        found[kind] = yield from _parsing(record.spec, kind, record.catalog.document(kind))
    return found


def parse_list(spec: UpstreamSpec, kind: Kind, document: bytes) -> list[Entry]:
    """Return the entries of one list of an upstream, without the tools that its registration hides."""
    return at_once(_parsing(spec, kind, document))


def _parsing(spec: UpstreamSpec, kind: Kind, document: bytes) -> Steps[list[Entry]]:
    try:
        found = yield from parsing(kind, document)
    except (ValueError, TypeError, KeyError, RecursionError):
        return []
    return [entry for entry in found if spec.shows(entry.name)] if kind is Kind.TOOLS else found
