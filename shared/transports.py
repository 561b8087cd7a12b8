"""The transports by which upstreams are reached: one row for each, with the properties on which other code depends.

No code compares transports by name. Code that depends on a property of a transport reads it from ``TransportTraits``.
``worker.transports`` moves the bytes and has one file for each row.
"""

from __future__ import annotations

import enum
from collections.abc import Callable, Mapping
from typing import Any

import msgspec
from msgspec import Struct

from shared.connections import (
    Connection,
    HttpConnection,
    OpenApiConnection,
    StdioConnection,
    check_headers,
    check_passthrough,
    check_proxy,
    check_spec,
    check_url,
)
from shared.sandbox import parse_sandbox
from shared.upstream_auth import check_alone, parse_auth


class UpstreamSessions(enum.Enum):
    """Where an upstream's session comes from."""

    PROCESS = "process"
    """The child process is the session; clients share it unless isolation says otherwise."""
    OFFERED = "offered"
    """The upstream may hand out a session id (Streamable HTTP)."""
    CONNECTION = "connection"
    """Each connection is a session (HTTP+SSE)."""


class TransportTraits(Struct, frozen=True):
    """The properties of one transport.

    ``title`` is what people call it. ``spellings`` are its names in configuration files, ``foreign`` those in files of
    other clients alone. ``key`` is the member of a connection that identifies the transport if none is named.
    ``connection`` is the type of its connections. ``runs_once``: only a single worker runs the upstream, because two
    would be two servers. ``locks_era``: one session speaks one era for its whole life.
    """

    name: str
    title: str
    spellings: tuple[str, ...]
    key: str
    connection: type[StdioConnection] | type[HttpConnection]
    check: Callable[[Mapping[str, Any]], None]
    sessions: UpstreamSessions
    runs_once: bool = False
    locks_era: bool = False
    foreign: tuple[str, ...] = ()


def _check_command(given: Mapping[str, Any]) -> None:
    if not isinstance(given.get("command"), str) or not given["command"].strip():
        raise ValueError("a stdio connection needs 'command'")


def _check_url(given: Mapping[str, Any]) -> None:
    if not isinstance(given.get("url"), str):
        raise ValueError(f"a connection of type {given.get('type')!r} needs 'url'")
    check_url(given["url"])
    proxy = given.get("proxy")
    if isinstance(proxy, str):
        check_proxy(proxy)
    headers = given.get("headers")
    if isinstance(headers, dict):
        check_headers(headers)
    tls = given.get("tls")
    if isinstance(tls, dict) and tls.get("keyFile") and not tls.get("certFile"):
        raise ValueError("tls.keyFile needs tls.certFile beside it")
    check_passthrough(given)
    auth = given.get("auth")
    if auth is not None:
        parse_auth(auth)
        check_alone(auth, given["url"], headers)


def _check_api(given: Mapping[str, Any]) -> None:
    if not isinstance(given.get("url"), str):
        raise ValueError("a connection of type 'openapi' needs 'url' as well: where the API is")
    check_spec(given)
    _check_url(given)


_ROWS = (
    TransportTraits(
        "stdio",
        "stdio",
        ("stdio",),
        "command",
        StdioConnection,
        _check_command,
        UpstreamSessions.PROCESS,
        runs_once=True,
        locks_era=True,
        foreign=("local", "command"),
    ),
    TransportTraits(
        "http",
        "Streamable HTTP",
        ("http", "streamable-http", "streamable_http", "streamableHttp"),
        "url",
        HttpConnection,
        _check_url,
        UpstreamSessions.OFFERED,
        foreign=("https", "remote", "streamable", "httpStream"),
    ),
    TransportTraits("sse", "HTTP+SSE", ("sse",), "url", HttpConnection, _check_url, UpstreamSessions.CONNECTION),
    TransportTraits(
        "openapi", "HTTP API (OpenAPI)", ("openapi",), "spec", OpenApiConnection, _check_api, UpstreamSessions.OFFERED
    ),
)
TRANSPORTS: dict[str, TransportTraits] = {row.name: row for row in _ROWS}
"""The traits of every transport, by its name."""
_BY_KEY = sorted(_ROWS, key=lambda row: row.key == "url")  # every address has a URL, so it tells least
_SPELLINGS = {spelling: row for row in _ROWS for spelling in row.spellings}
_UNKNOWN = TransportTraits("", "", (), "", HttpConnection, _check_url, UpstreamSessions.CONNECTION)


def traits(name: str) -> TransportTraits:
    """Return the traits of a transport. A transport that only another version of the gateway knows has no special
    ones."""
    return TRANSPORTS.get(name, _UNKNOWN)


def parse_transport(value: Any) -> str:
    """Return the name of the transport that ``value`` means. Raises ``ValueError`` that names the choices."""
    row = _SPELLINGS.get(value) if isinstance(value, str) else None
    if row is None:
        names = list(TRANSPORTS)
        raise ValueError(f"unknown transport {value!r}; use {', '.join(names[:-1])} or {names[-1]}")
    return row.name


def parse_connection(raw: Mapping[str, Any] | Connection, transport: str | None = None) -> tuple[str, Connection]:
    """Return the transport and the connection that a user's mapping means.

    If the mapping names no transport, its other members decide. Raises ``ValueError`` or ``msgspec.ValidationError``
    that says what is wrong.
    """
    if isinstance(raw, StdioConnection | HttpConnection):
        if transport is not None and parse_transport(transport) != raw.type:
            raise ValueError(f"transport {transport!r} does not fit a connection of type {raw.type!r}")
        return raw.type, raw
    named = raw.get("type") or raw.get("transport") or transport
    if named is None:
        named = next((row.name for row in _BY_KEY if row.key in raw), "http")
    row = TRANSPORTS[parse_transport(named)]
    if transport is not None and parse_transport(transport) != row.name:
        raise ValueError(f"transport {transport!r} does not fit a connection of type {row.name!r}")
    rest = {key: value for key, value in raw.items() if key not in ("type", "transport")}
    if "type" in row.connection.__struct_fields__:
        rest["type"] = row.name
    if row.connection is StdioConnection and "sandbox" in rest:
        rest["sandbox"] = parse_sandbox(rest["sandbox"])
    row.check({**rest, "type": row.name})
    return row.name, _strict(rest, row.connection)


def _strict(raw: Mapping[str, Any], kind: Any) -> Any:
    known: tuple[str, ...] = kind.__struct_encode_fields__
    unknown = set(raw).difference(known)
    if unknown:
        raise ValueError(f"unknown key {sorted(unknown)[0]!r}; known: {', '.join(sorted(known))}")
    return msgspec.convert(dict(raw), kind)
