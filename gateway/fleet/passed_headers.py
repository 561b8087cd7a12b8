"""Headers of clients that go up to an upstream: those that its entry names (``passthrough``), and no others. Pure."""

from __future__ import annotations

from gateway.telemetry.observer import ClientHead
from shared.errors import Refused

_MAX_BYTES = 16 * 1024
"""What fits into the head of a frame beside everything else."""


def passed(client: ClientHead | None, names: frozenset[str]) -> dict[str, str] | None:
    """Return the headers of a request that are named, which are in lower case. Raises ``Refused`` if they are too
    large."""
    if client is None:
        return None
    found = {name: value for name, value in client.others if name in names}
    if client.authorization is not None and "authorization" in names:
        found["authorization"] = client.authorization
    if sum(len(name) + len(value) for name, value in found.items()) > _MAX_BYTES:
        raise Refused("head_too_large", f"headers that go up to the upstream have more than {_MAX_BYTES} bytes")
    return found
