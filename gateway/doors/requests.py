"""What a request means, whichever door it came through.

A door hands in one decoded message and who sent it, and gets back either a whole JSON-RPC response (``Ready``) or a
call whose first event is not its answer (``Started``), which it shows as an event stream.
"""

from __future__ import annotations

from typing import Any

import msgspec
import orjson
from msgspec import Raw, Struct

from gateway.doors.responses import error_body
from gateway.doors.sessions import ClientSession
from gateway.fleet.dispatch import Dispatcher, Outgoing
from gateway.fleet.stats import Stats
from gateway.fleet.watcher import Watcher
from gateway.fleet.worker_client import Answered, Event, Failure, InFlight
from gateway.routing import router
from gateway.routing.catalog import Route, rename_in_params
from shared.errors import CallError, OutcomeUnknown, Refused
from shared.mcp import headers as mcp_headers
from shared.mcp import jsonrpc
from shared.mcp.jsonrpc import Message, Params
from shared.mcp.methods import DISCOVER, SERVER_INFO_META, TOOLS_CALL, TOOLS_LIST
from shared.mcp.versions import MODERN_VERSIONS, Era
from shared.settings import Settings

CAPABILITIES: dict[str, Any] = {"tools": {"listChanged": True}}
"""What the gateway offers; an empty list is legal, and an upstream may connect later."""


class Caller(Struct, gc=False):
    """Who asks, and through what: ``scope`` is the group of ``/servers/{name}``, ``None`` for all."""

    era: int
    version: str
    scope: str | None = None
    session: ClientSession | None = None
    principal: str = ""


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
        self, watcher: Watcher, dispatcher: Dispatcher, stats: Stats, settings: Settings, version: str
    ) -> None:
        self._watcher = watcher
        self._dispatcher = dispatcher
        self._stats = stats
        self._separator = settings.routing.separator
        self._server_info = {"name": settings.service.name, "version": version}

    # ---- the gateway's own answers

    def discover(self, scope: str | None) -> bytes:
        """The ``DiscoverResult``."""
        return orjson.dumps(
            {
                "resultType": "complete",
                "supportedVersions": list(MODERN_VERSIONS),
                "capabilities": CAPABILITIES,
                "ttlMs": 60_000,
                "cacheScope": "private",
                "_meta": {SERVER_INFO_META: self._server_info},
            }
        )

    def initialize(self, version: str, scope: str | None) -> bytes:
        """The ``InitializeResult``."""
        return orjson.dumps({"protocolVersion": version, "capabilities": CAPABILITIES, "serverInfo": self._server_info})

    # ---- requests

    async def serve(self, message: Message, params: Params, caller: Caller, headers: Any = None) -> Ready | Started:
        """Answer one request. Raises ``CallError`` for what the door must word itself; asyncio's cancel passes.

        ``headers``: the HTTP headers of a modern request, for ``Mcp-Param-*``.
        """
        method = message.method
        if method == TOOLS_CALL:
            return await self._call_tool(message, params, caller, headers)
        id = bytes(message.id)
        if method == TOOLS_LIST:
            cursor = (
                jsonrpc.text(params.cursor, "cursor") if params.cursor and bytes(params.cursor) != b"null" else None
            )
            return Ready(jsonrpc.response(id, self._watcher.catalog.tools_page(caller.scope, caller.era, cursor)))
        if method == "ping" and caller.era == Era.LEGACY:
            return Ready(jsonrpc.response(id, b"{}"))
        if method == DISCOVER and caller.era == Era.MODERN:
            return Ready(jsonrpc.response(id, self.discover(caller.scope)))
        raise Refused("method_unknown", f"method {method[:64]!r} is not offered here")

    async def _call_tool(self, message: Message, params: Params, caller: Caller, headers: Any) -> Ready | Started:
        name = jsonrpc.text(params.name, "name")
        route = router.find(self._watcher.catalog, name, caller.scope, self._separator)
        own = route.tool.name
        body = bytes(message.params)
        if own != name:
            body = rename_in_params(body, own)
        extra = self._parameter_headers(route, message.params, caller, headers) if route.tool.annotated else None
        token = bytes(params.meta.progress_token) if params.meta is not None else b""
        id = bytes(message.id)
        return await self._run(
            id,
            Outgoing(TOOLS_CALL, body, caller.era, route, id, own, caller.session, caller.principal, token, extra),
        )

    def _parameter_headers(self, route: Route, params: Raw, caller: Caller, headers: Any) -> dict[str, str]:
        """``Mcp-Param-*`` for an annotated tool: checked against a modern client's, made for the upstream."""
        try:
            arguments = orjson.loads(bytes(jsonrpc.members(params).get("arguments", b"{}")))
        except orjson.JSONDecodeError:
            arguments = {}
        annotated = list(route.tool.annotated)
        if caller.era == Era.MODERN and headers is not None:
            wrong = mcp_headers.mismatch(annotated, arguments, headers)
            if wrong is not None:
                raise Refused("header_mismatch", wrong)
        return mcp_headers.parameter_headers(annotated, arguments)

    async def _run(self, id: bytes, call: Outgoing) -> Ready | Started:
        try:
            in_flight, event = await self._dispatcher.send(call)
        except CallError as error:
            self._stats.failed(error.code)
            raise
        if type(event) is Answered and event.stream is None:
            return self.finish(id, in_flight, event)
        return Started(id, in_flight, event)

    def finish(self, id: bytes, in_flight: InFlight, event: Answered) -> Ready:
        """The response for a small answer."""
        self.release(id, in_flight, event.is_error)
        if not event.is_error:
            return Ready(b'{"jsonrpc":"2.0","id":%b,"result":%b}' % (id, event.body))
        try:
            code = _error_code.decode(event.body).code
        except msgspec.DecodeError:
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

    def release(self, id: bytes, in_flight: InFlight, is_error: bool = False) -> None:
        """Nobody waits for this call here any more."""
        self._dispatcher.release(in_flight)
        self._stats.finished(in_flight.client.loop.time() - in_flight.started_at, is_error)
