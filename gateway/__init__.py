"""One endpoint in front of many MCP servers: the front end, the command line and the Python API.

=========== ==========================================================================================
room        what lives there
=========== ==========================================================================================
api         ``Gateway``: register, start, list, stop, from Python
app         composition root of a front end; the gunicorn factory
lifecycle   the supervisor behind ``gateway up`` and ``Gateway.start``
doors/      how clients come in: both eras of Streamable HTTP, HTTP+SSE; sessions and standing streams
routing/    names, merged lists, who may take a call (pure)
balancers/  who of them does (pure)
fleet/      the registry's copy in memory, links to workers, calls and their retries
admin/      the admin API, health endpoints, metrics
cli/        the ``gateway`` command
=========== ==========================================================================================

A front end is stateless: whatever a request needs is in its own copy of the registry, in the sealed session id,
or in Redis. It imports ``shared``, never ``worker`` (enforced in CI).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from gateway.balancers import BalancerStrategy
from shared.models import HealthCheckResult, ServerEntry, ServerStatus, ToolEntry
from shared.transports import HttpConnection, StdioConnection

if TYPE_CHECKING:
    from gateway.api import Gateway

__version__ = "0.1.0"
__all__ = [
    "BalancerStrategy",
    "Gateway",
    "HealthCheckResult",
    "HttpConnection",
    "ServerEntry",
    "ServerStatus",
    "StdioConnection",
    "ToolEntry",
    "__version__",
]


def __getattr__(name: str) -> Any:
    """``Gateway`` is imported when asked for: front ends do without the supervisor."""
    if name == "Gateway":
        from gateway.api import Gateway

        return Gateway
    raise AttributeError(name)
