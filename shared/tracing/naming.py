"""What spans of MCP requests are called, and their attributes (OpenTelemetry's semantic conventions for MCP). Pure."""

from __future__ import annotations

import re

from shared.tracing.spans import Value

_TELLING = re.compile(r"[?#].*", re.DOTALL)
_USER = re.compile(r"(?<=://)[^/@]*@")


def named(method: str, name: str) -> tuple[str, dict[str, Value]]:
    """Return the name of the span of a request, and attributes that say what is called.

    A URI is an attribute without its query, which may hold keys, and is not part of the name, because there may be any
    number of URIs.
    """
    values: dict[str, Value] = {"mcp.method.name": method}
    if not name:
        return method, values
    if method == "tools/call":
        values["gen_ai.operation.name"] = "execute_tool"
        values["gen_ai.tool.name"] = name
    elif method == "prompts/get":
        values["gen_ai.prompt.name"] = name
    else:
        if method == "resources/read":
            values["mcp.resource.uri"] = _USER.sub("", _TELLING.sub("", name))
        return method, values
    return f"{method} {name}", values
