"""Short ways to make what the unit tests talk about."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from typing import Any

import msgspec

from shared.models import ServerStatus, UpstreamSpec, make_spec
from shared.registry.records import Catalog, UpstreamRecord


def spec(id: str, name: str | None = None, transport: str = "http", **options: Any) -> UpstreamSpec:
    """An upstream spec of this transport."""
    connection = {"command": "serve"} if transport == "stdio" else {"type": transport, "url": "http://up.test/mcp"}
    return make_spec(id, connection, name=name, **options)


def tool(name: str, **members: Any) -> dict[str, Any]:
    """A tool as an upstream lists it."""
    return {"name": name, "inputSchema": {"type": "object"}, **members}


def record(
    id: str,
    group: str | None = None,
    sequence: int = 1,
    tools: Iterable[str | dict[str, Any]] = (),
    status: ServerStatus = ServerStatus.CONNECTED,
    owners: Sequence[tuple[int, str]] = ((0, "w1"),),
    transport: str = "http",
    status_since: float = 0.0,
    error: str | None = None,
    **options: Any,
) -> UpstreamRecord:
    """A registered upstream. ``tools`` are names or whole tools; ``options`` are the spec's."""
    document = msgspec.json.encode([tool(one) if isinstance(one, str) else one for one in tools])
    return UpstreamRecord(
        spec=spec(id, group, transport, **options),
        sequence=sequence,
        status=status,
        status_since=status_since,
        error=error,
        owners=tuple(owners),
        catalog=Catalog(hashlib.sha256(document).hexdigest()[:16], document),
    )


def cut(data: bytes, places: Iterable[int]) -> list[bytes]:
    """``data`` in pieces, cut at these places (taken modulo its length); pieces may be empty."""
    marks = sorted(place % (len(data) + 1) for place in places)
    return [data[a:b] for a, b in zip([0, *marks], [*marks, len(data)], strict=True)]
