"""Whole JSON-RPC answers, and the HTTP status that each era gives them. Pure; both lanes write what is made here.

A JSON-RPC error is HTTP 200 in the handshake era, where a 404 would drop the client's session. The modern era has
statuses of its own (2026-07-28, streamable-http, "Server Validation"). What admission refuses has its error's status
in any era.
"""

from __future__ import annotations

from typing import Any

import msgspec
from msgspec import Struct

from gateway.http.responses import JsonAnswer
from shared.errors import CallError, GatewayError
from shared.mcp import jsonrpc
from shared.mcp.versions import Era

_MODERN_STATUS = {-32700: 400, -32600: 400, -32602: 400, -32020: 400, -32021: 400, -32022: 400, -32601: 404}


class Answer(Struct, gc=False):
    """A whole JSON-RPC response: its bytes in parts, the HTTP ``status``, the error's ``rpc_code`` (0 for a result),
    and the id of a ``session`` that was opened."""

    body: tuple[bytes, ...]
    status: int = 200
    rpc_code: int = 0
    session: str = ""

    def to_response(self, session_header: str = "") -> JsonAnswer:
        """Return the answer as aiohttp's ordinary path sends it."""
        extra = {session_header: self.session} if self.session and session_header else None
        return JsonAnswer(*self.body, status=self.status, extra=extra)

    @property
    def whole(self) -> bytes:
        """The body in one."""
        return self.body[0] if len(self.body) == 1 else b"".join(self.body)


class _ErrorCode(Struct):
    code: int = 0


_error_code = msgspec.json.Decoder(_ErrorCode)


def result(id: bytes, raw: bytes) -> Answer:
    """Return the response with this result."""
    return Answer((b'{"jsonrpc":"2.0","id":%b,"result":%b}' % (id, raw),))


def error(id: bytes, raw: bytes, era: Era, code: int | None = None) -> Answer:
    """Return the response with this JSON-RPC error object; ``code`` is read from it unless given."""
    if code is None:
        try:
            code = _error_code.decode(raw).code
        except (msgspec.DecodeError, RecursionError):
            code = -32603
    status = _MODERN_STATUS.get(code, 200) if era else 200
    return Answer((jsonrpc.error_response(id, raw),), status, code)


def failure(failed: GatewayError, id: bytes, era: Era | None = None, status: int | None = None) -> Answer:
    """Return the response for one of our errors. ``era`` is ``None`` where admission refused, or no era is known
    yet."""
    if status is None:
        status = 200 if era is Era.LEGACY and failed.code != "session_unknown" else failed.wire.http
    return Answer((error_body(failed, id),), status, failed.wire.rpc)


def error_body(failed: GatewayError, id: bytes) -> bytes:
    """Return the JSON-RPC error response for one of our errors."""
    data: dict[str, Any] = {"code": failed.code}
    if isinstance(failed, CallError):
        data.update(failed.data)
    return jsonrpc.error_response(id, jsonrpc.error_object(failed.wire.rpc, str(failed), data))
