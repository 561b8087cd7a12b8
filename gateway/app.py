"""Composition root of a front end, and the factory that gunicorn calls (``gateway.app:create``).

``POST /mcp`` is taken before aiohttp's application sees it (its routing and middleware machinery costs 14-17 µs a
request); everything else, and browsers (which send ``Origin`` and want CORS), goes through ordinary routes.
"""

from __future__ import annotations

import asyncio
import json
import logging
import os
import secrets
import socket
from typing import Any

from aiohttp import web
from aiohttp.http import RawRequestMessage
from aiohttp.streams import StreamReader

from gateway import __version__
from gateway.admin.routes import AdminApi
from gateway.admission.dns_rebinding import RebindingGuard
from gateway.fleet.dispatch import Dispatcher
from gateway.fleet.exchange import InFlightExchange
from gateway.fleet.pool import WorkerPool
from gateway.fleet.registry_view import RegistryView
from gateway.fleet.resource_watches import ResourceWatches
from gateway.http.responses import JsonAnswer, Process
from gateway.listener.lane import Lane
from gateway.protocol.endpoint import McpDoor
from gateway.protocol.http_sse import SseDoor
from gateway.protocol.legacy import LegacyDoor
from gateway.protocol.methods import Requests
from gateway.protocol.modern import ModernDoor
from gateway.sessions.table import SessionTable
from gateway.streams.standing_streams import StandingStreams
from gateway.streams.subscriptions import StreamSubscriptions
from gateway.streams.unsolicited import UnsolicitedMessages
from gateway.telemetry.counters import Counters
from shared import logs, memory
from shared.errors import RegistryUnavailable
from shared.models import now_s
from shared.registry.members import Members
from shared.registry.store import RegistryStore
from shared.settings import Settings, build
from shared.tasks import cancel, spawn

_log = logging.getLogger(__name__)
_NEVER_S = 1e9


class FrontEnd:
    """One front-end process: everything that serves, wired together."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.id = secrets.token_hex(6)
        self.started_at = now_s()
        self.stats = Counters()
        self.store = RegistryStore(settings.registry)
        self.members = Members(self.store, "frontend", settings.fleet.heartbeat_ttl_s)
        self.workers = Members(self.store, "worker", settings.fleet.heartbeat_ttl_s)
        self._tasks: list[asyncio.Task[None]] = []
        self._beat_now = asyncio.Event()
        self.lane: Lane | None = None

    async def start(self) -> None:
        """Join the fleet; returns when requests can be served. Raises ``RegistryUnavailable`` without Redis."""
        settings = self.settings
        key = await self.store.fleet_key(settings.access.secret)
        self.watcher = RegistryView(self.store, settings)
        self.pool = WorkerPool(self.workers, self.id, key, settings)
        self.sessions = SessionTable(self.store, self.members, self.id, key, settings.sessions)
        self.dispatcher = Dispatcher(
            self.watcher,
            self.pool,
            self.sessions,
            self.stats,
            settings.calls.max_inflight,
            settings.calls.request_timeout_s,
        )
        self.subscriptions = ResourceWatches(self.watcher, self.pool, self.dispatcher, settings)
        self.interests = StreamSubscriptions(self.watcher, self.dispatcher, self.subscriptions, self.sessions, settings)
        self.streams = StandingStreams(self.store, self.id, self.interests, self.sessions, settings.sessions)
        requests = self._requests = Requests(
            self.watcher, self.dispatcher, self.interests, self.stats, key, settings, __version__
        )
        guard = self._guard = RebindingGuard(settings)
        self.legacy = LegacyDoor(
            guard, requests, self.sessions, self.streams, self.pool, settings.sessions.stream_retry_s
        )
        limit = settings.calls.max_body_bytes
        self._modern = ModernDoor(requests, self.streams)
        self.mcp = McpDoor(guard, self._modern, self.legacy, limit)
        self.sse = SseDoor(self.legacy, requests, self.sessions, self.streams, self.id, limit)
        self.watcher.on_lists_changed = self.streams.announce
        self.streams.place = lambda: self.watcher.follower.place
        self.streams.available = lambda: self.watcher.available
        self.streams.on_question = self.pool.news
        self.pool.has_stream = self.streams.has
        kept = settings.sessions
        asides = UnsolicitedMessages(self.sessions, self.streams, self.pool, kept.stream_buffer, kept.replay_bytes)
        self.pool.on_aside = asides.take
        self.watcher.on_workers_changed = self.pool.look
        self.watcher.on_session_gone = self._session_gone
        self.watcher.on_level = self._level_noted
        self.watcher.on_gap = self.sessions.recheck
        self.pool.on_change = self.watcher.wake
        self.pool.on_updated = self.subscriptions.updated
        exchange = InFlightExchange(
            self.store, self.members, self.id, self.watcher, settings.routing.inflight_exchange_s
        )
        self._tasks = [
            spawn(self.watcher.follower.run(), "follow-changes"),
            spawn(self.pool.run(), "worker-links"),
            spawn(self.watcher.expire_grace(), "catalogue-grace"),
            spawn(self.streams.follow_wakeups(), "wake-ups"),
            spawn(self.streams.keep_alive(), "stream-keepalive"),
            spawn(exchange.run(), "in-flight-exchange"),
            spawn(self.subscriptions.keep(), "subscriptions"),
            spawn(self._tick(), "tick"),
        ]
        await self.watcher.follower.ready.wait()
        self.streams.begin()
        await self.members.join(self.id, self.facts())
        self._tasks.append(spawn(self._beat(), "heartbeat"))

    def open_lane(self, server: web.Server) -> Lane:
        """The express lane before aiohttp's server."""
        keepalive_s = self.settings.service.keepalive_s
        return Lane(server, self._guard, self._requests, self._modern, self.legacy, keepalive_s)

    def _session_gone(self, sid: str) -> None:
        session = self.sessions.forget(sid)
        if session is not None:
            for in_flight in session.calls:
                in_flight.cancel("the session ended")
        self.streams.end_session(sid)
        self.pool.end_session(sid)
        self._beat_now.set()  # whoever ended it waits until we say that we know

    def _level_noted(self, sid: str, level: str) -> None:
        self.interests.level_noted(sid, level)
        self._beat_now.set()

    def facts(self) -> dict[str, str]:
        """What others may know of this front end."""
        return {
            "pid": str(os.getpid()),
            "host": socket.gethostname(),
            "started_at": str(self.started_at),
            "supervisor": os.environ.get("GATEWAY_SUPERVISOR_PID", ""),
            "version": __version__,
            "calls": str(self.stats.calls),
            "errors": str(self.stats.errors),
            "retries": str(self.stats.retries),
            "failures": json.dumps(self.stats.failures),
            "in_flight": str(len(self.dispatcher.under_way)),
            "streams": str(self.streams.count),
            "sessions": str(len(self.sessions.known)),
            "workers": str(len(self.pool.clients)),
            "seen": str(self.watcher.follower.applied),
        }

    @property
    def ready(self) -> bool:
        """Whether traffic should come here."""
        if Process.draining or not self.watcher.follower.ready.is_set():
            return False
        return bool(self.pool.clients)

    async def _beat(self) -> None:
        while True:
            self._beat_now.clear()
            try:
                if not await self.members.beat(self.id, self.facts()):
                    await self.members.join(self.id, self.facts())
            except RegistryUnavailable:
                pass
            try:
                async with asyncio.timeout(self.settings.fleet.heartbeat_s):
                    await self._beat_now.wait()
            except TimeoutError:
                pass

    async def _tick(self) -> None:
        """Once a second: the Date header, silent calls, session expiry."""
        while True:
            await asyncio.sleep(1.0)
            Process.tick()
            if self.lane is not None:
                self.lane.sweep()
            self.dispatcher.hush(self.settings.calls.keepalive_comment_s)
            try:
                await self.sessions.flush()
                for sid, over in (await self.sessions.trim()).items():
                    self.pool.end_session(sid, over)
            except RegistryUnavailable:
                pass

    async def drain(self) -> None:
        """Finish what runs (bounded), end streams, leave."""
        Process.draining = True
        loop = asyncio.get_running_loop()
        deadline = loop.time() + self.settings.fleet.drain_timeout_s
        await self.streams.drain(2.0)
        while self.dispatcher.under_way and loop.time() < deadline:
            await asyncio.sleep(0.02)

    async def close(self) -> None:
        """Leave the fleet."""
        await cancel(*self._tasks)
        try:
            await self.members.leave(self.id)
        except RegistryUnavailable:
            pass
        self.pool.close()
        await self.watcher.follower.close()
        await self.store.close()


class McpRunner(web.AppRunner):
    """aiohttp's runner with the hot path in front and our own order of draining.

    aiohttp's ``pre_shutdown`` would close idle connections at once and discard a request that is just arriving; here
    we stop accepting, let running calls finish with ``Connection: close``, and only then hand over to aiohttp.
    """

    def __init__(self, app: web.Application, front: FrontEnd, **options: Any) -> None:
        super().__init__(app, **options)
        self._front = front

    async def _make_server(self) -> Any:
        server = await super()._make_server()
        ordinary = server.request_factory
        loop = asyncio.get_running_loop()
        door, limit = self._front.mcp, self._front.settings.calls.max_body_bytes + 1
        handle_ordinary = server.request_handler

        def make(message: RawRequestMessage, payload: StreamReader, protocol: Any, writer: Any, task: Any) -> Any:
            if message.path == "/mcp" and message.method == "POST" and "Origin" not in message.headers:
                return web.BaseRequest(message, payload, protocol, writer, task, loop, client_max_size=limit)
            return ordinary(message, payload, protocol, writer, task)

        async def handle(request: web.BaseRequest) -> web.StreamResponse:
            begun = lane.begun.pop(request.protocol, None)
            try:
                if type(request) is web.BaseRequest:
                    return await door.post(request, None, begun)
                return await handle_ordinary(request)
            except ConnectionError:
                if request.transport is None or request.transport.is_closing():
                    raise asyncio.CancelledError("the client is gone") from None  # no error of ours: nothing to log
                raise
            finally:
                if begun is not None:
                    self._front.dispatcher.settle(begun)

        server.request_factory = make
        server.request_handler = handle
        lane = self._front.lane = self._front.open_lane(server)
        return lane

    async def cleanup(self) -> None:
        for site in list(self._sites):
            await site.stop()
        await self._front.drain()
        if self._front.lane is not None:
            self._front.lane.close()
        await super().cleanup()
        await self._front.close()


def routes(front: FrontEnd) -> web.Application:
    """Everything but ``POST /mcp``."""
    app = web.Application(client_max_size=front.settings.calls.max_body_bytes + 1)

    def scope_of(request: web.Request) -> str | None:
        return request.match_info.get("name")

    async def post(request: web.Request) -> web.StreamResponse:
        response = await front.mcp.post(request, scope_of(request))
        origin = request.headers.get("Origin")
        if origin is not None and isinstance(response, JsonAnswer) and response.status != 403:
            response.add_headers(cors_headers(origin))
        return response

    async def get(request: web.Request) -> web.StreamResponse:
        return await front.legacy.get(request, scope_of(request))

    async def delete(request: web.Request) -> web.StreamResponse:
        return await front.legacy.delete(request, scope_of(request))

    async def sse(request: web.Request) -> web.StreamResponse:
        return await front.sse.get(request, scope_of(request))

    async def messages(request: web.Request) -> web.StreamResponse:
        return await front.sse.post(request, scope_of(request))

    async def options(request: web.Request) -> web.StreamResponse:
        refused = front.legacy.refusal(request)
        return refused or web.Response(status=204)

    async def add_cors(request: web.Request, response: web.StreamResponse) -> None:
        origin = request.headers.get("Origin")
        if origin is not None and front.legacy.refusal(request) is None:
            response.headers.update(cors_headers(origin))

    for prefix in ("", "/servers/{name}"):
        app.router.add_post(f"{prefix}/mcp", post)
        app.router.add_get(f"{prefix}/mcp", get, allow_head=False)
        app.router.add_delete(f"{prefix}/mcp", delete)
        app.router.add_get(f"{prefix}/sse", sse, allow_head=False)
        app.router.add_post(f"{prefix}/messages", messages)
        for path in ("/mcp", "/sse", "/messages"):
            app.router.add_route("OPTIONS", prefix + path, options)
    app.on_response_prepare.append(add_cors)
    AdminApi(front).add_to(app)
    return app


def cors_headers(origin: str) -> dict[str, str]:
    """CORS for an origin that was accepted."""
    return {
        "Access-Control-Allow-Origin": origin,
        "Access-Control-Allow-Methods": "GET, POST, DELETE, OPTIONS",
        "Access-Control-Allow-Headers": "*, Authorization",
        "Access-Control-Expose-Headers": "Mcp-Session-Id",
        "Vary": "Origin",
    }


async def create() -> web.AppRunner:
    """The gunicorn factory: settings come from the environment."""
    settings = build(environment=os.environ)
    logs.configure("frontend", settings.service.log_level)
    front = FrontEnd(settings)
    await front.start()
    memory.settle()
    _log.info("front end %s is up (pid %d)", front.id, os.getpid())
    return McpRunner(
        routes(front),
        front,
        access_log=None,
        handler_cancellation=True,
        keepalive_timeout=_NEVER_S,  # the lane looks after idle connections, aiohttp's included
        shutdown_timeout=2.0,
        max_line_size=16 * 1024,
        max_field_size=32 * 1024,
    )
