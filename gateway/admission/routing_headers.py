"""The headers that mirror a modern request's body (2026-07-28, streamable-http, "Request Metadata"), as one value.

Read once for each distinct head by the express lane, for each request by the ordinary path; checked in one place.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from msgspec import Struct

from shared.mcp import headers as mcp_headers

VERSION_HEADER = "MCP-Protocol-Version"
METHOD_HEADER = "Mcp-Method"
NAME_HEADER = "Mcp-Name"


class RoutingHeaders(Struct, frozen=True, gc=False):
    """``name`` is decoded, ``raw_name`` as it was sent; ``repeated`` names a header that came more than once."""

    version: str | None = None
    method: str | None = None
    name: str | None = None
    raw_name: str | None = None
    repeated: str = ""

    @classmethod
    def read(cls, values_of: Callable[[str], Sequence[str]]) -> RoutingHeaders:
        """``values_of`` gives all values of a header."""
        found = {name: values_of(name) for name in (VERSION_HEADER, METHOD_HEADER, NAME_HEADER)}
        version, method, raw = (values[0] if values else None for values in found.values())
        repeated = next((name for name, values in found.items() if len(values) > 1), "")
        return cls(version, method, mcp_headers.decode_value(raw), raw, repeated)
