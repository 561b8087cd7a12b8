"""Bodies of the admin API as types. Counterpart: ``openapi``, which describes them."""

from __future__ import annotations

from typing import Any, Literal

from msgspec import Struct

from shared.choices import Duty, EraChoice, Isolation, Pin
from shared.models import HealthCheckResult
from shared.registry.condition import RedisCondition
from shared.registry.failed_calls import FailedCall


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


class DutySet(Struct, rename="camel", forbid_unknown_fields=True):
    """What ``PUT /admin/v1/servers/{id}/duty`` takes: ``active``, ``draining`` or ``disabled``."""

    duty: Duty


class ShownTransport(Struct, rename="camel"):
    """A transport: its name in an entry, what people call it, and the member of a connection that stands for it.
    ``runs_process``: its upstreams are child processes of a worker, so they have error output, and a restart ends
    them."""

    name: str
    title: str
    key: str
    runs_process: bool


class ListedTool(Struct, rename="camel"):
    """A tool as clients see it. ``interface`` is the URI of the resource that shows it (MCP Apps,
    ``_meta.ui.resourceUri``), or empty."""

    name: str
    group: str
    upstream_name: str
    replicas: list[str]
    description: str | None = None
    input_schema: dict[str, Any] = {}
    interface: str = ""


class Conflict(Struct, rename="camel"):
    """A name of a tool that several groups have. ``listed`` are the names under which clients see them, by group."""

    name: str
    listed: dict[str, str]


class ReplicaState(Struct, rename="camel"):
    """A replica in an explanation. ``reason`` says why it gets no calls, or fewer. ``latency_ms`` is the average time
    to an answer as the asked front end sees it, if it is measured. ``waiting``, ``calls`` and ``errors`` are those
    of ``TrafficOfUpstream``."""

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
    waiting: int = 0
    calls: int = 0
    errors: int = 0
    last_health_check: HealthCheckResult | None = None


class Explanation(Struct, rename="camel"):
    """Where a call would go, and why. ``access`` says whether the principal that was named may make it."""

    tool: str
    group: str
    upstream_name: str
    balancer: str
    candidates: list[ReplicaState]
    choice: str | None
    because: str
    access: AccessExplanation | None = None


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


class Place(Struct, rename="camel"):
    """An upstream, where it is carried. The worker that has slot 0 ``leads``: it lists and probes it."""

    id: str
    group: str
    status: str
    duty: Duty
    leads: bool


class WorkerPlace(Struct, rename="camel"):
    """A live worker, and what it carries."""

    worker: WorkerState
    upstreams: list[Place]


class Topology(Struct, rename="camel"):
    """Who carries what. ``unowned`` are upstreams that no live worker has."""

    frontends: list[FrontEndState]
    workers: list[WorkerPlace]
    unowned: list[Place]


class OpenFiles(Struct, rename="camel"):
    """How many descriptors a process has open, and how many it may."""

    process: str
    pid: int
    open: int
    most: int


class Diagnosis(Struct, rename="camel"):
    """What may go wrong soon: how Redis is doing (``None`` if it does not answer), and descriptors of the processes.
    ``audit`` says why the front end that was asked cannot write its audit log, and is empty if it can."""

    redis: RedisCondition | None
    files: list[OpenFiles]
    audit: str = ""


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


class QuarantinedTool(Struct, rename="camel"):
    """A tool of a pinned upstream that is not as it was approved: ``state`` is ``changed`` or ``new``. ``held_back``
    says whether clients neither see nor call it (``pin: block``)."""

    upstream: str
    group: str
    tool: str
    state: str
    held_back: bool


class Approval(Struct, rename="camel", forbid_unknown_fields=True):
    """What ``PUT /admin/v1/servers/{id}/pins/{tool}`` takes: the digest of the definition that is approved."""

    digest: str


class AccessExplanation(Struct, rename="camel"):
    """Why a principal may use a tool, or not. ``rules`` are the places in the configuration that decided, ``limits``
    those that such a call counts for."""

    tool: str
    principal: str
    roles: list[str]
    shown: bool
    verdict: str
    rules: list[str] = []
    conditions: list[str] = []
    limits: list[str] = []


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
    """How long one upstream took to answer its workers (as in ``FrontEndState``). ``errors`` are those of clients'
    calls that were sent there last; ``waiting`` calls wait for a place there now (``maxConcurrency``)."""

    group: str
    upstream: str
    calls: int = 0
    seconds: float = 0.0
    buckets: list[int] = []
    errors: int = 0
    waiting: int = 0


class TrafficOfPrincipal(Struct, rename="camel"):
    """How often one principal called, where callers are authenticated. ``seconds`` is the time of all its calls."""

    principal: str
    calls: int = 0
    errors: int = 0
    seconds: float = 0.0


class Traffic(Struct, rename="camel"):
    """What the live processes of the fleet counted, each since it started. ``at`` is Unix time in seconds."""

    at: float
    groups: list[TrafficOfGroup]
    tools: list[TrafficOfTool]
    upstreams: list[TrafficOfUpstream]
    principals: list[TrafficOfPrincipal] = []


class ShownFailure(FailedCall, rename="camel", frozen=True, omit_defaults=False):
    """A call that failed lately. ``link`` is the address of its trace, where ``traceUrl`` is set."""

    link: str = ""


class Event(Struct, rename="camel", frozen=True):
    """Something that happened. ``kind`` is ``upstream-status``, ``upstream-duty``, ``upstream-added``,
    ``upstream-changed``, ``upstream-lists``, ``upstream-restart``, ``upstream-removed``, ``tool-quarantined``,
    ``tool-changed``, ``tool-released``, ``worker-joined``, ``worker-left``, ``frontend-joined``, ``frontend-left``,
    ``redis`` or ``log-level``; ``at`` is Unix time in seconds; ``sequence`` counts in this front end."""

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
