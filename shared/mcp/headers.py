"""The ``Mcp-*`` request headers of 2026-07-28: writing, reading, and annotated tool parameters.

Specification 2026-07-28, basic/transports/streamable-http, "Request Metadata". Values that are not plain ASCII header
text travel as ``=?base64?…?=``.
"""

from __future__ import annotations

import base64
import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from msgspec import Raw

from shared.mcp.jsonrpc import members
from shared.mcp.once import check_members

PARAM_PREFIX = "mcp-param-"
_SENTINEL = re.compile(r"=\?base64\?(.*)\?=\Z", re.DOTALL)
_PLAIN = re.compile(r"[\x21-\x7e](?:[\x20-\x7e\t]*[\x21-\x7e])?\Z")
_TOKEN = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+\Z")
_DECIMAL = re.compile(r"-?[0-9]{1,400}(?:\.0*)?\Z")


def encode_value(value: str) -> str:
    """Return ``value`` as header text."""
    if _PLAIN.match(value) and not _SENTINEL.match(value):
        return value
    return "=?base64?" + base64.b64encode(value.encode()).decode() + "?="


def decode_value(value: str | None) -> str | None:
    """Return the text that a header stands for, or ``None`` if the header is missing or its base64 is broken."""
    if value is None:
        return None
    match = _SENTINEL.match(value)
    if match is None:
        return value
    try:
        return base64.b64decode(match.group(1), validate=True).decode()
    except ValueError:  # broken base64, no ASCII, or no UTF-8
        return None


_DEPTH = 64
Annotated = tuple[tuple[str, ...], str, str]
"""(path of property names, header name's last part, JSON type)."""


def annotated_parameters(schema: Any) -> list[Annotated] | None:
    """Return the properties annotated with ``x-mcp-header``, or ``None`` if an annotation breaks the specification's
    rules. Raises ``ValueError`` for a schema that is nested too deeply."""
    found: list[Annotated] = []
    seen: set[str] = set()
    for path, node, reachable in _walk(schema, (), True):
        token = node["x-mcp-header"]
        kind = node.get("type")
        if not isinstance(token, str) or not _TOKEN.match(token) or not reachable or not path:
            return None
        if kind not in ("integer", "string", "boolean") or token.lower() in seen:
            return None
        seen.add(token.lower())
        found.append((path, token, kind))
    return found


def _walk(
    node: Any, path: tuple[str, ...], reachable: bool, depth: int = 0
) -> Iterator[tuple[tuple[str, ...], Any, bool]]:
    if depth > _DEPTH:
        raise ValueError(f"a schema nested more than {_DEPTH} deep")
    if isinstance(node, list):
        for item in node:
            yield from _walk(item, path, False, depth + 1)
    if not isinstance(node, dict):
        return
    if "x-mcp-header" in node:
        yield path, node, reachable
    for key, child in node.items():
        if key == "properties" and isinstance(child, dict):
            for name, part in child.items():
                yield from _walk(part, (*path, name), reachable, depth + 1)
        elif key not in ("enum", "const", "default", "examples"):
            yield from _walk(child, path, False, depth + 1)


def _value_at(arguments: Any, path: tuple[str, ...]) -> Any:
    for name in path:
        if not isinstance(arguments, dict):
            return None
        arguments = arguments.get(name)
    return arguments


def _render(value: Any) -> str | None:
    if isinstance(value, bool):
        return "true" if value else "false"
    return str(value) if isinstance(value, str | int | float) else None


def check_once(annotated: Iterable[Annotated], arguments: bytes | Raw) -> None:
    """Raise ``Refused`` (-32600) if a member on the way to an annotated argument is there twice."""
    inner: dict[str, list[Annotated]] = {}
    for path, token, kind in annotated:
        if len(path) > 1:
            inner.setdefault(path[0], []).append((path[1:], token, kind))
    if bytes(arguments[:64]).lstrip()[:1] == b"{":
        check_members(bytes(arguments))
        parts = members(arguments) if inner else {}
        for name, deeper in inner.items():
            check_once(deeper, parts.get(name, b""))


def parameter_headers(annotated: list[Annotated], arguments: Any) -> dict[str, str]:
    """Return the ``Mcp-Param-*`` headers that mirror ``arguments``."""
    made: dict[str, str] = {}
    for path, token, _ in annotated:
        rendered = _render(_value_at(arguments, path))
        if rendered is not None:
            made[f"Mcp-Param-{token}"] = encode_value(rendered)
    return made


def mismatch(annotated: list[Annotated], arguments: Any, headers: Mapping[str, str]) -> str | None:
    """Return the difference between ``Mcp-Param-*`` headers and the body as a text, or ``None`` if they agree.
    ``headers`` are by name in lower case."""
    for path, token, kind in annotated:
        name = f"Mcp-Param-{token}"
        sent = headers.get(name.lower())
        value = _value_at(arguments, path)
        rendered = _render(value)
        where = ".".join(path)
        if rendered is None:
            if sent is not None:
                return f"{name} header is present but argument {where!r} is absent"
            continue
        if sent is None:
            return f"{name} header is missing but argument {where!r} is present"
        decoded = decode_value(sent)
        if decoded is None:
            return f"{name} header carries broken base64"
        if kind == "integer" and not isinstance(value, bool) and _DECIMAL.match(decoded) and _DECIMAL.match(rendered):
            if int(decoded.partition(".")[0]) == int(rendered.partition(".")[0]):
                continue
            return f"{name} header does not match argument {where!r}"
        if decoded != rendered:
            return f"{name} header does not match argument {where!r}"
    return None
