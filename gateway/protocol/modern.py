"""The modern door: 2026-07-28 over Streamable HTTP. Stateless; every request stands for itself.

Checks in the order of the specification (streamable-http, "Server Validation"): ``_meta`` -32602, headers -32020,
version -32022, then the method. Closing the response stream cancels the call.
"""

from __future__ import annotations

import asyncio

from aiohttp import web

from gateway.admission.routing_headers import RoutingHeaders
from gateway.calls.in_flight import InFlight
from gateway.fleet.dispatch import Abandoned
from gateway.http.responses import accepted, answer, problem
from gateway.protocol.call_stream import show
from gateway.protocol.methods import Caller, Ready, Requests
from gateway.streams.standing_streams import StandingStreams
from shared.errors import CallError, Refused
from shared.mcp import jsonrpc
from shared.mcp.jsonrpc import Message, Params
from shared.mcp.methods import (
    CAPABILITIES_META,
    LISTEN,
    LOG_LEVEL_META,
    LOG_LEVELS,
    NAMED_BY,
    VERSION_META,
    hears_warnings,
)
from shared.mcp.versions import LATEST_MODERN, MODERN_VERSIONS, Era

_RAW_VERSION = b'"' + LATEST_MODERN.encode() + b'"'
_STATUS = {-32700: 400, -32600: 400, -32602: 400, -32020: 400, -32021: 400, -32022: 400, -32601: 404}
_ANYBODY = Caller(Era.MODERN, LATEST_MODERN)


class ModernDoor:
    """See the module."""

    def __init__(self, requests: Requests, streams: StandingStreams) -> None:
        self._requests = requests
        self._streams = streams

    async def post(
        self,
        request: web.BaseRequest,
        message: Message,
        params: Params,
        scope: str | None,
        begun: InFlight | None = None,
    ) -> web.StreamResponse:
        """One modern message; ``begun``: the call that the express lane began for it."""
        id = bytes(message.id)
        if not message.method:
            return problem(Refused("invalid_request", "a modern client posts requests, never responses"), id or b"null")
        if not id:
            return accepted()  # this transport has no notifications from the client; they are dropped
        try:
            caller = self.admit(RoutingHeaders.read(lambda name: request.headers.getall(name, ())), message, params)
            if message.method == "initialize":
                raise Refused("method_unknown", "initialize belongs to earlier protocol versions; call server/discover")
            if scope is not None or begun is not None:
                caller = Caller(Era.MODERN, LATEST_MODERN, scope, begun=begun)
            if message.method == LISTEN:
                return await self._streams.listen(request, message, scope)
            reply = await self._requests.serve(message, params, caller, request.headers)
        except Abandoned as gone:
            gone.in_flight.cancel("the client closed the request")
            raise
        except CallError as error:
            return problem(error, id)
        if type(reply) is Ready:
            return answer(reply.body, self.status(reply))
        assert not isinstance(reply, Ready)
        try:
            level = params.meta.log_level if params.meta is not None else jsonrpc.ABSENT
            hears = bool(level) and hears_warnings(jsonrpc.text(level, "logLevel"))
            return await show(request, self._requests, reply, hears_warnings=hears)
        except (asyncio.CancelledError, ConnectionError):
            reply.in_flight.cancel("the client closed the response stream")
            self._requests.abandon(reply.in_flight)
            raise

    def admit(self, headers: RoutingHeaders, message: Message, params: Params) -> Caller:
        """Who asks. Raises ``Refused`` for a request that is not in order."""
        meta = params.meta
        if meta is None or not meta.version or not meta.capabilities:
            raise Refused(
                "invalid_params",
                f"params._meta needs {VERSION_META} and {CAPABILITIES_META}",
            )
        raw_version = bytes(meta.version)
        if raw_version != _RAW_VERSION or headers.version != LATEST_MODERN:
            named = jsonrpc.text(meta.version, "_meta.io.modelcontextprotocol/protocolVersion")
            if headers.version != named:
                raise Refused(
                    "header_mismatch", f"MCP-Protocol-Version header {headers.version!r} differs from _meta {named!r}"
                )
        if headers.method != message.method:
            raise Refused("header_mismatch", f"Mcp-Method header {headers.method!r} differs from the body")
        member = NAMED_BY.get(message.method)
        if member is not None:
            raw = params.name if member == "name" else params.uri
            if raw and headers.name != jsonrpc.text(raw, member):
                raise Refused(
                    "header_mismatch",
                    f"Mcp-Name header {headers.raw_name!r} differs from params.{member}",
                )
        if headers.repeated:
            raise Refused("header_mismatch", f"{headers.repeated} header appears more than once")
        if raw_version != _RAW_VERSION:
            raise Refused(
                "version_unsupported",
                "unsupported protocol version",
                {"supported": list(MODERN_VERSIONS), "requested": headers.version},
            )
        if meta.log_level and jsonrpc.text(meta.log_level, "_meta.io.modelcontextprotocol/logLevel") not in LOG_LEVELS:
            raise Refused("invalid_params", f"_meta.{LOG_LEVEL_META} must be one of {', '.join(LOG_LEVELS)}")
        if bytes(meta.capabilities)[:1] != b"{":
            raise Refused("invalid_params", "_meta.io.modelcontextprotocol/clientCapabilities must be an object")
        return _ANYBODY

    @staticmethod
    def status(ready: Ready) -> int:
        """The HTTP status of a whole answer."""
        return _STATUS.get(ready.rpc_code, 200) if ready.rpc_code else 200
