"""What one upstream lists, parsed once per digest: what routing needs of each entry, and its JSON for both eras."""

from __future__ import annotations

from typing import Any

import msgspec
import orjson
from msgspec import Raw, Struct

from gateway.routing.steps import Steps, at_once, chunks
from shared.mcp import headers as mcp_headers
from shared.mcp import jsonrpc
from shared.mcp.listings import KINDS, Kind

_UI = b'"resourceUri"'
_FLAT_UI = "ui/resourceUri"
_A_STEP = 100
"""So many entries are parsed in one step: 256 KiB each at most, and a few microseconds nearly always."""


class Entry(Struct, frozen=True):
    """A tool, prompt, resource or template as its upstream names it.

    A resource that is only named by a tool (``ui``) has no JSON, as it is in no list.
    ``name`` is its name, URI or URI template. ``modern`` and ``legacy`` are its JSON in lists of each era; ``legacy``
    is ``None`` if legacy clients cannot use the entry. ``repeatable``: whether a call of it may be sent again when its
    outcome is unknown. ``annotated`` are the arguments that go into ``Mcp-Param-*`` headers.
    """

    kind: Kind
    name: str
    modern: bytes
    legacy: bytes | None
    repeatable: bool = True
    annotated: tuple[mcp_headers.Annotated, ...] = ()
    ui: str = ""
    """The URI of the resource that shows a tool (MCP Apps, ``_meta.ui.resourceUri``), or empty."""
    said: bytes = b""
    """What the upstream itself says, if a virtual server says something else (``modern``), or empty."""
    whole: bytes = b""
    """What the upstream itself says, if not all of it is passed on, or empty."""
    read_only: bool = False
    """Whether a tool says that it changes nothing (``readOnlyHint``)."""

    @property
    def listed(self) -> bytes:
        """The JSON of the entry with all that its upstream lists. What was approved is compared with it."""
        return self.whole or self.said or self.modern

    @property
    def own(self) -> bytes:
        """The JSON of the entry as its upstream lists it. Rules of access go by it."""
        return self.said or self.modern


def parse(kind: Kind, document: bytes) -> list[Entry]:
    """Return what ``parsing`` returns, at once."""
    return at_once(parsing(kind, document))


def parsing(kind: Kind, document: bytes) -> Steps[list[Entry]]:
    """Return the entries in a JSON array, in steps. The worker has left out what is no valid entry of this kind."""
    found: list[Entry] = []
    for some in chunks(msgspec.json.decode(document, type=list[Raw]), _A_STEP):
        for raw in some:
            try:
                entry = _tool(bytes(raw)) if kind is Kind.TOOLS else _other(kind, bytes(raw))
            except (ValueError, RecursionError):
                continue  # one entry that cannot be read does not hide the others
            if entry is not None:
                found.append(entry)
        yield
    return found


def _other(kind: Kind, raw: bytes) -> Entry:
    return Entry(kind, str(orjson.loads(raw)[KINDS[kind].key]), raw, raw)


def _tool(raw: bytes) -> Entry | None:
    plain: dict[str, Any] = orjson.loads(raw)
    annotations = plain.get("annotations")
    hints = annotations if isinstance(annotations, dict) else {}
    annotated: list[mcp_headers.Annotated] = []
    if b"x-mcp-header" in raw:
        found = mcp_headers.annotated_parameters(plain.get("inputSchema"))
        if found is None:
            return None  # an invalid annotation: clients must not see the tool (2026-07-28, "Schema Extension")
        annotated = found
    usable = _without_tasks(raw, plain)
    return Entry(
        kind=Kind.TOOLS,
        name=plain["name"],
        modern=usable,
        legacy=_for_legacy(usable, plain),
        repeatable=hints.get("readOnlyHint") is True or hints.get("idempotentHint") is True,
        annotated=tuple(annotated),
        ui=interface_of(plain) if _UI in raw else "",
        whole=b"" if usable is raw else raw,
        read_only=hints.get("readOnlyHint") is True,
    )


def unlisted_resource(uri: str) -> Entry:
    """Return the entry of a resource that a tool names and no list has. Servers need not list interfaces of tools (MCP
    Apps)."""
    return Entry(Kind.RESOURCES, uri, b"", b"")


def interface_of(plain: dict[str, Any]) -> str:
    """Return the URI of the resource that shows a tool (MCP Apps, ``_meta.ui.resourceUri``), or an empty string."""
    meta = plain.get("_meta")
    ui = meta.get("ui") if isinstance(meta, dict) else None
    uri = ui.get("resourceUri") if isinstance(ui, dict) else None
    return uri if isinstance(uri, str) else ""


def with_ui(raw: bytes, own: str, uri: str) -> bytes:
    """Return the JSON of a tool with ``uri`` in its ``_meta`` in place of ``own``.

    The flat member ``ui/resourceUri``, which MCP Apps had first, is replaced as well.
    """
    parts = jsonrpc.members(raw)
    meta = jsonrpc.members(parts["_meta"])
    meta["ui"] = Raw(renamed(bytes(meta["ui"]), "resourceUri", uri))
    flat = meta.get(_FLAT_UI)
    if flat is not None and bytes(flat) == msgspec.json.encode(own):
        meta[_FLAT_UI] = Raw(msgspec.json.encode(uri))
    parts["_meta"] = Raw(jsonrpc.assemble(meta))
    return jsonrpc.assemble(parts)


def _without_tasks(raw: bytes, plain: dict[str, Any]) -> bytes:
    """Return the JSON of a tool without what it says of tasks of 2025-11-25. Clients make none here: the gateway waits
    for those that a tool needs (``worker.input.legacy_tasks``)."""
    execution = plain.get("execution")
    support = execution.get("taskSupport") if isinstance(execution, dict) else None
    if support is None:
        return raw
    parts = jsonrpc.members(raw)
    inner = jsonrpc.members(parts["execution"])
    del inner["taskSupport"]
    parts["execution"] = Raw(jsonrpc.assemble(inner))
    if not inner:
        del parts["execution"]
    return jsonrpc.assemble(parts)


def _for_legacy(raw: bytes, plain: dict[str, Any]) -> bytes:
    """Return the JSON of a tool for legacy clients.

    Members that legacy clients cannot parse are left out: one such tool fails a client's whole ``tools/list``.
    """
    schema = plain.get("outputSchema")
    if schema is None or (isinstance(schema, dict) and schema.get("type") == "object"):
        return raw
    parts = jsonrpc.members(raw)
    del parts["outputSchema"]
    return jsonrpc.assemble(parts)


def renamed(raw: bytes, member: str, value: str) -> bytes:
    """Return the JSON of an object with one member replaced; all other bytes stay as they are."""
    parts = jsonrpc.members(raw)
    parts[member] = Raw(msgspec.json.encode(value))
    return jsonrpc.assemble(parts)
