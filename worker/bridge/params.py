"""``params`` on their way up: ``_meta`` fitted to the upstream's era."""

from __future__ import annotations

import functools

from msgspec import Raw

from shared.mcp import jsonrpc
from shared.mcp.methods import CAPABILITIES_META, CLIENT_INFO_META, LOG_LEVEL_META, VERSION_META
from shared.mcp.versions import LATEST_MODERN, Era

_MODERN_META = (VERSION_META, CAPABILITIES_META, CLIENT_INFO_META, LOG_LEVEL_META)
MAX_REMEMBERED_BYTES = 2048
"""Of a client's ``_meta``, which it says the same in each of its calls; what is made of a larger one is not kept."""
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
    """``params`` for the upstream. ``token`` replaces the client's progress token where there was one."""
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


def _without_modern(meta: dict[str, Raw]) -> None:
    for name in _MODERN_META:
        meta.pop(name, None)


def _spliced_for_legacy(params: bytes) -> bytes | None:
    """The usual case, without taking apart what ``_meta`` stands beside; none: it is not the usual case."""
    meta = jsonrpc.meta_of(params)
    if not meta or len(meta) > MAX_REMEMBERED_BYTES:
        return None
    rest = jsonrpc.without_meta(params, meta)
    if rest is None or jsonrpc.meta_of(rest):
        return None  # there is another one, under the same name: the last counts, and nobody is to see the first
    left = _for_legacy(meta)
    return b'%b,"_meta":%b}' % (rest[:-1], left) if left else rest


@functools.lru_cache(256)
def _for_legacy(meta: bytes) -> bytes:
    """``_meta`` without what only the modern era knows."""
    parts = jsonrpc.members(meta)
    _without_modern(parts)
    return jsonrpc.assemble(parts) if parts else b""
