"""Virtual servers: what they show of the catalogue's groups, and under which names. Pure.

A ``VirtualView`` makes groups from groups: entries that are not shown are left out, others have what the document says
of them. The catalogue names the rest as it names everything, and asks nothing else. What it makes of a group is kept
while the group stays as it is, so that a change of one upstream costs only that upstream's group.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import orjson
from msgspec import structs

from gateway.routing.entries import Entry
from gateway.routing.routes import Group, Route
from gateway.routing.shapes import shape_of
from gateway.routing.steps import Steps, at_once
from gateway.routing.uri_templates import matches
from shared.mcp.listings import Kind
from shared.virtual_servers import Argument, Override, VirtualServer

_APPLICATORS = ("allOf", "anyOf", "oneOf")


class VirtualView:
    """One virtual server, applied to the catalogue's groups."""

    def __init__(self, server: VirtualServer) -> None:
        self.server = server
        self._kept: dict[str, tuple[Group, Group]] = {}
        self._concerns: dict[str, bool] = {}

    def groups(self, groups: Mapping[str, Group]) -> dict[str, Group]:
        """Return what ``showing`` returns, at once."""
        return at_once(self.showing(groups))

    def showing(self, groups: Mapping[str, Group]) -> Steps[dict[str, Group]]:
        """Return what is shown of these groups, in steps. Groups of which nothing is, or may be once they list
        something, are left out."""
        found = {}
        for name, group in groups.items():
            if name not in self._concerns:
                self._concerns[name] = self.server.may_concern(name)
            if not self._concerns[name]:
                continue
            shown = self._shown(group)
            yield
            if any(shown.routes.values()) or group.absence:
                found[name] = shown
        for name in [name for name in self._concerns if name not in groups]:
            del self._concerns[name]
        for name in [name for name in self._kept if name not in groups]:
            del self._kept[name]
        return found

    def _shown(self, group: Group) -> Group:
        kept = self._kept.get(group.name)
        if kept is not None and kept[0] is group:
            return kept[1]
        shown = shown_of(self.server, group)
        if not group.own:  # what one client sees is not kept
            self._kept[group.name] = group, shown
        return shown

    def admits(self, groups: Mapping[str, Group]) -> Admits | None:
        """Return what says whether a resource that no list has may be read, or ``None`` if any may."""
        return None if self.server.selections is None else Admits(self.server, groups)


class Admits:
    """Says whether a resource that no list has may be read: a pattern means it, or a template that a pattern means."""

    def __init__(self, server: VirtualServer, groups: Mapping[str, Group]) -> None:
        self._selection = server.selection(Kind.RESOURCES)
        self._templates: dict[str, list[str]] = {}
        if self._selection is None:
            return
        for name, group in groups.items():
            whole = [one for one in group.routes[Kind.TEMPLATES] if self._selection.names(Kind.TEMPLATES, name, one)]
            if whole:
                self._templates[name] = whole

    def __call__(self, group: str, uri: str) -> bool:
        """Whether this resource of a group may be read."""
        selection = self._selection
        if selection is None or selection.names(Kind.RESOURCES, group, uri):
            return True
        if selection.excludes(Kind.RESOURCES, group, uri):
            return False
        return any(matches(one, uri) is not None for one in self._templates.get(group, ()))


def shown_of(server: VirtualServer, group: Group) -> Group:
    """Return a group as a virtual server shows it: fewer entries, under the names that it gives them."""
    shown = Group(group.name, group.balancer)
    shown.replicas = group.replicas
    uis: set[str] = set()
    for kind in Kind:  # tools come first: their user interfaces are resources
        selection = server.selection(kind)
        taken: dict[str, Route] = {}
        given: set[str] = set()
        for name, route in group.routes[kind].items():
            hints = _hints(kind, route) if selection is not None and selection.hints else {}
            is_shown = selection is None or selection.shows(kind, group.name, name, hints)
            is_ui = name in uis and (selection is None or not selection.excludes(kind, group.name, name))
            if not (is_shown or (kind is Kind.RESOURCES and is_ui)):
                continue
            if route.entry.ui:
                uis.add(route.entry.ui)
            override = server.override(kind, group.name, name)
            own, shown_route = name, route
            if override is not None:
                shown_route = overridden(route, override)
                if override.name is not None and kind in (Kind.TOOLS, Kind.PROMPTS):
                    own = override.name
                    given.add(own)
            if own not in given or override is not None:
                taken[own] = shown_route
        shown.routes[kind] = taken
        shown.given[kind] = frozenset(given)
        of_one = group.own.get(kind)
        if of_one:
            shown.own[kind] = frozenset(own for own, route in taken.items() if route.entry.name in of_one)
    return shown


def _hints(kind: Kind, route: Route) -> Mapping[str, Any]:
    """Return a tool's annotations."""
    if kind is not Kind.TOOLS:
        return {}
    found = orjson.loads(route.entry.modern).get("annotations")
    return found if isinstance(found, dict) else {}


def overridden(route: Route, override: Override) -> Route:
    """Return a route with what is said of its entry. Retries, rules of access and headers go by the upstream's word."""
    entry = route.entry
    changed = structs.replace(
        entry,
        modern=_document(entry, entry.modern, override),
        legacy=None if entry.legacy is None else _document(entry, entry.legacy, override),
        said=entry.modern,
    )
    shape = shape_of(override.arguments) if entry.kind in (Kind.TOOLS, Kind.PROMPTS) else None
    return structs.replace(route, entry=changed, shape=shape)


def _document(entry: Entry, raw: bytes, override: Override) -> bytes:
    """Return the JSON of an entry with what is said of it."""
    found: dict[str, Any] = orjson.loads(raw)
    for member, text in (("title", override.title), ("description", override.description)):
        if text is not None:
            found[member] = text
    if override.annotations:
        before = found.get("annotations")
        found["annotations"] = {**(before if isinstance(before, dict) else {}), **override.annotations}
    if override.title is not None and entry.kind is Kind.TOOLS:
        before = found.get("annotations")
        if isinstance(before, dict) and "title" in before and "title" not in override.annotations:
            found["annotations"] = {**before, "title": override.title}  # where clients looked before 2025-06-18
    if override.arguments and entry.kind is Kind.TOOLS:
        found["inputSchema"] = _schema(found.get("inputSchema"), override.arguments)
    elif override.arguments and entry.kind is Kind.PROMPTS:
        found["arguments"] = list(_prompt_arguments(found.get("arguments"), override.arguments))
    return orjson.dumps(found)


def _prompt_arguments(arguments: Any, said: Mapping[str, Argument]) -> Iterable[Any]:
    for one in arguments if isinstance(arguments, list) else ():
        argument = said.get(str(one.get("name"))) if isinstance(one, dict) else None
        if argument is None:
            yield one
        elif not argument.closed:
            yield {**one, "required": False}


def _schema(schema: Any, arguments: Mapping[str, Argument]) -> Any:
    """Return a schema without the arguments that clients cannot set, in which those with a value are not required.

    What a client sends is not checked against it: the upstream goes by its own.
    """
    if not isinstance(schema, dict):
        return schema
    found = dict(schema)
    properties = schema.get("properties")
    if isinstance(properties, dict):
        found["properties"] = {
            name: _with_default(one, arguments[name]) if name in arguments else one
            for name, one in properties.items()
            if name not in arguments or not arguments[name].closed
        }
    required = schema.get("required")
    if isinstance(required, list):
        found["required"] = [one for one in required if not isinstance(one, str) or one not in arguments]
        if not found["required"]:
            del found["required"]
    for key in _APPLICATORS:
        parts = schema.get(key)
        if isinstance(parts, list):
            made = [_schema(one, arguments) for one in parts]
            found[key] = made
            if key == "oneOf" and made != parts and "anyOf" not in schema:
                found["anyOf"] = found.pop(key)  # branches that an argument told apart may now hold together
    return found


def _with_default(schema: Any, argument: Argument) -> Any:
    return {**schema, "default": orjson.loads(argument.value)} if isinstance(schema, dict) else schema
