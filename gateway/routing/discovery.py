"""Searching for tools in place of listing them: views with two tools by which all others are found and called. Pure.

A ``SearchView`` lists ``search_tools`` and ``call_tool``, and leads to everything that the view shows from which it is
made. It is the last that is made of a view: rules of access have been applied before. Counterparts:
``protocol.tool_discovery`` answers the two tools, ``tool_index`` finds.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec
import orjson

from gateway.routing.derived import with_local_tools
from gateway.routing.local_tools import LocalTool
from gateway.routing.naming import compose, label
from gateway.routing.routes import Route
from gateway.routing.view import Listed, Lists, Routes, Scope, View, ViewKey
from shared.choices import Discovery
from shared.mcp.listings import Kind
from shared.virtual_servers import VirtualServer

DEFAULT_FOUND, MOST_FOUND = 5, 20
_BYTES_PER_TOKEN = 4
"""About as many bytes of a list of tools a model reads as one token."""


def _document(name: str, **members: Any) -> bytes:
    return msgspec.json.encode({"name": name, **members})


SEARCH_TOOLS = LocalTool(
    "search_tools",
    _document(
        "search_tools",
        title="Search tools",
        description="Find tools by what they do. Most tools of this server are not listed: search for what you need "
        "in a few words, such as 'create an issue on GitHub'. The result has names, descriptions and input schemas of "
        "the tools that fit best. Call them with call_tool, or by their own names.",
        inputSchema={
            "type": "object",
            "properties": {
                "query": {"type": "string", "description": "what the tool should do, in a few words"},
                "limit": {
                    "type": "integer",
                    "minimum": 1,
                    "maximum": MOST_FOUND,
                    "default": DEFAULT_FOUND,
                    "description": "how many tools to return, at most",
                },
            },
            "required": ["query"],
        },
        outputSchema={
            "type": "object",
            "properties": {
                "tools": {
                    "type": "array",
                    "items": {
                        "type": "object",
                        "properties": {
                            "name": {"type": "string"},
                            "title": {"type": "string"},
                            "description": {"type": "string"},
                            "inputSchema": {"type": "object"},
                        },
                        "required": ["name", "inputSchema"],
                    },
                }
            },
            "required": ["tools"],
        },
        annotations={"readOnlyHint": True, "idempotentHint": True, "openWorldHint": False},
    ),
    None,
)
CALL_TOOL = LocalTool(
    "call_tool",
    _document(
        "call_tool",
        title="Call a tool",
        description="Call a tool that search_tools has found. The result is that tool's own.",
        inputSchema={
            "type": "object",
            "properties": {
                "name": {"type": "string", "description": "the tool's name, as search_tools returned it"},
                "arguments": {"type": "object", "description": "what the tool's own inputSchema asks for"},
            },
            "required": ["name"],
        },
    ),
    None,
)


class SearchView(View):
    """A view in which tools are searched. ``searchable`` are those that can be found."""

    __slots__ = ("searchable", "synonyms")

    def __init__(
        self,
        key: ViewKey,
        scope: Scope,
        routes: Routes,
        lists: Lists,
        searchable: Sequence[Listed],
        synonyms: tuple[tuple[str, ...], ...],
    ) -> None:
        super().__init__(key, scope, routes, lists, whole=False)
        self.searchable = searchable
        self.synonyms = synonyms


def discovered(view: View, server: VirtualServer | None, asked: Discovery | None) -> View:
    """Return ``view`` as clients see it who search for tools, or ``view`` itself where tools are listed.

    ``asked`` is what the client asked for in its URL, or ``None``; ``server`` is the virtual server, or ``None``.
    """
    how = asked or (server.discovery if server is not None else None) or view.scope.settings.discovery
    if how is Discovery.AUTO:
        is_long = tokens(view.lists[Kind.TOOLS]) > view.scope.settings.discovery_threshold
        how = Discovery.SEARCH if is_long else Discovery.LIST
    return view if how is Discovery.LIST else searched(view, server)


def tokens(tools: Sequence[Listed]) -> int:
    """Return about how many tokens a list of tools costs a model."""
    return sum(len(one.route.entry.modern) for one in tools) // _BYTES_PER_TOKEN


def searched(view: View, server: VirtualServer | None) -> SearchView:
    """Return ``view`` with the two tools in place of its list, beside those that are always listed.

    An upstream's tool that has the name of one of the two is found under its longer name.
    """
    made = with_local_tools(view, view.key, (SEARCH_TOOLS, CALL_TOOL))
    taken = (SEARCH_TOOLS.name, CALL_TOOL.name)
    routes, tools = made.routes, view.lists[Kind.TOOLS]
    if any(name in view.routes[Kind.TOOLS] for name in taken):
        known = dict(made.routes[Kind.TOOLS])
        tools = [one if one.name not in taken else _renamed(one, view) for one in tools]
        known.update((one.name, one.route) for one in tools if one.name not in known)
        routes = {**routes, Kind.TOOLS: known}
    always = [one for one in tools if server is not None and _is_always_listed(server, one.route)]
    lists = {**view.lists, Kind.TOOLS: [*made.lists[Kind.TOOLS][: len(taken)], *always]}
    synonyms = server.synonyms if server is not None else ()
    return SearchView(view.key, view.scope, routes, lists, tools, synonyms)


def _renamed(one: Listed, view: View) -> Listed:
    """Return a tool whose name is taken, under its longer one."""
    return Listed(one.place, compose(label(one.route.group), one.name, view.scope.settings.separator), one.route)


def _is_always_listed(server: VirtualServer, route: Route) -> bool:
    selection = server.always_listed
    if not (selection.include or selection.hints):
        return False
    said = orjson.loads(route.entry.modern).get("annotations") if selection.hints else None
    return selection.shows(Kind.TOOLS, route.group, route.entry.name, said if isinstance(said, dict) else {})
