"""How a command fails: the errors that end it, and the words for what both clients meet. Pure."""

from __future__ import annotations

import json
from typing import Any

from shared.errors import GatewayError

CONNECT_S = 10.0
"""How long a connection may take; TLS with something that does not speak it takes for ever."""

LIMIT_S = 120.0
"""How long an answer may take."""


class CommandFailed(GatewayError):
    """The gateway said no, or could not be asked."""


class RequestRefused(CommandFailed):
    """The gateway answered an MCP request with a JSON-RPC ``error``."""

    def __init__(self, error: dict[str, Any]) -> None:
        self.error = error
        data = error.get("data")
        close = data.get("closeMatches") if isinstance(data, dict) else None
        more = f"close: {', '.join(map(str, close))}" if isinstance(close, list) and close else f"code {error['code']}"
        super().__init__(f"{error['message']} ({more})")


def nothing_answers(base: str, cause: str = "") -> CommandFailed:
    """Nobody listens at ``base``, or it cannot be reached."""
    return CommandFailed(
        f"no gateway answers at {base}{f' ({cause})' if cause else ''}: "
        "start one with 'gateway up', or name it with --url or GATEWAY_URL"
    )


def broken(where: str, what: str) -> CommandFailed:
    """A result that is not as the protocol says."""
    return CommandFailed(f"{where} gave a result that breaks the protocol: {what}")


def went_away(base: str) -> CommandFailed:
    """The connection broke before the answer was there."""
    return CommandFailed(
        f"the gateway at {base} went away before it answered; what was asked may have been done. "
        "Its log says why; 'gateway up' starts it again"
    )


def no_connection(base: str) -> CommandFailed:
    """Neither a connection nor a refusal."""
    return nothing_answers(base, f"no connection in {CONNECT_S:g} s")


def no_answer(url: str) -> CommandFailed:
    """A connection, and no answer."""
    return CommandFailed(f"{url} gave no answer in {LIMIT_S:g} s; 'gateway status' shows whether the gateway is well")


def refused(url: str, status: int, body: str) -> CommandFailed:
    """An HTTP error whose body is no JSON-RPC answer: the words are the body's where it has some."""
    path = "; give --url (or GATEWAY_URL) as http://HOST:PORT, and a path only where a proxy adds one"
    cure = {
        401: "; the admin API takes its token from GATEWAY_ADMIN_TOKEN, and a proxy in front must let us pass",
        403: "; name the gateway as it knows itself (--url), or allow this name there (allowedHosts)",
        404: path,
        405: path,
    }.get(status, "")
    said = words(body)
    return CommandFailed(f"{url} says HTTP {status}{f': {said}' if said else ''}{cure}")


def not_gateway(url: str, what: str) -> CommandFailed:
    """Something else answers there."""
    return CommandFailed(f"no gateway is at {url}, which answers with {what}; check --url or GATEWAY_URL")


def words(body: str) -> str:
    """What a JSON body says under ``error``, on one line; empty when it says nothing there."""
    try:
        error = json.loads(body)["error"]
        text = error["message"] if isinstance(error, dict) else error
    except (ValueError, KeyError, TypeError):
        return ""
    return " ".join(str(text).split())
