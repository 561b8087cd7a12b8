"""The names of endpoints: what stands in ``/servers/{name}``, and how a client asked to find tools there. Pure.

An endpoint is the name in ``/servers/{name}``, or empty for ``/mcp``. Where the URL of a client has
``?discovery=search``, that belongs to the endpoint, so that sessions and streams of that client see what it asked for.
"""

from __future__ import annotations

from shared.choices import Discovery
from shared.errors import Refused

ASKED = "\x1f"
"""Stands between the name and what was asked for. No group and no virtual server has such a character in its name."""


def asking(name: str, discovery: str) -> str:
    """Return the endpoint at which a client asked for a way to find tools. Raises ``Refused`` if there is no such
    way."""
    try:
        return f"{name}{ASKED}{Discovery(discovery)}"
    except ValueError:
        known = ", ".join(one.value for one in Discovery)
        raise Refused("invalid_request", f"discovery={discovery[:32]!r} is not one of {known}") from None


def named(endpoint: str) -> str:
    """Return the name of an endpoint."""
    return endpoint.partition(ASKED)[0]


def split(endpoint: str) -> tuple[str, Discovery | None]:
    """Return the name of an endpoint and what the client asked for, or ``None`` if it did not ask."""
    name, found, how = endpoint.partition(ASKED)
    if not found:
        return name, None
    try:
        return name, Discovery(how)
    except ValueError:  # a name from a client, which may have any character in it
        return endpoint, None
