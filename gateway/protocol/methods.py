"""What a request means, whichever door it came through.

A door hands in one decoded message and who sent it, and gets back either a whole JSON-RPC response (``Ready``) or a
call whose first event is not its answer (``Started``), which it shows as an event stream.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import Any

import msgspec
import orjson
from msgspec import Raw, Struct

from gateway.calls.in_flight import Answered, Event, Failure, InFlight
from gateway.fleet.dispatch import Dispatcher, Outgoing
from gateway.fleet.registry_view import RegistryView
from gateway.http.responses import error_body
from gateway.routing import router
from gateway.routing.catalog import Route
from gateway.routing.entries import renamed
from gateway.sessions.table import ClientSession
from gateway.streams.subscriptions import StreamSubscriptions
from gateway.telemetry.counters import Counters
from shared import request_state
from shared.errors import CallError, NotDelivered, OutcomeUnknown, Refused
from shared.mcp import headers as mcp_headers
from shared.mcp import jsonrpc
from shared.mcp.jsonrpc import Message, Params
from shared.mcp.listings import LIST_METHODS, Kind
from shared.mcp.methods import (
    DISCOVER,
    INITIALIZE,
    LISTEN,
    LOG_LEVELS,
    SERVER_INFO_META,
    SET_LEVEL,
    SUBSCRIBE,
    UNSUBSCRIBE,
)
from shared.mcp.versions import MODERN_VERSIONS, Era
from shared.request_state import RequestState
from shared.rpc.framing import COPIED, too_long
from shared.secrets import FleetKey
from shared.settings import Settings

_CALLED = {"tools/call": Kind.TOOLS, "prompts/get": Kind.PROMPTS}
_OURS = frozenset({INITIALIZE, DISCOVER, LISTEN, "ping", SET_LEVEL, SUBSCRIBE, UNSUBSCRIBE})
"""Methods that are never passed on as unknown ones: they are about the client's own connection."""
_OFFERED = ("tools", "prompts", "resources")
"""What the gateway always offers: an empty list is legal, and an upstream may connect later."""
_TASKS = "io.modelcontextprotocol/tasks"
"""Not carried yet."""
_EXTENSIONS = ("io.modelcontextprotocol/ui",)
"""What works for several upstreams together; ``/servers/{name}`` passes all that its group offers."""
_INSTRUCTIONS_CHARS = 2048
_INSTRUCTIONS_CHARS_TOTAL = 16 * 1024
_MAX_TOKEN = 1024
_MAX_HEADERS = 16 * 1024
"""What travels in the head of a frame or in HTTP headers is bounded."""
_MAX_METHOD = 256
_NOT_FOUND = (-32002, -32602)
"""How servers of either era say that they do not know a resource."""


class Caller(Struct, gc=False):
    """Who asks, and through what: ``scope`` is the group of ``/servers/{name}``, ``None`` for all; ``begun`` the call
    that was sent already for this request."""

    era: int
    version: str
    scope: str | None = None
    session: ClientSession | None = None
    principal: str = ""
    begun: InFlight | None = None


class Ready(Struct, gc=False):
    """A whole JSON-RPC response. ``rpc_code`` is the error's code, 0 for a result."""

    body: bytes
    rpc_code: int = 0


class Started(Struct, gc=False):
    """A call whose answer is still to come, or comes in chunks."""

    id: bytes
    in_flight: InFlight
    event: Event


class _ErrorCode(Struct):
    code: int = 0


_error_code = msgspec.json.Decoder(_ErrorCode)


class Requests:
    """See the module."""

    def __init__(
        self,
        watcher: RegistryView,
        dispatcher: Dispatcher,
        interests: StreamSubscriptions,
        stats: Counters,
        key: FleetKey,
        settings: Settings,
        version: str,
    ) -> None:
        self._watcher = watcher
        self._dispatcher = dispatcher
        self._stats = stats
        self._key = key
        self._interests = interests
        self._separator = settings.routing.separator
        self._server_info = {"name": settings.service.name, "version": version}

    # ---- the gateway's own answers

    def discover(self, scope: str | None) -> bytes:
        """The ``DiscoverResult``."""
        return orjson.dumps(
            {
                "resultType": "complete",
                "supportedVersions": list(MODERN_VERSIONS),
                **self._offer(scope),
                "ttlMs": 60_000,
                "cacheScope": "private",
                "_meta": {SERVER_INFO_META: self._server_info},
            }
        )

    def initialize(self, version: str, scope: str | None) -> bytes:
        """The ``InitializeResult``."""
        return orjson.dumps({"protocolVersion": version, "serverInfo": self._server_info, **self._offer(scope)})

    def _offer(self, scope: str | None) -> dict[str, Any]:
        """Capabilities (completions where some upstream has them) and the upstreams' instructions by group."""
        records = [r for r in self._watcher.records.values() if scope in (None, r.spec.name)]
        capabilities: dict[str, Any] = {name: {"listChanged": True} for name in _OFFERED}
        for name in ("completions", "logging"):
            if any(name in record.capabilities for record in records):
                capabilities[name] = {}
        if any((record.capabilities.get("resources") or {}).get("subscribe") for record in records):
            capabilities["resources"]["subscribe"] = True
        extensions: dict[str, Any] = {}
        for record in records:
            offered = record.capabilities.get("extensions")
            for name, what in offered.items() if isinstance(offered, dict) else ():
                if name != _TASKS and (scope is not None or name in _EXTENSIONS):
                    extensions.setdefault(name, what)
        if extensions:
            capabilities["extensions"] = extensions
        offer: dict[str, Any] = {"capabilities": capabilities}
        by_group: dict[str, str] = {}
        for record in sorted(records, key=lambda one: one.sequence):
            if record.instructions:
                by_group.setdefault(record.spec.name, record.instructions[:_INSTRUCTIONS_CHARS])
        if by_group:
            texts = [text if scope else f"## {group}\n{text}" for group, text in by_group.items()]
            offer["instructions"] = "\n\n".join(texts)[:_INSTRUCTIONS_CHARS_TOTAL]
        return offer

    # ---- requests

    def begin(self, message: Message, params: Params, caller: Caller) -> Ready | InFlight | None:
        """What ``serve`` would do, as far as that needs no waiting: an answer, a call under way, or ``None``: ask
        ``serve``.

        Raises ``CallError``. For ``doors.express``; only for callers without a scope.
        """
        kind = _CALLED.get(message.method)
        if kind is None:
            listed = LIST_METHODS.get(message.method)
            if listed is None or params.cursor or not self._watcher.catalog.routes[Kind.TOOLS]:
                return None
            page = self._watcher.catalog.page(listed, None, caller.era, None, time.time())
            return Ready(jsonrpc.response(bytes(message.id), page))
        name = jsonrpc.text(params.name, "name")
        route = self._watcher.catalog.routes[kind].get(name)
        if route is None or route.entry.annotated or params.request_state or too_long(name):
            return None
        own = route.entry.name
        body: bytes | memoryview = memoryview(message.params)
        if own != name:
            body = renamed(bytes(body), "name", own)
        elif len(body) <= COPIED:
            body = bytes(body)
        token = bytes(params.meta.progress_token) if params.meta is not None else b""
        if len(token) > _MAX_TOKEN:
            return None
        id, session, principal = bytes(message.id), caller.session, caller.principal
        return self._dispatcher.begin(
            Outgoing(message.method, body, caller.era, route, id, own, session, principal, token)
        )

    async def serve(self, message: Message, params: Params, caller: Caller, headers: Any = None) -> Ready | Started:
        """Answer one request. Raises ``CallError`` for what the door must word itself; asyncio's cancel passes.

        ``headers``: the HTTP headers of a modern request, for ``Mcp-Param-*``.
        """
        method = message.method
        called = _CALLED.get(method)
        if called is not None:
            return await self._call(message, params, caller, headers, called)
        kind = LIST_METHODS.get(method)
        if kind is not None:
            if not self._watcher.catalog.routes[Kind.TOOLS]:
                await self._watcher.catch_up()  # nothing at all? then rather ask than say so
            given = params.cursor and bytes(params.cursor) != b"null"
            cursor = jsonrpc.text(params.cursor, "cursor") if given else None
            page = self._watcher.catalog.page(kind, caller.scope, caller.era, cursor, time.time())
            return Ready(jsonrpc.response(bytes(message.id), page))
        if method == "resources/read":
            return await self._read(message, params, caller)
        if method == "completion/complete":
            return await self._complete(message, caller)
        if caller.era == Era.LEGACY:
            if method == "ping":
                return Ready(jsonrpc.response(bytes(message.id), b"{}"))
            if method in (SUBSCRIBE, UNSUBSCRIBE):
                return await self._subscribe(message, params, caller)
            if method == SET_LEVEL:
                return await self._set_level(message, params, caller)
        if method == DISCOVER and caller.era == Era.MODERN:
            return Ready(jsonrpc.response(bytes(message.id), self.discover(caller.scope)))
        if caller.scope is not None and method not in _OURS:
            route = router.anyone(self._watcher.catalog, caller.scope)
            if route is not None:
                return await self._send(message, bytes(message.params), params, caller, route)
        raise Refused("method_unknown", f"method {method[:64]!r} is not offered here")

    async def notify(self, session: ClientSession, message: Message) -> None:
        """A notification that we do not know, from a session of one group."""
        route = router.anyone(self._watcher.catalog, session.scope)
        if route is not None and not too_long(message.method):
            notification = jsonrpc.notification(message.method, message.params)
            await self._dispatcher.notify(route, session, notification)

    async def _call(
        self, message: Message, params: Params, caller: Caller, headers: Any, kind: Kind
    ) -> Ready | Started:
        """``tools/call`` and ``prompts/get``: by name."""
        name = jsonrpc.text(params.name, "name")
        catalog = self._watcher.catalog
        route = router.find(catalog, kind, name, caller.scope, self._separator)
        if route is None:
            await self._watcher.catch_up()
            route = router.find(catalog, kind, name, caller.scope, self._separator)
        if route is None:
            raise router.unknown(catalog, kind, name, caller.scope)
        own = route.entry.name
        body = bytes(message.params)
        if own != name:
            body = renamed(body, "name", own)
        extra = self._parameter_headers(route, message.params, caller, headers) if route.entry.annotated else None
        return await self._send(message, body, params, caller, route, own, extra)

    async def _read(self, message: Message, params: Params, caller: Caller) -> Ready | Started:
        """``resources/read``: a listed URI where it leads; another one after another to those who may know it."""
        uri = jsonrpc.text(params.uri, "uri")
        catalog = self._watcher.catalog
        places = router.locate(catalog, uri, caller.scope, self._separator)
        if len(places) == 1 and places[0][0].entry.kind is Kind.RESOURCES and places[0][0].entry.name == places[0][1]:
            return await self._read_at(message, params, caller, uri, *places[0])
        failure: CallError | None = None
        for route, own in places:
            try:
                reply = await self._read_at(message, params, caller, uri, route, own)
            except (NotDelivered, Refused) as error:
                if isinstance(error, Refused) and not params.request_state:
                    raise
                failure = error  # somebody else may know it; the state of a retry belongs to one of them
                continue
            if not isinstance(reply, Ready) or reply.rpc_code not in _NOT_FOUND:
                return reply
        if failure is not None:
            raise failure
        code = -32002 if caller.era == Era.LEGACY else -32602
        unknown = jsonrpc.error_object(code, f"resource not found: {uri[:256]}", {"uri": uri[:256]})
        return Ready(jsonrpc.error_response(bytes(message.id), unknown), code)

    async def _read_at(
        self, message: Message, params: Params, caller: Caller, uri: str, route: Route, own: str
    ) -> Ready | Started:
        """Read ``uri`` where it is called ``own``."""
        if own == uri:
            return await self._send(message, bytes(message.params), params, caller, route, own)
        body = renamed(bytes(message.params), "uri", own)
        return await self._send(message, body, params, caller, route, own, None, uri)

    async def _subscribe(self, message: Message, params: Params, caller: Caller) -> Ready:
        """``resources/subscribe`` and ``unsubscribe``: updates come on the session's standing stream."""
        uri = jsonrpc.text(params.uri, "uri")
        if caller.session is None:
            raise Refused("invalid_request", "a subscription belongs to a session: send initialize first")
        if too_long(uri):
            raise Refused("invalid_params", "params.uri is too long")
        if message.method == UNSUBSCRIBE:
            await self._interests.unsubscribe(caller.session, uri)
            error = b""
        else:
            error = await self._interests.subscribe(caller.session, uri, caller.scope)
        if error:
            return Ready(jsonrpc.error_response(bytes(message.id), error), -32603)
        return Ready(jsonrpc.response(bytes(message.id), b"{}"))

    async def _set_level(self, message: Message, params: Params, caller: Caller) -> Ready:
        """``logging/setLevel``: told to the groups that log, on the upstream sessions that are this client's own.

        Upstream sessions that clients share are raised by the worker when a call needs it, and filtered for each one.
        """
        level = jsonrpc.text(jsonrpc.members(message.params).get("level", jsonrpc.ABSENT), "level")
        if level not in LOG_LEVELS:
            raise Refused("invalid_params", f"params.level must be one of {', '.join(LOG_LEVELS)}")
        if caller.session is not None:
            await self._interests.set_level(caller.session, level)
        catalog = self._watcher.catalog
        told = []
        for name, group in catalog.groups.items():
            route = router.anyone(catalog, name)
            logs = any("logging" in replica.record.capabilities for replica in group.replicas)
            if (
                route is not None
                and logs
                and caller.scope in (None, name)
                and self._dispatcher.is_bound(route, caller.session)
            ):
                told.append(self._send(message, bytes(message.params), params, caller, route))
        await asyncio.gather(*told, return_exceptions=True)  # a group that is down will log at its own level
        return Ready(jsonrpc.response(bytes(message.id), b"{}"))

    async def _complete(self, message: Message, caller: Caller) -> Ready | Started:
        """``completion/complete``: by prompt name or exact template; otherwise there is nothing to suggest."""
        parts = jsonrpc.members(message.params)
        reference = jsonrpc.members(parts.get("ref", jsonrpc.ABSENT))
        is_prompt = jsonrpc.text(reference.get("type", jsonrpc.ABSENT), "ref.type") == "ref/prompt"
        member, kind = ("name", Kind.PROMPTS) if is_prompt else ("uri", Kind.TEMPLATES)
        name = jsonrpc.text(reference.get(member, jsonrpc.ABSENT), f"ref.{member}")
        route = router.find(self._watcher.catalog, kind, name, caller.scope, self._separator)
        if route is None or not any("completions" in one.record.capabilities for one in route.replicas):
            nothing: dict[str, Any] = {"completion": {"values": [], "total": 0, "hasMore": False}}
            if caller.era == Era.MODERN:
                nothing["resultType"] = "complete"
            return Ready(jsonrpc.response(bytes(message.id), orjson.dumps(nothing)))
        body = bytes(message.params)
        if route.entry.name != name:
            parts["ref"] = Raw(renamed(bytes(parts["ref"]), member, route.entry.name))
            body = jsonrpc.assemble(parts)
        return await self._send(message, body, jsonrpc.decode_params(message), caller, route)

    def _parameter_headers(self, route: Route, params: Raw, caller: Caller, headers: Any) -> dict[str, str]:
        """``Mcp-Param-*`` for an annotated tool: checked against a modern client's, made for the upstream."""
        try:
            arguments = orjson.loads(bytes(jsonrpc.members(params).get("arguments", b"{}")))
        except orjson.JSONDecodeError:
            arguments = {}
        annotated = list(route.entry.annotated)
        if caller.era == Era.MODERN and headers is not None:
            wrong = mcp_headers.mismatch(annotated, arguments, headers)
            if wrong is not None:
                raise Refused("header_mismatch", wrong)
        return mcp_headers.parameter_headers(annotated, arguments)

    async def _send(
        self,
        message: Message,
        body: bytes,
        params: Params,
        caller: Caller,
        route: Route,
        name: str = "",
        headers: dict[str, str] | None = None,
        listed: str = "",
    ) -> Ready | Started:
        """Send a request to one of the route's replicas; ``listed``: the URI that its result is to name instead of
        ``name``."""
        id = bytes(message.id)
        token = bytes(params.meta.progress_token) if params.meta is not None else b""
        if (
            len(token) > _MAX_TOKEN
            or too_long(name)
            or too_long(listed)
            or sum(map(len, (headers or {}).values())) > _MAX_HEADERS
        ):
            raise Refused("invalid_params", "progress token, name, URI or annotated arguments are too long")
        if len(message.method) > _MAX_METHOD:
            raise Refused("method_unknown", f"method {message.method[:64]!r}… is too long")
        session, principal = caller.session, caller.principal
        call = Outgoing(message.method, body, caller.era, route, id, name, session, principal, token, headers)
        call.begun, caller.begun, call.listed = caller.begun, None, listed
        if params.request_state and caller.era == Era.MODERN:
            call.retry = self._unsealed(params, principal, route)
        try:
            in_flight, event = await self._dispatcher.send(call)
        except CallError as error:
            self._stats.failed(error.code)
            raise
        in_flight.readdress = readdress(name, listed) if listed else None
        if type(event) is Answered and event.stream is None:
            return self.finish(id, in_flight, event)
        return Started(id, in_flight, event)

    def _unsealed(self, params: Params, principal: str, route: Route) -> RequestState:
        """What a retry says of the call it continues. Raises ``Refused`` (-32602)."""
        text = jsonrpc.text(params.request_state, "requestState")
        state = request_state.unseal(self._key, text, principal)
        if all(replica.id != state.upstream for replica in self._watcher.catalog.groups[route.group].replicas):
            raise Refused("invalid_params", "params.requestState belongs to another request, or its upstream is gone")
        return state

    def finish(self, id: bytes, in_flight: InFlight, event: Answered) -> Ready:
        """The response for a small answer."""
        self.release(id, in_flight, event.is_error)
        if not event.is_error:
            if in_flight.readdress is not None:
                return Ready(jsonrpc.response(id, in_flight.readdress(event.body)))
            return Ready(b'{"jsonrpc":"2.0","id":%b,"result":%b}' % (id, event.body))
        try:
            code = _error_code.decode(event.body).code
        except (msgspec.DecodeError, RecursionError):
            code = -32603
        return Ready(jsonrpc.error_response(id, event.body), code)

    def fail(self, id: bytes, in_flight: InFlight, event: Failure) -> Ready:
        """The response for a call that failed after its stream had begun: it cannot be sent again."""
        self.release(id, in_flight, True)
        self._stats.failures[event.code] = self._stats.failures.get(event.code, 0) + 1
        error = OutcomeUnknown(
            event.code,
            f"upstream {in_flight.replica.id!r}: {event.message}",
            {**event.data, "upstream": in_flight.replica.id},
        )
        return Ready(error_body(error, id), error.wire.rpc)

    def adopt(self, in_flight: InFlight) -> None:
        """A call that another front end sent is under way here from now on."""
        self._dispatcher.under_way[in_flight] = None

    def abandon(self, in_flight: InFlight) -> None:
        """The client left before the end; nothing is counted as an answer."""
        self._dispatcher.release(in_flight)

    def release(self, id: bytes, in_flight: InFlight, is_error: bool = False) -> None:
        """Nobody waits for this call here any more."""
        self._dispatcher.release(in_flight)
        self._stats.finished(in_flight.client.loop.time() - in_flight.started_at, is_error)


def readdress(own: str, listed: str) -> Callable[[bytes], bytes]:
    """For a resource that is listed under another URI: ``contents[].uri`` says the URI that the client asked for."""

    def apply(result: bytes) -> bytes:
        try:
            parts = jsonrpc.members(result)
            contents = msgspec.json.decode(parts["contents"], type=list[dict[str, Raw]])
            for one in contents:
                if "uri" in one and msgspec.json.decode(one["uri"]) == own:
                    one["uri"] = Raw(msgspec.json.encode(listed))
        except (KeyError, Refused, msgspec.DecodeError, RecursionError):
            return result  # no contents: an upstream that asks for input, or its own nonsense
        parts["contents"] = Raw(msgspec.json.encode(contents))
        return jsonrpc.assemble(parts)

    return apply
