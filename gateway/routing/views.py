"""The views of a front end: one for each endpoint and policy class, and what changes in those that somebody watches.
Pure.

A view lives for one generation of the catalogue. ``of`` is asked with each request and is one dictionary lookup.
"""

from __future__ import annotations

from collections.abc import Mapping

from gateway.routing.catalog import Catalog
from gateway.routing.policy import ViewPolicy
from gateway.routing.view import View, ViewKey, changed

_KEPT = 1000
"""Views that are kept, at most; the oldest make room."""


class Views:
    """See the module."""

    def __init__(self, catalog: Catalog, policy: ViewPolicy | None = None) -> None:
        self._catalog = catalog
        self._policy = policy
        self._kept: dict[ViewKey, View] = {}
        self._watched: dict[ViewKey, View] = {}
        self._generation = catalog.generation

    def of(self, endpoint: str, principal: str) -> View:
        """Return what ``principal`` sees at ``/servers/{endpoint}`` (empty: everywhere)."""
        key = (endpoint, "" if self._policy is None else self._policy.class_of(principal))
        if self._generation == self._catalog.generation:
            view = self._kept.get(key)
            if view is not None:
                return view
        return self._get(key)

    def _get(self, key: ViewKey) -> View:
        if self._generation != self._catalog.generation:
            self._generation = self._catalog.generation
            self._kept.clear()
        return self._kept.get(key) or self._make(key)

    def _make(self, key: ViewKey) -> View:
        view = self._catalog.view(key[0])
        if self._policy is not None:
            view = self._policy.apply(view, key[1])
        if view.groups or not key[0]:  # a name that anyone can make up is not kept
            if len(self._kept) >= _KEPT:
                del self._kept[next(iter(self._kept))]
            self._kept[key] = view
        return view

    # ---- watching

    def watch(self, view: View) -> None:
        """Compare this view with what it becomes, from now on."""
        self._watched.setdefault(view.key, view)

    def unwatch(self, key: ViewKey) -> None:
        """Notice no longer what changes in this view."""
        self._watched.pop(key, None)

    def advance(self, announced: Mapping[str, set[str]]) -> dict[ViewKey, set[str]]:
        """Return the ``list_changed`` methods of each watched view that now lists something else.

        ``announced``: what upstreams announced, by group; that is passed on also where nothing looks different.
        """
        found: dict[ViewKey, set[str]] = {}
        for key, before in self._watched.items():
            after = self._watched[key] = self._get(key)
            methods = changed(before, after)
            if after.whole:
                methods = methods.union(*(told for group, told in announced.items() if group in after.groups))
            if methods:
                found[key] = methods
        return found
