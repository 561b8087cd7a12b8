"""One upstream's tools, parsed once per digest: what routing needs to know, and their bytes in both eras."""

from __future__ import annotations

from typing import Any

import msgspec
import orjson
from msgspec import Raw, Struct

from shared.mcp import headers as mcp_headers
from shared.mcp import jsonrpc


class Tool(Struct, frozen=True):
    """A tool as its upstream names it. ``legacy`` is ``None`` when legacy clients cannot use it."""

    name: str
    modern: bytes
    legacy: bytes | None
    repeatable: bool
    annotated: tuple[mcp_headers.Annotated, ...] = ()


def parse_tools(document: bytes) -> list[Tool]:
    """The tools in a JSON array; entries that are no tools were left out by the worker."""
    return [tool for raw in msgspec.json.decode(document, type=list[Raw]) if (tool := _parse(bytes(raw))) is not None]


def _parse(raw: bytes) -> Tool | None:
    plain: dict[str, Any] = orjson.loads(raw)
    annotations = plain.get("annotations")
    hints = annotations if isinstance(annotations, dict) else {}
    annotated: list[mcp_headers.Annotated] = []
    if b"x-mcp-header" in raw:
        found = mcp_headers.annotated_parameters(plain.get("inputSchema"))
        if found is None:
            return None  # an invalid annotation: clients must not see the tool (2026-07-28, "Schema Extension")
        annotated = found
    return Tool(
        name=plain["name"],
        modern=raw,
        legacy=_for_legacy(raw, plain),
        repeatable=hints.get("readOnlyHint") is True or hints.get("idempotentHint") is True,
        annotated=tuple(annotated),
    )


def _for_legacy(raw: bytes, plain: dict[str, Any]) -> bytes | None:
    """What legacy clients choke on is left out: one such tool fails a client's whole ``tools/list``."""
    execution = plain.get("execution")
    support = execution.get("taskSupport") if isinstance(execution, dict) else None
    if support == "required":
        return None
    schema = plain.get("outputSchema")
    bad_schema = schema is not None and not (isinstance(schema, dict) and schema.get("type") == "object")
    if support is None and not bad_schema:
        return raw
    parts = jsonrpc.members(raw)
    if bad_schema:
        del parts["outputSchema"]
    if support is not None:
        inner = jsonrpc.members(parts["execution"])
        del inner["taskSupport"]
        parts["execution"] = Raw(jsonrpc.assemble(inner))
        if not inner:
            del parts["execution"]
    return jsonrpc.assemble(parts)


def renamed(raw: bytes, name: str) -> bytes:
    """The tool's bytes under another name; everything else as it was."""
    parts = jsonrpc.members(raw)
    parts["name"] = Raw(msgspec.json.encode(name))
    return jsonrpc.assemble(parts)
