"""Calls in the words of JSON-RPC, and the limits of gateways, for clients and upstreams that misbehave."""

from __future__ import annotations

from typing import Any

from tests.attack import Judge
from tests.machine import stretched
from tests.servers.scripted import Exchange

BLUE = {"action": "accept", "content": {"colour": "blue"}}
FORMS_AND_URLS = {"io.modelcontextprotocol/clientCapabilities": {"elicitation": {"form": {}, "url": {}}}}
MAX_PARKED = 6
CLIENT_LIMITS: dict[str, Any] = {
    "input_timeout_s": stretched(2.0),
    "max_parked": MAX_PARKED,
    "request_timeout_s": stretched(4.0),
    "keepalive_comment_s": 1.0,
}
UPSTREAM_LIMITS: dict[str, Any] = {
    "input_timeout_s": stretched(5.0),
    "request_timeout_s": stretched(3.0),
    "reconnect_min_s": 0.2,
    "health_check_interval_s": 1.0,
}


def call(tool: str, id: Any = 1, token: Any = None, **arguments: Any) -> dict[str, Any]:
    """A legacy ``tools/call``."""
    meta = {"_meta": {"progressToken": token}} if token is not None else {}
    params = {"name": tool, "arguments": arguments, **meta}
    return {"jsonrpc": "2.0", "id": id, "method": "tools/call", "params": params}


async def is_back_to_bystanders(judge: Judge, gauge: str) -> bool:
    return await judge.gauge(gauge) <= 2  # the bystanders' own


def progress(exchange: Exchange, number: int, text: str = "") -> dict[str, Any]:
    params = {"progressToken": exchange.token, "progress": number, "message": text}
    return {"method": "notifications/progress", "params": params}
