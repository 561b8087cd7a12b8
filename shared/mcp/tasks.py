"""The tasks extension (``io.modelcontextprotocol/tasks``, 2026-07-28): its names, and who declares it. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec
from msgspec import Raw

from shared.errors import Refused
from shared.mcp import jsonrpc
from shared.mcp.methods import CAPABILITIES_META

EXTENSION = "io.modelcontextprotocol/tasks"
GET = "tasks/get"
UPDATE = "tasks/update"
CANCEL = "tasks/cancel"
METHODS = frozenset({GET, UPDATE, CANCEL})
CHANGED = "notifications/tasks"
MISSING = "Missing required client capability: " + EXTENSION
REQUIRED: dict[str, Any] = {"requiredCapabilities": {"extensions": {EXTENSION: {}}}}
"""``data`` of the error -32021 for a client that does not declare the extension."""


def runs_calls(capabilities: Any) -> bool:
    """Whether an upstream with these decoded capabilities runs calls of tools as tasks of 2025-11-25 ("Capabilities"
    of its tasks)."""
    for name in ("tasks", "requests", "tools", "call"):
        capabilities = capabilities.get(name) if isinstance(capabilities, dict) else None
    return capabilities is not None and capabilities is not False


def declares(capabilities: bytes | Raw) -> bool:
    """Whether a client with these capabilities (JSON) declares the extension."""
    raw = bytes(capabilities)
    if EXTENSION.encode() not in raw:
        return False
    try:
        return EXTENSION in jsonrpc.members(jsonrpc.members(raw).get("extensions", jsonrpc.ABSENT))
    except Refused:
        return False


def check_declared(capabilities: bytes | Raw) -> None:
    """Raise ``Refused`` (-32021) unless the client declares the extension."""
    if not declares(capabilities):
        raise Refused("capability_missing", MISSING, dict(REQUIRED))


def declaring(capabilities: bytes) -> bytes:
    """Return capabilities (JSON) with the extension among them. Raises ``Refused``."""
    parts = jsonrpc.members(capabilities or b"{}")
    extensions = jsonrpc.members(parts.get("extensions", jsonrpc.ABSENT))
    extensions.setdefault(EXTENSION, Raw(b"{}"))
    parts["extensions"] = Raw(jsonrpc.assemble(extensions))
    return jsonrpc.assemble(parts)


def params_declaring(params: bytes) -> bytes:
    """Return ``params`` of a modern request whose ``_meta`` declares the extension. Raises ``Refused``."""
    parts = jsonrpc.members(params)
    meta = jsonrpc.members(parts.get("_meta", jsonrpc.ABSENT))
    meta[CAPABILITIES_META] = Raw(declaring(bytes(meta.get(CAPABILITIES_META, b"{}"))))
    parts["_meta"] = Raw(jsonrpc.assemble(meta))
    return jsonrpc.assemble(parts)


def without(capabilities: bytes) -> bytes:
    """Return capabilities (JSON) without the extension, which no server of the handshake era knows."""
    if EXTENSION.encode() not in capabilities:
        return capabilities
    parts = jsonrpc.members(capabilities)
    extensions: Mapping[str, Raw] = jsonrpc.members(parts.pop("extensions", jsonrpc.ABSENT))
    left = {name: what for name, what in extensions.items() if name != EXTENSION}
    if left:
        parts["extensions"] = Raw(jsonrpc.assemble(left))
    return jsonrpc.assemble(parts) if parts else b"{}"


def with_id(document: bytes | Raw, id: str) -> bytes:
    """Return a task, or ``params`` that name one, with another ``taskId``. Raises ``Refused``."""
    parts = jsonrpc.members(document)
    parts["taskId"] = Raw(msgspec.json.encode(id))
    return jsonrpc.assemble(parts)


def id_in(params: bytes | Raw) -> str:
    """Return the ``taskId`` in ``params``. Raises ``Refused`` (-32602) if there is none."""
    return jsonrpc.text(jsonrpc.few_members(params).get("taskId", jsonrpc.ABSENT), "taskId")
