"""The checks of a modern request's headers and ``_meta`` (2026-07-28, streamable-http, "Server Validation"). Pure."""

from __future__ import annotations

from gateway.admission.routing_headers import RoutingHeaders
from shared.errors import Refused
from shared.mcp import jsonrpc
from shared.mcp.jsonrpc import Message, Params
from shared.mcp.methods import CAPABILITIES_META, LOG_LEVEL_META, LOG_LEVELS, NAMED_BY, VERSION_META
from shared.mcp.versions import LATEST_MODERN, MODERN_VERSIONS

_RAW_VERSION = b'"' + LATEST_MODERN.encode() + b'"'


def check_modern_request(headers: RoutingHeaders, message: Message, params: Params) -> None:
    """Raise ``Refused`` unless ``_meta`` is complete, and headers and body agree.

    The checks are in the specification's order: ``_meta`` (-32602), headers (-32020), version (-32022).
    """
    meta = params.meta
    if meta is None or not meta.version or not meta.capabilities:
        raise Refused("invalid_params", f"params._meta needs {VERSION_META} and {CAPABILITIES_META}")
    raw_version = bytes(meta.version)
    if raw_version != _RAW_VERSION or headers.version != LATEST_MODERN:
        named = jsonrpc.text(meta.version, "_meta.io.modelcontextprotocol/protocolVersion")
        if headers.version != named:
            raise Refused(
                "header_mismatch", f"MCP-Protocol-Version header {headers.version!r} differs from _meta {named!r}"
            )
    if headers.method != message.method:
        raise Refused("header_mismatch", f"Mcp-Method header {headers.method!r} differs from the body")
    member = NAMED_BY.get(message.method)
    if member is not None:
        if member == "taskId":
            # The client of the Python SDK 2.x sends no such header about tasks, and the id in the body says as much.
            sent = headers.name is not None
            raw = jsonrpc.few_members(message.params).get(member, jsonrpc.ABSENT) if sent else jsonrpc.ABSENT
        else:
            raw = params.name if member == "name" else params.uri
        if raw and bytes(raw) != headers.name_json and headers.name != jsonrpc.text(raw, member):
            raise Refused("header_mismatch", f"Mcp-Name header {headers.raw_name!r} differs from params.{member}")
    if headers.repeated:
        raise Refused("header_mismatch", f"{headers.repeated} header appears more than once")
    if raw_version != _RAW_VERSION:
        raise Refused(
            "version_unsupported",
            "unsupported protocol version",
            {"supported": list(MODERN_VERSIONS), "requested": headers.version},
        )
    if meta.log_level and jsonrpc.text(meta.log_level, "_meta.io.modelcontextprotocol/logLevel") not in LOG_LEVELS:
        raise Refused("invalid_params", f"_meta.{LOG_LEVEL_META} must be one of {', '.join(LOG_LEVELS)}")
    if bytes(meta.capabilities)[:1] != b"{":
        raise Refused("invalid_params", "_meta.io.modelcontextprotocol/clientCapabilities must be an object")
