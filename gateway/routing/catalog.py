"""Groups, routes and ready list pages, built from registry records. Pure; rebuilt when records change.

Parsing is kept per (upstream, digest) and pages are rendered when first asked for, so a change costs what changed and
a ``tools/list`` costs a dictionary lookup.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Iterable, Mapping
from typing import Any

import msgspec
from msgspec import Struct

from gateway.balancers import Balancer, make
from gateway.routing.entries import Entry, parse, renamed, with_ui
from gateway.routing.naming import assign
from shared.errors import Refused
from shared.freshness import left_s, relist_s
from shared.isolation import SessionUse, session_use
from shared.mcp.listings import CHANGES, KINDS, Kind
from shared.mcp.versions import Era
from shared.models import ServerStatus
from shared.registry.records import UpstreamRecord
from shared.settings import RoutingSettings


class Replica:
    """An upstream as member of its group. Lives as long as the upstream is registered: counts survive rebuilds."""

    __slots__ = (
        "binds",
        "id",
        "in_flight",
        "in_flight_elsewhere",
        "record",
        "sequence",
        "suspect_until",
        "suspected",
        "weight",
        "workers",
    )

    def __init__(self, record: UpstreamRecord) -> None:
        self.in_flight = 0
        self.in_flight_elsewhere = 0
        self.suspect_until = 0.0
        self.suspected = ""  # why, in the words of the call that failed
        self.update(record)

    def update(self, record: UpstreamRecord) -> None:
        """Take a newer record."""
        self.record = record
        self.id = record.spec.id
        self.sequence = record.sequence
        self.weight = record.spec.weight
        self.workers = tuple(sorted(worker for _, worker in record.owners))
        use = session_use(
            record.spec.isolation, record.transport_in_use, record.eras, record.sessionful, Era.LEGACY, True
        )
        self.binds = use is SessionUse.CLIENT  # a client session has an upstream session of its own here

    @property
    def load(self) -> int:
        """Calls in flight, ours exact, the others' as last told."""
        return self.in_flight + self.in_flight_elsewhere

    def available(self, now: float) -> bool:
        """May be given a call: connected, owned, and not just found dead by one of our own calls."""
        return self.record.status is ServerStatus.CONNECTED and bool(self.record.owners) and self.suspect_until <= now


class Route(Struct, frozen=True):
    """Where a listed name leads: the group, the entry as named there, and the replicas that have it."""

    group: str
    entry: Entry
    replicas: tuple[Replica, ...]
    balancer: Balancer
    binds: bool = False
    """A client session has an upstream session of its own on some of them."""


class Group:
    """All upstreams of one name, in registration order."""

    def __init__(self, name: str, balancer: Balancer) -> None:
        self.name = name
        self.balancer = balancer
        self.replicas: list[Replica] = []
        self.routes: dict[Kind, dict[str, Route]] = {kind: {} for kind in Kind}

    @property
    def sequence(self) -> int:
        """The first replica's place."""
        return self.replicas[0].sequence


class _Listed(Struct, frozen=True):
    key: tuple[int, int]
    name: str
    route: Route


class _Page(Struct, frozen=True):
    """``until``: Unix time up to which the ``ttlMs`` in it is right."""

    raw: bytes
    until: float


_AGEING_S = 1.0
"""A page that gets older is written anew so often, at most."""


class Catalog:
    """See the module. ``routes`` maps every listed name; ``groups`` are in registration order."""

    def __init__(self, settings: RoutingSettings, refresh_interval_s: float = 300.0) -> None:
        self._settings = settings
        self._refresh_interval_s = refresh_interval_s
        self._parsed: dict[str, tuple[str, dict[Kind, list[Entry]]]] = {}
        self._replicas: dict[str, Replica] = {}
        self._balancers: dict[str, tuple[Any, Balancer]] = {}
        self.groups: dict[str, Group] = {}
        self.routes: dict[Kind, dict[str, Route]] = {kind: {} for kind in Kind}
        self._pages: dict[tuple[Kind, str | None, int], dict[str, _Page]] = {}
        self._entries: dict[Kind, dict[str | None, list[_Listed]]] = {kind: {} for kind in Kind}
        self._cursors: set[str] = set()
        self._listed_uris: dict[tuple[str, str], str] = {}  # (group, own URI) → the one that it is listed under
        self._records: Mapping[str, UpstreamRecord] = {}
        self.version = 0

    def replica(self, id: str) -> Replica | None:
        """The replica of this upstream."""
        return self._replicas.get(id)

    @property
    def replicas(self) -> Iterable[Replica]:
        """All of them."""
        return self._replicas.values()

    def rebuild(self, records: Mapping[str, UpstreamRecord], wall_s: float) -> set[str]:
        """Take these records (by id). The ``list_changed`` methods of what clients see listed differently now.

        ``wall_s``: Unix time.
        """
        before = self._fingerprints()
        self._records = records
        for id in [id for id in self._replicas if id not in records]:
            del self._replicas[id]
            self._parsed.pop(id, None)
        groups: dict[str, Group] = {}
        for record in sorted(records.values(), key=lambda one: one.sequence):
            id = record.spec.id
            replica = self._replicas.get(id)
            if replica is None:
                replica = self._replicas[id] = Replica(record)
            else:
                if record.status is ServerStatus.CONNECTED and record.status_since > replica.record.status_since:
                    replica.suspect_until, replica.suspected = 0.0, ""
                replica.update(record)
            parsed = self._parsed.get(id)
            if parsed is None or parsed[0] != record.catalog.digest:
                self._parsed[id] = (record.catalog.digest, _parse_all(record))
            group = groups.get(record.spec.name)
            if group is None:
                group = groups[record.spec.name] = Group(record.spec.name, make(self._settings.balancer))
            group.replicas.append(replica)
        for group in groups.values():
            self._finish(group)
        for name in [name for name in self._balancers if name not in groups]:
            del self._balancers[name]
        self.groups = groups
        for kind in Kind:
            named = assign(
                ((group.name, group.routes[kind]) for group in groups.values()),
                self._settings.naming,
                self._settings.separator,
                are_uris=kind in (Kind.RESOURCES, Kind.TEMPLATES),
            )
            self.routes[kind] = {listed: groups[group].routes[kind][own] for listed, (group, own) in named.items()}
            if kind is Kind.RESOURCES:
                self._listed_uris = {place: listed for listed, place in named.items()}
            self._collect(kind, wall_s)
        self._pages.clear()
        self._cursors.clear()
        self.version += 1
        after = self._fingerprints()
        return {method for method in CHANGES if before[method] != after[method]}

    def _finish(self, group: Group) -> None:
        chosen = next(
            (r.record.spec.balancer for r in group.replicas if r.record.spec.balancer is not None),
            self._settings.balancer,
        )
        kept = self._balancers.get(group.name)
        if kept is None or kept[0] is not chosen:
            kept = self._balancers[group.name] = (chosen, make(chosen))
        group.balancer = kept[1]
        for kind in Kind:
            having: dict[str, tuple[Entry, list[Replica]]] = {}
            for replica in group.replicas:
                for entry in self._parsed[replica.id][1][kind]:
                    first = having.get(entry.name)
                    if first is None:
                        having[entry.name] = (entry, [replica])
                    elif first[1][-1] is not replica:
                        first[1].append(replica)
            group.routes[kind] = {
                name: Route(
                    group.name, entry, tuple(replicas), group.balancer, any(replica.binds for replica in replicas)
                )
                for name, (entry, replicas) in having.items()
            }

    def _collect(self, kind: Kind, wall_s: float) -> None:
        """The entries that are listed now: those of upstreams that are up, or were until a short while ago."""
        merged: list[_Listed] = []
        places = {
            name: {own: place for place, own in enumerate(group.routes[kind])} for name, group in self.groups.items()
        }
        for listed, route in self.routes[kind].items():
            if self._listed(route, wall_s):
                place = places[route.group][route.entry.name]
                merged.append(_Listed((self.groups[route.group].sequence, place), listed, route))
        merged.sort(key=lambda entry: entry.key)
        entries: dict[str | None, list[_Listed]] = {None: merged}
        for name, group in self.groups.items():
            entries[name] = [
                _Listed((group.sequence, places[name][own]), own, route)
                for own, route in group.routes[kind].items()
                if self._listed(route, wall_s)
            ]
        self._entries[kind] = entries

    def _listed(self, route: Route, wall_s: float) -> bool:
        grace_s = self._settings.catalog_grace_s
        return any(
            replica.record.status is ServerStatus.CONNECTED
            or (replica.record.catalog.digest and wall_s - replica.record.status_since < grace_s)
            for replica in route.replicas
        )

    def _fingerprints(self) -> dict[str, list[tuple[str, bytes]]]:
        seen: dict[str, list[tuple[str, bytes]]] = {method: [] for method in CHANGES}
        for kind, entries in self._entries.items():
            seen[KINDS[kind].changed] += [
                (one.name, one.route.entry.modern + self._listed_ui(one.route).encode())
                if one.route.entry.ui
                else (one.name, one.route.entry.modern)
                for one in entries.get(None, [])
            ]
        return seen

    # ---- lists

    def page(self, kind: Kind, scope: str | None, era: int, cursor: str | None, wall_s: float) -> bytes:
        """The JSON of one list result at ``wall_s`` (Unix time). Raises ``Refused`` (-32602) for a cursor that is not
        ours."""
        if scope is not None and scope not in self.groups:
            return self._render(kind, scope, era, cursor, wall_s).raw  # not kept: anyone can make up a name
        pages = self._pages.setdefault((kind, scope, era), {})
        page = pages.get(cursor or "")
        if page is None or page.until <= wall_s:
            page = self._render(kind, scope, era, cursor, wall_s)
            # Only pages that our own cursors lead to are kept: anyone can make up others.
            if not cursor or cursor in self._cursors:
                pages[cursor or ""] = page
        return page.raw

    def _render(self, kind: Kind, scope: str | None, era: int, cursor: str | None, wall_s: float) -> _Page:
        entries = self._entries[kind].get(scope, [])
        if cursor:
            after = _read_cursor(cursor)
            entries = [entry for entry in entries if entry.key > after]
        documents: list[bytes] = []
        more = False
        last: _Listed | None = None
        for entry in entries:
            raw = self._document(entry, scope, era)
            if raw is None:
                continue
            if len(documents) >= self._settings.page_size:
                more = True
                break
            documents.append(raw)
            last = entry
        head = b'{"resultType":"complete","%b":[' if era == Era.MODERN else b'{"%b":['
        head %= KINDS[kind].member.encode()
        tail = [b"]"]
        until = float("inf")
        if more and last is not None:
            written = _write_cursor(last.key)
            self._cursors.add(written.decode())
            tail.append(b',"nextCursor":"%b"' % written)
        if era == Era.MODERN:
            ttl_s, ageing = self._ttl_s(scope, wall_s)
            until = wall_s + _AGEING_S if ageing else until
            tail.append(b',"ttlMs":%d,"cacheScope":"private"' % int(ttl_s * 1000))
        missing = self.missing_groups(scope)
        if missing:
            tail.append(b',"_meta":' + msgspec.json.encode({"gateway/unavailableGroups": missing}))
        tail.append(b"}")
        return _Page(head + b",".join(documents) + b"".join(tail), until)

    def _document(self, listed: _Listed, scope: str | None, era: int) -> bytes | None:
        """An entry as clients see it here: under its listed name, a tool with its resource's listed URI."""
        own = listed.route.entry
        raw = own.modern if era == Era.MODERN else own.legacy
        if raw is None:
            return None
        if listed.name != own.name:
            raw = renamed(raw, KINDS[own.kind].key, listed.name)
        if own.ui and scope is None:
            uri = self._listed_ui(listed.route)
            raw = with_ui(raw, own.ui, uri) if uri != own.ui else raw
        return raw

    def _listed_ui(self, route: Route) -> str:
        """The URI under which the resource of a tool's user interface is listed."""
        return self._listed_uris.get((route.group, route.entry.ui), route.entry.ui)

    def _ttl_s(self, scope: str | None, wall_s: float) -> tuple[float, bool]:
        """How long a merged list is fresh, and whether that shrinks: the tightest of ours and what is left of those of
        upstreams that do not announce changes."""
        ours_s = self._settings.list_ttl_s
        least_s, ageing = ours_s, False
        for name, group in self.groups.items():
            for replica in group.replicas if scope in (None, name) else ():
                listed = replica.record.catalog
                if listed.ttl_s is None:
                    continue
                again_s = relist_s(listed.ttl_s, self._refresh_interval_s, ours_s)
                least_s = min(least_s, left_s(listed.ttl_s, wall_s - listed.listed_at, again_s))
                ageing = ageing or listed.ttl_s > 0
        return least_s, ageing

    def missing_groups(self, scope: str | None) -> dict[str, str]:
        """Groups with no connected replica, and why."""
        missing: dict[str, str] = {}
        for name, group in self.groups.items():
            if scope in (None, name) and not any(r.record.status is ServerStatus.CONNECTED for r in group.replicas):
                record = group.replicas[0].record
                missing[name] = record.error or record.status.value
        return missing


def _parse_all(record: UpstreamRecord) -> dict[Kind, list[Entry]]:
    """An upstream whose lists cannot be read offers nothing, and costs nobody else theirs."""
    try:
        return {kind: parse(kind, record.catalog.document(kind)) for kind in Kind}
    except (ValueError, TypeError, KeyError, RecursionError):
        return {kind: [] for kind in Kind}


def _write_cursor(key: tuple[int, int]) -> bytes:
    return base64.urlsafe_b64encode(b"%d.%d" % key).rstrip(b"=")


def _read_cursor(cursor: str) -> tuple[int, int]:
    try:
        text = base64.urlsafe_b64decode(cursor + "=" * (-len(cursor) % 4)).decode("ascii")
        sequence, _, place = text.partition(".")
        return int(sequence), int(place)
    except (ValueError, binascii.Error) as error:
        raise Refused("invalid_params", f"cursor {cursor[:64]!r} is not one of ours; list again without it") from error
