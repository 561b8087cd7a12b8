"""``params`` on their way to the upstream: ``_meta`` is fitted to the upstream's era. Counterpart: ``results``."""

from __future__ import annotations

import functools

import msgspec
from msgspec import Raw

from shared.mcp import jsonrpc
from shared.mcp.methods import CAPABILITIES_META, CLIENT_INFO_META, LOG_LEVEL_META, VERSION_META
from shared.mcp.versions import LATEST_MODERN, Era

_MODERN_META = (VERSION_META, CAPABILITIES_META, CLIENT_INFO_META, LOG_LEVEL_META)
MAX_REMEMBERED_BYTES = 2048
"""The largest ``_meta`` whose translation is cached, in bytes. A client sends the same ``_meta`` in each of its
calls."""
_BEFORE_FIRST = b"{ \t\r\n"
"""What stands before the end of an object that may be empty."""
_encode = msgspec.json.encode
_VERSION = Raw(b'"' + LATEST_MODERN.encode() + b'"')


def translate(
    params: bytes,
    client_era: int,
    upstream_era: int,
    token: int | None,
    capabilities: bytes = b"{}",
    client_info: bytes = b"",
    log_level: str = "",
) -> bytes:
    """Return ``params`` for the upstream. ``token`` replaces the client's progress token, if there was one."""
    if token is None:
        if client_era == upstream_era:
            return params
        if upstream_era == Era.LEGACY and (spliced := _spliced_for_legacy(params)) is not None:
            return spliced
    parts = jsonrpc.members(params)
    meta = jsonrpc.members(parts["_meta"]) if parts.get("_meta") else {}
    if token is not None:
        meta["progressToken"] = Raw(b"%d" % token)
    if upstream_era == Era.LEGACY:
        _without_modern(meta)
    elif client_era == Era.LEGACY:
        meta[VERSION_META] = _VERSION
        meta[CAPABILITIES_META] = Raw(capabilities)
        if client_info:
            meta[CLIENT_INFO_META] = Raw(client_info)
        if log_level:  # never added for a client that did not ask (2026-07-28, logging)
            meta[LOG_LEVEL_META] = Raw(b'"' + log_level.encode() + b'"')
    if meta:
        parts["_meta"] = Raw(jsonrpc.assemble(meta))
    else:
        parts.pop("_meta", None)
    return jsonrpc.assemble(parts) if parts else b""


def with_trace(params: bytes, parent: bytes, state: str, baggage: str) -> bytes:
    """Return ``params`` with this trace context in ``_meta`` in place of another one (SEP-414). Baggage that is there
    stays, unless there is a new one. Raises ``Refused``."""
    meta = jsonrpc.meta_of(params) if params else b""
    new = b'"traceparent":"%b"' % parent
    if state:
        new += b',"tracestate":%b' % _encode(state)
    if baggage:
        new += b',"baggage":%b' % _encode(baggage)
    if not meta:
        if not params:
            return b'{"_meta":{%b}}' % new
        if params[-1:] == b"}" and params[-2] not in _BEFORE_FIRST:
            return b'%b,"_meta":{%b}}' % (params[:-1], new)
    elif b'"trace' not in meta and b'"baggage"' not in meta:
        if meta[-2] not in _BEFORE_FIRST and params.endswith(b',"_meta":%b}' % meta):
            return b"%b,%b}}" % (params[:-2], new)
        rest = jsonrpc.without_meta(params, meta)
        if meta[-2] not in _BEFORE_FIRST and rest is not None:
            return b'%b,"_meta":%b,%b}}' % (rest[:-1], meta[:-1], new)
    parts = jsonrpc.members(params)
    known = jsonrpc.members(parts["_meta"]) if meta and meta != b"null" else {}
    known.pop("tracestate", None)
    parts["_meta"] = Raw(jsonrpc.assemble({**known, **jsonrpc.members(b"{%b}" % new)}))
    return jsonrpc.assemble(parts)


def usual_end(params: bytes) -> bytes:
    """Return the end of ``params`` from the comma before ``_meta``, if ``_meta`` is their last member and has members
    of which none is about a trace; else nothing. All ``params`` that end so have this ``_meta`` (``without_meta``)."""
    meta = jsonrpc.meta_of(params) if params else b""
    end = b',"_meta":%b}' % meta
    plain = bool(meta) and meta[-1:] == b"}" and meta[-2] not in _BEFORE_FIRST
    return end if plain and params.endswith(end) and b'"trace' not in meta and b'"baggage"' not in meta else b""


def _without_modern(meta: dict[str, Raw]) -> None:
    for name in _MODERN_META:
        meta.pop(name, None)


def _spliced_for_legacy(params: bytes) -> bytes | None:
    """Return ``params`` for a legacy upstream in the usual case, without decoding the members other than ``_meta``, or
    ``None`` if the case is not the usual one."""
    meta = jsonrpc.meta_of(params)
    if not meta or len(meta) > MAX_REMEMBERED_BYTES:
        return None
    rest = jsonrpc.without_meta(params, meta)
    if rest is None or jsonrpc.meta_of(rest):
        return None  # there is a second ``_meta``: the last one counts, and the upstream must not see the first
    left = _for_legacy(meta)
    return b'%b,"_meta":%b}' % (rest[:-1], left) if left else rest


@functools.lru_cache(256)
def _for_legacy(meta: bytes) -> bytes:
    """Return ``_meta`` without the members that only the modern era knows."""
    parts = jsonrpc.members(meta)
    _without_modern(parts)
    return jsonrpc.assemble(parts) if parts else b""
