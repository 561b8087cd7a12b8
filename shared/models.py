"""The registry's vocabulary: what users register, and what they get back when they look.

Public types (re-exported by ``gateway``). Serialised in camelCase; durations in milliseconds on the wire.
The counterpart is ``shared.registry.store``, which keeps these in Redis.

Secrets: values of headers and environment variables never appear in a ``repr`` or in ``public()``.
"""

from __future__ import annotations

import enum
import re
import time
from collections.abc import Mapping
from typing import Any, Literal
from urllib.parse import urlsplit, urlunsplit

import msgspec
from msgspec import Struct

from shared.errors import ConfigError

MASK = "***"

_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9._@/-]{0,127}")


class ServerStatus(enum.StrEnum):
    """Where an upstream is in its life; the transitions are ``TRANSITIONS``."""

    REGISTERED = "registered"
    CONNECTING = "connecting"
    CONNECTED = "connected"
    ERROR = "error"
    STOPPED = "stopped"


TRANSITIONS: dict[ServerStatus, frozenset[ServerStatus]] = {
    ServerStatus.REGISTERED: frozenset({ServerStatus.CONNECTING, ServerStatus.STOPPED}),
    ServerStatus.CONNECTING: frozenset({ServerStatus.CONNECTED, ServerStatus.ERROR, ServerStatus.STOPPED}),
    ServerStatus.CONNECTED: frozenset({ServerStatus.ERROR, ServerStatus.CONNECTING, ServerStatus.STOPPED}),
    ServerStatus.ERROR: frozenset({ServerStatus.CONNECTED, ServerStatus.CONNECTING, ServerStatus.STOPPED}),
    ServerStatus.STOPPED: frozenset({ServerStatus.REGISTERED, ServerStatus.CONNECTING}),
}
"""Allowed moves. ``connected → connecting`` is a change of owner, ``error → connected`` a recovered probe."""


class BalancerStrategy(enum.StrEnum):
    """How a group chooses among its replicas."""

    ROUND_ROBIN = "round-robin"
    LEAST_CONNECTIONS = "least-connections"
    WEIGHTED = "weighted"
    RANDOM = "random"


class Naming(enum.StrEnum):
    """Whether tools are listed bare while that is unambiguous, or always as ``group__tool``."""

    AUTO = "auto"
    PREFIX = "prefix"


class Isolation(enum.StrEnum):
    """Whether clients share one upstream session or get one each; ``auto`` decides by what the upstream has."""

    AUTO = "auto"
    SHARED = "shared"
    CLIENT = "client"


class EraChoice(enum.StrEnum):
    """Which protocol era to speak to an upstream; ``auto`` probes."""

    AUTO = "auto"
    LEGACY = "legacy"
    MODERN = "modern"


Transport = Literal["stdio", "http", "sse"]

TRANSPORT_NAMES: dict[str, Transport] = {
    "stdio": "stdio",
    "http": "http",
    "streamable-http": "http",
    "streamable_http": "http",
    "streamableHttp": "http",
    "sse": "sse",
}
"""Spellings that configuration files of the field use, and ours."""


class StdioConnection(Struct, frozen=True, rename="camel"):
    """A child process that speaks MCP on stdin and stdout. No shell is involved."""

    command: str
    args: tuple[str, ...] = ()
    env: dict[str, str] = {}
    cwd: str | None = None

    @property
    def type(self) -> Transport:
        """The transport."""
        return "stdio"

    def __repr__(self) -> str:
        return f"StdioConnection({self.command!r}, args={len(self.args)}, env={sorted(self.env)})"

    def public(self) -> dict[str, Any]:
        """What may be shown: names of environment variables, not their values."""
        shown: dict[str, Any] = {"type": "stdio", "command": self.command, "args": list(self.args)}
        shown["env"] = dict.fromkeys(self.env, MASK)
        if self.cwd is not None:
            shown["cwd"] = self.cwd
        return shown


class HttpConnection(Struct, frozen=True, rename="camel"):
    """An HTTP upstream: ``http`` is Streamable HTTP, ``sse`` the HTTP+SSE transport of 2024-11-05."""

    url: str
    type: Literal["http", "sse"] = "http"
    headers: dict[str, str] = {}

    def __repr__(self) -> str:
        return f"HttpConnection({mask_url(self.url)!r}, {self.type!r}, headers={sorted(self.headers)})"

    def public(self) -> dict[str, Any]:
        """What may be shown: header names, not their values; no password in the URL."""
        return {"type": self.type, "url": mask_url(self.url), "headers": dict.fromkeys(self.headers, MASK)}


Connection = StdioConnection | HttpConnection


def mask_url(url: str) -> str:
    """``url`` without its password, if it has one."""
    parts = urlsplit(url)
    if parts.password is None:
        return url
    host = parts.netloc.rpartition("@")[2]
    return urlunsplit(parts._replace(netloc=f"{parts.username}:{MASK}@{host}"))


def _leads_to(raw: dict[str, Any]) -> tuple[Any, ...]:
    """The server, or the command, that a connection's secrets are given to."""
    if raw.get("url"):
        parts = urlsplit(str(raw["url"]))
        return parts.scheme, parts.hostname, parts.port
    return raw.get("command"), tuple(raw.get("args") or ()), raw.get("cwd")


def unmasked(raw: dict[str, Any], present: Connection | None = None) -> dict[str, Any]:
    """A connection that somebody may have been shown and sent back: what was masked is what ``present`` has there.

    A secret stays where it is: headers go to the same server, an environment to the same command. Raises
    ``ConfigError`` for any other mask: it would be stored as if it were the value, or shown to somebody new.
    """
    found = dict(raw)
    same = present is not None and _leads_to(found) == _leads_to(msgspec.to_builtins(present))
    for member in ("headers", "env"):
        given = found.get(member)
        if isinstance(given, dict):
            kept: dict[str, str] = getattr(present, member, {}) if same else {}
            found[member] = {name: kept.get(name, MASK) if value == MASK else value for name, value in given.items()}
            for name, value in found[member].items():
                if value == MASK:
                    raise ConfigError(
                        f"connection.{member}.{name} is {MASK!r}, which stands for a secret; send the value"
                    )
    url = found.get("url")
    if isinstance(url, str) and f":{MASK}@" in url:
        if not isinstance(present, HttpConnection) or url != mask_url(present.url):
            raise ConfigError(
                f"connection.url has {MASK!r} for its password, which stands for a secret; send the password"
            )
        found["url"] = present.url
    return found


class UpstreamSpec(Struct, frozen=True, rename="camel"):
    """What a user registers: one MCP server. Those with the same ``name`` are replicas of one group."""

    id: str
    name: str
    transport: Transport
    connection: Connection
    weight: int = 1
    metadata: dict[str, Any] = {}
    isolation: Isolation = Isolation.AUTO
    era: EraChoice = EraChoice.AUTO
    balancer: BalancerStrategy | None = None
    source: str = "api"

    def connection_json(self) -> bytes:
        """The connection as kept in Redis (with its secrets)."""
        return msgspec.json.encode(self.connection)


class ToolEntry(Struct, frozen=True, rename="camel"):
    """One tool as listed by one upstream."""

    name: str
    server_id: str = ""
    description: str | None = None
    input_schema: dict[str, Any] = {}


class HealthCheckResult(Struct, frozen=True, rename="camel"):
    """The last word on one upstream's health. ``checked_at`` is Unix seconds, ``latency_ms`` milliseconds."""

    server_id: str
    healthy: bool
    latency_ms: float | None = None
    error: str | None = None
    checked_at: float = 0.0


class ServerEntry(Struct, frozen=True, rename="camel"):
    """A registered upstream as seen by ``Gateway.list()``, the CLI and the admin API."""

    id: str
    name: str
    transport: Transport
    status: ServerStatus = ServerStatus.REGISTERED
    status_since: float = 0.0
    error: str | None = None
    weight: int = 1
    metadata: dict[str, Any] = {}
    connection: dict[str, Any] = {}
    isolation: Isolation = Isolation.AUTO
    balancer: BalancerStrategy | None = None
    eras: tuple[str, ...] = ()
    protocol_version: str | None = None
    owners: tuple[str, ...] = ()
    tools: tuple[ToolEntry, ...] = ()
    last_health_check: HealthCheckResult | None = None


def parse_transport(value: Any) -> Transport:
    """The transport a user means by ``value``. Raises ``ValueError`` naming the choices."""
    transport = TRANSPORT_NAMES.get(value) if isinstance(value, str) else None
    if transport is None:
        raise ValueError(f"unknown transport {value!r}; use stdio, http or sse")
    return transport


def parse_connection(raw: Mapping[str, Any] | Connection, transport: str | None = None) -> tuple[Transport, Connection]:
    """A connection from a user's mapping; what is left out is told by the rest.

    Raises ``ValueError`` or ``msgspec.ValidationError`` with what is wrong.
    """
    if isinstance(raw, StdioConnection | HttpConnection):
        if transport is not None and parse_transport(transport) != raw.type:
            raise ValueError(f"transport {transport!r} does not fit a connection of type {raw.type!r}")
        return raw.type, raw
    named = raw.get("type") or raw.get("transport") or transport
    if named is None:
        named = "stdio" if "command" in raw else "http"
    kind = parse_transport(named)
    if transport is not None and parse_transport(transport) != kind:
        raise ValueError(f"transport {transport!r} does not fit a connection of type {kind!r}")
    rest = {key: value for key, value in raw.items() if key not in ("type", "transport")}
    if kind == "stdio":
        if not isinstance(rest.get("command"), str) or not rest["command"].strip():
            raise ValueError("a stdio connection needs 'command'")
        return kind, _strict(rest, StdioConnection)
    if not isinstance(rest.get("url"), str):
        raise ValueError(f"a connection of type {kind!r} needs 'url'")
    parts = urlsplit(rest["url"])
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise ValueError(f"url {mask_url(rest['url'])!r} is not an http:// or https:// address")
    if parts.port == 0:  # reading it raises ValueError for what is no port at all
        raise ValueError(f"url {mask_url(rest['url'])!r} names port 0")
    connection = _strict({**rest, "type": kind}, HttpConnection)
    for name, value in connection.headers.items():
        if not re.fullmatch(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+", name) or re.search(r"[\r\n\0]", value):
            raise ValueError(f"header {name!r} is not a valid HTTP header")
    return kind, connection


def _strict(raw: Mapping[str, Any], kind: Any) -> Any:
    known = {field.encode_name for field in msgspec.structs.fields(kind)}
    unknown = set(raw) - known
    if unknown:
        raise ValueError(f"unknown key {sorted(unknown)[0]!r}; known: {', '.join(sorted(known))}")
    return msgspec.convert(dict(raw), kind)


def make_spec(
    id: str,
    connection: Mapping[str, Any] | Connection,
    name: str | None = None,
    transport: str | None = None,
    separator: str = "__",
    **options: Any,
) -> UpstreamSpec:
    """A checked ``UpstreamSpec``. Raises ``ConfigError`` that names the field and the cure."""
    problems: list[tuple[str, str]] = []
    options = {name: value for name, value in options.items() if value is not None or name == "weight"}
    group = id if name is None else name
    for field, value in (("id", id), ("name", group)):
        if not isinstance(value, str) or not _ID.fullmatch(value):
            problems.append(
                (
                    field,
                    f"{value!r} must be 1-128 letters, digits or . _ @ / - and start with a letter or digit",
                )
            )
        elif field == "name" and (separator in value or value.endswith(separator[0])):
            problems.append(
                (field, f"{value!r} may not contain {separator!r}, or end like it: it separates group and tool")
            )
    weight = options.get("weight", 1)
    if not isinstance(weight, int) or isinstance(weight, bool) or not 1 <= weight <= 1000:
        problems.append(("weight", f"{weight!r} must be a whole number from 1 to 1000"))
    if not isinstance(options.get("metadata", {}), dict):
        problems.append(("metadata", "must be an object"))
    kind: Transport = "stdio"
    parsed: Connection = StdioConnection("")
    try:
        kind, parsed = parse_connection(connection, transport)
    except (ValueError, msgspec.ValidationError) as error:
        problems.append(("connection", str(error)))
    for field, enumeration in (("isolation", Isolation), ("era", EraChoice), ("balancer", BalancerStrategy)):
        if options.get(field) is not None:
            try:
                options[field] = enumeration(options[field])
            except ValueError:
                choices = ", ".join(choice.value for choice in enumeration)
                problems.append((field, f"{options[field]!r} is not one of {choices}"))
    if problems:
        raise ConfigError(problems)
    return UpstreamSpec(id=id, name=group, transport=kind, connection=parsed, **options)


def now_s() -> float:
    """Unix time in seconds, to the millisecond, as kept in Redis."""
    return round(time.time(), 3)
