"""How files of other clients spell what an entry says, brought into one spelling. Pure tables.

Every key of an entry is one of four: it has an effect here (``SPELLINGS`` says under which name), it restricts what
may be done with a server (``INCLUDE``, ``EXCLUDE``, ``REFUSED``), it is known and of no use to a gateway
(``SILENT``), or it is unknown.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

from shared.former_names import FORMER
from shared.own_settings import OWN
from shared.transports import TRANSPORTS

SPELLINGS = {
    "type": ("type", "transport", "transportType", "transport_type"),
    "command": ("command", "cmd"),
    "args": ("args", "arguments"),
    "env": ("env", "envs", "environment"),
    "cwd": ("cwd", "workingDirectory", "working_directory", "workingDir", "working_dir"),
    "envFile": ("envFile", "env_file"),
    "url": ("url", "httpUrl", "http_url", "serverUrl", "server_url", "uri", "endpoint", "baseUrl"),
    "headers": ("headers", "http_headers", "httpHeaders"),
    "sandbox": ("sandbox",),
    "spec": ("spec",),
    "operations": ("operations",),
    "health": ("health",),
    "proxy": ("proxy",),
    "tls": ("tls",),
    "passthrough": ("passthrough",),
    "dangerouslyForwardAuthorization": ("dangerouslyForwardAuthorization",),
}
"""Each key of a connection with its spellings, the ones that win first."""
INCLUDE = ("includeTools", "include_tools", "tools", "enabledTools", "enabled_tools", "allowedTools", "allowed_tools",
           "available_tools", "availableTools")  # fmt: skip
EXCLUDE = ("excludeTools", "exclude_tools", "disabledTools", "disabled_tools", "disallowedTools", "blockedTools",
           "blocked_tools", "hiddenTools")  # fmt: skip
FILTERS = ("toolFilter", "tool_filter")
OPTIONS = ("name", "weight", "metadata", "isolation", "era", "balancer", "pin", "connection")
VARIABLES = (
    "env_vars",
    "env_keys",
    "bearer_token_env_var",
    "env_http_headers",
    "requestOptions",
    "requestInit",
    "auth",
    "auth_type",
    "auth_value",
    "authentication_token",
    "static_headers",
)
DURATIONS = {
    "startup_timeout_sec": ("startTimeout", 1000),
    "startup_timeout_ms": ("startTimeout", 1),
    "initTimeout": ("startTimeout", 1),
    "tool_timeout_sec": ("requestTimeout", 1000),
    "timeout": ("requestTimeout", 0),
}
"""Durations of other clients: which setting of the upstream they are, and how many milliseconds one unit has. 0 means
seconds in some files and milliseconds in others (``milliseconds``)."""
SWITCHES = ("disabled", "enabled", "isActive", "active", "isEnabled", "is_enabled", "enable", "disable")
REFUSED = {
    "sandboxEnabled": "is another client's: say with 'sandbox' what the command is shut in (docs/upstreams.md)",
    "include_tags": "chooses tools by tags, which servers do not list: name the tools in 'includeTools'",
    "exclude_tags": "chooses tools by tags, which servers do not list: name the tools in 'excludeTools'",
    "readOnly": "restricts a server in a way that a gateway cannot: name its tools in 'includeTools'",
    "read_only": "restricts a server in a way that a gateway cannot: name its tools in 'includeTools'",
}
"""Keys that restrict what a gateway cannot restrict: an entry that sets one is not run."""
UNUSED = {
    "headersHelper": "is not run: a gateway sends 'headers' only",
    "oauth": "is not used: say in 'auth' how the gateway gets a token (docs/upstreams.md), or put one into 'headers'",
    "auth": "is not used: it has no 'type' of the gateway's (docs/upstreams.md); or put a token into 'headers'",
    "authProviderType": "is not used: say in 'auth' how the gateway gets a token, or put one into 'headers'",
}
"""Keys without which a server may not work: they are named in a warning."""
SILENT = frozenset((
    "alwaysAllow", "autoApprove", "autoApproved", "description", "dev", "gallery", "icon", "iconPath",
    "version", "trust", "note", "source", "alwaysLoad", "required", "connectionTimeout",
    "displayName",
    "display_name", "title", "bundled", "settings", "chatMenu", "serverInstructions", "startup",
    "requiresOAuth", "customUserVars", "watchPaths", "remoteConfigs", "registryUrl", "provider", "tags", "logo",
    "longRunning", "extension_name", "platform_overrides", "start_on_launch", "startOnLaunch",
))  # fmt: skip


def plain(word: Any) -> str:
    """Return a word without case and punctuation, as which spellings are compared."""
    return re.sub(r"[^a-z0-9]", "", word.lower()) if isinstance(word, str) else ""


TYPES = {plain(one): row.name for row in TRANSPORTS.values() for one in (*row.spellings, *row.foreign)}
"""The name of a transport, by how any client's file calls it (``plain``)."""
PART_OF_A_CLIENT = ("builtin", "platform", "frontend", "inlinepython", "extension")


def milliseconds(value: float, unit: int) -> float:
    """Return a duration of another client's file in milliseconds. Where the unit is not known, numbers up to an hour of
    seconds are seconds: too long a limit does less harm than too short a one."""
    return value * (unit or (1000 if value <= 3600 else 1))


def known() -> tuple[str, ...]:
    """Return every key that has an effect, for suggestions."""
    return (
        *(one for all_of in SPELLINGS.values() for one in all_of),
        *INCLUDE,
        *EXCLUDE,
        *FILTERS,
        *OPTIONS,
        *OWN,
        *FORMER,
        *DURATIONS,
        *SWITCHES,
    )


def respelled(raw: dict[str, Any], mended: Callable[[str, str], None]) -> dict[str, Any]:
    """Return the members of a connection that ``raw`` has, each in the one spelling. ``mended`` is told of a key that
    was written in two spellings with two values."""
    found: dict[str, Any] = {}
    for key, spellings in SPELLINGS.items():
        given = [one for one in spellings if one in raw]
        if not given:
            continue
        found[key] = raw[given[0]]
        for other in given[1:]:
            if raw[other] != raw[given[0]] and key != "type":
                mended(other, f"is not read, because {given[0]!r} is there")
    return found


def is_comment(key: str) -> bool:
    """Whether a key is a comment, or for editors: JSON has no comments, so people write ``"_note"`` and ``"//"``."""
    return key.startswith(("_", "$", "//", "#"))
