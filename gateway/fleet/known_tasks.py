"""Which upstream has the task that a client names. Nothing is stored: the sealed id says it (``shared.task_ids``)."""

from __future__ import annotations

from msgspec import Struct

from gateway.fleet.registry_view import RegistryView
from gateway.routing.routes import Route
from gateway.routing.view import View
from shared import task_ids
from shared.errors import InsufficientScope, Refused
from shared.mcp.listings import Kind
from shared.mcp.methods import TOOLS_CALL
from shared.secrets import FleetKey

MAX_LISTENED = 100
"""How many tasks one ``subscriptions/listen`` may name."""
_UNKNOWN = "unknown task: no such task, or it is not yours"


class KnownTask(Struct, frozen=True):
    """A task of a caller: the route of the tool that made it, its upstream, and the upstream's own id. ``worker`` is
    the one that keeps it, or empty."""

    route: Route
    upstream: str
    own: str
    worker: str = ""


class KnownTasks:
    """Finds the upstreams of tasks."""

    def __init__(self, key: FleetKey, registry: RegistryView) -> None:
        self._key = key
        self._registry = registry

    def ours(self, id: str, principal: str) -> bool:
        """Return whether an id is of a task that was made for a principal."""
        return task_ids.unseal(self._key, id, principal) is not None

    def find(self, id: str, principal: str, view: View) -> KnownTask:
        """Return the task that a caller names.

        Raises ``Refused`` (-32602), in the same words for an id that never was, another principal's task, and a task of
        a tool that the view does not show.
        """
        task = task_ids.unseal(self._key, id, principal)
        if task is None or (view.denied and view.denies(TOOLS_CALL)):
            raise Refused("invalid_params", _UNKNOWN)
        replica = self._registry.catalog.replica(task.upstream)
        if replica is None:
            raise Refused("invalid_params", f"the upstream that had this task, {task.upstream!r}, is not registered")
        route = view.own(replica.record.spec.name, Kind.TOOLS).get(task.tool)
        if route is None:
            raise Refused("invalid_params", _UNKNOWN)
        if route.guard is not None and route.guard.scopes:
            scopes = route.guard.scopes
            raise InsufficientScope(f"this needs the scope {' '.join(scopes)!r}", scopes)
        return KnownTask(route, task.upstream, task.own, task.worker)
