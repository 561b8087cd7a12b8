"""How a command fails: the errors that end a command, and the texts that both clients (``admin_client``,
``mcp_client``) use. Pure."""

from __future__ import annotations

import json
import os
import re
from typing import Any
from urllib.parse import urlsplit

from shared.errors import GatewayError
from shared.loopback import is_loopback_host

DEFAULT_URL = "http://127.0.0.1:4000"
"""Where commands look for a gateway that nothing names."""

CA_FILE = "GATEWAY_CA_FILE"
"""The environment variable that names authorities which commands trust beside the system's (PEM)."""

CLIENT_CERT, CLIENT_KEY = "GATEWAY_CLIENT_CERT_FILE", "GATEWAY_CLIENT_KEY_FILE"
"""The environment variables that name the certificate which commands show to a gateway that asks for one, and its
key."""

API_KEY = "GATEWAY_API_KEY"
"""The environment variable with the key or token by which commands call tools, as any client has one."""

CONNECT_S = 10.0
"""How long connecting may take. TLS with a server that does not speak TLS may never finish."""

LIMIT_S = 120.0
"""How long an answer may take."""


class CommandFailed(GatewayError):
    """The gateway refused what a command wanted, or cannot be reached."""


class RequestRefused(CommandFailed):
    """The gateway answered an MCP request with a JSON-RPC ``error``."""

    def __init__(self, error: dict[str, Any]) -> None:
        self.error = error
        data = error.get("data")
        said = data if isinstance(data, dict) else {}
        close = said.get("closeMatches")
        more = f"close: {', '.join(map(str, close))}" if isinstance(close, list) and close else f"code {error['code']}"
        if said.get("code") == "unauthenticated":
            more = f"commands send the key or token that {API_KEY} holds"
        super().__init__(f"{error['message']} ({more})")


def command(words: str, base: str) -> str:
    """Return the command line ``gateway words`` for the gateway at ``base``: with ``--url`` unless commands find that
    gateway without it. ``words`` may end with arguments that begin after ``--``."""
    found = os.environ.get("GATEWAY_URL") or DEFAULT_URL
    return f"gateway {words}" if base == found.rstrip("/") else f"gateway {words} --url {base}"


def with_url(text: str, base: str) -> str:
    """Return a text of the gateway whose hints (``'gateway …'``) lead to the gateway at ``base``."""
    return re.sub(r"'gateway ((?!up)[^']*)'", lambda found: f"'{command(found[1], base)}'", text)


def nothing_answers(base: str, cause: str = "") -> CommandFailed:
    """Return the failure for an address at which no server can be reached."""
    return CommandFailed(
        f"no gateway answers at {base}{f' ({cause})' if cause else ''}: "
        f"start one with '{_start(base)}', or name it with --url or GATEWAY_URL"
    )


def _start(base: str) -> str:
    """Return the command that starts a gateway which would answer at ``base``, if one on this machine would."""
    try:
        parts = urlsplit(base)
        here, port = is_loopback_host(parts.hostname or ""), parts.port
    except ValueError:
        here, port = False, None
    return f"gateway up --port {port}" if here and port and base != DEFAULT_URL else "gateway up"


def untrusted(base: str, cause: str) -> CommandFailed:
    """Return the failure for a server whose certificate is not accepted."""
    return CommandFailed(
        f"the certificate of {base} is not accepted ({cause}): name its authority with --gateway-ca or {CA_FILE}, "
        "and the gateway (--url) by a name that the certificate has"
    )


def speaks_tls(base: str) -> CommandFailed:
    """Return the failure for a gateway that was asked over HTTP and takes only HTTPS."""
    https = "https" + base.removeprefix("http")
    return CommandFailed(f"{base} speaks TLS: name it as {https} with --url or GATEWAY_URL")


def broken(where: str, what: str) -> CommandFailed:
    """Return the failure for a result that breaks the protocol."""
    return CommandFailed(f"{where} gave a result that breaks the protocol: {what}")


def went_away(base: str) -> CommandFailed:
    """Return the failure for a connection that broke before the answer was complete."""
    return CommandFailed(
        f"the gateway at {base} went away before it answered; what was asked may have been done. "
        f"Its log says why; '{_start(base)}' starts it again"
    )


def no_connection(base: str) -> CommandFailed:
    """Return the failure for a server that neither accepted nor refused the connection in time."""
    return nothing_answers(base, f"no connection in {CONNECT_S:g} s")


def no_answer(url: str) -> CommandFailed:
    """Return the failure for a server that did not answer in time."""
    how = command("status", url.partition("/admin/")[0].removesuffix("/mcp"))
    return CommandFailed(f"{url} gave no answer in {LIMIT_S:g} s; '{how}' shows whether the gateway is well")


def refused(url: str, status: int, body: str) -> CommandFailed:
    """Return the failure for an HTTP error whose body is no JSON-RPC answer, with the error text of the body if any."""
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
    """Return the failure for a server that is no gateway."""
    return CommandFailed(f"no gateway is at {url}, which answers with {what}; check --url or GATEWAY_URL")


def words(body: str) -> str:
    """Return the text of ``error`` in a JSON body, on one line, or an empty string if there is none."""
    try:
        error = json.loads(body)["error"]
        text = error["message"] if isinstance(error, dict) else error
    except (ValueError, KeyError, TypeError):
        return ""
    return " ".join(str(text).split())
