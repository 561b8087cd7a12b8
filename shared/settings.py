"""Every setting of the gateway: what it means, its default, and where it can be set.

A setting is a field of one of the small Structs below. All its names follow from the name of the field:

* ``request_timeout_s`` in ``CallSettings`` is a number of **seconds** in Python,
* ``requestTimeout`` (**milliseconds**) under ``gateway`` in a configuration file,
* ``GATEWAY_REQUEST_TIMEOUT`` (milliseconds) in the environment.

Some stand in a file in an object of their own (``shared.nested_settings``).

A flag wins over the environment, the environment over the file, the file over the default. Processes that the command
``gateway up`` starts are handed all settings (``shared.handover``).
"""

from __future__ import annotations

import typing
from collections.abc import Mapping
from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta, Struct

from shared.access.rules import check_access
from shared.choices import Discovery, Naming, check_log_level, check_strategy
from shared.connections import check_public_url
from shared.egress import check_rules
from shared.errors import ConfigError
from shared.former_names import FORMER, FORMER_VARIABLES
from shared.knobs import Knob, checked, converted, knobs_of, suggestion
from shared.nested_settings import NESTED, HedgeSettings, LinkSettings, TlsSettings, flat
from shared.networks import check_networks
from shared.telemetry_settings import TelemetrySettings


class ServiceSettings(Struct, frozen=True):
    """The gateway's name, its addresses and its processes."""

    name: Annotated[str, Meta(description="shown to clients as serverInfo.name")] = "mcp-gateway"
    host: Annotated[str, Meta(description="address to bind; beyond loopback GATEWAY_ADMIN_TOKEN is needed")] = (
        "127.0.0.1"
    )
    port: Annotated[int, Meta(ge=0, le=65535, description="0 picks a free port")] = 4000
    public_url: Annotated[
        str,
        Meta(description="where clients see the gateway, with the path that a proxy puts before it; default: as asked",
             extra={"check": check_public_url}),
    ] = ""  # fmt: skip
    trusted_proxies: Annotated[
        tuple[str, ...],
        Meta(description="addresses or networks of proxies whose X-Forwarded-Prefix the URLs for OAuth follow",
             extra={"check": check_networks}),
    ] = ()  # fmt: skip
    keepalive_s: Annotated[float, Meta(gt=0, description="idle client connections are closed after")] = 75.0
    frontends: Annotated[int, Meta(ge=1, le=256, description="front-end processes")] = 1
    workers: Annotated[int, Meta(ge=1, le=256, description="worker processes")] = 1
    log_level: Annotated[str, Meta(description="debug, info, warning or error", extra={"check": check_log_level})] = (
        "info"
    )
    run_dir: Annotated[str, Meta(description="private directory for Unix sockets; default: a temporary one")] = ""
    state_dir: Annotated[
        str, Meta(description="private directory in which a Redis of our own keeps registrations and sessions")
    ] = ""
    ephemeral: Annotated[bool, Meta(description="keep nothing for the next start of 'gateway up'")] = False
    workspace_folder: Annotated[
        str, Meta(description="what ${workspaceFolder} means in a configuration file; default: the file's folder")
    ] = ""
    rpc_bind: Annotated[
        str,
        Meta(description="host:port on which workers take front ends of other machines; empty: Unix only"),
    ] = ""
    rpc_advertise: Annotated[str, Meta(description="host under which other machines reach this worker")] = ""


class AccessSettings(Struct, frozen=True):
    """Which clients and administrators may talk to the gateway."""

    admin_token: Annotated[str, Meta(description="bearer token of the admin API; needed beyond loopback")] = ""
    allow_stdio_registration: Annotated[
        bool, Meta(description="let holders of the token register commands over HTTP")
    ] = False
    allowed_hosts: Annotated[
        tuple[str, ...], Meta(description="Host header values accepted beside loopback names; * for any")
    ] = ()
    allowed_origins: Annotated[
        tuple[str, ...],
        Meta(description="origins of web pages that may use MCP, by default the Inspector's; * for any"),
    ] = ("http://localhost:6274", "http://127.0.0.1:6274")
    admin_origins: Annotated[
        tuple[str, ...], Meta(description="origins of web pages that may use the admin API, beside the gateway's own")
    ] = ()
    open_metrics: Annotated[bool, Meta(description="let everybody read /metrics")] = False
    access_rules: Annotated[
        str,
        Meta(description="who is let in and may do what, as JSON: what a file has under its key 'access'",
             extra={"check": check_access}),
    ] = ""  # fmt: skip
    anonymous: Annotated[
        bool, Meta(description="listen beyond loopback although everybody who reaches the gateway may use it")
    ] = False
    secret: Annotated[
        str, Meta(description="the fleet's key, default: made once and kept in Redis; rotate: old,new - new,old - new")
    ] = ""

    def __repr__(self) -> str:
        return "AccessSettings(…)"


class RegistrySettings(Struct, frozen=True):
    """The connection to Redis."""

    redis_url: Annotated[str, Meta(description="redis://, rediss:// or unix://; empty: start one of our own")] = ""
    key_prefix: Annotated[str, Meta(description="put before every Redis key")] = "gw:"
    redis_timeout_s: Annotated[float, Meta(gt=0, description="longest wait for one Redis answer")] = 2.0

    def __repr__(self) -> str:
        return "RegistrySettings(…)"  # the URL may hold a password


class CallSettings(Struct, frozen=True):
    """Limits of one call."""

    request_timeout_s: Annotated[float, Meta(gt=0, description="no answer in this time: timeout")] = 30.0
    request_timeout_max_s: Annotated[float, Meta(gt=0, description="hard maximum that progress cannot extend")] = 600.0
    input_timeout_s: Annotated[
        float, Meta(gt=0, description="how long a client may take for input that an upstream asked for")
    ] = 600.0
    max_parked: Annotated[
        int, Meta(ge=1, description="calls of one principal that may wait for its input in one worker")
    ] = 1000
    max_body_bytes: Annotated[int, Meta(ge=1024, description="largest request body; more is HTTP 413")] = (
        10 * 1024 * 1024
    )
    max_result_bytes: Annotated[int, Meta(ge=1024, description="largest message from an upstream")] = 64 * 1024 * 1024
    max_inflight: Annotated[int, Meta(ge=1, description="calls in flight per front end; of one caller, half")] = 10_000
    keepalive_comment_s: Annotated[
        float, Meta(gt=0, description="a silent POST commits to SSE and sends a comment this often")
    ] = 15.0


class ClientSettings(Struct, frozen=True):
    """What clients can make one front end hold. A *peer* is an IPv4 address or a /64 of IPv6; behind a proxy all
    clients are one peer."""

    max_client_connections: Annotated[
        int, Meta(ge=0, description="client connections of one front end; 0: as many as its open files allow")
    ] = 0
    max_client_connections_per_peer: Annotated[
        int,
        Meta(ge=0, description="the same from one address (behind a proxy: of all clients); 0: half of them"),
    ] = 0
    max_wrong_credentials_per_peer: Annotated[
        int,
        Meta(ge=0, description="wrong keys or tokens a second from one address; more are HTTP 429 unread; 0: any"),
    ] = 50
    max_bodies_bytes: Annotated[int, Meta(ge=1024, description="unfinished request bodies held by one front end")] = (
        256 * 1024 * 1024
    )
    max_bodies_bytes_per_peer: Annotated[
        int, Meta(ge=1024, description="the same from one address (behind a proxy: of all clients)")
    ] = 64 * 1024 * 1024
    max_body_values: Annotated[
        int, Meta(ge=1000, description="members and elements of a large request body; more are HTTP 413")
    ] = 250_000
    min_body_rate: Annotated[
        int, Meta(ge=0, description="bytes a second of a request body; slower than that is HTTP 408; 0: any")
    ] = 1000
    body_grace_s: Annotated[float, Meta(gt=0, description="over so long the rate of a body is looked at")] = 10.0
    head_timeout_s: Annotated[float, Meta(gt=0, description="a request's head must be whole after")] = 15.0
    max_head_bytes: Annotated[int, Meta(ge=8192, description="largest request head; more is HTTP 431")] = 64 * 1024


class RoutingSettings(Struct, frozen=True):
    """How calls are balanced and how names are merged."""

    balancer: Annotated[str, Meta(description="default strategy of a group", extra={"check": check_strategy})] = (
        "round-robin"
    )
    naming: Annotated[Naming, Meta(description="auto: prefix only where names collide; prefix: always")] = Naming.AUTO
    separator: Annotated[str, Meta(min_length=1, description="between group and tool name")] = "__"
    page_size: Annotated[int, Meta(ge=1, description="entries on one page of a merged list")] = 1000
    list_ttl_s: Annotated[float, Meta(ge=0, description="ttlMs told to modern clients for merged lists")] = 5.0
    discovery: Annotated[
        Discovery, Meta(description="how clients find tools: list, search, or auto: search where the list is long")
    ] = Discovery.LIST
    discovery_threshold: Annotated[
        int, Meta(ge=0, description="tokens of a list of tools from which on auto means search, at four bytes each")
    ] = 10_000
    tool_index_bytes: Annotated[
        int, Meta(ge=1024, description="what one front end keeps for searching tools; more is built again when needed")
    ] = 64 * 1024 * 1024
    catalog_grace_s: Annotated[
        float, Meta(ge=0, description="how long tools of an upstream that is down stay listed")
    ] = 60.0
    own_list_timeout_s: Annotated[
        float,
        Meta(gt=0, description="longest wait for what an upstream lists for one client alone; it then sees the rest"),
    ] = 5.0
    own_lists_bytes: Annotated[
        int, Meta(ge=1024, description="lists of single clients that one front end keeps; more are asked for again")
    ] = 64 * 1024 * 1024
    inflight_exchange_s: Annotated[
        float, Meta(gt=0, description="how often front ends tell each other their in-flight counts")
    ] = 0.1
    outlier_ejection: Annotated[
        bool, Meta(description="keep replicas away from calls that fail, or are much slower than their siblings")
    ] = True
    max_ejected: Annotated[float, Meta(ge=0, le=1, description="share of a group's replicas that may be ejected")] = 0.5
    eject_failures: Annotated[int, Meta(ge=1, description="failed calls in a row that eject a replica")] = 3
    eject_latency_factor: Annotated[
        float, Meta(ge=1.5, description="a replica so many times slower than its siblings is ejected")
    ] = 4.0
    ejection_s: Annotated[float, Meta(gt=0, description="first ejection; doubled each time it is needed again")] = 10.0
    ejection_max_s: Annotated[float, Meta(gt=0, description="longest ejection")] = 300.0
    slow_start_s: Annotated[
        float, Meta(gt=0, description="over so long a replica that was ejected comes back to its share of calls")
    ] = 10.0
    retry_budget: Annotated[
        float, Meta(ge=0, le=1, description="calls that a front end sends again, as a share of those of the last 10 s")
    ] = 0.2


class HealthSettings(Struct, frozen=True):
    """How upstreams are watched."""

    health_check_interval_s: Annotated[float, Meta(gt=0, description="between two probes of one upstream")] = 15.0
    health_check_timeout_s: Annotated[float, Meta(gt=0, description="longest wait for a probe's answer")] = 5.0
    unhealthy_after: Annotated[int, Meta(ge=1, description="failed probes in a row that take one out")] = 2
    healthy_after: Annotated[int, Meta(ge=1, description="good probes in a row that bring one back")] = 1
    refresh_interval_s: Annotated[float, Meta(gt=0, description="the catalogue is read again this often")] = 300.0
    max_entries: Annotated[int, Meta(ge=1, description="entries of one list of one upstream; more are left out")] = 5000
    max_catalog_bytes: Annotated[int, Meta(ge=1024, description="the same in bytes")] = 16 * 1024 * 1024
    max_entry_bytes: Annotated[int, Meta(ge=1024, description="one entry of a list; larger ones are left out")] = 262144
    list_timeout_s: Annotated[float, Meta(gt=0, description="longest time to read all pages of one list")] = 60.0


class UpstreamSettings(Struct, frozen=True):
    """How workers connect to upstreams and run them."""

    spread: Annotated[int, Meta(ge=1, le=8, description="workers that carry one HTTP or SSE upstream")] = 2
    connect_timeout_s: Annotated[float, Meta(gt=0, description="longest wait for a connection")] = 5.0
    start_timeout_s: Annotated[float, Meta(gt=0, description="longest wait for probe and handshake together")] = 30.0
    stdio_start_timeout_s: Annotated[
        float, Meta(gt=0, description="the same of a command, without a sign of life: a line on stderr, processor time")
    ] = 120.0
    probe_timeout_s: Annotated[
        float, Meta(gt=0, description="a stdio server that is silent for so long is greeted in the handshake era too")
    ] = 10.0
    reconnect_min_s: Annotated[float, Meta(gt=0, description="first wait before connecting again")] = 0.5
    reconnect_max_s: Annotated[float, Meta(gt=0, description="longest wait before connecting again")] = 30.0
    stop_timeout_s: Annotated[float, Meta(gt=0, description="a stdio child gets this long after stdin closes")] = 2.0
    connection_idle_s: Annotated[float, Meta(gt=0, description="idle upstream connections are dropped after")] = 3.0
    max_connections: Annotated[int, Meta(ge=1, description="connections to one HTTP upstream per worker")] = 512
    max_concurrency: Annotated[
        int, Meta(ge=0, description="calls under way on one upstream, which then has one worker; 0: any number")
    ] = 0
    concurrency: Annotated[
        Literal["fixed", "adaptive"],
        Meta(description="adaptive: how many calls an upstream takes at once is learned, up to maxConcurrency"),
    ] = "fixed"
    max_queue_wait_s: Annotated[
        float, Meta(gt=0, description="what would wait longer for an upstream with such a limit is refused at once")
    ] = 0.5
    session_pool: Annotated[
        int, Meta(ge=1, description="upstream sessions lent to sessionless clients, per principal")
    ] = 32
    max_upstream_sessions: Annotated[
        int, Meta(ge=1, description="sessions held on one upstream per worker, all clients together")
    ] = 2000
    max_subscriptions: Annotated[int, Meta(ge=1, description="resources watched on one upstream per worker")] = 10_000
    upstream_session_idle_s: Annotated[float, Meta(gt=0, description="unused upstream sessions are closed after")] = (
        300.0
    )
    max_pending: Annotated[int, Meta(ge=1, description="calls waiting on one upstream per worker")] = 5000
    stdio_buffer_bytes: Annotated[int, Meta(ge=4096, description="unread bytes towards one stdio child")] = (
        32 * 1024 * 1024
    )
    stdio_on_redis_loss: Annotated[
        Literal["keep", "stop"], Meta(description="what happens to stdio children when Redis is unreachable")
    ] = "keep"
    stdio_environment: Annotated[
        tuple[str, ...],
        Meta(description="variables that stdio children get beside the ordinary ones: names, AWS_*; * for all"),
    ] = ()
    stdio_user: Annotated[
        str, Meta(description="user, by name or number, under which stdio children run; needs workers that are root")
    ] = ""
    stdio_max_memory: Annotated[
        int, Meta(ge=0, description="bytes of memory of one process of a stdio child (RLIMIT_DATA); 0: no limit")
    ] = 0
    stdio_max_files: Annotated[
        int, Meta(ge=0, description="open files of one process of a stdio child; 0: no limit of ours")
    ] = 0
    stdio_max_processes: Annotated[
        int, Meta(ge=0, description="processes and threads of the children's user, all together; 0: no limit of ours")
    ] = 0
    log_lines: Annotated[int, Meta(ge=1, description="stderr lines kept per stdio upstream")] = 500
    egress_allow: Annotated[
        tuple[str, ...],
        Meta(description="addresses, networks, names that upstreams may have although they are refused by default",
             extra={"check": check_rules}),
    ] = ()  # fmt: skip
    egress_deny: Annotated[
        tuple[str, ...],
        Meta(description="addresses, networks, names that upstreams may not have", extra={"check": check_rules}),
    ] = ()


class SessionSettings(Struct, frozen=True):
    """Client sessions of the handshake era."""

    session_ttl_s: Annotated[float, Meta(gt=0, description="an unused client session ends after")] = 3600.0
    max_streams: Annotated[int, Meta(ge=1, description="standing streams per front end")] = 20_000
    max_client_sessions: Annotated[
        int, Meta(ge=1, description="client sessions opened by one front end; unused ones give way")
    ] = 100_000
    max_client_sessions_per_peer: Annotated[int, Meta(ge=1, description="the same for one address (an IPv6 /64)")] = (
        10_000
    )
    stream_buffer: Annotated[int, Meta(ge=8, description="messages waiting on one standing stream")] = 256
    replay_s: Annotated[float, Meta(gt=0, description="a call's stream can be resumed so long after its end")] = 60.0
    replay_bytes: Annotated[int, Meta(ge=1024, description="kept of one call's stream; the oldest goes first")] = (
        1024 * 1024
    )
    replay_total_bytes: Annotated[int, Meta(ge=1024, description="kept of all calls' streams in one worker")] = (
        64 * 1024 * 1024
    )
    acknowledge_s: Annotated[
        float, Meta(gt=0, description="a listen stream is acknowledged then without what upstreams have not agreed to")
    ] = 2.0
    standing_wait_s: Annotated[
        float, Meta(gt=0, description="a question outside of any call waits so long for its client to have a stream")
    ] = 10.0
    stream_retry_s: Annotated[
        float, Meta(gt=0, description="how long clients are told to wait before they resume a lost stream")
    ] = 1.0
    stream_keepalive_s: Annotated[float, Meta(gt=0, description="a comment on silent standing streams every")] = 25.0


class FleetSettings(Struct, frozen=True):
    """How processes watch each other."""

    heartbeat_s: Annotated[float, Meta(gt=0, description="between two heartbeats in Redis")] = 1.0
    heartbeat_ttl_s: Annotated[float, Meta(gt=0, description="a silent process counts as dead after")] = 5.0
    link_ping_s: Annotated[float, Meta(gt=0, description="between two pings on a link; three unanswered end it")] = 0.5
    drain_timeout_s: Annotated[float, Meta(gt=0, description="running calls get this long at shutdown")] = 20.0
    drain_delay_s: Annotated[
        float, Meta(ge=0, description="/readyz says 503 so long before a front end that ends stops accepting")
    ] = 0.0
    restart_min_s: Annotated[float, Meta(gt=0, description="first wait before what died soon is replaced")] = 0.2
    restart_max_s: Annotated[float, Meta(gt=0, description="longest wait before a dead process is replaced")] = 10.0


class Settings(Struct, frozen=True):
    """All settings, in sections. ``sources`` says where those come from that somebody gave, by key: ``file``,
    ``variable`` or ``flag``."""

    service: ServiceSettings = ServiceSettings()
    tls: TlsSettings = TlsSettings()
    access: AccessSettings = AccessSettings()
    registry: RegistrySettings = RegistrySettings()
    calls: CallSettings = CallSettings()
    clients: ClientSettings = ClientSettings()
    routing: RoutingSettings = RoutingSettings()
    hedge: HedgeSettings = HedgeSettings()
    health: HealthSettings = HealthSettings()
    upstreams: UpstreamSettings = UpstreamSettings()
    sessions: SessionSettings = SessionSettings()
    fleet: FleetSettings = FleetSettings()
    link: LinkSettings = LinkSettings()
    telemetry: TelemetrySettings = TelemetrySettings()
    sources: dict[str, str] = {}

    def __repr__(self) -> str:
        return "Settings(…)"  # holds the admin token and the fleet's key


KNOBS: dict[str, Knob] = knobs_of(Settings, NESTED)
"""Every setting by its camelCase key."""
_BY_FIELD = {knob.field: knob for knob in KNOBS.values()}
_SECTIONS: dict[str, Any] = {name: hint for name, hint in typing.get_type_hints(Settings).items() if name != "sources"}
SOURCES = "GATEWAY_SETTING_SOURCES"
"""The variable that says of settings that are handed over where they came from (JSON)."""


def build(
    file_values: Mapping[str, Any] | None = None,
    environment: Mapping[str, str] | None = None,
    overrides: Mapping[str, Any] | None = None,
) -> Settings:
    """Return the settings from a file's ``gateway`` object, the environment and flags.

    ``file_values`` and ``environment`` hold milliseconds. ``overrides`` are by field name and in the Python unit;
    ``None`` means "not given". Raises ``ConfigError`` that names every wrong value.
    """
    sections: dict[str, dict[str, Any]] = {name: {} for name in _SECTIONS}
    sources: dict[str, str] = {}
    problems: list[tuple[str, str]] = []

    def put(knob: Knob, value: Any, where: str, from_text: bool) -> None:
        try:
            sections[knob.section][knob.field] = converted(knob, value, from_text)
        except (msgspec.ValidationError, ValueError, TypeError) as error:
            problems.append((where, f"{error} ({knob.description})"))

    for key, value in flat(file_values or {}, KNOBS, problems):
        knob = KNOBS.get(FORMER.get(key, key))
        if knob is None:
            problems.append((f"gateway.{key}", "unknown setting" + suggestion(str(key), KNOBS)))
        else:
            put(knob, value, f"gateway.{key}", from_text=False)
            sources[knob.key] = "file"
    given = environment or {}
    for knob in KNOBS.values() if given else ():
        text = given.get(knob.variable) or given.get(FORMER_VARIABLES.get(knob.variable, ""))
        if text:
            put(knob, text, knob.variable, from_text=True)
            sources[knob.key] = "variable"
    if given.get(SOURCES):
        try:
            sources = msgspec.json.decode(given[SOURCES], type=dict[str, str])
        except msgspec.DecodeError:
            problems.append((SOURCES, "is for processes that the gateway starts itself; unset it"))
    for name, value in (overrides or {}).items():
        if value is None:
            continue
        knob = _BY_FIELD[name]
        sources[knob.key] = "flag"
        try:
            sections[knob.section][name] = checked(knob, msgspec.convert(value, knob.type, strict=False))
        except (msgspec.ValidationError, ValueError) as error:
            problems.append((name, f"{error} ({knob.description})"))
    if problems:
        raise ConfigError(problems)
    return Settings(**{name: _SECTIONS[name](**values) for name, values in sections.items()}, sources=sources)
