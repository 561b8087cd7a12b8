"""A front end's calls without sockets and without Redis.

What is real: the registry's copy, catalogue, views, session table, links to workers, dispatcher. What is not: the
connections of the links (frames are recorded, workers answer as they are told) and Redis, which is away.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import cast

from msgspec import Raw

from gateway.access.principal import Principal
from gateway.fleet.dispatch import Dispatcher
from gateway.fleet.outgoing import Outgoing
from gateway.fleet.pool import WorkerPool
from gateway.fleet.registry_view import RegistryView
from gateway.fleet.worker_link import WorkerLink
from gateway.routing.local_tools import LocalTool
from gateway.routing.policy import ViewPolicy
from gateway.routing.routes import Route
from gateway.sessions.session import ClientSession
from gateway.sessions.table import SessionTable
from gateway.telemetry.observer import CallObserver, ObservedCall
from shared.mcp import jsonrpc
from shared.mcp.jsonrpc import Message, Params
from shared.mcp.listings import Kind
from shared.registry.members import Members
from shared.registry.records import UpstreamRecord
from shared.registry.store import RegistryStore
from shared.rpc import messages as rpc
from shared.rpc.connection import Link
from shared.secrets import FleetKey
from shared.settings import Settings, build

KEY = FleetKey.from_secret("unit tests")
Frame = tuple[rpc.Head, bytes]

ADA = Principal("ada", "user", "a")
"""A caller; its policy class is the first letter of its name."""


class FakeLink:
    """What a ``WorkerLink`` asks of a ``shared.rpc.connection.Link``: records frames; ``on_call`` hears of calls."""

    def __init__(self) -> None:
        self.closed = False
        self.frames: list[Frame] = []
        self.on_call: Callable[[rpc.Call, bytes], None] = lambda head, body: None

    def send(self, head: rpc.Head, body: bytes | memoryview = b"") -> None:
        """Record a frame."""
        self.frames.append((head, bytes(body)))
        if isinstance(head, rpc.Call):
            self.on_call(head, bytes(body))

    def extra(self, name: str) -> None:
        """Know nothing of a connection: there is none."""

    def abandon(self, call: int) -> None:
        """Do nothing: there are no chunks here."""

    def abort(self) -> None:
        """Be lost."""
        self.closed = True

    close = abort

    @property
    def calls(self) -> list[rpc.Call]:
        """The calls that were sent."""
        return [head for head, _ in self.frames if isinstance(head, rpc.Call)]


class Unheard:
    """``LinkEvents`` of which nothing comes."""

    def resource_updated(self, upstream: str, uri: str, sid: str, params: bytes) -> None:
        """Do nothing."""

    def own_list_changed(self, upstream: str, kind: str, sid: str) -> None:
        """Do nothing."""

    def unsolicited(self, sid: str, message: bytes, dropped: int) -> None:
        """Do nothing."""

    def has_stream(self, sid: str) -> bool:
        """No session has a stream here."""
        return False

    def links_changed(self) -> None:
        """Do nothing."""


class Worker:
    """A worker as a front end's link sees it: it answers calls to an upstream with what it was told, in order; to
    others it says nothing.

    An answer is the frames about a call (its number is filled in), as ``result``, ``error``, ``failed`` and ``told``
    make them.
    """

    def __init__(self, name: str, frontend: str = "f1") -> None:
        self.fake = FakeLink()
        self.fake.on_call = self._called
        self.link = WorkerLink(name, frontend, 1.0, Unheard(), lambda link: None)
        self.link.on_connected(cast(Link, self.fake))
        self.answers: dict[str, list[list[Frame]]] = {}

    def tell(self, head: rpc.Head, body: bytes = b"") -> None:
        """A frame arrives at the front end."""
        self.link.on_frame(cast(Link, self.fake), head, body)

    def answer(self, number: int, frames: list[Frame]) -> None:
        """These frames about a call arrive."""
        for head, body in frames:
            head.call = number  # type: ignore[union-attr]
            self.tell(head, body)

    def _called(self, head: rpc.Call, body: bytes) -> None:
        waiting = self.answers.get(head.upstream)
        if waiting:
            frames = waiting.pop(0) if len(waiting) > 1 else waiting[0]
            asyncio.get_running_loop().call_soon(self.answer, head.call, frames)

    def lose(self) -> None:
        """The link is gone."""
        self.fake.closed = True
        self.link.on_closed(cast(Link, self.fake), None)


def result(body: bytes = b"{}") -> list[Frame]:
    """An upstream's result."""
    return [(rpc.Answer(0), body)]


def error(body: bytes) -> list[Frame]:
    """An upstream's JSON-RPC error."""
    return [(rpc.Answer(0, is_error=True), body)]


def failed(code: str, delivered: bool, message: str = "it cannot") -> list[Frame]:
    """A failure in the gateway."""
    return [(rpc.Failed(0, code, message, delivered), b"")]


def told(message: bytes = b"{}") -> list[Frame]:
    """A message before the answer."""
    return [(rpc.Interim(0), message)]


class Front:
    """See the module. It serves these records by way of these workers."""

    def __init__(
        self,
        *records: UpstreamRecord,
        workers: tuple[str, ...] = ("w1",),
        observer: CallObserver | None = None,
        policy: ViewPolicy | None = None,
        settings: Settings | None = None,
        max_in_flight: int = 100,
    ) -> None:
        settings = settings or build({"redisUrl": "unix:///nowhere/redis.sock"})
        store = self.store = RegistryStore(settings.registry)
        members = Members(store, "frontend", 5.0)
        self.registry = RegistryView(store, settings, policy)
        self.pool = WorkerPool(members, "f1", KEY, settings)
        self.sessions = SessionTable(store, members, "f1", KEY, settings.sessions)
        self.dispatcher = Dispatcher(self.registry, self.pool, self.sessions, observer, max_in_flight)
        self.workers: dict[str, Worker] = {}
        for name in workers:
            self.join(name)
        self.take(*records)

    def take(self, *records: UpstreamRecord) -> None:
        """The registry holds these records from now on."""
        self.registry.on_snapshot({one.spec.id: one for one in records})

    def join(self, name: str) -> Worker:
        """A worker joins."""
        worker = self.workers[name] = Worker(name)
        self.pool.links[name] = worker.link
        self.registry.wake()
        return worker

    @property
    def worker(self) -> Worker:
        """The first of the workers."""
        return next(iter(self.workers.values()))

    def upstream(self, id: str, *answers: list[Frame]) -> None:
        """Calls to this upstream are answered so, one after another; the last answer is given again and again."""
        for worker in self.workers.values():
            worker.answers[id] = list(answers)

    @property
    def asked(self) -> list[str]:
        """The upstreams that were called by way of the first worker, in order."""
        return [head.upstream for head in self.worker.fake.calls]

    def route(self, name: str, kind: Kind = Kind.TOOLS) -> Route:
        """The route of a listed name."""
        return self.registry.catalog.everything.routes[kind][name]


def outgoing(route: Route, session: ClientSession | None = None, era: int = 0, method: str = "tools/call") -> Outgoing:
    """A request for one of the route's replicas."""
    return Outgoing(
        method=method,
        name=route.entry.name,
        group=route.group,
        principal="ada",
        route=route,
        params=b'{"name":"t"}',
        era=era,
        session=session,
        id=b"7",
    )


def request(method: str, params: str = "", id: bytes = b'"q"') -> tuple[Message, Params]:
    """A client's request, decoded as every lane does."""
    message = jsonrpc.decode(jsonrpc.request(id, method, params.encode()))
    return message, jsonrpc.decode_params(message)


def local_tool(name: str, call: Callable[[Raw], bytes] = lambda arguments: b"{}") -> LocalTool:
    """A tool that the gateway itself answers."""
    return LocalTool(name, b'{"name":"%b","inputSchema":{"type":"object"}}' % name.encode(), call)


class Heard:
    """A ``CallObserver`` that notes what it is told, in order: (what, which call, …)."""

    hears_begun = True

    def __init__(self) -> None:
        self.notes: list[tuple[object, ...]] = []
        self.failed: list[tuple[int, str]] = []
        self.calls: list[ObservedCall] = []
        self.seconds: list[float] = []

    def _number(self, call: ObservedCall) -> int:
        known = next((number for number, one in enumerate(self.calls) if one is call), None)
        if known is None:
            self.calls.append(call)
        return known if known is not None else len(self.calls) - 1

    def begun(self, call: ObservedCall) -> None:
        """Note it."""
        self.notes.append(("begun", self._number(call)))

    def attempted(self, call: ObservedCall, upstream: str, worker: str) -> None:
        """Note it."""
        self.notes.append(("attempted", self._number(call), upstream, worker))

    def attempt_failed(self, call: ObservedCall, code: str) -> None:
        """Note it apart: most tests are about attempts that follow."""
        self.failed.append((self._number(call), code))

    def finished(self, call: ObservedCall, outcome: str, seconds: float) -> None:
        """Note it."""
        self.notes.append(("finished", self._number(call), outcome))
        self.seconds.append(seconds)
