"""HTTP handlers of the admin API, ``/healthz``, ``/readyz`` and ``/metrics``.

A handler checks the request, calls ``queries`` or ``commands``, and encodes the result.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

import msgspec
from aiohttp import web

from gateway.admin.access import AccessApi
from gateway.admin.commands import Commands
from gateway.admin.queries import Queries
from gateway.admin.rights import AdminRights
from gateway.admin.schemas import Change, ErrorBody, Registration, openapi
from gateway.admission.dns_rebinding import RebindingGuard
from gateway.admission.request_head import is_json
from gateway.http.bodies import BodyReader
from shared.errors import ConfigError, EntryNotFound, GatewayError
from shared.metrics.exposition import CONTENT_TYPE
from shared.registry.records import UpstreamRecord
from shared.settings import Settings
from shared.version import VERSION

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


def _json(value: Any, status: int = 200) -> web.Response:
    return web.Response(body=msgspec.json.encode(value), status=status, content_type="application/json")


def add_admin_routes(
    app: web.Application,
    queries: Queries,
    commands: Commands,
    settings: Settings,
    bodies: BodyReader,
    rights: AdminRights,
    access: AccessApi,
) -> None:
    """Add the routes of the admin API, the health endpoints and ``/metrics`` to an application."""
    guard = RebindingGuard(settings, settings.access.admin_origins, any_origin=False)
    api = _AdminApi(queries, commands, guard, rights, bodies, access)
    app.router.add_get("/healthz", api.healthz)
    app.router.add_get("/readyz", api.readyz)
    app.router.add_get("/metrics", api.metrics if settings.access.open_metrics else api.guarded(api.metrics))
    for method, path, handler in (
        ("GET", "servers", api.servers),
        ("POST", "servers", api.register),
        ("GET", "servers/{id}", api.server),
        ("PATCH", "servers/{id}", api.change),
        ("DELETE", "servers/{id}", api.unregister),
        ("GET", "servers/{id}/logs", api.logs),
        ("GET", "tools", api.tools),
        ("GET", "health", api.health),
        ("GET", "workers", api.workers),
        ("GET", "frontends", api.frontends),
        ("GET", "restarts", api.restarts),
        ("GET", "sessions", api.sessions),
        ("DELETE", "sessions/{id}", api.end_session),
        ("GET", "explain", api.explain),
        ("GET", "keys", access.keys),
        ("POST", "keys", access.create),
        ("DELETE", "keys/{name}", access.revoke),
        ("GET", "access/explain", access.explain),
        ("GET", "audit", access.audit),
        ("GET", "openapi.json", api.openapi),
    ):
        app.router.add_route(method, f"/admin/v1/{path}", api.guarded(handler))


class _AdminApi:
    def __init__(
        self,
        queries: Queries,
        commands: Commands,
        guard: RebindingGuard,
        rights: AdminRights,
        bodies: BodyReader,
        access: AccessApi,
    ) -> None:
        self._access = access
        self._queries = queries
        self._commands = commands
        self._guard = guard
        self._rights = rights
        self._bodies = bodies

    def guarded(self, handler: Handler) -> Handler:
        """Return ``handler`` behind the checks of Host, Origin and rights; errors are answered as JSON."""

        async def guarded(request: web.Request) -> web.StreamResponse:
            headers = request.headers
            foreign = self._guard.refusal(headers.get("Host"), headers.get("Origin"), headers.get("Sec-Fetch-Site"))
            if foreign is not None:
                return _json(ErrorBody(foreign, "forbidden"), 403)
            if not await self._rights.may(request):
                await self._rights.slow_down(request)
                return _json(
                    ErrorBody(self._rights.needed, "forbidden"),
                    401,
                )
            if request.can_read_body and not is_json(headers.get("Content-Type", "")):
                text = "a request needs the header 'Content-Type: application/json'"
                return _json(ErrorBody(text, "content_type"), 415)
            try:
                response = await handler(request)
                self._access.note_change(request, response.status)
                return response
            except GatewayError as error:
                self._access.note_change(request, error.wire.http)
                return _json(ErrorBody(str(error), error.code), error.wire.http)
            except (msgspec.ValidationError, msgspec.DecodeError) as error:
                return _json(ErrorBody(f"body: {error}", "config"), 400)

        return guarded

    # ---- alive and ready

    async def healthz(self, request: web.Request) -> web.Response:
        return _json({"status": "alive", "version": VERSION})

    async def readyz(self, request: web.Request) -> web.Response:
        ready = self._queries.ready()
        return _json({"ready": ready, "redis": self._queries.redis_available}, 200 if ready else 503)

    async def metrics(self, request: web.Request) -> web.Response:
        scope = request.query.get("scope", "instance")
        if scope not in ("instance", "fleet"):
            return _json(ErrorBody("scope is 'instance' or 'fleet'", "config"), 400)
        try:
            text = await self._queries.metrics(scope == "fleet")
        except GatewayError as error:
            return _json(ErrorBody(str(error), error.code), error.wire.http)
        return web.Response(body=text, headers={"Content-Type": CONTENT_TYPE})

    # ---- the registry

    async def servers(self, request: web.Request) -> web.Response:
        return _json(await self._queries.servers())

    async def server(self, request: web.Request) -> web.Response:
        return _json(await self._queries.server(request.match_info["id"]))

    async def logs(self, request: web.Request) -> web.Response:
        return _json(await self._queries.logs(request.match_info["id"]))

    async def register(self, request: web.Request) -> web.Response:
        spec = self._commands.registration(msgspec.json.decode(await self._bodies.read(request), type=Registration))
        self._rights.check_registration(request, spec)
        replace = request.query.get("replace") in ("true", "1")
        record = await self._commands.register(spec, replace)
        return _json(record.entry(), 200 if replace else 201)

    async def change(self, request: web.Request) -> web.Response:
        record = self._queries.record(request.match_info["id"])
        changed = self._commands.changed(
            record.spec, msgspec.json.decode(await self._bodies.read(request), type=Change)
        )
        if changed.connection != record.spec.connection:
            self._rights.check_registration(request, changed)
        await self._commands.update(changed)
        return _json(UpstreamRecord(changed, record.sequence).entry())

    async def unregister(self, request: web.Request) -> web.Response:
        id = request.match_info["id"]
        try:
            force = request.query.get("force") in ("true", "1")
            await self._commands.unregister(id, self._queries.spec(id), force)
        except EntryNotFound as error:
            raise self._queries.unknown(id) from error
        return web.Response(status=204)

    # ---- state

    async def tools(self, request: web.Request) -> web.Response:
        return _json(self._queries.tools(request.query.get("server")))

    async def health(self, request: web.Request) -> web.Response:
        return _json(await self._queries.health())

    async def workers(self, request: web.Request) -> web.Response:
        return _json(await self._queries.workers())

    async def frontends(self, request: web.Request) -> web.Response:
        return _json(await self._queries.frontends())

    async def restarts(self, request: web.Request) -> web.Response:
        return _json(await self._queries.restarts())

    async def sessions(self, request: web.Request) -> web.Response:
        return _json(await self._queries.sessions())

    async def end_session(self, request: web.Request) -> web.Response:
        await self._commands.end_session(request.match_info["id"])
        return web.Response(status=204)

    async def explain(self, request: web.Request) -> web.Response:
        tool = request.query.get("tool")
        if not tool:
            raise ConfigError("name the tool: /admin/v1/explain?tool=NAME")
        return _json(await self._queries.explain(tool))

    async def openapi(self, request: web.Request) -> web.Response:
        return _json(openapi(VERSION))
