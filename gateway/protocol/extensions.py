"""Extensions of the protocol: which the gateway carries, and what of the others is taken out of requests. Pure.

An upstream answers a client that declares an extension in the shapes of that extension. Where the gateway does not
carry what follows, the client would lose its call: the answer to a call with ``task`` (2025-11-25, tasks) is a handle
that nobody can ask about. So what is not carried is not declared upwards (2026-07-28, "Extensions"). The tasks
extension is carried for clients of the modern era; towards others the gateway waits for tasks (``worker.input.tasks``).
"""

from __future__ import annotations

import msgspec
from msgspec import Raw

from shared.errors import Refused
from shared.mcp import jsonrpc
from shared.mcp.tasks import EXTENSION as TASKS

_ANYWHERE = ("io.modelcontextprotocol/ui", TASKS)
_CAPABILITIES = "io.modelcontextprotocol/clientCapabilities"


def carried(name: str, alone: bool, modern: bool = True) -> bool:
    """Whether an extension works through the gateway, for a client of the ``modern`` era or of the other one.

    ``alone``: at ``/servers/{name}``, where unknown methods reach the only group; elsewhere an extension works only if
    it needs no methods of its own, or the gateway knows them."""
    return (alone or name in _ANYWHERE) and (modern or name != TASKS)


def declared_upwards(capabilities: bytes, alone: bool, modern: bool = False) -> bytes:
    """Return a client's capabilities (JSON) without those that the gateway does not carry."""
    if b'"extensions"' not in capabilities and b'"tasks"' not in capabilities:
        return capabilities
    try:
        parts = jsonrpc.members(capabilities)
        parts.pop("tasks", None)
        if "extensions" in parts:
            offered = jsonrpc.members(parts["extensions"])
            kept = {name: what for name, what in offered.items() if carried(name, alone, modern)}
            if kept:
                parts["extensions"] = Raw(jsonrpc.assemble(kept))
            else:
                del parts["extensions"]
    except Refused:
        return b"{}"
    return jsonrpc.assemble(parts)


def params_upwards(params: bytes, alone: bool) -> bytes:
    """Return ``params`` of a request without ``task``, and with the capabilities in their ``_meta`` as they are
    declared upwards."""
    parts = jsonrpc.members(params)
    parts.pop("task", None)
    if "_meta" in parts:
        meta = jsonrpc.members(parts["_meta"])
        if _CAPABILITIES in meta:
            meta[_CAPABILITIES] = Raw(declared_upwards(bytes(meta[_CAPABILITIES]), alone, modern=True))
            parts["_meta"] = Raw(msgspec.json.encode(meta))
    return jsonrpc.assemble(parts)
