"""Whole JSON-RPC answers, and the HTTP status that each era gives them. Pure; both lanes write these answers.

A JSON-RPC error is HTTP 200 in the handshake era, where a 404 would drop the client's session. The modern era defines
a status for each error code (2026-07-28, streamable-http, "Server Validation"). A refusal by admission has its error's
status in any era.
"""

from __future__ import annotations

from typing import Any

import msgspec
from msgspec import Struct

from gateway.http.responses import JsonAnswer
from gateway.routing.shut import Refusal
from shared.errors import RETRY_AFTER_S, WIRE, CallError, GatewayError, Unauthorized
from shared.mcp import jsonrpc
from shared.mcp.versions import Era

_ALWAYS = ("session_unknown", "unauthenticated", "insufficient_scope")
"""Errors whose HTTP status is what clients of any era act on."""
_UNREAD = WIRE["too_many_wrong"].rpc
"""The error after which the ordinary lane ends the connection: on the next one the express lane refuses, for less."""
_MODERN_STATUS = {-32700: 400, -32600: 400, -32602: 400, -32020: 400, -32021: 400, -32022: 400, -32601: 404}


class Answer(Struct, gc=False):
    """A whole JSON-RPC response.

    ``body`` has its bytes in parts. ``status`` is the HTTP status. ``rpc_code`` is the code of the error, or 0 for a
    result. ``session`` is the id of the client session that the request opened, or empty. ``retry_after_s`` is when the
    client may try again, or 0; ``challenge`` is how the client is to authenticate (``WWW-Authenticate``), or empty.
    """

    body: tuple[bytes, ...]
    status: int = 200
    rpc_code: int = 0
    session: str = ""
    retry_after_s: int = 0
    challenge: str = ""

    def __repr__(self) -> str:
        """Show what kind of answer it is, without its content and without the session's id."""
        return f"Answer({self.status}, rpc_code={self.rpc_code}, {sum(map(len, self.body))} bytes)"

    def to_response(self, session_header: str = "") -> JsonAnswer:
        """Return the answer as the ordinary lane sends it; a new session's id goes into ``session_header``."""
        extra = {session_header: self.session} if self.session and session_header else {}
        answer = JsonAnswer(*self.body, status=self.status, extra={**extra, **self.headers} or None)
        return answer.close() if self.rpc_code == _UNREAD else answer

    @property
    def headers(self) -> dict[str, str]:
        """The headers that the answer has beside those of every answer."""
        found = {}
        if self.retry_after_s:
            found["Retry-After"] = str(self.retry_after_s)
        if self.challenge:
            found["WWW-Authenticate"] = self.challenge
        return found

    @property
    def lines(self) -> bytes:
        """The lines of these headers in an HTTP head."""
        if not self.challenge:
            return b"Retry-After: %d\r\n" % self.retry_after_s if self.retry_after_s else b""
        return "".join(f"{name}: {value}\r\n" for name, value in self.headers.items()).encode("latin-1", "replace")

    @property
    def whole(self) -> bytes:
        """The body in one piece."""
        return self.body[0] if len(self.body) == 1 else b"".join(self.body)


class _ErrorCode(Struct):
    code: int = 0


_error_code = msgspec.json.Decoder(_ErrorCode)


def result(id: bytes, raw: bytes) -> Answer:
    """Return the response with a result; ``id`` and ``raw`` are JSON."""
    return Answer((b'{"jsonrpc":"2.0","id":%b,"result":%b}' % (id, raw),))


def error(id: bytes, raw: bytes, era: Era, code: int | None = None) -> Answer:
    """Return the response with a JSON-RPC error object; ``id`` and ``raw`` are JSON. ``code`` is read unless given."""
    if code is None:
        try:
            code = _error_code.decode(raw).code
        except (msgspec.DecodeError, RecursionError):
            code = -32603
    status = _MODERN_STATUS.get(code, 200) if era else 200
    return Answer((jsonrpc.error_response(id, raw),), status, code)


def failure(failed: GatewayError, id: bytes, era: Era | None = None, status: int | None = None) -> Answer:
    """Return the response for an error of the gateway.

    ``era`` is ``None`` if admission refused the request, or the era is not known yet. ``status`` replaces the HTTP
    status that follows from the error and the era.
    """
    if status is None:
        status = 200 if era is Era.LEGACY and failed.code not in _ALWAYS else failed.wire.http
    again = failed.retry_after_s or RETRY_AFTER_S.get(failed.code, 0)
    challenge = failed.challenge if isinstance(failed, Unauthorized) else ""
    return Answer((error_body(failed, id),), status, failed.wire.rpc, retry_after_s=again, challenge=challenge)


def repeated(refusal: Refusal, id: bytes, era: Era) -> Answer:
    """Return what ``failure`` returns for an upstream's refusal, most of which was written before."""
    said = refusal.said.get(era)
    if said is None:
        said = refusal.said[era] = failure(refusal.error, id, era), _error_object(refusal.error)
    first, error = said
    return Answer((jsonrpc.error_response(id, error),), first.status, first.rpc_code, retry_after_s=first.retry_after_s)


def error_body(failed: GatewayError, id: bytes) -> bytes:
    """Return the JSON-RPC error response for an error of the gateway."""
    return jsonrpc.error_response(id, _error_object(failed))


def _error_object(failed: GatewayError) -> bytes:
    data: dict[str, Any] = {"code": failed.code}
    if isinstance(failed, CallError):
        data.update(failed.data)
    return jsonrpc.error_object(failed.wire.rpc, str(failed), data)
