"""The headers that mirror a modern request's body (2026-07-28, streamable-http, "Request Metadata"), as one value."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import orjson
from msgspec import Struct

from shared.mcp import headers as mcp_headers

VERSION_HEADER = "mcp-protocol-version"
METHOD_HEADER = "mcp-method"
NAME_HEADER = "mcp-name"


class RoutingHeaders(Struct, frozen=True, gc=False):
    """The routing headers of one request.

    ``name`` is decoded and ``raw_name`` as it was sent. ``repeated`` names a header that came more than once, or is
    empty. ``parameters`` are the ``Mcp-Param-*`` headers, with names in lower case. ``name_json`` is the JSON of
    ``name``, for comparison.
    """

    version: str | None = None
    method: str | None = None
    name: str | None = None
    raw_name: str | None = None
    repeated: str = ""
    parameters: tuple[tuple[str, str], ...] = ()
    name_json: bytes = b""

    def __repr__(self) -> str:
        """Show the headers, without the arguments among them."""
        return f"RoutingHeaders({self.version} {self.method} {self.name!r})"

    @classmethod
    def read(cls, named: Mapping[str, list[str]]) -> RoutingHeaders:
        """Return the routing headers among all headers; ``named`` has each header's values by its lower-case name."""
        found = {name: named.get(name, []) for name in (VERSION_HEADER, METHOD_HEADER, NAME_HEADER)}
        version, method, raw = (values[0] if values else None for values in found.values())
        if version is not None and "," in version:
            version = _said_twice(version)
        repeated = next((_SHOWN[name] for name, values in found.items() if len(values) > 1), "")
        parameters = tuple((name, values[0]) for name, values in named.items() if name.startswith("mcp-param-"))
        name = mcp_headers.decode_value(raw)
        return cls(version, method, name, raw, repeated, parameters, _json(name))


_SHOWN = {VERSION_HEADER: "MCP-Protocol-Version", METHOD_HEADER: "Mcp-Method", NAME_HEADER: "Mcp-Name"}


def _said_twice(version: str) -> str:
    """Return the one version in a header to which a client and its library have both added it."""
    parts = {part.strip() for part in version.split(",")}
    return parts.pop() if len(parts) == 1 else version


def _json(name: str | None) -> bytes:
    """Return the JSON of a name as most clients write it, or nothing where the header is no text."""
    try:
        return orjson.dumps(name) if name is not None else b""
    except orjson.JSONEncodeError:
        return b""


def by_name(headers: Iterable[tuple[str, str]]) -> dict[str, list[str]]:
    """Return all values of each header by its lower-case name."""
    named: dict[str, list[str]] = {}
    for name, value in headers:
        named.setdefault(name.lower(), []).append(value)
    return named
