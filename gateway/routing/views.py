"""The views of a front end, one for each endpoint and policy class, and the changes of those that are watched. Pure.

A view lives for one generation of the catalogue. ``of`` is called for each request and costs one dictionary lookup.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from msgspec import structs

from gateway.routing.catalog import Catalog
from gateway.routing.discovery import discovered
from gateway.routing.endpoints import split
from gateway.routing.entries import Entry
from gateway.routing.policy import ViewPolicy
from gateway.routing.steps import Steps, at_once
from gateway.routing.view import View, ViewKey, changed
from shared.choices import Discovery
from shared.mcp.listings import Kind

_KEPT = 20_000
_KEPT_ENTRIES = 1_000_000
"""At most so many views, with so many entries, are kept, some 200 bytes for each entry that has been listed; the oldest
are dropped first. Where every principal has another set of roles, each has a view of its own, which is small then: if
they did not all fit, calls of many in turn would make a view each."""


class Views:
    """Makes views when they are needed, keeps them for one generation, and compares watched ones across generations."""

    def __init__(self, catalog: Catalog, policy: ViewPolicy | None = None) -> None:
        self._catalog = catalog
        self._policy = policy
        self._kept: dict[ViewKey, View] = {}
        self.entries = 0
        """How many entries the kept views have together."""
        self._watched: dict[ViewKey, View] = {}
        self._generation = catalog.generation
        self._is_plain = policy is None and catalog.settings.discovery is Discovery.LIST
        self.lasting: frozenset[ViewKey] = frozenset()
        """The views that are watched from the start to the end: that of ``/mcp``, if all callers see the same."""
        if policy is None:
            self.lasting = frozenset((("", ""),))
            self.watch(self.of("", ""))

    @property
    def kept(self) -> int:
        """How many views are kept."""
        return len(self._kept)

    def take(self, policy: ViewPolicy | None) -> None:
        """Go by another policy, from the next generation of the catalogue on, which begins at once."""
        self._policy = policy
        self._is_plain = policy is None and self._catalog.settings.discovery is Discovery.LIST

    def of(self, endpoint: str, policy_class: str) -> View:
        """Return what principals of a class see at an endpoint (``endpoints``)."""
        if self._is_plain and not endpoint:
            return self._catalog.everything
        if self._generation != self._catalog.generation:
            self._renew()
        key = endpoint, "" if self._policy is None else policy_class
        return self._kept.get(key) or self._make(key)

    def _renew(self) -> None:
        """Forget the views of an earlier generation."""
        self._generation = self._catalog.generation
        self._kept.clear()
        self.entries = 0

    def _make(self, key: ViewKey) -> View:
        return at_once(self._making(key))

    def _making(self, key: ViewKey) -> Steps[View]:
        name, asked = split(key[0])
        whole = yield from self._catalog.viewing(name)
        view = yield from self._showing(whole, key, name, asked)
        if key in self._kept:  # somebody needed it meanwhile
            return self._kept[key]
        # Views of unknown names are not kept: clients can make up any number of names. Those of hidden ones are, so
        # that nobody can tell by the time that it takes what is there.
        if whole.groups or not name:
            self.entries += _entries_of(view)
            while self._kept and (len(self._kept) >= _KEPT or self.entries > _KEPT_ENTRIES):
                self.entries -= _entries_of(self._kept.pop(next(iter(self._kept))))
            self._kept[key] = view
        return view

    def with_own(self, key: ViewKey, own: Mapping[str, Mapping[Kind, Sequence[Entry]]]) -> View:
        """Return the view ``key`` for a client whose own upstream sessions list ``own``, by group. It is not kept."""
        name, asked = split(key[0])
        return at_once(self._showing(self._catalog.view_with(name, own), key, name, asked))

    def _showing(self, whole: View, key: ViewKey, name: str, asked: Discovery | None) -> Steps[View]:
        """Return what is shown of a view under ``key``, to clients that may have asked how they find tools."""
        server = self._catalog.virtual_server(name)
        view = whole if self._policy is None else (yield from self._policy.applying(whole, key[1]))
        if self._policy is not None and not view.groups:
            # A virtual server of which nothing is shown never was: neither its words nor how it is searched tell of it.
            server, view = None, View(key, structs.replace(view.scope, instructions=""), view.routes, view.lists, False)
        return discovered(view.under(key), server, asked)

    # ---- watching

    def watch(self, view: View) -> None:
        """Report from now on what changes in this view (``advance``)."""
        self._watched.setdefault(view.key, view)

    @property
    def watched(self) -> frozenset[ViewKey]:
        """The keys of the watched views."""
        return frozenset(self._watched)

    def unwatch(self, key: ViewKey) -> None:
        """Report no longer what changes in this view."""
        self._watched.pop(key, None)

    def advance(self, announced: Mapping[str, set[str]]) -> dict[ViewKey, set[str]]:
        """Return what ``advancing`` returns, at once."""
        return at_once(self.advancing(announced))

    def advancing(self, announced: Mapping[str, set[str]]) -> Steps[dict[ViewKey, set[str]]]:
        """Return the ``list_changed`` methods of each watched view that lists something else since the last call, in
        steps. Steps that are not taken to the end report nothing, and the next call reports it.

        ``announced`` has the methods that upstreams announced, by group. A view that shows everything of a group passes
        them on even if its lists look the same.
        """
        seen: list[tuple[ViewKey, View, View, set[str]]] = []
        for key, before in list(self._watched.items()):
            if self._generation != self._catalog.generation:
                self._renew()
            after = self._kept.get(key) or (yield from self._making(key))
            methods = changed(before, after)
            if after.whole:
                methods = methods.union(*(told for group, told in announced.items() if group in after.groups))
            seen.append((key, before, after, methods))
            yield
        found: dict[ViewKey, set[str]] = {}
        for key, before, after, methods in seen:
            if self._watched.get(key) is before:
                self._watched[key] = after
                if methods:
                    found[key] = methods
        return found


def _entries_of(view: View) -> int:
    """Return how many entries a view holds; one without any takes some memory as well."""
    return 10 + sum(map(len, view.routes.values()))
