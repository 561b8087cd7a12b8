"""One endpoint in front of many MCP servers: the front end, the command line and the Python API.

From top to bottom; a room imports only what stands below it (checked in CI).

============ =========================================================================================
room         what lives there
============ =========================================================================================
cli/         the ``gateway`` command
api          ``Gateway``: register, start, list, stop, from Python
supervisor/  the processes behind ``gateway up`` and ``Gateway.start``: Redis, workers, front ends
app          the gunicorn factory
listener/    how connections come in: the express lane before aiohttp, aiohttp's routes
front_end    one front-end process: what serves, wired together
admin/       the admin API, health endpoints, metrics
protocol/    what MCP asks of an endpoint, in both eras: the steps of a request, the table of methods
streams/     streams that stay open beside calls, and what their clients want to hear of
http/        writing HTTP answers
admission/   who asks, and whether they may: decided once for each request
fleet/       the registry's copy in memory, links to workers, calls and their retries
sessions/    client sessions of the handshake era
calls/       a call under way on a link
routing/     names, views, and who may take a call (pure)
balancers/   which of them does (pure)
telemetry/   who hears of calls that are over: counters, Prometheus
============ =========================================================================================

A front end is stateless: whatever a request needs is in its own copy of the registry, in the sealed session id, or in
Redis. It imports ``shared``, never ``worker``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from gateway.balancers import BalancerStrategy
from shared.models import HealthCheckResult, ServerEntry, ServerStatus, ToolEntry
from shared.transports import HttpConnection, StdioConnection
from shared.version import VERSION

if TYPE_CHECKING:
    from gateway.api import Gateway

__version__ = VERSION
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
