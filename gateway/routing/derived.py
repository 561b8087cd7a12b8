"""Views made from views, by pure functions: entries hidden or rewritten, and local tools added."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable

from msgspec import structs

from gateway.balancers import NO_CHOICE
from gateway.routing.entries import Entry
from gateway.routing.local_tools import LocalTool
from gateway.routing.routes import Route
from gateway.routing.steps import Steps, at_once, chunks
from gateway.routing.view import Admits, Listed, MethodPattern, View, ViewKey
from shared.mcp.listings import Kind

_A_STEP = 50
"""So many entries are decided in one step: rules may look at each one's annotations."""
_LOCAL = -1
"""The place of local tools in a list: before those of every group."""


def _nothing(group: str) -> bool:
    return False


def _everything(group: str) -> bool:
    return True


def _both(first: Admits | None, second: Admits | None) -> Admits | None:
    """Return what admits what both admit; ``None`` admits everything."""
    if first is None or second is None:
        return first or second
    return lambda group, uri: first(group, uri) and second(group, uri)


def rewriting(
    view: View,
    key: ViewKey,
    change: Callable[[Kind, str, Route], Route | None],
    admits: Admits | None = None,
    denied: Collection[MethodPattern] = (),
    keep_group: Callable[[str], bool] = _nothing,
    passes_on: Callable[[str], bool] = _everything,
) -> Steps[View]:
    """Return a view in which each entry has the route that ``change(kind, listed name, route)`` returns, in steps;
    ``None`` hides the entry.

    ``admits(group, URI)`` says whether a resource that no list has may be read; ``denied`` are methods that the view
    does not know. A group of which no entry is left is hidden as well, as if it were not registered, unless
    ``keep_group(name)`` is true: its instructions and its errors would still reach clients. Methods that the gateway
    does not know reach a group of which ``passes_on(name)`` is true.
    """
    changed: dict[tuple[Kind, int], Route | None] = {}

    def new(kind: Kind, name: str, route: Route) -> Route | None:
        at = (kind, id(route))  # an entry is decided once, though it is both listed and named
        if at not in changed:
            changed[at] = change(kind, name, route)
        return changed[at]

    routes: dict[Kind, dict[str, Route]] = {kind: {} for kind in view.routes}
    for kind, known in view.routes.items():
        for named in chunks(known.items(), _A_STEP):
            for name, route in named:
                found = new(kind, name, route)
                if found is not None:
                    routes[kind][name] = found
            yield
    lists: dict[Kind, list[Listed]] = {kind: [] for kind in view.lists}
    for kind, entries in view.lists.items():
        for some in chunks(entries, _A_STEP):
            for one in some:
                found = new(kind, one.name, one.route)
                if found is not None:
                    lists[kind].append(one if found is one.route else structs.replace(one, route=found))
            yield
    left = {route.group for known in routes.values() for route in known.values()}
    groups = {name: group for name, group in view.groups.items() if name in left or keep_group(name)}
    group = view.scope.group if view.scope.group is not None and view.scope.group.name in groups else None
    passing = view.scope.passes_on and group is not None and passes_on(group.name)
    scope = structs.replace(
        view.scope,
        groups=groups,
        group=group,
        passes_on=passing,
        admits=_both(view.scope.admits, admits),
        denied=tuple(denied),
    )
    return View(key, scope, routes, lists, whole=False)


def filtered(
    view: View,
    key: ViewKey,
    keep: Callable[[Kind, str, Route], bool],
    keep_group: Callable[[str], bool] = _nothing,
) -> View:
    """Return a view of the entries for which ``keep(kind, listed name, route)`` is true."""

    def change(kind: Kind, name: str, route: Route) -> Route | None:
        return route if keep(kind, name, route) else None

    return at_once(rewriting(view, key, change, keep_group=keep_group))


def with_local_tools(view: View, key: ViewKey, tools: Iterable[LocalTool]) -> View:
    """Return a view that lists ``tools`` before all other tools, and hides other tools with the same names."""
    added = [
        Listed((_LOCAL, number), tool.name, Route("", _local_entry(tool), (), NO_CHOICE, local=tool))
        for number, tool in enumerate(tools)
    ]
    names = {one.name for one in added}
    routes = {**view.routes, Kind.TOOLS: {**view.routes[Kind.TOOLS], **{one.name: one.route for one in added}}}
    rest = [one for one in view.lists[Kind.TOOLS] if one.name not in names]
    return View(key, view.scope, routes, {**view.lists, Kind.TOOLS: [*added, *rest]}, view.whole)


def _local_entry(tool: LocalTool) -> Entry:
    return Entry(Kind.TOOLS, tool.name, tool.document, tool.document, repeatable=False)
