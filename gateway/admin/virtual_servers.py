"""Handlers of the admin API about virtual servers."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import msgspec
from aiohttp import web

from gateway.admin.schemas import ShownVirtualServer
from gateway.fleet.registry_view import RegistryView
from gateway.http.bodies import BodyReader
from gateway.routing.view import View
from shared.errors import ConfigError, EntryExists, EntryNotFound
from shared.mcp.listings import Kind
from shared.registry.virtual_servers import Declared, VirtualServerStore
from shared.virtual_servers import LIST_OF, VirtualServer, read

_MOST_NOTES = 100


class VirtualServersApi:
    """The handlers. They are behind the checks of rights that ``routes`` adds."""

    def __init__(self, store: VirtualServerStore, registry: RegistryView, bodies: BodyReader) -> None:
        self._store = store
        self._registry = registry
        self._bodies = bodies

    async def all(self, request: web.Request) -> web.Response:
        """``GET /admin/v1/virtual-servers``: all, with what they show now."""
        await self._registry.catch_up()
        return _json([self._shown(name, one) for name, one in sorted((await self._store.all()).items())])

    async def one(self, request: web.Request) -> web.Response:
        """``GET /admin/v1/virtual-servers/{name}``: one, with what it shows now."""
        await self._registry.catch_up()
        name = request.match_info["name"]
        found = await self._store.read(name)
        if found is None:
            raise EntryNotFound(
                f"there is no virtual server {name!r}; 'gateway virtual list' shows those that there are"
            )
        return _json(self._shown(name, found))

    async def put(self, request: web.Request) -> web.Response:
        """``PUT /admin/v1/virtual-servers/{name}``: make or change one. Raises ``EntryExists`` for a group's name."""
        name = request.match_info["name"]
        try:
            written = msgspec.json.decode(await self._bodies.read(request))
        except RecursionError as error:
            raise ConfigError("body: nested too deeply") from error
        server = read(name, written)
        await self._registry.catch_up()
        if name in self._registry.catalog.groups and name not in self._registry.catalog.virtual:
            raise EntryExists(f"there is a group {name!r}, which is served at /servers/{name}: choose another name")
        declared = Declared("api", server)
        made = await self._store.put(declared)
        await self._registry.catch_up()
        return _json(self._shown(name, declared), 201 if made else 200)

    async def remove(self, request: web.Request) -> web.Response:
        """``DELETE /admin/v1/virtual-servers/{name}``: remove one that no file declares."""
        await self._store.remove(request.match_info["name"])
        return web.Response(status=204)

    def _shown(self, name: str, one: Declared) -> ShownVirtualServer:
        known = name in self._registry.catalog.virtual
        view = self._registry.catalog.view(name) if known else None
        lists = {kind: [entry.name for entry in view.lists[kind]] if view is not None else [] for kind in Kind}
        return ShownVirtualServer(
            name=name,
            source=one.source,
            document=one.server.document,
            tools=lists[Kind.TOOLS],
            prompts=lists[Kind.PROMPTS],
            resources=lists[Kind.RESOURCES],
            resource_templates=lists[Kind.TEMPLATES],
            notes=list(self._notes(one.server, view))[:_MOST_NOTES] if view is not None else [],
        )

    def _notes(self, server: VirtualServer, view: View) -> Iterator[str]:
        """Yield what of a document has no effect now, or hides something that it does not name."""
        if server.name in self._registry.catalog.groups:
            yield f"there is a group {server.name!r} as well, which has no endpoint of its own while this is there"
        shown = {
            f"{word}{route.group}/{route.entry.name}"
            for kind, routes in view.routes.items()
            for route in routes.values()
            for word in ("", f"{LIST_OF[kind]}:")
        }
        for place, said in server.overrides.items():
            if place not in shown:
                yield f"override.{place}: nothing of this name is shown"
            elif said.name is not None:
                yield from self._hidden_by(server, place, said.name)

    def _hidden_by(self, server: VirtualServer, place: str, name: str) -> Iterator[str]:
        """Yield the entry of the same group that is not shown because an override gave its name to another one."""
        kind, _, plain = place.partition(":") if place.startswith(("tools:", "prompts:")) else ("", "", place)
        for group in self._registry.catalog.groups.values():
            if not plain.startswith(f"{group.name}/"):
                continue
            for one in (Kind.TOOLS, Kind.PROMPTS):
                has_both = name in group.routes[one] and plain.removeprefix(f"{group.name}/") in group.routes[one]
                own = server.override(one, group.name, name)
                if kind in ("", LIST_OF[one]) and has_both and (own is None or own.name is None):
                    yield f"{group.name}/{name} is not shown: override.{place} has its name"


def _json(value: Any, status: int = 200) -> web.Response:
    return web.Response(body=msgspec.json.encode(value), status=status, content_type="application/json")
