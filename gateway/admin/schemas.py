"""Bodies of the admin API as types, and the OpenAPI description generated from them."""

from __future__ import annotations

from typing import Any, Literal

import msgspec
from msgspec import Struct

from shared.choices import EraChoice, Isolation, Pin
from shared.models import HealthCheckResult, ServerEntry, ToolEntry
from shared.registry.rolls import Roll


class Registration(Struct, rename="camel", forbid_unknown_fields=True):
    """What ``POST /admin/v1/servers`` takes; ``connection`` as in a configuration file."""

    id: str
    connection: dict[str, Any]
    name: str | None = None
    transport: str | None = None
    weight: int = 1
    metadata: dict[str, Any] = {}
    isolation: Isolation = Isolation.AUTO
    era: EraChoice = EraChoice.AUTO
    balancer: str | None = None
    include_tools: list[str] | None = None
    exclude_tools: list[str] | None = None
    settings: dict[str, Any] = {}
    pin: Pin = Pin.OFF


class Change(Struct, rename="camel", forbid_unknown_fields=True, omit_defaults=True):
    """What ``PATCH /admin/v1/servers/{id}`` takes: the fields to change."""

    connection: dict[str, Any] | None = None
    weight: int | None = None
    metadata: dict[str, Any] | None = None
    isolation: Isolation | None = None
    era: EraChoice | None = None
    balancer: str | None = None
    include_tools: list[str] | None = None
    exclude_tools: list[str] | None = None
    settings: dict[str, Any] | None = None
    pin: Pin | None = None


class ListedTool(Struct, rename="camel"):
    """A tool as clients see it."""

    name: str
    group: str
    upstream_name: str
    replicas: list[str]
    description: str | None = None
    input_schema: dict[str, Any] = {}


class ReplicaState(Struct, rename="camel"):
    """A replica in an explanation. ``reason`` says why it gets no calls, or fewer. ``latency_ms`` is the average time
    to an answer as the asked front end sees it, if it is measured."""

    id: str
    status: str
    available: bool
    reason: str | None
    in_flight: int
    in_flight_elsewhere: int
    weight: int
    workers: list[str]
    isolation: str
    latency_ms: float | None = None


class Explanation(Struct, rename="camel"):
    """Where a call would go, and why."""

    tool: str
    group: str
    upstream_name: str
    balancer: str
    candidates: list[ReplicaState]
    choice: str | None
    because: str


class FrontEndState(Struct, rename="camel"):
    """A live front end, as its heartbeat says. ``started_at`` is Unix time in seconds; ``seen`` is the number of the
    last change of the registry that it applied. ``seconds`` and ``buckets`` are the durations of answered calls:
    their sum, and how many took up to 1, 2.5, 5, 10, 25, 50, 100, 250, 500 ms, 1, 2.5, 5, 10, 30 s, and longer.
    ``ejected`` are the replicas that it keeps away from calls, and why."""

    id: str
    pid: int = 0
    host: str = ""
    started_at: float = 0.0
    supervisor: int | None = None
    version: str = ""
    calls: int = 0
    errors: int = 0
    retries: int = 0
    failures: dict[str, int] = {}
    seconds: float = 0.0
    buckets: list[int] = []
    ejected: dict[str, str] = {}
    in_flight: int = 0
    streams: int = 0
    sessions: int = 0
    workers: int = 0
    seen: int = 0


class WorkerState(Struct, rename="camel"):
    """A live worker, as its heartbeat says. ``load`` are its calls under way, ``parked`` those that wait for input;
    ``links`` are the front ends that are linked to it. One that is ``retiring`` is about to be replaced."""

    id: str
    incarnation: str = ""
    address: str = ""
    tcp: str = ""
    pid: int = 0
    host: str = ""
    started_at: float = 0.0
    joined_at: float = 0.0
    version: str = ""
    load: int = 0
    calls: int = 0
    errors: int = 0
    failures: int = 0
    parked: int = 0
    links: int = 0
    draining: bool = False
    retiring: bool = False


class RestartAsked(Struct, rename="camel"):
    """The answer to ``POST /admin/v1/restart``: ``GET`` shows a record with this id once the restart has begun."""

    id: str


class NewKey(Struct, rename="camel", forbid_unknown_fields=True):
    """What ``POST /admin/v1/keys`` takes. ``expires`` is a duration such as ``90d``, or empty."""

    name: str
    roles: list[str] = []
    expires: str = ""


class ShownKey(Struct, rename="camel"):
    """An API key as it is shown. Times are Unix seconds; ``expires_at`` is 0 for a key that does not expire."""

    id: str
    name: str
    roles: list[str] = []
    created_at: float = 0.0
    expires_at: float = 0.0
    source: str = "registry"


class MadeKey(Struct, rename="camel"):
    """A new API key. ``key`` is shown this once and kept nowhere."""

    id: str
    name: str
    key: str


class ShownVirtualServer(Struct, rename="camel"):
    """A virtual server as it is shown: its document, and the names that it lists now. ``notes`` say what of the
    document has no effect."""

    name: str
    source: str
    document: dict[str, Any]
    tools: list[str] = []
    prompts: list[str] = []
    resources: list[str] = []
    resource_templates: list[str] = []
    notes: list[str] = []


class PinnedTool(Struct, rename="camel"):
    """A tool of a pinned upstream. ``state`` is ``approved``, ``changed``, ``new`` or ``missing`` (it is not listed
    now); the digests are those of the definition that is listed and of the one that was approved, or empty.
    ``approved`` and ``listed`` are the definitions, where one tool is asked for."""

    tool: str
    state: str
    digest: str = ""
    approved_digest: str = ""
    approved_at: float = 0.0
    approved_by: str = ""
    approved: dict[str, Any] | None = None
    listed: dict[str, Any] | None = None


class Approval(Struct, rename="camel", forbid_unknown_fields=True):
    """What ``PUT /admin/v1/servers/{id}/pins/{tool}`` takes: the digest of the definition that is approved."""

    digest: str


class AccessExplanation(Struct, rename="camel"):
    """Why a principal may use a tool, or not. ``rules`` are the places in the configuration that decided."""

    tool: str
    principal: str
    roles: list[str]
    shown: bool
    verdict: str
    rules: list[str] = []
    conditions: list[str] = []


class Me(Struct, rename="camel"):
    """Who asks, and what they may do here. ``principal`` is empty where nobody is asked who they are; ``rights`` are
    ``read`` or ``write``. ``commands``: whether they may register upstreams that run a command on a worker's host.
    ``roles`` are those of the configuration, ``keys`` and ``audit`` say whether there are API keys, and an audit log
    to read."""

    principal: str
    rights: Literal["read", "write"]
    commands: bool
    roles: list[str]
    keys: bool
    audit: bool


class Overview(Struct, rename="camel"):
    """The state of the gateway. ``upstreams`` counts them by status, ``restarts`` says how often each process was
    replaced."""

    name: str
    version: str
    redis: bool
    frontend: str
    frontends: list[FrontEndState]
    workers: list[WorkerState]
    restarts: dict[str, int]
    upstreams: dict[str, int]
    tools: int


class TrafficOfGroup(Struct, rename="camel"):
    """What was called in one group, and how long the answers took (as in ``FrontEndState``)."""

    group: str
    calls: int = 0
    errors: int = 0
    seconds: float = 0.0
    buckets: list[int] = []


class TrafficOfTool(Struct, rename="camel"):
    """How often one tool was called, under the upstream's name. ``seconds`` is the time of all its answers."""

    group: str
    tool: str
    calls: int = 0
    errors: int = 0
    seconds: float = 0.0


class TrafficOfUpstream(Struct, rename="camel"):
    """How long one upstream took to answer its workers (as in ``FrontEndState``)."""

    group: str
    upstream: str
    calls: int = 0
    seconds: float = 0.0
    buckets: list[int] = []


class Traffic(Struct, rename="camel"):
    """What the live processes of the fleet counted, each since it started. ``at`` is Unix time in seconds."""

    at: float
    groups: list[TrafficOfGroup]
    tools: list[TrafficOfTool]
    upstreams: list[TrafficOfUpstream]


class Event(Struct, rename="camel", frozen=True):
    """Something that happened. ``kind`` is ``upstream-status``, ``upstream-added``, ``upstream-changed``,
    ``upstream-lists``, ``upstream-restart``, ``upstream-removed``, ``tool-quarantined``, ``tool-changed``,
    ``tool-released``, ``worker-joined``, ``worker-left``, ``frontend-joined``, ``frontend-left``, ``redis`` or
    ``log-level``; ``at`` is Unix time in seconds; ``sequence`` counts in this front end."""

    sequence: int
    at: float
    kind: str
    id: str
    text: str = ""
    group: str = ""


class LogLevel(Struct, rename="camel", forbid_unknown_fields=True):
    """How much the processes log: ``debug``, ``info``, ``warning`` or ``error``."""

    level: Literal["debug", "info", "warning", "error"]


class ErrorBody(Struct, rename="camel"):
    """Every error of the admin API."""

    error: str
    code: str


_PATHS: list[tuple[str, str, str, Any, Any]] = [
    ("/admin/v1/servers", "get", "All upstreams", None, list[ServerEntry]),
    ("/admin/v1/servers", "post", "Register an upstream", Registration, ServerEntry),
    ("/admin/v1/servers/{id}", "get", "One upstream", None, ServerEntry),
    ("/admin/v1/servers/{id}", "patch", "Change an upstream", Change, ServerEntry),
    ("/admin/v1/servers/{id}", "delete", "Remove an upstream", None, None),
    ("/admin/v1/servers/{id}/logs", "get", "Last stderr lines of a stdio upstream", None, list[str]),
    ("/admin/v1/servers/{id}/restart", "post", "Begin anew with an upstream, on every worker that has it", None, None),
    ("/admin/v1/servers/{id}/pins", "get", "Tools of a pinned upstream, and what was approved", None, list[PinnedTool]),
    ("/admin/v1/servers/{id}/pins/{tool}", "get", "One tool as approved and as listed", None, PinnedTool),
    ("/admin/v1/servers/{id}/pins/{tool}", "put", "Approve the definition with this digest", Approval, PinnedTool),
    ("/admin/v1/servers/{id}/pins/{tool}", "delete", "Take back what was approved of a tool", None, None),
    ("/admin/v1/me", "get", "Who asks, and what they may do", None, Me),
    ("/admin/v1/tools", "get", "Tools as clients see them", None, list[ListedTool]),
    ("/admin/v1/health", "get", "Last health check of each upstream", None, list[HealthCheckResult]),
    ("/admin/v1/workers", "get", "Live workers", None, list[WorkerState]),
    ("/admin/v1/frontends", "get", "Live front ends", None, list[FrontEndState]),
    ("/admin/v1/restarts", "get", "How often each supervised process was replaced", None, dict[str, int]),
    ("/admin/v1/restart", "get", "The last rolling restart, also while it is under way", None, Roll),
    ("/admin/v1/restart", "post", "Replace every front end and worker, one after the other", None, RestartAsked),
    ("/admin/v1/sessions", "get", "Client sessions", None, list[dict[str, Any]]),
    ("/admin/v1/sessions/{id}", "delete", "End a client session everywhere", None, None),
    ("/admin/v1/keys", "get", "API keys, without what they are", None, list[ShownKey]),
    ("/admin/v1/keys", "post", "Make an API key", NewKey, MadeKey),
    ("/admin/v1/keys/{name}", "delete", "Revoke an API key", None, None),
    ("/admin/v1/access/explain", "get", "Why a principal may use a tool", None, AccessExplanation),
    ("/admin/v1/audit", "get", "Events of the audit log", None, dict[str, Any]),
    ("/admin/v1/overview", "get", "The state of the gateway in one answer", None, Overview),
    ("/admin/v1/traffic", "get", "What was called how often, and how long it took", None, Traffic),
    (
        "/admin/v1/events",
        "get",
        "What happened lately; as an event stream also what happens then",
        None,
        list[Event],
    ),
    ("/admin/v1/log-level", "get", "How much this front end logs", None, LogLevel),
    ("/admin/v1/log-level", "put", "Change how much every process logs, until it ends", LogLevel, LogLevel),
    ("/admin/v1/virtual-servers", "get", "All virtual servers", None, list[ShownVirtualServer]),
    ("/admin/v1/virtual-servers/{name}", "get", "One virtual server", None, ShownVirtualServer),
    ("/admin/v1/virtual-servers/{name}", "put", "Make or change a virtual server", dict[str, Any], ShownVirtualServer),
    ("/admin/v1/virtual-servers/{name}", "delete", "Remove a virtual server", None, None),
    ("/admin/v1/explain", "get", "Where a call would go, and why", None, Explanation),
]


_PAGE = (
    ("search", "string", "Only what has this text in its name"),
    ("limit", "integer", "At most so many; the header X-Total-Count says how many there are"),
    ("offset", "integer", "Leave out so many first"),
)
_QUERIES: dict[str, tuple[tuple[str, str, str], ...]] = {
    "/admin/v1/servers": (
        *_PAGE,
        ("status", "string", "Only those with this status"),
        ("after", "string", "Begin behind this upstream; the header Link names the next page"),
    ),
    "/admin/v1/tools": (
        *_PAGE,
        ("server", "string", "Only those of this group"),
        ("schemas", "boolean", "Whether with schemas; default: true"),
    ),
    "/admin/v1/audit": (
        ("after", "string", "Only what is newer than this 'next' of an earlier answer; default: the latest"),
        ("limit", "integer", "At most so many, up to 1000; default: 100"),
        ("principal", "string", "Only of this principal"),
        ("event", "string", "Only of this kind"),
        ("outcome", "string", "Only with this outcome"),
        ("tool", "string", "Only about this tool, as its upstream names it"),
    ),
    "/admin/v1/events": (("after", "integer", "Only what is newer than this sequence number"),),
}
"""The query parameters of paths, as (name, type, meaning)."""


def openapi(version: str) -> dict[str, Any]:
    """Return the OpenAPI 3.1 document of the admin API; ``version`` is the gateway's."""
    types = [kind for _, _, _, *pair in _PATHS for kind in pair if kind is not None] + [ErrorBody, ToolEntry]
    schemas, components = msgspec.json.schema_components(types, ref_template="#/components/schemas/{name}")
    by_type = dict(zip(map(repr, types), schemas, strict=True))
    paths: dict[str, Any] = {}
    for path, method, summary, takes, gives in _PATHS:
        operation: dict[str, Any] = {
            "summary": summary,
            "operationId": method + "".join(part.strip("{}").capitalize() for part in path.split("/")[3:]),
            "responses": {
                "default": {
                    "description": "Something was wrong",
                    "content": {"application/json": {"schema": by_type[repr(ErrorBody)]}},
                }
            },
        }
        good: dict[str, Any] = {"description": "Done"}
        if gives is not None:
            good["content"] = {"application/json": {"schema": by_type[repr(gives)]}}
        created = "202" if gives is RestartAsked else "201"
        operation["responses"]["204" if gives is None else created if method == "post" else "200"] = good
        if takes is not None:
            operation["requestBody"] = {"content": {"application/json": {"schema": by_type[repr(takes)]}}}
        parameters: list[dict[str, Any]] = [
            {"name": part.strip("{}"), "in": "path", "required": True, "schema": {"type": "string"}}
            for part in path.split("/")
            if part.startswith("{")
        ]
        if method == "delete" and path.endswith("servers/{id}"):
            meaning = "Also an upstream that a configuration file declares"
            forced: dict[str, Any] = {"type": "boolean", "default": False}
            parameters.append({"name": "force", "in": "query", "description": meaning, "schema": forced})
        if takes is Registration:
            meaning = "Change the upstream that has this id"
            schema: dict[str, Any] = {"type": "boolean", "default": False}
            parameters.append({"name": "replace", "in": "query", "description": meaning, "schema": schema})
        if method == "get":
            parameters += [
                {"name": name, "in": "query", "description": meaning, "schema": {"type": kind}}
                for name, kind, meaning in _QUERIES.get(path, ())
            ]
        if path.endswith("explain"):
            parameters.append({"name": "tool", "in": "query", "required": True, "schema": {"type": "string"}})
        if parameters:
            operation["parameters"] = parameters
        paths.setdefault(path, {})[method] = operation
    return {
        "openapi": "3.1.0",
        "info": {"title": "MCP gateway admin API", "version": version},
        "paths": paths,
        "components": {
            "schemas": components,
            "securitySchemes": {"token": {"type": "http", "scheme": "bearer"}},
        },
        "security": [{"token": []}, {}],
    }
