"""The first look at every ``POST`` to an MCP endpoint: Host and Origin, size, envelope, era.

A request is modern when its ``_meta`` names a protocol version, or the version header names no legacy one; otherwise it
is legacy. Counterparts: ``modern`` and ``streamable_http``.
"""

from __future__ import annotations

from aiohttp import web

from gateway.admission.dns_rebinding import RebindingGuard
from gateway.admission.routing_headers import VERSION_HEADER
from gateway.calls.in_flight import InFlight
from gateway.http.responses import problem
from gateway.protocol.legacy import LegacyDoor
from gateway.protocol.modern import ModernDoor
from shared.errors import CallError, Refused
from shared.mcp import jsonrpc
from shared.mcp.versions import LEGACY_VERSIONS


class McpDoor:
    """``POST /mcp`` and ``POST /servers/{name}/mcp``."""

    def __init__(self, guard: RebindingGuard, modern: ModernDoor, legacy: LegacyDoor, max_body_bytes: int) -> None:
        self._guard = guard
        self._modern = modern
        self._legacy = legacy
        self._max_body = max_body_bytes

    async def post(
        self, request: web.BaseRequest, scope: str | None, begun: InFlight | None = None
    ) -> web.StreamResponse:
        """One message (or a legacy batch) in, its answer out; ``begun``: the call that the express lane began for
        it."""
        headers = request.headers
        refusal = self._guard.refusal(headers.get("Host"), headers.get("Origin"))
        if refusal is not None:
            return problem(Refused("forbidden", refusal))
        try:
            body = await read_body(request, self._max_body)
            if body[:1] != b"{" and body.lstrip()[:1] == b"[":
                return await self._legacy.batch(request, jsonrpc.decode_batch(body), scope)
            message = jsonrpc.decode(body)
        except CallError as error:
            return problem(error)
        try:
            params = jsonrpc.decode_params(message)
        except Refused as error:
            return problem(error, bytes(message.id) or b"null")
        version = headers.get(VERSION_HEADER)
        if (params.meta is not None and params.meta.version) or (
            version is not None and version not in LEGACY_VERSIONS
        ):
            return await self._modern.post(request, message, params, scope, begun)
        return await self._legacy.post(request, message, params, scope, begun)


async def read_body(request: web.BaseRequest, limit: int) -> bytes:
    """The whole body. Raises ``Refused`` (HTTP 413) when it is larger than ``limit`` bytes."""
    length = request.content_length
    if length is not None and length > limit:
        raise _too_large(limit)
    if request.headers.get("Expect", "").lower() == "100-continue" and request.transport is not None:
        request.transport.write(b"HTTP/1.1 100 Continue\r\n\r\n")
    try:
        return await request.read()
    except web.HTTPRequestEntityTooLarge as error:
        raise _too_large(limit) from error


def _too_large(limit: int) -> Refused:
    return Refused("too_large", f"the body is larger than {limit} bytes (maxBodyBytes)")
