"""The transports by which upstreams are reached: one row for each, with the properties on which other code depends.

No code compares transports by name. Code that depends on a property of a transport reads it from ``TransportTraits``.
``worker.transports`` moves the bytes and has one file for each row.

Values of headers and of environment variables are secrets, and never appear in a ``repr`` or in ``public()``.
"""

from __future__ import annotations

import enum
import re
from collections.abc import Callable, Mapping
from typing import Any, Literal
from urllib.parse import unquote, urlsplit, urlunsplit

import msgspec
from msgspec import Struct

from shared.errors import ConfigError

MASK = "***"
"""The text that stands for a secret wherever one would be shown."""
_SECRET = re.compile(r"key|token|secret|pass|pwd|auth|sig|credential|code|jwt|session", re.IGNORECASE)
"""What names of members of a query have in them whose values are secrets."""
_MASKED = re.compile(rf":{re.escape(MASK)}@|={re.escape(MASK)}(?:[&#]|$)")


class StdioConnection(Struct, frozen=True, rename="camel"):
    """A child process that speaks MCP on stdin and stdout. No shell is involved."""

    command: str
    args: tuple[str, ...] = ()
    env: dict[str, str] = {}
    cwd: str | None = None

    @property
    def type(self) -> str:
        """The name of the transport."""
        return "stdio"

    def __repr__(self) -> str:
        return f"StdioConnection({self.command!r}, args={len(self.args)}, env={sorted(self.env)})"

    def public(self) -> dict[str, Any]:
        """Return what may be shown: names of environment variables without their values."""
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
        """Return what may be shown: header names without their values, and the URL without its password."""
        return {"type": self.type, "url": mask_url(self.url), "headers": dict.fromkeys(self.headers, MASK)}


Connection = StdioConnection | HttpConnection


def mask_url(url: str) -> str:
    """Return ``url`` without its password, and without the values in its query that are called like secrets."""
    parts = urlsplit(url)
    query = "&".join(map(_masked, parts.query.split("&")))
    netloc = parts.netloc
    if parts.password is not None:
        netloc = f"{parts.username}:{MASK}@{netloc.rpartition('@')[2]}"
    if (netloc, query) == (parts.netloc, parts.query):
        return url
    return urlunsplit(parts._replace(netloc=netloc, query=query))


def _masked(member: str) -> str:
    name, _, value = member.partition("=")
    return f"{name}={MASK}" if value and _SECRET.search(unquote(name)) else member


def _leads_to(raw: dict[str, Any]) -> tuple[Any, ...]:
    """Return what receives a connection's secrets: the server, or the command."""
    if raw.get("url"):
        parts = urlsplit(str(raw["url"]))
        return parts.scheme, parts.hostname, parts.port
    return raw.get("command"), tuple(raw.get("args") or ()), raw.get("cwd")


def unmasked(raw: dict[str, Any], present: Connection | None = None) -> dict[str, Any]:
    """Return a connection in which each mask is replaced by the value that ``present`` has there.

    A user may have been shown a masked connection and have sent it back. Secrets are filled in only where they went
    before: headers for the same server, an environment for the same command. Raises ``ConfigError`` for any other mask,
    which would be stored as if it were the value, or would send a secret to somebody new.
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
    if isinstance(url, str) and _MASKED.search(url):
        if not isinstance(present, HttpConnection) or url != mask_url(present.url):
            raise ConfigError(
                f"connection.url has {MASK!r} in it, which stands for a secret (a password, a key); send the secret"
            )
        found["url"] = present.url
    return found


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

    ``spellings`` are its names in configuration files, ``foreign`` those in files of other clients alone. ``key`` is
    the member of a connection that identifies the transport if none is named. ``connection`` is the type of its
    connections. ``runs_command``: registering an upstream runs a command on a worker's host. ``runs_once``: only a
    single worker runs the upstream, because two would be two servers. ``locks_era``: one session speaks one era for
    its whole life.
    """

    name: str
    spellings: tuple[str, ...]
    key: str
    connection: type[StdioConnection] | type[HttpConnection]
    check: Callable[[Mapping[str, Any]], None]
    sessions: UpstreamSessions
    runs_command: bool = False
    runs_once: bool = False
    locks_era: bool = False
    foreign: tuple[str, ...] = ()


def _check_command(given: Mapping[str, Any]) -> None:
    if not isinstance(given.get("command"), str) or not given["command"].strip():
        raise ValueError("a stdio connection needs 'command'")


def _check_url(given: Mapping[str, Any]) -> None:
    if not isinstance(given.get("url"), str):
        raise ValueError(f"a connection of type {given.get('type')!r} needs 'url'")
    parts = urlsplit(given["url"])
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise ValueError(f"url {mask_url(given['url'])!r} is not an http:// or https:// address")
    if parts.port == 0:  # ``parts.port`` itself raises ValueError if the text is not a port
        raise ValueError(f"url {mask_url(given['url'])!r} names port 0")
    headers = given.get("headers")
    for name, value in headers.items() if isinstance(headers, dict) else ():
        if not re.fullmatch(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+", str(name)) or re.search(r"[\r\n\0]", str(value)):
            raise ValueError(f"header {name!r} is not a valid HTTP header")


_ROWS = (
    TransportTraits(
        "stdio",
        ("stdio",),
        "command",
        StdioConnection,
        _check_command,
        UpstreamSessions.PROCESS,
        runs_command=True,
        runs_once=True,
        locks_era=True,
        foreign=("local", "command"),
    ),
    TransportTraits(
        "http",
        ("http", "streamable-http", "streamable_http", "streamableHttp"),
        "url",
        HttpConnection,
        _check_url,
        UpstreamSessions.OFFERED,
        foreign=("https", "remote", "streamable", "httpStream"),
    ),
    TransportTraits("sse", ("sse",), "url", HttpConnection, _check_url, UpstreamSessions.CONNECTION),
)
TRANSPORTS: dict[str, TransportTraits] = {row.name: row for row in _ROWS}
"""The traits of every transport, by its name."""
_SPELLINGS = {spelling: row for row in _ROWS for spelling in row.spellings}
_UNKNOWN = TransportTraits("", (), "", HttpConnection, _check_url, UpstreamSessions.CONNECTION)


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
        named = next((row.name for row in _ROWS if row.key in raw), "http")
    row = TRANSPORTS[parse_transport(named)]
    if transport is not None and parse_transport(transport) != row.name:
        raise ValueError(f"transport {transport!r} does not fit a connection of type {row.name!r}")
    rest = {key: value for key, value in raw.items() if key not in ("type", "transport")}
    if "type" in row.connection.__struct_fields__:
        rest["type"] = row.name
    row.check({**rest, "type": row.name})
    return row.name, _strict(rest, row.connection)


def _strict(raw: Mapping[str, Any], kind: Any) -> Any:
    known = {field.encode_name for field in msgspec.structs.fields(kind)}
    unknown = set(raw) - known
    if unknown:
        raise ValueError(f"unknown key {sorted(unknown)[0]!r}; known: {', '.join(sorted(known))}")
    return msgspec.convert(dict(raw), kind)
