"""The registry's vocabulary: what users register, and what they get back when they read the registry.

These types are public (re-exported by ``gateway``). They are serialised in camelCase, with durations in milliseconds.
The counterpart is ``shared.registry.store``, which keeps them in Redis.
"""

from __future__ import annotations

import enum
import time
import unicodedata
from collections.abc import Mapping
from typing import Any

import msgspec
from msgspec import Struct

from shared.choices import Duty, EraChoice, Isolation, Pin, check_strategy
from shared.connections import Connection, StdioConnection
from shared.errors import ConfigError
from shared.mcp.text import TURNS_TEXT
from shared.own_settings import check_own
from shared.tool_filter import parse_patterns, shows
from shared.transports import parse_connection

MAX_ID = 128
"""The longest id or group name, in characters."""
_NEVER_IN_IDS = frozenset({"Cc", "Cs", "Zl", "Zp"})
ID_RULE = "must be 1-128 characters, without control characters or spaces at its ends, and more than dots and slashes"


def is_id(value: Any) -> bool:
    """Whether a value can be an id or the name of a group.

    Any text that people type can, except what cannot stand in a path of the admin API or on one line of a log.
    """
    if not isinstance(value, str) or not 1 <= len(value) <= MAX_ID or value != value.strip():
        return False
    bad = any(unicodedata.category(one) in _NEVER_IN_IDS or one in TURNS_TEXT for one in value)
    return not bad and bool(value.strip("./"))


class ServerStatus(enum.StrEnum):
    """The stage of life of an upstream. ``TRANSITIONS`` lists the allowed changes."""

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
"""The allowed changes. ``connected -> connecting`` is a change of owner, ``error -> connected`` a recovered probe."""


class UpstreamSpec(Struct, frozen=True, rename="camel"):
    """One MCP server as a user registers it. Servers with the same ``name`` are replicas of one group.

    Of its tools only those are shown that ``include_tools`` has (``None``: all) and ``exclude_tools`` has not
    (``shared.tool_filter``). ``pin`` says what becomes of tools that change (``gateway.routing.pinning``).
    ``settings`` are those that it has for itself (``shared.own_settings.OWN``), as in a file. ``problem`` says why an
    entry of a file cannot be run; no worker tries to.
    """

    id: str
    name: str
    transport: str
    connection: Connection
    weight: int = 1
    metadata: dict[str, Any] = {}
    isolation: Isolation = Isolation.AUTO
    era: EraChoice = EraChoice.AUTO
    balancer: str | None = None
    source: str = "api"
    include_tools: tuple[str, ...] | None = None
    exclude_tools: tuple[str, ...] = ()
    settings: dict[str, Any] = {}
    problem: str = ""
    pin: Pin = Pin.OFF

    def shows(self, tool: str) -> bool:
        """Whether a tool of this upstream may be seen and called."""
        return shows(tool, self.include_tools, self.exclude_tools)

    def connection_json(self) -> bytes:
        """Return the connection as kept in Redis, with its secrets."""
        return msgspec.json.encode(self.connection)


class ToolEntry(Struct, frozen=True, rename="camel"):
    """One tool as listed by one upstream."""

    name: str
    server_id: str = ""
    description: str | None = None
    input_schema: dict[str, Any] = {}


class HealthCheckResult(Struct, frozen=True, rename="camel"):
    """The latest probe of one upstream. ``checked_at`` is Unix seconds, ``latency_ms`` milliseconds."""

    server_id: str
    healthy: bool
    latency_ms: float | None = None
    error: str | None = None
    checked_at: float = 0.0


class ServerEntry(Struct, frozen=True, rename="camel"):
    """A registered upstream as seen by ``Gateway.list()``, the command line and the admin API. ``advice`` says what
    helps against its ``error``, as far as that is known. ``notes`` say what of it was mended or left out, ``source``
    who registered it: ``file``, ``cli`` or ``api``. ``duty`` says whether somebody drains or disabled it. ``differing``
    are the tools of a pinned upstream that are not as they were approved: ``changed`` or ``new`` (admin API)."""

    id: str
    name: str
    transport: str
    status: ServerStatus = ServerStatus.REGISTERED
    status_since: float = 0.0
    duty: Duty = Duty.ACTIVE
    error: str | None = None
    advice: str = ""
    weight: int = 1
    metadata: dict[str, Any] = {}
    connection: dict[str, Any] = {}
    isolation: Isolation = Isolation.AUTO
    balancer: str | None = None
    include_tools: tuple[str, ...] | None = None
    exclude_tools: tuple[str, ...] = ()
    settings: dict[str, Any] = {}
    notes: tuple[str, ...] = ()
    eras: tuple[str, ...] = ()
    protocol_version: str | None = None
    owners: tuple[str, ...] = ()
    tools: tuple[ToolEntry, ...] = ()
    last_health_check: HealthCheckResult | None = None
    source: str = "api"
    pin: Pin = Pin.OFF
    differing: dict[str, str] = {}


def make_spec(
    id: str,
    connection: Mapping[str, Any] | Connection,
    name: str | None = None,
    transport: str | None = None,
    **options: Any,
) -> UpstreamSpec:
    """Return a checked ``UpstreamSpec``. Raises ``ConfigError`` that names each wrong field and says how to correct
    it."""
    problems: list[tuple[str, str]] = []
    options = {name: value for name, value in options.items() if value is not None or name == "weight"}
    group = id if name is None else name
    for field, value in (("id", id), ("name", group)):
        if not is_id(value):
            problems.append((field, f"{value!r} {ID_RULE}"))
    weight = options.get("weight", 1)
    if not isinstance(weight, int) or isinstance(weight, bool) or not 1 <= weight <= 1000:
        problems.append(("weight", f"{weight!r} must be a whole number from 1 to 1000"))
    if not isinstance(options.get("metadata", {}), dict):
        problems.append(("metadata", "must be an object"))
    kind = ""
    parsed: Connection = StdioConnection("")
    try:
        kind, parsed = parse_connection(connection, transport)
    except (ValueError, msgspec.ValidationError) as error:
        problems.append(("connection", str(error)))
    if options.get("pin") is False:
        options["pin"] = Pin.OFF  # what YAML makes of the word off
    for field, enumeration in (("isolation", Isolation), ("era", EraChoice), ("pin", Pin)):
        if options.get(field) is not None:
            try:
                options[field] = enumeration(options[field])
            except ValueError:
                choices = ", ".join(choice.value for choice in enumeration)
                problems.append((field, f"{options[field]!r} is not one of {choices}"))
    for field in ("include_tools", "exclude_tools"):
        if options.get(field) is not None:
            try:
                options[field] = parse_patterns(options[field])
            except ValueError as error:
                problems.append((field, str(error)))
    if options.get("balancer") is not None:
        try:
            options["balancer"] = check_strategy(str(options["balancer"]))
        except ValueError as error:
            problems.append(("balancer", str(error)))
    own = options.get("settings", {})
    problems += check_own(own) if isinstance(own, dict) else [("settings", "must be an object")]
    if problems:
        raise ConfigError(problems)
    return UpstreamSpec(id=id, name=group, transport=kind, connection=parsed, **options)


def now_s() -> float:
    """Return Unix time in seconds, rounded to the millisecond, as kept in Redis."""
    return round(time.time(), 3)
