"""Every error that the gateway raises: the tree of exceptions, and how each looks on the wire.

::

    GatewayError
    ├── ConfigError            a configuration or argument is wrong (exit code 2)
    ├── RegistryError          the registry refused
    │   ├── EntryExists        the id is taken
    │   ├── EntryNotFound      no such id
    │   ├── EntryDeclared      a file declares it
    │   └── RegistryUnavailable  Redis does not answer
    ├── StartError             a process of the fleet could not start
    ├── RestartRefused         processes cannot be replaced now
    └── CallError              one MCP call failed; carries what the client receives
        ├── NotDelivered       the call certainly did not reach the upstream: safe to send elsewhere
        ├── OutcomeUnknown     the call was sent and not answered: it may have run
        └── Refused            the request itself is wrong, or asks for something that does not exist
            ├── Limited        a limit of the caller is reached
            └── Unauthorized   the credentials are missing, wrong or not enough; carries the challenge
                └── InsufficientScope  the call needs more scopes

A class exists because some code catches it, or because it makes a different answer. The ``code`` of an error is the
word used in logs, in metrics and as ``error.data.code``. ``WIRE`` says which JSON-RPC code and which HTTP status a code
becomes. JSON-RPC codes of the gateway's own stay outside -32768..-32000, which JSON-RPC 2.0 section 5.1 reserves.
"""

from __future__ import annotations

from typing import Any, NamedTuple


class Wire(NamedTuple):
    """The answer to one error code: JSON-RPC ``code`` and HTTP ``status``."""

    rpc: int
    http: int


WIRE: dict[str, Wire] = {
    "parse_error": Wire(-32700, 400),
    "invalid_request": Wire(-32600, 400),
    "method_unknown": Wire(-32601, 404),
    "invalid_params": Wire(-32602, 400),
    "tool_unknown": Wire(-32602, 400),
    "prompt_unknown": Wire(-32602, 400),
    "resource_unknown": Wire(-32602, 400),
    "internal": Wire(-32603, 200),
    "header_mismatch": Wire(-32020, 400),
    "capability_missing": Wire(-32021, 400),
    "version_unsupported": Wire(-32022, 400),
    "upstream_unavailable": Wire(-31001, 200),
    "upstream_unauthorized": Wire(-31032, 200),
    "not_delivered": Wire(-31002, 200),
    "outcome_unknown": Wire(-31003, 200),
    "timeout": Wire(-31004, 200),
    "upstream_protocol": Wire(-31005, 200),
    "overloaded": Wire(-31006, 503),
    "draining": Wire(-31021, 503),
    "cancelled": Wire(-31007, 200),
    "session_unknown": Wire(-31008, 404),
    "forbidden": Wire(-31009, 403),
    "unauthenticated": Wire(-31022, 401),
    "insufficient_scope": Wire(-31023, 403),
    "arguments_denied": Wire(-31024, 403),
    "confirmation_needed": Wire(-31027, 403),
    "limited": Wire(-31025, 429),
    "audit_unavailable": Wire(-31026, 503),
    "content_type": Wire(-31016, 415),
    "registry_unavailable": Wire(-31010, 503),
    "too_large": Wire(-31011, 413),
    "config": Wire(-31012, 400),
    "entry_exists": Wire(-31013, 409),
    "entry_unknown": Wire(-31014, 404),
    "entry_declared": Wire(-31030, 409),
    "start_failed": Wire(-31015, 500),
    "restart_refused": Wire(-31028, 409),
    "too_much": Wire(-31020, 503),
    "too_much_of_peer": Wire(-31017, 429),
    "too_many_wrong": Wire(-31041, 429),
    "too_slow": Wire(-31018, 408),
    "head_too_large": Wire(-31019, 431),
}
"""Error code -> (JSON-RPC code, HTTP status for a modern client or the admin API)."""

STATUS = "http"
"""The key of ``CallError.data`` under which the HTTP status stands with which an upstream answered."""

SHUT = "shut"
"""The key of ``CallError.data`` under which a worker tells front ends for how many seconds it would repeat a refusal.
Clients do not see it."""

EVERYBODY = "everybody"
"""The word behind these seconds if any other caller would be refused as well."""

ELSEWHERE = "elsewhere"
"""The key of ``CallError.data`` by which a worker tells front ends that another worker of the upstream may take the
call. Clients do not see it."""

RETRY_AFTER_S = {"too_much": 1, "too_much_of_peer": 1, "too_many_wrong": 1, "draining": 1, "overloaded": 1}
"""Error code -> the ``Retry-After`` header of its answer (RFC 9110 section 10.2.3), where another try makes sense."""


class GatewayError(Exception):
    """The root of the tree. ``str(error)`` is one line that says what is wrong and what to do."""

    code = "internal"
    retry_after_s = 0
    """When another try makes sense, in seconds, if this error knows; else 0."""

    @property
    def wire(self) -> Wire:
        """The JSON-RPC code and the HTTP status of this error."""
        return WIRE[self.code]


class ConfigError(GatewayError):
    """A configuration file, flag or registration is wrong; ``problems`` are (path, message) pairs."""

    code = "config"

    def __init__(self, problems: list[tuple[str, str]] | str) -> None:
        self.problems = [("", problems)] if isinstance(problems, str) else problems
        super().__init__("; ".join(f"{path}: {text}" if path else text for path, text in self.problems))


class RegistryError(GatewayError):
    """The registry refused a change."""


class EntryExists(RegistryError):
    """An upstream with this id is registered already."""

    code = "entry_exists"


class EntryNotFound(RegistryError):
    """No upstream with this id is registered."""

    code = "entry_unknown"


class EntryDeclared(RegistryError):
    """The gateway's configuration file declares the upstream, and would bring it back."""

    code = "entry_declared"


class RegistryUnavailable(RegistryError):
    """Redis does not answer; nothing was changed."""

    code = "registry_unavailable"


class StartError(GatewayError):
    """A process of the fleet could not start; the message carries its reason."""

    code = "start_failed"


class RestartRefused(GatewayError):
    """The processes of the gateway cannot be replaced now; nothing was done."""

    code = "restart_refused"


class CallError(GatewayError):
    """One MCP call failed. The client receives ``data`` as ``error.data``, together with ``code``. ``about`` is the
    tool of which a call was refused, where the request names another one, or empty."""

    about = ""

    def __init__(self, code: str, message: str, data: dict[str, Any] | None = None) -> None:
        super().__init__(message)
        self.code = code
        self.message = message
        self.data = data or {}
        said = str(self.data.get("retryAfter", ""))
        self.retry_after_s = int(said) if said.isdecimal() else RETRY_AFTER_S.get(code, 0)

    @property
    def wire(self) -> Wire:
        """The JSON-RPC code and the HTTP status. What an upstream refused with 429 is 429 for the client too."""
        wire = WIRE[self.code]
        return Wire(wire.rpc, 429) if self.code == "overloaded" and self.data.get(STATUS) == "429" else wire


class NotDelivered(CallError):
    """The call certainly did not reach the upstream. Another replica may take the call."""


class OutcomeUnknown(CallError):
    """The call was sent and not answered. The upstream may have run the call, so only safe methods are repeated."""


class Refused(CallError):
    """The request is wrong, or asks for something that does not exist."""


class Unauthorized(Refused):
    """The credentials are missing or wrong. ``challenge`` is the value of ``WWW-Authenticate`` (RFC 9110 section
    11.6.1), which admission knows."""

    def __init__(self, message: str, challenge: str = "", code: str = "unauthenticated") -> None:
        super().__init__(code, message)
        self.challenge = challenge


class InsufficientScope(Unauthorized):
    """The call needs ``scopes`` that the token does not have (RFC 6750 section 3.1)."""

    def __init__(self, message: str, scopes: tuple[str, ...], challenge: str = "") -> None:
        super().__init__(message, challenge, "insufficient_scope")
        self.scopes = scopes


class Limited(Refused):
    """A limit of the caller is reached. ``retry_after_s`` is when another call may be allowed."""

    def __init__(self, limit: str, wait_s: float) -> None:
        wait = max(1, round(wait_s + 0.499))
        text = f"the limit {limit!r} is reached; try again in {wait} s"
        super().__init__("limited", text, {"limit": limit, "retryAfter": str(wait)})
