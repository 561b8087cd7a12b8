"""Short ways to make what the unit tests talk about."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from typing import Any

import msgspec

from shared.choices import Duty
from shared.mcp.listings import KINDS, Kind
from shared.models import ServerStatus, UpstreamSpec, make_spec
from shared.registry.records import ListedCatalog, UpstreamRecord


def spec(id: str, name: str | None = None, transport: str = "http", **options: Any) -> UpstreamSpec:
    """An upstream spec of this transport."""
    connection = {"command": "serve"} if transport == "stdio" else {"type": transport, "url": "http://up.test/mcp"}
    connection |= {"spec": "http://up.test/openapi.json"} if transport == "openapi" else {}
    return make_spec(id, connection, name=name, **options)


def tool(name: str, **members: Any) -> dict[str, Any]:
    """A tool as an upstream lists it."""
    return {"name": name, "inputSchema": {"type": "object"}, **members}


def listed(kind: Kind, key: str, **members: Any) -> dict[str, Any]:
    """A prompt, resource or template as an upstream lists it; ``key`` is its name, URI or URI template."""
    return {KINDS[kind].key: key, **({} if kind is Kind.PROMPTS else {"name": "shown"}), **members}


def _document(kind: Kind, entries: Iterable[str | dict[str, Any]]) -> bytes:
    make = tool if kind is Kind.TOOLS else lambda key: listed(kind, key)
    return msgspec.json.encode([make(one) if isinstance(one, str) else one for one in entries])


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
    prompts: Iterable[str | dict[str, Any]] = (),
    resources: Iterable[str | dict[str, Any]] = (),
    templates: Iterable[str | dict[str, Any]] = (),
    capabilities: dict[str, Any] | None = None,
    instructions: str = "",
    duty: Duty = Duty.ACTIVE,
    **options: Any,
) -> UpstreamRecord:
    """A registered upstream. What it lists are keys or whole entries; ``options`` are the spec's."""
    offered = {Kind.TOOLS: tools, Kind.PROMPTS: prompts, Kind.RESOURCES: resources, Kind.TEMPLATES: templates}
    documents = {kind: _document(kind, entries) for kind, entries in offered.items()}
    digest = hashlib.sha256(b"\0".join(documents.values())).hexdigest()[:16]
    return UpstreamRecord(
        spec=spec(id, group, transport, **options),
        sequence=sequence,
        status=status,
        status_since=status_since,
        duty=duty,
        error=error,
        transport_in_use=transport,
        capabilities=capabilities or {},
        instructions=instructions,
        owners=tuple(owners),
        catalog=ListedCatalog(digest, documents),
    )


def cut(data: bytes, places: Iterable[int]) -> list[bytes]:
    """``data`` in pieces, cut at these places (taken modulo its length); pieces may be empty."""
    marks = sorted(place % (len(data) + 1) for place in places)
    return [data[a:b] for a, b in zip([0, *marks], [*marks, len(data)], strict=True)]
