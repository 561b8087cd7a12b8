"""The description of the admin API (OpenAPI 3.1), generated from the types of ``schemas``. Pure."""

from __future__ import annotations

from typing import Any

import msgspec

from gateway.admin.schemas import (
    AccessExplanation,
    Approval,
    Change,
    Conflict,
    Diagnosis,
    DutySet,
    ErrorBody,
    Event,
    Explanation,
    FrontEndState,
    ListedTool,
    LogLevel,
    MadeKey,
    Me,
    NewKey,
    Overview,
    PinnedTool,
    QuarantinedTool,
    Registration,
    RestartAsked,
    ShownFailure,
    ShownKey,
    ShownTransport,
    ShownVirtualServer,
    Topology,
    Traffic,
    WorkerState,
)
from shared.models import HealthCheckResult, ServerEntry, ToolEntry
from shared.registry.rolls import Roll
from shared.shown_settings import ShownSetting

_PATHS: list[tuple[str, str, str, Any, Any]] = [
    ("/admin/v1/servers", "get", "All upstreams", None, list[ServerEntry]),
    ("/admin/v1/servers", "post", "Register an upstream", Registration, ServerEntry),
    ("/admin/v1/servers/{id}", "get", "One upstream", None, ServerEntry),
    ("/admin/v1/servers/{id}", "patch", "Change an upstream", Change, ServerEntry),
    ("/admin/v1/servers/{id}", "delete", "Remove an upstream", None, None),
    ("/admin/v1/servers/{id}/logs", "get", "Last stderr lines of a stdio upstream", None, list[str]),
    ("/admin/v1/servers/{id}/restart", "post", "Begin anew with an upstream, on every worker that has it", None, None),
    ("/admin/v1/servers/{id}/duty", "put", "Enable, drain or disable an upstream", DutySet, ServerEntry),
    ("/admin/v1/servers/{id}/pins", "get", "Tools of a pinned upstream, and what was approved", None, list[PinnedTool]),
    ("/admin/v1/servers/{id}/pins/{tool}", "get", "One tool as approved and as listed", None, PinnedTool),
    ("/admin/v1/servers/{id}/pins/{tool}", "put", "Approve the definition with this digest", Approval, PinnedTool),
    ("/admin/v1/servers/{id}/pins/{tool}", "delete", "Take back what was approved of a tool", None, None),
    ("/admin/v1/me", "get", "Who asks, and what they may do", None, Me),
    ("/admin/v1/transports", "get", "By what upstreams are reached", None, list[ShownTransport]),
    ("/admin/v1/tools", "get", "Tools as clients see them", None, list[ListedTool]),
    ("/admin/v1/conflicts", "get", "Names of tools that several groups have", None, list[Conflict]),
    ("/admin/v1/quarantine", "get", "Tools that are not as they were approved", None, list[QuarantinedTool]),
    ("/admin/v1/health", "get", "Last health check of each upstream", None, list[HealthCheckResult]),
    ("/admin/v1/workers", "get", "Live workers", None, list[WorkerState]),
    ("/admin/v1/frontends", "get", "Live front ends", None, list[FrontEndState]),
    ("/admin/v1/topology", "get", "Which worker carries which upstream", None, Topology),
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
    ("/admin/v1/diagnosis", "get", "How Redis and the processes are doing", None, Diagnosis),
    ("/admin/v1/traffic", "get", "What was called how often, and how long it took", None, Traffic),
    ("/admin/v1/errors", "get", "The last calls that failed, newest first", None, list[ShownFailure]),
    (
        "/admin/v1/events",
        "get",
        "What happened lately; as an event stream also what happens then",
        None,
        list[Event],
    ),
    ("/admin/v1/settings", "get", "The settings that this front end goes by", None, list[ShownSetting]),
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
    "/admin/v1/errors": (
        ("limit", "integer", "At most so many, up to 500; default: 100"),
        ("group", "string", "Only calls of this group"),
        ("upstream", "string", "Only calls that were sent to this upstream last"),
        ("name", "string", "Only calls of this tool, prompt or resource, as its upstream names it"),
        ("principal", "string", "Only calls of this principal"),
        ("outcome", "string", "Only calls that failed so"),
        ("request", "string", "Only the call with this trace id"),
    ),
    "/admin/v1/explain": (
        ("server", "string", "As seen at the endpoint of this group or virtual server; default: /mcp"),
        ("as", "string", "Whether this principal may make the call, too"),
        ("claims", "string", "The claims of a token of this principal, as JSON"),
    ),
    "/admin/v1/access/explain": (
        ("server", "string", "As seen at the endpoint of this group or virtual server; default: /mcp"),
        ("as", "string", "The principal: key:NAME, or ISSUER#SUBJECT"),
        ("claims", "string", "The claims of a token of this principal, as JSON"),
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
