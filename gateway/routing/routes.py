"""Where a name leads: replicas, the groups that they form, and the routes of a group's entries. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from msgspec import Struct

from gateway.balancers import Balancer
from gateway.routing.entries import Entry
from gateway.routing.guards import Guard
from gateway.routing.hedges import Hedge
from gateway.routing.local_tools import LocalTool
from gateway.routing.outliers import Watch
from gateway.routing.shapes import Shape
from gateway.routing.shut import Shut
from shared.choices import Duty
from shared.connections import HttpConnection
from shared.isolation import SessionUse, session_use
from shared.mcp.listings import Kind
from shared.mcp.versions import Era
from shared.models import ServerStatus
from shared.registry.records import UpstreamRecord
from shared.transports import traits
from shared.upstream_auth import TokenExchange


class Replica:
    """An upstream as a member of its group.

    A replica object lives as long as its upstream is registered, so that its counts survive rebuilds of the catalogue.
    ``binds``: whether each client session has an upstream session of its own here. ``exchanges``: whether a worker
    needs the caller's token for calls. ``passes``: the headers of clients that go up, in lower case. Until
    ``avoid_until`` (loop time) the replica gets calls only if no other one can take them; until ``suspect_until`` it
    gets none. ``shut``: whom it has no room for at the moment, or ``None``. ``watch`` is what is seen of its answers,
    or ``None`` if nobody wants to know. ``returns``: whether it was connected and is on its way back, because it moves
    to another worker: one that fails is in error before it connects again. ``fell``: whether it is in error and was
    connected until then. ``runs_once``: whether it is a child of one worker. ``up``: whether it is connected, owned by
    a worker and not disabled. ``drains``: whether it gets nothing but calls of client sessions and tasks that it has
    already.
    """

    __slots__ = (
        "avoid_until",
        "binds",
        "drains",
        "exchanges",
        "fell",
        "id",
        "in_flight",
        "in_flight_elsewhere",
        "passes",
        "record",
        "returns",
        "runs_once",
        "sequence",
        "shut",
        "suspect_until",
        "suspected",
        "up",
        "watch",
        "weight",
        "workers",
    )

    def __init__(self, record: UpstreamRecord) -> None:
        self.in_flight = 0
        self.in_flight_elsewhere = 0
        self.avoid_until = 0.0
        self.watch: Watch | None = None
        self.shut: Shut | None = None
        self.suspect_until = 0.0
        self.suspected = ""  # why: the error of the call that failed
        self.record = record
        self.returns = False
        self.fell = False
        self.update(record)

    def update(self, record: UpstreamRecord) -> None:
        """Take a newer record of the upstream."""
        if record.status is not ServerStatus.CONNECTING:
            self.returns = False
        elif self.record.status is ServerStatus.CONNECTED:
            self.returns = True
        if record.status is not ServerStatus.ERROR:
            self.fell = False
        elif self.record.status is ServerStatus.CONNECTED:
            self.fell = True
        self.record = record
        self.up = record.status is ServerStatus.CONNECTED and bool(record.owners) and record.duty is not Duty.DISABLED
        self.drains = record.duty is Duty.DRAINING
        self.runs_once = traits(record.spec.transport).runs_once
        self.id = record.spec.id
        self.sequence = record.sequence
        self.weight = record.spec.weight
        self.workers = tuple(sorted(worker for _, worker in record.owners))
        use = session_use(
            record.spec.isolation, record.transport_in_use, record.eras, record.sessionful, Era.LEGACY, True
        )
        self.binds = use is SessionUse.CLIENT
        connection = record.spec.connection
        self.passes = connection.passed_names if isinstance(connection, HttpConnection) else frozenset()
        self.exchanges = isinstance(connection, HttpConnection) and isinstance(connection.auth, TokenExchange)

    @property
    def load(self) -> int:
        """The calls in flight: those of this front end exactly, those of others as they last published them."""
        return self.in_flight + self.in_flight_elsewhere

    @property
    def latency_s(self) -> float:
        """The seconds to an answer, on average, as this front end sees it; 0 if it is not known."""
        return self.watch.latency_s if self.watch is not None else 0.0

    def available(self, now: float) -> bool:
        """Return whether this replica may get a call. ``now`` is loop time.

        It must be ``up``, and not suspected because one of this front end's calls just failed there. One that
        ``drains`` may get calls of what it has already.
        """
        return self.up and self.suspect_until <= now


class Route(Struct, frozen=True):
    """Where a listed name leads: the group, the entry under the upstream's name, and the replicas that have it."""

    group: str
    entry: Entry
    replicas: tuple[Replica, ...]
    balancer: Balancer
    binds: bool = False
    """Whether a client session has an upstream session of its own on some of the replicas."""
    local: LocalTool | None = None
    """The tool if the gateway itself answers it, or ``None``. Such a route has no replicas."""
    guard: Guard | None = None
    """What a call must fulfil beside being shown, or ``None``."""
    shape: Shape | None = None
    """What becomes of a call's arguments, or ``None`` if they go up as they are."""
    hedge: Hedge | None = None
    """When a late call is sent to a second replica too, or ``None`` if none is."""


class Group:
    """All upstreams of one name, in registration order."""

    def __init__(self, name: str, balancer: Balancer) -> None:
        self.name = name
        self.balancer = balancer
        self.replicas: list[Replica] = []
        self.routes: dict[Kind, dict[str, Route]] = {kind: {} for kind in Kind}
        self.own: dict[Kind, frozenset[str]] = {}
        """Names that only one client sees, on an upstream session of its own."""
        self.given: dict[Kind, frozenset[str]] = {}
        """Names that a virtual server gave to entries: nothing else is listed under them there."""

    def with_own(self, entries: Mapping[Kind, Sequence[Entry]]) -> Group:
        """Return this group as a client sees it whose own upstream session lists ``entries`` instead."""
        group = Group(self.name, self.balancer)
        group.replicas = self.replicas
        group.routes = dict(self.routes)
        for kind, own in entries.items():
            known = self.routes[kind]
            group.routes[kind] = {one.name: self.route_of(one) for one in own}
            group.own[kind] = frozenset(one.name for one in own if one.name not in known)
        return group

    def route_of(self, entry: Entry) -> Route:
        """Return the route of an entry of a client's own upstream session."""
        having = tuple(replica for replica in self.replicas if replica.binds)
        return Route(self.name, entry, having, self.balancer, binds=True)

    @property
    def binds(self) -> bool:
        """Whether a client session has an upstream session of its own on some of the replicas."""
        return any(replica.binds for replica in self.replicas)

    @property
    def sequence(self) -> int:
        """The place of the group's first replica in registration order."""
        return self.replicas[0].sequence

    @property
    def connected(self) -> bool:
        """Whether any replica is connected."""
        return any(replica.record.status is ServerStatus.CONNECTED for replica in self.replicas)

    @property
    def steady(self) -> bool:
        """Whether all replicas are connected, so that everything of the group is listed."""
        return all(replica.record.status is ServerStatus.CONNECTED for replica in self.replicas)

    @property
    def absence(self) -> str:
        """Why nothing of the group can be listed: it is "disabled", "still starting" or "unavailable". Empty if it has
        listed something."""
        records = [replica.record for replica in self.replicas if replica.record.duty is not Duty.DISABLED]
        if not records:
            return "disabled"
        if any(one.status is ServerStatus.CONNECTED or one.catalog.digest for one in records):
            return ""
        starting = any(one.status in (ServerStatus.REGISTERED, ServerStatus.CONNECTING) for one in records)
        return "still starting" if starting else "unavailable"

    def any_route(self) -> Route:
        """Return a route to any replica of the group, for methods that the gateway does not know."""
        entry = Entry(Kind.TOOLS, "", b"", b"", repeatable=False)
        return Route(self.name, entry, tuple(self.replicas), self.balancer, self.binds)
