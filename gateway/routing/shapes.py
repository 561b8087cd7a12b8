"""What becomes of a call's arguments on its way to the upstream: fixed, hidden and default values. Pure.

A route has a shape only where a virtual server says something of its arguments, so that other calls cost nothing.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from msgspec import Raw, Struct

from shared.errors import Refused
from shared.mcp import jsonrpc
from shared.virtual_servers import Argument


class Shape(Struct, frozen=True):
    """The arguments of one route that a virtual server decides.

    ``closed`` has those that clients cannot set, by their names without case: some upstreams take names for the same
    that differ in case. ``values`` is the JSON of what is sent where the client gives nothing.
    """

    closed: Mapping[str, str]
    values: Mapping[str, Raw]

    def closes(self, name: str) -> bool:
        """Whether clients cannot set this argument, and do not see it."""
        return name.casefold() in self.closed

    def params(self, params: Raw, name: str) -> bytes:
        """Return the params of a call under the upstream's name, with the arguments that the upstream gets.

        Raises ``Refused`` (-32602) for an argument that clients cannot set.
        """
        parts: dict[str, Any] = jsonrpc.members(params)
        parts["name"] = name
        given = parts.get("arguments", jsonrpc.ABSENT)
        arguments: dict[str, Any] = {} if bytes(given) == b"null" else jsonrpc.members(given)
        for one in arguments:
            if one.casefold() in self.closed:
                raise Refused("invalid_params", f"argument {one[:128]!r} cannot be set here: its value is decided")
        for one, value in self.values.items():
            if one not in arguments:
                arguments[one] = value
        parts["arguments"] = arguments
        return jsonrpc.assemble(parts)


def shape_of(arguments: Mapping[str, Argument]) -> Shape | None:
    """Return the shape that these arguments make, or ``None`` if nothing is said of any."""
    if not arguments:
        return None
    closed = {name.casefold(): name for name, one in arguments.items() if one.closed}
    return Shape(closed, {name: Raw(one.value) for name, one in arguments.items() if one.value})
