"""Which eras an upstream speaks, from its answers to a probe. Pure.

Specification 2026-07-28, streamable-http and stdio, "Backward Compatibility": a ``server/discover`` that names a modern
version, or one of the modern error codes, means modern. Any other MCP answer, HTML or 4xx means legacy. 401, 403, 429,
5xx and network errors mean nothing yet.
"""

from __future__ import annotations

from typing import Any

from shared.errors import NotDelivered
from shared.mcp import values
from shared.mcp.versions import MODERN_VERSIONS

MODERN_CODES = (-32020, -32021, -32022)


def is_modern(answer: Any) -> bool | None:
    """Whether a decoded answer to ``server/discover`` means modern (true) or legacy (false). ``None`` if it is not
    JSON-RPC."""
    if not isinstance(answer, dict) or not ("result" in answer or "error" in answer):
        return None
    result = answer.get("result")
    if isinstance(result, dict):
        versions = result.get("supportedVersions")
        return isinstance(versions, list) and any(version in MODERN_VERSIONS for version in versions)
    error = answer.get("error")
    return isinstance(error, dict) and speaks_modern(error)


def speaks_modern(error: dict[str, Any]) -> bool:
    """Whether a JSON-RPC error object is one that only a modern server sends."""
    if error.get("code") not in MODERN_CODES:
        return False
    data = error.get("data")
    supported = data.get("supported") if isinstance(data, dict) else None
    return not isinstance(supported, list) or any(version in MODERN_VERSIONS for version in supported)


def http_verdict(status: int, body: bytes) -> bool:
    """Whether the HTTP answer to ``server/discover`` means modern. Raises ``NotDelivered`` if it means nothing."""
    if status in (401, 403):
        raise NotDelivered(
            "upstream_unavailable",
            f"HTTP {status}: check the headers configured for it",
            {"http": str(status)},
        )
    if status == 429 or status >= 500:
        raise NotDelivered("upstream_unavailable", f"HTTP {status}: it cannot serve now", {"http": str(status)})
    try:
        return bool(is_modern(values.loads(body)))
    except ValueError:
        return False
