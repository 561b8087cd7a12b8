"""The modern door: 2026-07-28 over Streamable HTTP. Stateless; every request stands for itself.

Checks in the order of the specification (streamable-http, "Server Validation"): ``_meta`` -32602, headers -32020,
version -32022, then the method. Closing the response stream cancels the call.
"""

from __future__ import annotations

import asyncio

from aiohttp import web

from gateway.doors.calls import show
from gateway.doors.requests import Caller, Ready, Requests
from gateway.doors.responses import accepted, answer, problem
from gateway.doors.streams import Streams
from gateway.fleet.dispatch import Abandoned
from shared.errors import CallError, Refused
from shared.mcp import headers as mcp_headers
from shared.mcp import jsonrpc
from shared.mcp.jsonrpc import Message, Params
from shared.mcp.methods import CAPABILITIES_META, LISTEN, LOG_LEVEL_META, LOG_LEVELS, NAMED_BY, VERSION_META
from shared.mcp.versions import LATEST_MODERN, MODERN_VERSIONS, Era

_RAW_VERSION = b'"' + LATEST_MODERN.encode() + b'"'
_STATUS = {-32700: 400, -32600: 400, -32602: 400, -32020: 400, -32021: 400, -32022: 400, -32601: 404}
_ROUTING_HEADERS = ("MCP-Protocol-Version", "Mcp-Method", "Mcp-Name")


class ModernDoor:
    """See the module."""

    def __init__(self, requests: Requests, streams: Streams) -> None:
        self._requests = requests
        self._streams = streams

    async def post(
        self, request: web.BaseRequest, message: Message, params: Params, scope: str | None
    ) -> web.StreamResponse:
        """One modern message."""
        id = bytes(message.id)
        if not message.method:
            return problem(Refused("invalid_request", "a modern client posts requests, never responses"), id or b"null")
        if not id:
            return accepted()  # this transport has no notifications from the client; they are dropped
        try:
            self._check(request, message, params)
            if message.method == "initialize":
                raise Refused("method_unknown", "initialize belongs to earlier protocol versions; call server/discover")
            caller = Caller(Era.MODERN, LATEST_MODERN, scope)
            if message.method == LISTEN:
                return await self._streams.listen(request, message, scope)
            reply = await self._requests.serve(message, params, caller, request.headers)
        except Abandoned as gone:
            gone.in_flight.cancel("the client closed the request")
            raise
        except CallError as error:
            return problem(error, id)
        if type(reply) is Ready:
            return answer(reply.body, _STATUS.get(reply.rpc_code, 200) if reply.rpc_code else 200)
        assert not isinstance(reply, Ready)
        try:
            return await show(request, self._requests, reply)
        except (asyncio.CancelledError, ConnectionError):
            reply.in_flight.cancel("the client closed the response stream")
            self._requests.abandon(reply.in_flight)
            raise

    def _check(self, request: web.BaseRequest, message: Message, params: Params) -> None:
        meta = params.meta
        if meta is None or not meta.version or not meta.capabilities:
            raise Refused(
                "invalid_params",
                f"params._meta needs {VERSION_META} and {CAPABILITIES_META}",
            )
        headers = request.headers
        version = headers.get("MCP-Protocol-Version")
        raw_version = bytes(meta.version)
        if raw_version != _RAW_VERSION or version != LATEST_MODERN:
            named = jsonrpc.text(meta.version, "_meta.io.modelcontextprotocol/protocolVersion")
            if version != named:
                raise Refused(
                    "header_mismatch", f"MCP-Protocol-Version header {version!r} differs from _meta {named!r}"
                )
        if headers.get("Mcp-Method") != message.method:
            raise Refused("header_mismatch", f"Mcp-Method header {headers.get('Mcp-Method')!r} differs from the body")
        member = NAMED_BY.get(message.method)
        if member is not None:
            raw = params.name if member == "name" else params.uri
            if raw and mcp_headers.decode_value(headers.get("Mcp-Name")) != jsonrpc.text(raw, member):
                raise Refused(
                    "header_mismatch",
                    f"Mcp-Name header {headers.get('Mcp-Name')!r} differs from params.{member}",
                )
        for name in _ROUTING_HEADERS:
            if len(headers.getall(name, ())) > 1:
                raise Refused("header_mismatch", f"{name} header appears more than once")
        if raw_version != _RAW_VERSION:
            raise Refused(
                "version_unsupported",
                "unsupported protocol version",
                {"supported": list(MODERN_VERSIONS), "requested": version},
            )
        if meta.log_level and jsonrpc.text(meta.log_level, "_meta.io.modelcontextprotocol/logLevel") not in LOG_LEVELS:
            raise Refused("invalid_params", f"_meta.{LOG_LEVEL_META} must be one of {', '.join(LOG_LEVELS)}")
        if bytes(meta.capabilities)[:1] != b"{":
            raise Refused("invalid_params", "_meta.io.modelcontextprotocol/clientCapabilities must be an object")
