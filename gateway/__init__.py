"""One endpoint in front of many MCP servers: the front end, the command line and the Python API.

The layers from top to bottom; each imports only layers below it (checked in CI).

============ =========================================================================================
layer        what it is for
============ =========================================================================================
cli/         the ``gateway`` command
probe        whether a process of this host is well: for health checks of containers
init         the first process of a container that has none
api          ``Gateway``: register, start, list, stop, from Python
supervisor/  the processes behind ``gateway up`` and ``Gateway.start``: Redis, workers, front ends
app          the gunicorn factory
listener/    connections: the express lane before aiohttp, and aiohttp's routes
front_end/   the composition root of one front-end process
fleet_events events of the fleet, passed on to its parts
live_rules   rules of access that change while it runs
admin/       the admin API, health endpoints, metrics
ui/          the dashboard
connect/     callers connect to upstreams in a browser (authorization code)
protocol/    MCP at an endpoint, in both eras: the steps of a request, the table of methods
streams/     streams that stay open while no call runs, and the subscriptions of their clients
http/        writing HTTP answers
admission/   who the caller of a request is: decided once for each request
access/      credentials, identities, and what roles allow
fleet/       the registry's copy in memory, links to workers, calls and their retries
sessions/    client sessions of the handshake era
calls/       a call under way on a link
routing/     names, views, and which replicas may take a call (pure)
balancers/   which of these replicas takes the call (pure)
telemetry/   the observers of calls: counters, figures for Prometheus
============ =========================================================================================

A front end is stateless: what a request needs is in the front end's copy of the registry, in the sealed session id, or
in Redis. This package imports ``shared``, never ``worker``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from gateway.balancers import BalancerStrategy
from shared.connections import HttpConnection, OpenApiConnection, StdioConnection
from shared.models import HealthCheckResult, ServerEntry, ServerStatus, ToolEntry
from shared.version import VERSION

if TYPE_CHECKING:
    from gateway.api import Gateway

__version__ = VERSION
__all__ = [
    "BalancerStrategy",
    "Gateway",
    "HealthCheckResult",
    "HttpConnection",
    "OpenApiConnection",
    "ServerEntry",
    "ServerStatus",
    "StdioConnection",
    "ToolEntry",
    "__version__",
]


def __getattr__(name: str) -> Any:
    """Import ``Gateway`` when it is first used: front ends do not need the supervisor."""
    if name == "Gateway":
        from gateway.api import Gateway

        return Gateway
    raise AttributeError(name)
