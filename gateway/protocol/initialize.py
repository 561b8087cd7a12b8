"""What a client says of itself in ``initialize`` (2025-11-25, lifecycle, "Initialization")."""

from __future__ import annotations

from msgspec import Struct

from shared.errors import Refused
from shared.mcp import jsonrpc
from shared.mcp.jsonrpc import Message
from shared.mcp.once import check_inside
from shared.mcp.versions import negotiate_legacy

_MAX_CLIENT_FACTS = 16 * 1024
"""Bytes of capabilities and client info, at most: every front end and worker that serves the session keeps them."""
_NOTHING = (b"", b"null", b"[]")
"""What clients write that have nothing to say. ``[]`` is how PHP writes an empty object."""


class Initialize(Struct, frozen=True):
    """What a client says of itself: the negotiated ``version``, and ``capabilities`` and ``client_info`` as JSON."""

    version: str
    capabilities: bytes
    client_info: bytes


def read_initialize(message: Message) -> Initialize:
    """Return what an ``initialize`` request says. Raises ``Refused`` (-32602) for invalid params."""
    parts = jsonrpc.few_members(message.params)
    check_inside(bytes(message.params), "capabilities", "clientInfo")
    version = parts.get("protocolVersion", jsonrpc.ABSENT)
    requested = jsonrpc.text(version, "protocolVersion") if bytes(version) not in _NOTHING else ""
    capabilities = bytes(parts.get("capabilities", b""))
    if capabilities in _NOTHING:
        capabilities = b"{}"
    info = bytes(parts.get("clientInfo", b""))
    if capabilities[:1] != b"{" or len(capabilities) + len(info) > _MAX_CLIENT_FACTS:
        raise Refused("invalid_params", f"params.capabilities must be an object of at most {_MAX_CLIENT_FACTS} bytes")
    return Initialize(negotiate_legacy(requested), capabilities, info)
