"""``result`` on its way to the client: members that only one era knows are added or removed. Counterpart:
``params``."""

from __future__ import annotations

import re

from msgspec import Raw

from shared.errors import CallError, Refused
from shared.mcp import jsonrpc
from shared.mcp.rope import Body
from shared.mcp.versions import Era

_CACHEABLE = ("resources/read",)
"""Results that must carry caching hints for modern clients (2026-07-28, caching). The gateway writes lists itself."""
_COMPLETE = Raw(b'"complete"')
_TYPE = b'"resultType"'
_FIRST = re.compile(rb'\s*\{\s*"resultType"\s*:\s*"complete"\s*[,}]')
_LAST = re.compile(rb',\s*"resultType"\s*:\s*"complete"\s*\}\s*\Z')
_NEAR = 256


def plain(result: Body) -> bool:
    """Whether a modern result states at its very beginning or end that it is complete, so that the rest need not be
    read.

    For large results; searching a small one is faster.
    """
    return bool(_FIRST.match(result[:_NEAR]) or _LAST.search(result[-_NEAR:]))


def typed(result: bytes) -> bytes:
    """Return a modern result with a ``resultType``, as a server must write it.

    A result without one means "complete" (2026-07-28, basic, results), but clients that check results refuse it.
    """
    if _TYPE in result or result[:1] != b"{":
        return result
    rest = result[1:].lstrip()
    return b'{"resultType":"complete"' + (b"" if rest[:1] == b"}" else b",") + rest


def not_found(error: bytes) -> bytes:
    """Return a modern server's error to ``resources/read`` for a legacy client, whose era has its own code for a
    resource that does not exist (2025-11-25, resources, "Error Handling")."""
    try:
        parts = jsonrpc.members(error)
        known = bytes(parts.get("code", b"")) == b"-32602" and "uri" in jsonrpc.members(
            parts.get("data", jsonrpc.ABSENT)
        )
    except Refused:
        return error
    return jsonrpc.assemble({**parts, "code": Raw(b"-32002")}) if known else error


def translate(result: bytes, client_era: int, upstream_era: int, method: str = "") -> bytes:
    """Return ``result`` of ``method`` for the client. Raises ``CallError`` if the client's era cannot express it."""
    if client_era == upstream_era:
        return result
    if client_era == Era.MODERN and method not in _CACHEABLE and _TYPE not in result and result[:2] == b'{"':
        return b'{"resultType":"complete",' + result[1:]
    try:
        parts = jsonrpc.members(result)
    except Refused as error:
        raise CallError("upstream_protocol", "the upstream's result is not an object") from error
    if client_era == Era.MODERN:
        if "resultType" not in parts:
            parts = {"resultType": _COMPLETE, **parts}
        if method in _CACHEABLE:
            parts.setdefault("ttlMs", Raw(b"0"))
            parts.setdefault("cacheScope", Raw(b'"private"'))
        return jsonrpc.assemble(parts)
    parts.pop("resultType", None)
    for name in ("ttlMs", "cacheScope"):
        parts.pop(name, None)
    structured = parts.get("structuredContent")
    if structured is not None and not bytes(structured).lstrip().startswith(b"{"):
        del parts["structuredContent"]
    return jsonrpc.assemble(parts)
