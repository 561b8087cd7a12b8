"""Handlers of the admin API, ``/healthz``, ``/readyz`` and ``/metrics``.

On loopback without a token; anywhere else ``GATEWAY_ADMIN_TOKEN`` as a bearer token. Registering a stdio upstream
runs a
command on the worker's host: it needs the token *and* ``allowStdioRegistration``; on loopback without a token it
is left to whoever may use this machine's command line, through Redis.
"""

from __future__ import annotations

import hmac
import ipaddress
from collections.abc import Awaitable, Callable
from copy import deepcopy
from typing import TYPE_CHECKING, Any

import msgspec
import orjson
from aiohttp import web

from gateway import __version__
from gateway.admin.schemas import Candidate, Change, ErrorBody, Explanation, ListedTool, Registration, openapi
from gateway.routing import router
from gateway.telemetry.prometheus import exposition
from shared.errors import CallError, ConfigError, EntryNotFound, GatewayError, RegistryUnavailable
from shared.mcp.listings import Kind
from shared.models import Connection, UpstreamSpec, make_spec, unmasked
from shared.registry.client import translated
from shared.registry.records import UpstreamRecord

if TYPE_CHECKING:
    from gateway.app import FrontEnd

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


def _json(value: Any, status: int = 200) -> web.Response:
    return web.Response(body=msgspec.json.encode(value), status=status, content_type="application/json")


class AdminApi:
    """See the module."""

    def __init__(self, front: FrontEnd) -> None:
        self._front = front

    def add_to(self, app: web.Application) -> None:
        """Add the routes."""
        router = app.router
        router.add_get("/healthz", self._healthz)
        router.add_get("/readyz", self._readyz)
        router.add_get("/metrics", self._guarded(self._metrics))
        for method, path, handler in (
            ("GET", "servers", self._servers),
            ("POST", "servers", self._register),
            ("GET", "servers/{id}", self._server),
            ("PATCH", "servers/{id}", self._change),
            ("DELETE", "servers/{id}", self._unregister),
            ("GET", "servers/{id}/logs", self._logs),
            ("GET", "tools", self._tools),
            ("GET", "health", self._health),
            ("GET", "workers", self._workers),
            ("GET", "frontends", self._frontends),
            ("GET", "restarts", self._restarts),
            ("GET", "sessions", self._sessions),
            ("DELETE", "sessions/{id}", self._end_session),
            ("GET", "explain", self._explain),
            ("GET", "openapi.json", self._openapi),
        ):
            router.add_route(method, f"/admin/v1/{path}", self._guarded(handler))

    # ---- who may

    def _guarded(self, handler: Handler) -> Handler:
        async def guarded(request: web.Request) -> web.StreamResponse:
            refused = self._front.legacy.refusal(request)
            if refused is not None:
                return refused
            if not self._trusted(request):
                return _json(
                    ErrorBody("the admin API needs 'Authorization: Bearer GATEWAY_ADMIN_TOKEN' here", "forbidden"),
                    401,
                )
            try:
                return await handler(request)
            except GatewayError as error:
                return _json(ErrorBody(str(error), error.code), error.wire.http)
            except (msgspec.ValidationError, msgspec.DecodeError) as error:
                return _json(ErrorBody(f"body: {error}", "config"), 400)

        return guarded

    def _has_token(self, request: web.Request) -> bool:
        token = self._front.settings.access.admin_token
        sent = request.headers.get("Authorization", "").removeprefix("Bearer ")
        return bool(token) and hmac.compare_digest(sent.encode("utf-8", "surrogateescape"), token.encode())

    def _trusted(self, request: web.Request) -> bool:
        if self._has_token(request):
            return True
        # A reverse proxy on this machine would make everyone look local; what it forwards says so.
        if any(name in request.headers for name in ("Forwarded", "X-Forwarded-For", "X-Real-Ip")):
            return False
        try:
            peer = ipaddress.ip_address(request.remote or "")
        except ValueError:
            return False
        return peer.is_loopback and is_loopback_host(self._front.settings.service.host)

    # ---- alive and ready

    async def _healthz(self, request: web.Request) -> web.Response:
        return _json({"status": "alive", "version": __version__})

    async def _readyz(self, request: web.Request) -> web.Response:
        ready = self._front.ready
        return _json({"ready": ready, "redis": self._front.watcher.available}, 200 if ready else 503)

    async def _metrics(self, request: web.Request) -> web.Response:
        front = self._front
        try:
            frontends = await front.members.alive()
        except RegistryUnavailable:
            frontends = {}
        frontends[front.id] = front.facts()
        text = exposition(front.id, front.stats, frontends, front.watcher.records.values(), len(front.pool.clients))
        return web.Response(body=text, content_type="text/plain", charset="utf-8")

    # ---- the registry

    def _record(self, request: web.Request) -> UpstreamRecord:
        id = request.match_info["id"]
        record = self._front.watcher.records.get(id)
        if record is None:
            raise EntryNotFound(f"no upstream {id!r}; see 'gateway servers list'")
        return record

    async def _servers(self, request: web.Request) -> web.Response:
        known = await self._as_of_now()
        records = sorted(known.values(), key=lambda record: record.sequence)
        return _json([record.entry(with_tools=False) for record in records])

    async def _server(self, request: web.Request) -> web.Response:
        record = self._record(request)
        now = await self._as_of_now(record.spec.id)
        return _json(now.get(record.spec.id, record).entry())

    async def _as_of_now(self, *ids: str) -> dict[str, UpstreamRecord]:
        """What Redis says of these (none: of all), where results of probes are batched and not announced one by one;
        without it, our copy. Calls that come here after the answer are routed by what it shows."""
        store = self._front.store
        try:
            found = await (store.load(ids) if ids else store.load_all())
        except RegistryUnavailable:
            return dict(self._front.watcher.records)
        await self._front.watcher.catch_up()
        return {id: record for id, record in found.items() if record is not None}

    async def _logs(self, request: web.Request) -> web.Response:
        record = self._record(request)
        async with translated():
            lines = await self._front.store.redis.lrange(self._front.store.keys.logs(record.spec.id), 0, -1)
        return _json([line.decode("utf-8", "replace") for line in lines])

    async def _register(self, request: web.Request) -> web.Response:
        body = msgspec.json.decode(await request.read(), type=Registration)
        spec = make_spec(
            body.id,
            unmasked(body.connection),
            name=body.name,
            transport=body.transport,
            separator=self._front.settings.routing.separator,
            weight=body.weight,
            metadata=body.metadata,
            isolation=body.isolation,
            era=body.era,
            balancer=body.balancer,
        )
        self._check_stdio(request, spec)
        await self._front.store.register(spec)
        return _json(UpstreamRecord(spec, 0).entry(), 201)

    def _check_stdio(self, request: web.Request, spec: UpstreamSpec) -> None:
        if spec.transport != "stdio":
            return
        if not (self._has_token(request) and self._front.settings.access.allow_stdio_registration):
            raise CallError(
                "forbidden",
                "registering a stdio upstream over HTTP runs a command: it needs GATEWAY_ADMIN_TOKEN and "
                "allowStdioRegistration (GATEWAY_ALLOW_STDIO_REGISTRATION=true); or use the configuration file",
            )

    async def _change(self, request: web.Request) -> web.Response:
        record = self._record(request)
        change = msgspec.json.decode(await request.read(), type=Change)
        changes = {
            name: getattr(change, name) for name in change.__struct_fields__ if getattr(change, name) is not None
        }
        spec = record.spec
        sent = changes.pop("connection", None)
        raw: dict[str, Any] | Connection = unmasked(sent, spec.connection) if sent is not None else spec.connection
        options = {name: getattr(spec, name) for name in ("weight", "metadata", "isolation", "era", "balancer")}
        changed = make_spec(
            spec.id,
            raw,
            name=spec.name,
            separator=self._front.settings.routing.separator,
            source=spec.source,
            **{**options, **changes},
        )
        if changed.connection != spec.connection:
            self._check_stdio(request, changed)
        await self._front.store.register(changed, mode="update")
        return _json(UpstreamRecord(changed, record.sequence).entry())

    async def _unregister(self, request: web.Request) -> web.Response:
        await self._front.store.unregister(request.match_info["id"])
        return web.Response(status=204)

    # ---- state

    async def _tools(self, request: web.Request) -> web.Response:
        wanted = request.query.get("server")
        found: list[ListedTool] = []
        for listed, route in self._front.watcher.catalog.routes[Kind.TOOLS].items():
            if wanted is not None and route.group != wanted:
                continue
            plain = orjson.loads(route.entry.modern)
            replicas = [replica.id for replica in route.replicas]
            found.append(
                ListedTool(
                    listed,
                    route.group,
                    route.entry.name,
                    replicas,
                    plain.get("description"),
                    plain.get("inputSchema") or {},
                )
            )
        return _json(found)

    async def _health(self, request: web.Request) -> web.Response:
        records = await self._as_of_now()
        return _json([record.health for record in records.values() if record.health is not None])

    async def _workers(self, request: web.Request) -> web.Response:
        return _json([{"id": id, **facts} for id, facts in (await self._front.workers.alive()).items()])

    async def _frontends(self, request: web.Request) -> web.Response:
        alive = await self._front.members.alive()
        alive[self._front.id] = self._front.facts()
        return _json([{"id": id, **facts} for id, facts in alive.items()])

    async def _restarts(self, request: web.Request) -> web.Response:
        async with translated():
            counts = await self._front.store.redis.hgetall(self._front.store.keys.restarts)
        return _json({name.decode(): int(count) for name, count in counts.items()})

    async def _sessions(self, request: web.Request) -> web.Response:
        return _json(await self._front.sessions.listing())

    async def _end_session(self, request: web.Request) -> web.Response:
        if not await self._front.sessions.revoke(request.match_info["id"]):
            raise EntryNotFound("no such session; see /admin/v1/sessions")
        return web.Response(status=204)

    async def _explain(self, request: web.Request) -> web.Response:
        tool = request.query.get("tool")
        if not tool:
            raise ConfigError("name the tool: /admin/v1/explain?tool=NAME")
        await self._front.watcher.catch_up()
        return _json(self._explanation(tool))

    def _explanation(self, tool: str) -> Explanation:
        watcher = self._front.watcher
        separator = watcher.settings.routing.separator
        route = router.find(watcher.catalog, Kind.TOOLS, tool, None, separator)
        if route is None:
            error = router.unknown(watcher.catalog, Kind.TOOLS, tool, None)
            close = ", ".join(error.data["closeMatches"])
            raise EntryNotFound(f"{error.message}{f'; close: {close}' if close else ''}")
        now = self._front.dispatcher.now()
        candidates = []
        for replica in route.replicas:
            record = replica.record
            up = replica.available(now)
            reason = (
                None
                if up
                else record.error or ("refused a call just now" if replica.suspect_until > now else record.status.value)
            )
            workers = [owner for _, owner in record.owners]
            candidates.append(
                Candidate(
                    replica.id,
                    record.status.value,
                    up,
                    reason,
                    replica.in_flight,
                    replica.in_flight_elsewhere,
                    replica.weight,
                    workers,
                    record.spec.isolation.value,
                )
            )
        strategy = type(route.balancer).__name__
        likely = [candidate for candidate in candidates if candidate.available]
        able = [replica for replica in route.replicas if replica.available(now)]
        turn = deepcopy(route.balancer).choose(able).id if able else None  # asking must not turn it
        choice, because = _why(strategy, likely, turn)
        return Explanation(tool, route.group, route.entry.name, strategy, candidates, choice, because)

    async def _openapi(self, request: web.Request) -> web.Response:
        return _json(openapi(__version__))


def _why(strategy: str, likely: list[Candidate], turn: str | None) -> tuple[str | None, str]:
    """The likely choice, and why; ``turn`` is what the balancer says."""
    if not likely:
        return None, "no replica is available; a call is answered with upstream_unavailable"
    if len(likely) == 1:
        return likely[0].id, "it is the only available replica"
    if strategy == "LeastConnections":
        least = min(likely, key=lambda one: one.in_flight + one.in_flight_elsewhere)
        return least.id, "it has the fewest calls in flight (ties are broken at random)"
    names = ", ".join(one.id for one in likely)
    if strategy == "RandomChoice":
        return None, f"one of {names}, at random"
    return (
        turn,
        f"of {names} it is its turn at this front end ({strategy}); a client session may be bound to another one",
    )


def is_loopback_host(host: str) -> bool:
    """Whether we listen on loopback only."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
