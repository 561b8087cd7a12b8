"""What one kind of caller sees of one generation of the catalogue: names, routes, and list pages as ready bytes. Pure.

The catalogue makes the view of each endpoint, with everything that its groups list. Other views are made from these
(``derived``), once for each policy class and generation. What a view does not show cannot be called, read, completed or
subscribed to, and its changes are not announced: every lookup by name goes through a view.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Callable, Mapping, Sequence
from typing import Protocol

import msgspec
from msgspec import Struct

from gateway.routing.entries import renamed, with_ui
from gateway.routing.naming import labels, splits
from gateway.routing.routes import Group, Route
from gateway.routing.suggestions import close_to
from gateway.routing.uri_templates import matches
from shared.errors import CallError, NotDelivered, Refused
from shared.freshness import left_s, relist_s
from shared.mcp.listings import CHANGES, KINDS, Kind
from shared.mcp.versions import Era
from shared.settings import RoutingSettings

_SHOWN_GROUPS = 5
_LONGEST_URI = 16 * 1024
"""A longer URI is not compared with templates, of which there may be thousands; it could not be sent either."""
_UNKNOWN = {
    Kind.TOOLS: "tool_unknown",
    Kind.PROMPTS: "prompt_unknown",
    Kind.RESOURCES: "resource_unknown",
    Kind.TEMPLATES: "resource_unknown",
}
"""The code of the error for a name that is not known."""
_AGEING_S = 1.0
"""A page whose ``ttlMs`` shrinks is rendered again after this time."""
ViewKey = tuple[str, str]
"""(endpoint: the name in ``/servers/{name}``, or empty for ``/mcp``; policy class)."""
Admits = Callable[[str, str], bool]
Routes = Mapping[Kind, Mapping[str, Route]]


class Listed(Struct, frozen=True):
    """One entry of a list under its listed name. Lists are ordered by ``place``, and cursors are made of it."""

    place: tuple[int, int]
    name: str
    route: Route


Lists = Mapping[Kind, Sequence[Listed]]


class _Page(Struct, frozen=True):
    """The JSON of a list result. ``until`` is the Unix time up to which the ``ttlMs`` in it is right."""

    raw: bytes
    until: float


class MethodPattern(Protocol):
    """Says which methods of the protocol are meant."""

    def matches_method(self, method: str) -> bool:
        """Whether this method is meant."""


class Scope(Struct, frozen=True):
    """What views of one generation share: settings, and the groups that a view covers.

    ``group`` is the group of ``/servers/{name}``, or ``None``; ``passes_on``: methods that the gateway does not know
    are passed on to it. ``listed_uris`` maps (group, URI at the upstream) to the URI that clients see. ``admits(group,
    URI)`` says whether a resource that no list has may be read (``None``: any). ``denied`` are methods that callers may
    not use. ``instructions`` are those of a virtual server, in place of its upstreams'.
    """

    settings: RoutingSettings
    refresh_interval_s: float
    groups: Mapping[str, Group]
    group: Group | None = None
    passes_on: bool = True
    listed_uris: Mapping[tuple[str, str], str] = {}
    admits: Admits | None = None
    denied: tuple[MethodPattern, ...] = ()
    instructions: str = ""


class View:
    """What one kind of caller sees at one endpoint.

    ``routes`` has every name, also those of upstreams that are down; ``lists`` has what is listed now.
    """

    __slots__ = (
        "_aliases",
        "_by_label",
        "_by_place",
        "_cursors",
        "_pages",
        "_seen",
        "denied",
        "key",
        "lists",
        "routes",
        "scope",
        "whole",
    )

    def __init__(self, key: ViewKey, scope: Scope, routes: Routes, lists: Lists, whole: bool = True) -> None:
        self.key = key
        self.scope = scope
        self.routes = routes
        self.lists = lists
        self.whole = whole
        """Whether the view shows everything that its groups list."""
        self.denied = scope.denied
        self._pages: dict[tuple[Kind, int], dict[str, _Page]] = {}
        self._cursors: set[str] = set()
        self._aliases: dict[tuple[Kind, str], Route] = {}
        self._by_label: dict[str, list[str]] | None = None
        self._by_place: dict[str, dict[Kind, dict[str, Route]]] | None = None
        self._seen: dict[str, list[tuple[str, bytes]]] | None = None

    @property
    def endpoint(self) -> str:
        """The name in ``/servers/{name}``, or empty for ``/mcp``."""
        return self.key[0]

    def under(self, key: ViewKey) -> View:
        """Return this view under another key."""
        return self if key == self.key else View(key, self.scope, self.routes, self.lists, self.whole)

    @property
    def groups(self) -> Mapping[str, Group]:
        """The groups that the view covers."""
        return self.scope.groups

    def denies(self, method: str) -> bool:
        """Whether callers may not use a method of the protocol."""
        return any(one.matches_method(method) for one in self.denied)

    @property
    def passthrough(self) -> Route | None:
        """The route for methods that the gateway does not know, or ``None`` where several groups might be meant."""
        scope = self.scope
        return scope.group.any_route() if scope.group is not None and scope.passes_on else None

    # ---- names

    def find(self, kind: Kind, name: str) -> Route | None:
        """Return the route of what a client names, or ``None`` if the view does not show it.

        Where several groups are shown, the alias ``{group}__{name}`` works too; a listed name takes precedence.
        """
        route = self.routes[kind].get(name)
        if route is not None or self.scope.group is not None:
            return route
        route = self._aliases.get((kind, name))
        if route is None:
            route = self._find_alias(kind, name)
            if route is not None:  # so there are no more than entries have spellings
                self._aliases[kind, name] = route
        return route

    def _find_alias(self, kind: Kind, name: str) -> Route | None:
        is_uri = kind in (Kind.RESOURCES, Kind.TEMPLATES)
        found = None
        for named, own in splits(name, is_uri, self.scope.settings.separator):
            for group in self.called(named):
                entries = self.own(group, kind)
                route = entries.get(own)
                if route is None and not is_uri:
                    route = next((entries[one] for one, short in labels(entries).items() if short == own), None)
                if route is not None and found is not None and route is not found:
                    return None  # two entries may be meant, and a call must never reach another one
                found = route or found
        return found

    def called(self, named: str) -> list[str]:
        """Return the groups that this name or label may mean."""
        if self._by_label is None:
            self._by_label = {}
            for group, short in labels(self.groups).items():
                self._by_label.setdefault(short, []).append(group)
        exact = [named] if named in self.groups else []
        return exact + [group for group in self._by_label.get(named, []) if group != named]

    def own(self, group: str, kind: Kind) -> Mapping[str, Route]:
        """Return the entries of one group that the view shows, by the upstream's names."""
        if self._by_place is None:
            self._by_place = {}
            for one, routes in self.routes.items():
                for route in routes.values():
                    kinds = self._by_place.setdefault(route.group, {})
                    kinds.setdefault(one, {})[route.entry.name] = route
        return self._by_place.get(group, {}).get(kind, {})

    def unknown(self, kind: Kind, name: str) -> CallError:
        """Return the error for a name that the view does not show.

        It is -32602 with close matches in ``data``, and says which groups have listed nothing yet: the name may be of
        one of them. If the name begins with such a group, the call fails because of that group.
        """
        word = kind.value.rstrip("s")
        absent = {group.name: group.absence for group in self.groups.values() if group.absence}
        if self.scope.group is None:
            short, separator = labels(self.groups), self.scope.settings.separator
            called = next((one for one in absent if name.startswith((one + separator, short[one] + separator))), None)
        else:
            called = next(iter(absent), None)
        if called is not None:
            text = f"{word} {name[:128]!r}: group {called!r} is {absent[called]}; try again later"
            return NotDelivered("upstream_unavailable", text, {"group": called})
        close = close_to(name, self.routes[kind])
        text, data = f"unknown {word} {name[:128]!r}", {word: name[:128], "closeMatches": close}
        if absent:
            shown = [f"{group} is {why}" for group, why in list(absent.items())[:_SHOWN_GROUPS]]
            text += f" ({', '.join(shown)})"
        return Refused(_UNKNOWN[kind], text, data)

    def locate(self, uri: str) -> list[tuple[Route, str]]:
        """Return the routes on which a resource may be found, each with the upstream's URI of it, best first.

        A listed URI has one route.
        """
        if len(uri) > _LONGEST_URI:
            return []
        route = self.find(Kind.RESOURCES, uri)
        if route is not None:
            return [(route, route.entry.name)]
        if self.scope.group is None:
            for named, own in splits(uri, True, self.scope.settings.separator):
                called = self.called(named)
                if called:  # made from a template that was marked with its group
                    return [(one, own) for group in called for one in self._readers(own, group)]
        return [(one, uri) for one in self._readers(uri, None)]

    def _readers(self, uri: str, only: str | None) -> list[Route]:
        """Return one route for each group that may know an unlisted URI, or for the group ``only``.

        Groups with a matching template come first, the most specific one at the head; then groups that use the URI's
        scheme. The resource is read from one after another, never from all at once.
        """
        groups = [name for name in self.groups if only in (None, name) and not self._hides(name, uri)]
        if self.scope.admits is not None:
            groups = [name for name in groups if self.scope.admits(name, uri)]
        matching: list[tuple[int, Route]] = []
        for group in groups:
            for template, route in self.own(group, Kind.TEMPLATES).items():
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
                using = next((r for name, r in self.own(group, kind).items() if name.partition(":")[0] == scheme), None)
                if using is not None and all(route.group != group for route in found):
                    found.append(using)
        return found

    def _hides(self, group: str, uri: str) -> bool:
        """Whether a group has this resource, or a template that makes its URI, but the view does not show it."""
        if self.whole:
            return False
        listed, templates = self.groups[group].routes[Kind.RESOURCES], self.groups[group].routes[Kind.TEMPLATES]
        shown = self.own(group, Kind.TEMPLATES)
        if uri in listed:
            return uri not in self.own(group, Kind.RESOURCES)
        if any(matches(one, uri) is not None for one in shown):
            return False
        return any(matches(one, uri) is not None for one in templates if one not in shown)

    # ---- lists

    def page(self, kind: Kind, era: int, cursor: str | None, wall_s: float) -> bytes:
        """Return the JSON of one list result at ``wall_s`` (Unix time).

        Raises ``Refused`` (-32602) for a cursor that the gateway did not make.
        """
        pages = self._pages.get((kind, era))
        if pages is None:
            pages = self._pages[kind, era] = {}
        page = pages.get(cursor or "")
        if page is None or page.until <= wall_s:
            page = self._render(kind, era, cursor, wall_s)
            # Only pages of cursors that were handed out are kept: clients can make up any number of others.
            if not cursor or cursor in self._cursors:
                pages[cursor or ""] = page
        return page.raw

    def _render(self, kind: Kind, era: int, cursor: str | None, wall_s: float) -> _Page:
        entries = self.lists[kind]
        if cursor:
            after = _read_cursor(cursor)
            entries = [entry for entry in entries if entry.place > after]
        documents: list[bytes] = []
        more = False
        last: Listed | None = None
        for entry in entries:
            raw = self._document(entry, era)
            if raw is None:
                continue
            if len(documents) >= self.scope.settings.page_size:
                more = True
                break
            documents.append(raw)
            last = entry
        head = b'{"resultType":"complete","%b":[' if era == Era.MODERN else b'{"%b":['
        head %= KINDS[kind].member.encode()
        tail = [b"]"]
        until = float("inf")
        if more and last is not None:
            written = _write_cursor(last.place)
            self._cursors.add(written.decode())
            tail.append(b',"nextCursor":"%b"' % written)
        if era == Era.MODERN:
            ttl_s, ageing = self._ttl_s(wall_s)
            until = wall_s + _AGEING_S if ageing else until
            tail.append(b',"ttlMs":%d,"cacheScope":"private"' % int(ttl_s * 1000))
        missing = self.missing_groups()
        if missing:
            tail.append(b',"_meta":' + msgspec.json.encode({"gateway/unavailableGroups": missing}))
        tail.append(b"}")
        return _Page(head + b",".join(documents) + b"".join(tail), until)

    def _document(self, listed: Listed, era: int) -> bytes | None:
        """Return the JSON of an entry as clients of an era see it, or ``None`` if they cannot use it or it is not
        listed.

        It has the entry's listed name, and for a tool the listed URI of the resource that shows the tool.
        """
        entry = listed.route.entry
        raw = entry.modern if era == Era.MODERN else entry.legacy
        if not raw:
            return None
        if listed.name != entry.name:
            raw = renamed(raw, KINDS[entry.kind].key, listed.name)
        if entry.ui:
            uri = self._listed_ui(listed.route)
            raw = with_ui(raw, entry.ui, uri) if uri != entry.ui else raw
        return raw

    def _listed_ui(self, route: Route) -> str:
        """Return the URI under which the resource of a tool's user interface is listed."""
        return self.scope.listed_uris.get((route.group, route.entry.ui), route.entry.ui)

    def _ttl_s(self, wall_s: float) -> tuple[float, bool]:
        """Return for how many seconds a merged list is fresh, and whether that time shrinks.

        It is the least of the gateway's own time and what is left of the times of upstreams that do not announce
        changes.
        """
        ours_s = self.scope.settings.list_ttl_s
        least_s, ageing = ours_s, False
        for group in self.groups.values():
            for replica in group.replicas:
                listed = replica.record.catalog
                if listed.ttl_s is None:
                    continue
                again_s = relist_s(listed.ttl_s, self.scope.refresh_interval_s, ours_s)
                least_s = min(least_s, left_s(listed.ttl_s, wall_s - listed.listed_at, again_s))
                ageing = ageing or listed.ttl_s > 0
        return least_s, ageing

    def missing_groups(self) -> dict[str, str]:
        """Return the groups without a connected replica, each with a word on why. The reason itself is for admins: it
        may name addresses and commands."""
        return {name: group.absence or "unavailable" for name, group in self.groups.items() if not group.connected}

    # ---- changes

    @property
    def seen(self) -> Mapping[str, list[tuple[str, bytes]]]:
        """The listed entries as (name, JSON), by the ``list_changed`` method that announces their changes."""
        if self._seen is None:
            self._seen = {method: [] for method in CHANGES}
            for kind, entries in self.lists.items():
                self._seen[KINDS[kind].changed] += [
                    (one.name, one.route.entry.modern + self._listed_ui(one.route).encode())
                    if one.route.entry.ui
                    else (one.name, one.route.entry.modern)
                    for one in entries
                    if one.route.entry.modern
                ]
        return self._seen


def changed(before: View, after: View) -> set[str]:
    """Return the ``list_changed`` methods of the lists that differ between the views."""
    if before is after:
        return set()
    return {method for method in CHANGES if before.seen[method] != after.seen[method]}


def empty(key: ViewKey, settings: RoutingSettings) -> View:
    """Return the view of an endpoint that does not exist (yet)."""
    return View(key, Scope(settings, 0.0, {}), {kind: {} for kind in Kind}, {kind: [] for kind in Kind})


def _write_cursor(place: tuple[int, int]) -> bytes:
    return base64.urlsafe_b64encode(b"%d.%d" % place).rstrip(b"=")


def _read_cursor(cursor: str) -> tuple[int, int]:
    try:
        text = base64.urlsafe_b64decode(cursor + "=" * (-len(cursor) % 4)).decode("ascii")
        sequence, _, place = text.partition(".")
        return int(sequence), int(place)
    except (ValueError, binascii.Error) as error:
        raise Refused("invalid_params", f"cursor {cursor[:64]!r} is not one of ours; list again without it") from error
