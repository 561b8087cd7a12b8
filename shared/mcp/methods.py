"""MCP method names, sets of methods that a gateway treats alike, and log levels."""

from __future__ import annotations

INITIALIZE = "initialize"
INITIALIZED = "notifications/initialized"
PING = "ping"
DISCOVER = "server/discover"
LISTEN = "subscriptions/listen"
ACKNOWLEDGED = "notifications/subscriptions/acknowledged"
TOOLS_LIST = "tools/list"
TOOLS_CALL = "tools/call"
SET_LEVEL = "logging/setLevel"
LOGGED = "notifications/message"
SUBSCRIBE = "resources/subscribe"
UNSUBSCRIBE = "resources/unsubscribe"
ROOTS_CHANGED = "notifications/roots/list_changed"
RESOURCE_UPDATED = "notifications/resources/updated"
CANCELLED = "notifications/cancelled"
ELICITED = "notifications/elicitation/complete"
PROGRESS = "notifications/progress"
TOOLS_CHANGED = "notifications/tools/list_changed"
PROMPTS_CHANGED = "notifications/prompts/list_changed"
RESOURCES_CHANGED = "notifications/resources/list_changed"

OURS = "gateway/"
"""Methods that begin like this are of the gateway's own, between front ends and workers; clients cannot send them."""
OWN_LIST = OURS + "list"
"""Asks a worker what a client's own upstream session lists. The name of the call is the kind of list."""

CHANGED = frozenset({TOOLS_CHANGED, PROMPTS_CHANGED, RESOURCES_CHANGED, RESOURCE_UPDATED})
"""Notifications of a change in what an upstream offers: for clients that subscribed, and not about a call."""
NOT_FOR_CLIENTS = frozenset({INITIALIZED, ROOTS_CHANGED, ACKNOWLEDGED})
"""Notifications that no server sends to a client, or that answer a listen of the gateway itself."""

LISTS_IN_FILTER = {
    "toolsListChanged": TOOLS_CHANGED,
    "promptsListChanged": PROMPTS_CHANGED,
    "resourcesListChanged": RESOURCES_CHANGED,
}
RESOURCES_IN_FILTER = "resourceSubscriptions"
TASKS_IN_FILTER = "taskIds"
FILTER = frozenset({*LISTS_IN_FILTER, RESOURCES_IN_FILTER, TASKS_IN_FILTER})
"""The members that the filter of a ``subscriptions/listen`` may have (2026-07-28, subscriptions; tasks extension)."""

SUBSCRIPTION_META = "io.modelcontextprotocol/subscriptionId"
SERVER_INFO_META = "io.modelcontextprotocol/serverInfo"
VERSION_META = "io.modelcontextprotocol/protocolVersion"
CAPABILITIES_META = "io.modelcontextprotocol/clientCapabilities"
CLIENT_INFO_META = "io.modelcontextprotocol/clientInfo"
LOG_LEVEL_META = "io.modelcontextprotocol/logLevel"

REPEATABLE = frozenset(
    {
        "tools/list",
        "resources/list",
        "resources/templates/list",
        "prompts/list",
        "resources/read",
        "prompts/get",
        "completion/complete",
        "ping",
        "server/discover",
        "tasks/get",
    }
)
"""Methods that only read: a second run has no effect beyond that of the first."""

NAMED_BY = {
    "tools/call": "name",
    "prompts/get": "name",
    "resources/read": "uri",
    "tasks/get": "taskId",
    "tasks/update": "taskId",
    "tasks/cancel": "taskId",
}
"""Methods whose ``Mcp-Name`` header mirrors a member of ``params``, and that member (2026-07-28, streamable-http; tasks
extension, "Routing Headers")."""

LOG_LEVELS = ("debug", "info", "notice", "warning", "error", "critical", "alert", "emergency")
"""RFC 5424 section 6.2.1, least severe first."""


def severity(level: str) -> int:
    """Return the place of ``level`` among ``LOG_LEVELS``. An unknown level is above all of them, so such messages are
    never left out."""
    return LOG_LEVELS.index(level) if level in LOG_LEVELS else len(LOG_LEVELS)


def wants_warnings(level: str) -> bool:
    """Whether a client that asked for ``level`` receives warnings. ``level`` is empty if the client asked for no
    messages."""
    return bool(level) and severity("warning") >= severity(level)
