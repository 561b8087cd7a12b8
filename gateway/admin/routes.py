"""HTTP handlers of the admin API, ``/healthz``, ``/readyz`` and ``/metrics``.

A handler checks the request, calls ``queries`` or ``commands``, and encodes the result.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

import msgspec
from aiohttp import web
from msgspec import structs

from gateway.admin.access import AccessApi
from gateway.admin.commands import Commands
from gateway.admin.events import MOST_FOLLOWERS, told
from gateway.admin.openapi import openapi
from gateway.admin.pins import PinsApi
from gateway.admin.queries import Page, Queries
from gateway.admin.restarting import Restarting
from gateway.admin.rights import PRINCIPAL, RIGHTS, AdminRights
from gateway.admin.schemas import Change, DutySet, ErrorBody, LogLevel, Me, Registration, RestartAsked, ShownTransport
from gateway.admin.virtual_servers import VirtualServersApi
from gateway.admission.dns_rebinding import RebindingGuard, foreign_site
from gateway.admission.request_head import is_json
from gateway.http.bodies import BodyReader
from gateway.http.event_stream import EventStream
from gateway.http.heads import Process
from shared import logs
from shared.choices import Duty
from shared.errors import CallError, ConfigError, EntryNotFound, GatewayError
from shared.metrics.exposition import CONTENT_TYPE
from shared.registry.records import UpstreamRecord
from shared.settings import Settings
from shared.shown_settings import shown
from shared.transports import TRANSPORTS, UpstreamSessions
from shared.version import VERSION

_SIGN_OF_LIFE_S = 15.0
_ERRORS_BY = ("group", "upstream", "name", "principal", "outcome", "request")
_AS_WRITTEN = ("/admin/v1/", "/metrics")
Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


def _json(value: Any, status: int = 200) -> web.Response:
    return web.Response(body=msgspec.json.encode(value), status=status, content_type="application/json")


def _number(request: web.Request, name: str, default: str) -> int:
    text = request.query.get(name, default)
    if not text.isdecimal() or len(text) > 15:
        raise ConfigError(f"{name} must be a whole number, not {text!r}")
    return int(text)


def _page(request: web.Request) -> Page:
    limit = _number(request, "limit", "0") if "limit" in request.query else None
    return Page(request.query.get("search", ""), _number(request, "offset", "0"), limit)


def _counted(found: Any, total: int) -> web.Response:
    """Return a page of a list; a header says how many entries there are on all pages."""
    response = _json(found)
    response.headers["X-Total-Count"] = str(total)
    return response


def add_admin_routes(
    app: web.Application,
    queries: Queries,
    commands: Commands,
    restarting: Restarting,
    settings: Settings,
    bodies: BodyReader,
    rights: AdminRights,
    access: AccessApi,
    virtual: VirtualServersApi,
    pins: PinsApi,
) -> None:
    """Add the routes of the admin API, the health endpoints and ``/metrics`` to an application."""
    guard = RebindingGuard(settings, settings.access.admin_origins, any_origin=False)
    api = _AdminApi(queries, commands, restarting, guard, rights, bodies, access, settings)
    app.router.add_get("/healthz", api.healthz)
    app.router.add_get("/readyz", api.readyz)
    app.router.add_get("/metrics", api.metrics if settings.access.open_metrics else api.guarded(api.metrics))
    for method, path, handler in _routes(api, access, virtual, pins):
        app.router.add_route(method, f"/admin/v1/{path}", api.guarded(handler))


def _routes(
    api: _AdminApi, access: AccessApi, virtual: VirtualServersApi, pins: PinsApi
) -> tuple[tuple[str, str, Handler], ...]:
    """Return methods, paths and handlers of the admin API."""
    return (
        ("GET", "servers", api.servers),
        ("POST", "servers", api.register),
        ("GET", "servers/{id}", api.server),
        ("PATCH", "servers/{id}", api.change),
        ("DELETE", "servers/{id}", api.unregister),
        ("GET", "servers/{id}/logs", api.logs),
        ("POST", "servers/{id}/restart", api.restart_upstream),
        ("PUT", "servers/{id}/duty", api.set_duty),
        ("GET", "servers/{id}/pins", pins.all),
        ("GET", "servers/{id}/pins/{tool}", pins.one),
        ("PUT", "servers/{id}/pins/{tool}", pins.approve),
        ("DELETE", "servers/{id}/pins/{tool}", pins.withdraw),
        ("GET", "me", api.me),
        ("GET", "transports", api.transports),
        ("GET", "tools", api.tools),
        ("GET", "conflicts", api.conflicts),
        ("GET", "quarantine", api.quarantine),
        ("GET", "health", api.health),
        ("GET", "workers", api.workers),
        ("GET", "frontends", api.frontends),
        ("GET", "topology", api.topology),
        ("GET", "restarts", api.restarts),
        ("GET", "restart", api.last_restart),
        ("POST", "restart", api.restart),
        ("GET", "sessions", api.sessions),
        ("DELETE", "sessions/{id}", api.end_session),
        ("GET", "overview", api.overview),
        ("GET", "diagnosis", api.diagnosis),
        ("GET", "traffic", api.traffic),
        ("GET", "errors", api.errors),
        ("GET", "events", api.events),
        ("GET", "settings", api.shown_settings),
        ("GET", "log-level", api.log_level),
        ("PUT", "log-level", api.set_log_level),
        ("GET", "explain", api.explain),
        ("GET", "keys", access.keys),
        ("POST", "keys", access.create),
        ("DELETE", "keys/{name}", access.revoke),
        ("GET", "access/explain", access.explain),
        ("GET", "audit", access.audit),
        ("GET", "virtual-servers", virtual.all),
        ("GET", "virtual-servers/{name}", virtual.one),
        ("PUT", "virtual-servers/{name}", virtual.put),
        ("DELETE", "virtual-servers/{name}", virtual.remove),
        ("GET", "openapi.json", api.openapi),
    )


class _AdminApi:
    def __init__(
        self,
        queries: Queries,
        commands: Commands,
        restarting: Restarting,
        guard: RebindingGuard,
        rights: AdminRights,
        bodies: BodyReader,
        access: AccessApi,
        settings: Settings,
    ) -> None:
        self._access = access
        self._settings = settings
        self._queries = queries
        self._commands = commands
        self._restarting = restarting
        self._guard = guard
        self._rights = rights
        self._bodies = bodies

    def guarded(self, handler: Handler) -> Handler:
        """Return ``handler`` behind the checks of Host, Origin and rights; errors are answered as JSON."""

        async def guarded(request: web.Request) -> web.StreamResponse:
            if not request.rel_url.raw_path.startswith(_AS_WRITTEN):
                raise web.HTTPNotFound  # a proxy in front that closes /admin may not know /%61dmin
            headers = request.headers
            sites = headers.getall("Sec-Fetch-Site", (None,))
            foreign = self._guard.refusal(headers.get("Host"), headers.get("Origin"), foreign_site(sites))
            if foreign is not None:
                return _json(ErrorBody(foreign, "forbidden"), 403)
            if not await self._rights.may(request):
                await self._rights.slow_down(request)
                return _json(
                    ErrorBody(self._rights.needed, "forbidden"),
                    401,
                )
            has_body = request.can_read_body or request.method == "POST"
            if has_body and not is_json(*headers.getall("Content-Type", ())):
                text = "a request needs the header 'Content-Type: application/json'"
                return _json(ErrorBody(text, "content_type"), 415)
            try:
                response = await handler(request)
                self._access.note_change(request, response.status)
                return response
            except GatewayError as error:
                self._access.note_change(request, error.wire.http)
                return _json(ErrorBody(str(error), error.code), error.wire.http)
            except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
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
        status = request.query.get("status", "")
        if status or "search" in request.query or "offset" in request.query:
            return _counted(*self._queries.page_of_servers(_page(request), status))
        limit = _number(request, "limit", "0")
        entries, next_after = await self._queries.servers(limit, request.query.get("after", ""))
        response = _counted(entries, self._queries.registered)
        if next_after:
            following = request.rel_url.update_query(after=next_after)
            response.headers["Link"] = f'<{following}>; rel="next"'
        return response

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

    async def restart_upstream(self, request: web.Request) -> web.Response:
        record = self._queries.record(request.match_info["id"])
        if record.duty is Duty.DISABLED:
            raise ConfigError(
                f"upstream {record.spec.id!r} is disabled, so there is nothing to restart; enable it first"
            )
        await self._commands.restart(record.spec.id)
        return web.Response(status=204)

    async def set_duty(self, request: web.Request) -> web.Response:
        wanted = msgspec.json.decode(await self._bodies.read(request), type=DutySet)
        id = self._queries.record(request.match_info["id"]).spec.id
        await self._commands.set_duty(id, wanted.duty)
        return _json(await self._queries.server(id))

    # ---- state

    async def me(self, request: web.Request) -> web.Response:
        return _json(
            Me(
                principal=request.get(PRINCIPAL, ""),
                rights="write" if request[RIGHTS] == "write" else "read",
                commands=self._rights.may_run_commands(request),
                roles=self._access.roles,
                keys=self._access.takes_keys,
                audit=self._access.has_audit,
            )
        )

    async def transports(self, request: web.Request) -> web.Response:
        return _json(
            [
                ShownTransport(row.name, row.title, row.key, row.sessions is UpstreamSessions.PROCESS)
                for row in TRANSPORTS.values()
            ]
        )

    async def tools(self, request: web.Request) -> web.Response:
        schemas = request.query.get("schemas", "true") in ("true", "1")
        return _counted(*self._queries.tools(request.query.get("server"), _page(request), schemas))

    async def conflicts(self, request: web.Request) -> web.Response:
        return _json(self._queries.conflicts())

    async def quarantine(self, request: web.Request) -> web.Response:
        return _json(self._queries.quarantine())

    async def errors(self, request: web.Request) -> web.Response:
        wanted = {name: request.query[name] for name in _ERRORS_BY if name in request.query}
        return _json(await self._queries.errors(_number(request, "limit", "100"), wanted))

    async def health(self, request: web.Request) -> web.Response:
        return _json(await self._queries.health())

    async def workers(self, request: web.Request) -> web.Response:
        return _json(await self._queries.workers())

    async def frontends(self, request: web.Request) -> web.Response:
        return _json(await self._queries.frontends())

    async def topology(self, request: web.Request) -> web.Response:
        return _json(await self._queries.topology())

    async def restarts(self, request: web.Request) -> web.Response:
        return _json(await self._queries.restarts())

    async def last_restart(self, request: web.Request) -> web.Response:
        return _json(await self._restarting.last())

    async def restart(self, request: web.Request) -> web.Response:
        return _json(RestartAsked(await self._restarting.ask()), 202)

    async def sessions(self, request: web.Request) -> web.Response:
        return _json(await self._queries.sessions())

    async def end_session(self, request: web.Request) -> web.Response:
        await self._commands.end_session(request.match_info["id"])
        return web.Response(status=204)

    async def overview(self, request: web.Request) -> web.Response:
        return _json(await self._queries.overview())

    async def diagnosis(self, request: web.Request) -> web.Response:
        access = self._access
        found = await self._queries.diagnosis()
        return _json(structs.replace(found, audit=access.audit_trouble, authorization_servers=access.server_troubles))

    async def traffic(self, request: web.Request) -> web.Response:
        return _json(await self._queries.traffic())

    async def events(self, request: web.Request) -> web.StreamResponse:
        """Answer with the events that are kept, or follow with an event stream for who asks for one."""
        log = self._queries.events
        after = _number(request, "after", request.headers.get("Last-Event-ID", "0"))
        if "text/event-stream" not in request.headers.get("Accept", ""):
            return _json(log.recent(after))
        follower = log.follow()
        if follower is None:
            raise CallError("overloaded", f"{MOST_FOLLOWERS} follow the events of this front end already")

        def over() -> bool:
            return Process.draining or not self._rights.last(request)

        try:
            stream = EventStream()
            await stream.open(request)
            for event in log.recent(after):
                await stream.send(msgspec.json.encode(event), str(event.sequence))
            async for told_event in told(follower, _SIGN_OF_LIFE_S, over):
                if told_event is None:
                    await stream.comment()
                    continue
                if follower.dropped:
                    await stream.report_dropped(follower.dropped, as_log_message=False)
                    follower.dropped = 0
                await stream.send(msgspec.json.encode(told_event), str(told_event.sequence))
            return await stream.end()
        finally:
            log.leave(follower)

    async def shown_settings(self, request: web.Request) -> web.Response:
        return _json(shown(self._settings))

    async def log_level(self, request: web.Request) -> web.Response:
        return _json(LogLevel(logs.level()))

    async def set_log_level(self, request: web.Request) -> web.Response:
        wanted = msgspec.json.decode(await self._bodies.read(request), type=LogLevel)
        await self._commands.set_log_level(wanted.level)
        return _json(wanted)

    async def explain(self, request: web.Request) -> web.Response:
        tool = request.query.get("tool")
        if not tool:
            raise ConfigError("name the tool: /admin/v1/explain?tool=NAME")
        server = request.query.get("server", "")
        explanation = await self._queries.explain(tool, server)
        if "as" in request.query:
            claims = request.query.get("claims", "")
            explanation.access = await self._access.explained(tool, request.query["as"], claims, server)
        return _json(explanation)

    async def openapi(self, request: web.Request) -> web.Response:
        return _json(openapi(VERSION))
