"""A worker's calls without sockets and without waiting: front ends, an upstream session and a clock of the test's own.

What is real: ``RpcServer`` and its peers, ``FrontEnds``, ``InputBroker``, ``UnsolicitedMessages``, ``LinkCall``,
``Session``. What is not: the link (frames are recorded), the inventory (it has one upstream session), the transport
(``Wire`` records messages) and time, which jumps to the next thing that is due.
"""

from __future__ import annotations

import asyncio
import functools
import json
import selectors
from collections.abc import Awaitable, Callable
from typing import Any, cast

import msgspec

from shared.errors import CallError
from shared.mcp import jsonrpc
from shared.mcp.versions import Era
from shared.models import UpstreamSpec
from shared.registry.records import ListedCatalog
from shared.rpc import messages as rpc
from shared.rpc.connection import Link
from shared.secrets import FleetKey
from shared.settings import CallSettings, Settings
from shared.tasks import Deadlines, spawn
from tests.unit.builders import spec
from worker.bridge.inputs import Need
from worker.calls.call import Call, OnAnswer
from worker.calls.client_facts import NOBODY, ClientFacts
from worker.calls.observer import CallObserver, Traffic
from worker.front_ends import FrontEnds
from worker.input.broker import MAX_OPEN, InputBroker
from worker.input.unsolicited import UnsolicitedMessages
from worker.ownership.inventory import Inventory
from worker.rpc_server import FrontEndPeer, RpcServer
from worker.sessions.context import SessionContext, SessionEvents, UnsolicitedPath, UpstreamSession
from worker.sessions.session import Session

KEY = FleetKey.from_secret("unit tests")
ALL: dict[str, Any] = {"elicitation": {"form": {}, "url": {}}, "sampling": {}, "roots": {}}
META = {
    "io.modelcontextprotocol/protocolVersion": "2026-07-28",
    "io.modelcontextprotocol/clientCapabilities": ALL,
}


# ---- time

_ENDLESS = 2_000
"""Rounds of a loop in which no time passes."""


class _Jump(selectors.DefaultSelector):
    """Instead of waiting for the next timer, makes it due."""

    now = 0.0
    rounds = 0

    def select(self, timeout: float | None = None) -> list[Any]:
        ready = super().select(0)
        if ready or timeout == 0:
            self.rounds += 1
            assert self.rounds < _ENDLESS, f"somebody is busy without end: {asyncio.all_tasks()}"
        elif timeout is None:
            raise AssertionError("everybody waits, and nothing will ever happen")
        else:
            self.rounds = 0
            self.now += timeout
        return ready


class JumpingLoop(asyncio.SelectorEventLoop):
    """Time passes only when nothing else is left to do, and then at once."""

    def __init__(self) -> None:
        self._jump = _Jump()
        super().__init__(self._jump)

    def time(self) -> float:
        return 1000.0 + self._jump.now


def timeless(test: Callable[..., Awaitable[None]]) -> Callable[..., None]:
    """Run an async test on a loop whose time jumps: what would take minutes takes none, and always goes the same."""

    @functools.wraps(test)
    def run(*args: Any, **kwargs: Any) -> None:
        with asyncio.Runner(loop_factory=JumpingLoop) as runner:
            runner.run(cast(Any, test(*args, **kwargs)))

    return run


async def run_ready() -> None:
    """Let everything happen that is ready to."""
    for _ in range(10):
        await asyncio.sleep(0)


# ---- the upstream's side


PONG_S = 0.01


class Wire(Session):
    """An upstream session whose messages the test reads and writes. ``opens``: what ``connect`` waits for."""

    def __init__(
        self, context: SessionContext, era: Era = Era.LEGACY, client: ClientFacts = NOBODY, sid_of_client: str = ""
    ) -> None:
        super().__init__(context, era, client, sid_of_client)
        self.sent: list[dict[str, Any]] = []
        self.opens: asyncio.Future[None] | None = None
        self.refuses: CallError | None = None
        self.connects = 0

    async def connect(self) -> None:
        self.connects += 1
        if self.opens is not None:
            await self.opens
        if self.refuses is not None:
            raise self.refuses

    def send_request(self, id: int, call: Call, message: bytes) -> None:
        if call.method in ("ping", "server/discover"):  # the upstream is well, and answers when it gets to it
            self.loop.call_later(PONG_S, lambda: self.receives(id=id, result={}))
        else:
            self.sent.append(json.loads(message))

    def send_notification(self, message: bytes) -> None:
        self.sent.append(json.loads(message))

    def take(self) -> list[dict[str, Any]]:
        """What was sent since last asked."""
        sent, self.sent = self.sent, []
        return sent

    def receives(self, call: Call | None = None, **members: Any) -> None:
        """The upstream sends a message; ``call``: on that call's own stream."""
        assert self.receive_bytes(json.dumps({"jsonrpc": "2.0", **members}).encode(), call)


class NotedEvents:
    """``sessions.context.SessionEvents``: keeps what is said of sessions."""

    def __init__(self) -> None:
        self.announcements: list[tuple[str, bytes]] = []
        self.losses: list[CallError] = []
        self.reopenings = self.forgettings = 0

    def announced(self, session: UpstreamSession, method: str, params: bytes) -> None:
        self.announcements.append((method, params))

    def lost(self, session: UpstreamSession, error: CallError) -> None:
        self.losses.append(error)

    def reopened(self, session: UpstreamSession) -> None:
        self.reopenings += 1

    def modern(self) -> None:
        """There is no other session."""

    def forgotten(self, session: UpstreamSession) -> None:
        self.forgettings += 1


class NoLeader:
    """``ownership.upstream.UpstreamEvents``: nobody reads an upstream's lists, or looks after its health."""

    def announced(self, method: str) -> None:
        """Its lists are not read."""

    def trouble(self, error: CallError) -> None:
        """It is left as it is."""

    def look(self) -> None:
        """Its lists are not read."""

    def listed(self) -> ListedCatalog:
        return ListedCatalog()


class NoWayToClients:
    """``UnsolicitedPath``: nobody can be asked or told while no call of theirs is in flight."""

    def ask(self, session: str, client: ClientFacts, need: Need, on_answer: OnAnswer) -> None:
        on_answer(True, jsonrpc.error_object(-32603, "the client has no stream on which to be asked"))

    def tell(self, session: str, message: bytes) -> None:
        """It is lost."""

    def inquire(self, session: str) -> None:
        """There is nobody to ask."""

    def own_list_changed(self, upstream: str, kind: str, session: str) -> None:
        """There is nobody to tell."""


def make_context(
    settings: Settings | None = None,
    events: SessionEvents | None = None,
    unsolicited: UnsolicitedPath | None = None,
    of: UpstreamSpec | None = None,
) -> SessionContext:
    """A session's surroundings."""
    return SessionContext(
        of or spec("up"),
        settings or Settings(),
        "w1",
        events or NotedEvents(),
        unsolicited or NoWayToClients(),
        lambda line: None,
    )


# ---- the front end's side


class FakeLink:
    """What calls and peers ask of a ``shared.rpc.connection.Link``: it records frames, those of one call are ``of``
    its number."""

    def __init__(self) -> None:
        self.closed = self.congested = False
        self.max_body = 0
        self.frames: list[tuple[rpc.Head, bytes]] = []

    def send(self, head: rpc.Head, body: bytes = b"") -> None:
        if not self.closed:
            self.frames.append((head, body))

    def abandon(self, call: int) -> None:
        """There are no chunks here."""

    def abort(self) -> None:
        self.closed = True

    def close(self) -> None:
        self.closed = True

    def of(self, number: int) -> list[tuple[rpc.Head, bytes]]:
        """Frames about a call."""
        return [frame for frame in self.frames if getattr(frame[0], "call", None) == number]


class FrontEnd:
    """One front end: calls, cancels and replies, and what comes back for each."""

    def __init__(self, server: RpcServer, name: str) -> None:
        self.fake = FakeLink()
        self.link = cast(Link, self.fake)
        self.peer = FrontEndPeer(server, name)
        self.peer.on_connected(self.link)

    def tell(self, head: rpc.Head, body: bytes = b"") -> None:
        """A frame from the front end."""
        self.peer.on_frame(self.link, head, body)

    def open(self, session: str, capabilities: dict[str, Any], principal: str = "ada") -> None:
        """A legacy client's session."""
        self.tell(rpc.OpenSession(session, principal, "2025-11-25", json.dumps(capabilities).encode()))

    def close(self) -> None:
        """The link is lost."""
        self.fake.closed = True
        self.peer.on_closed(self.link, None)

    def answers(self, number: int) -> list[rpc.Head]:
        """Final frames of a call: there may never be two."""
        return [head for head, _ in self.fake.of(number) if isinstance(head, rpc.Answer | rpc.Failed)]

    def answer(self, number: int) -> dict[str, Any]:
        """The one answer to a call."""
        (found,) = [frame for frame in self.fake.of(number) if isinstance(frame[0], rpc.Answer | rpc.Failed)]
        head, body = found
        if isinstance(head, rpc.Failed):
            return {"failed": head.code, "delivered": head.delivered, "message": head.message}
        assert isinstance(head, rpc.Answer)
        return {"error" if head.is_error else "result": json.loads(body)}

    def unsolicited(self, session: str) -> list[dict[str, Any]]:
        """What came for a session's standing stream."""
        return [
            json.loads(body)
            for head, body in self.fake.frames
            if isinstance(head, rpc.Unsolicited) and head.session == session
        ]

    def interim(self, number: int) -> list[dict[str, Any]]:
        """What came before the answer."""
        return [json.loads(body) for head, body in self.fake.of(number) if isinstance(head, rpc.Interim)]


class OneUpstream:
    """What ``RpcServer`` asks of its ``ownership.inventory.Inventory``: there is one upstream, with one session."""

    def __init__(self, observer: CallObserver | None = None, calls: CallSettings | None = None) -> None:
        self.traffic = Traffic(observer)
        self.calls = calls or CallSettings()
        self.session: Wire

    def submit(self, upstream: str, call: Call) -> None:
        """Carry a call as ``Upstream.submit`` does it."""
        call.observer = self.traffic
        self.traffic.begun(call)
        self.session.submit(call)

    def limits(self, upstream: str) -> CallSettings:
        """The limits that every upstream has."""
        return self.calls

    def end_client(self, sid: str) -> None:
        """Its upstream session is the test's to close."""

    def forget_watcher(self, watcher: object) -> None:
        """Nobody watches."""


class WorkerHarness:
    """One worker with one upstream session and front ends ``a`` and ``b``. ``own``: the client session whose own it is;
    ``observer`` hears of calls; ``max_open``: questions that may be open; ``calls`` are settings."""

    def __init__(
        self,
        era: Era,
        client: ClientFacts = NOBODY,
        own: str = "",
        observer: CallObserver | None = None,
        max_open: int = MAX_OPEN,
        **calls: Any,
    ) -> None:
        self.era = era
        self.client = client
        self.own = own
        self.settings = settings = Settings(calls=CallSettings(**calls))
        self.events = NotedEvents()
        self.sessions: list[Wire] = []
        self.deadlines = deadlines = Deadlines(asyncio.get_running_loop().time)
        spawn(deadlines.run(), "deadlines")
        front_ends = FrontEnds()
        self.broker = broker = InputBroker("w1", KEY, settings, deadlines, max_open)
        self.unsolicited = UnsolicitedMessages(broker, deadlines, settings, front_ends)
        self.upstream = OneUpstream(observer, settings.calls)
        inventory = cast(Inventory, self.upstream)
        self.server = RpcServer("w1", KEY, settings, front_ends, broker, self.unsolicited, inventory, deadlines)
        self.connect()
        self.a, self.b = FrontEnd(self.server, "a"), FrontEnd(self.server, "b")
        self.last_number = 0

    @property
    def session(self) -> Wire:
        """The upstream session that carries calls now."""
        return self.upstream.session

    def connect(self, ready: bool = True) -> None:
        """Open a new upstream session, in place of the one that was lost."""
        context = make_context(self.settings, self.events, self.unsolicited)
        self.upstream.session = Wire(context, self.era, self.client, self.own)
        self.session.ready = ready
        self.sessions.append(self.session)

    # shortcuts

    def call(
        self,
        era: Era,
        session: str = "",
        arguments: Any = None,
        front: FrontEnd | None = None,
        principal: str = "ada",
        meta: dict[str, Any] | None = None,
        token: Any = None,
        **retry: Any,
    ) -> int:
        """A client calls a tool; the number of the call. ``retry``: ``inputResponses`` and ``requestState``."""
        self.last_number += 1
        params: dict[str, Any] = {"name": "t", "arguments": {"a": 1} if arguments is None else arguments, **retry}
        if era is Era.MODERN:
            params["_meta"] = META if meta is None else meta
        head = rpc.Call(
            self.last_number,
            "up",
            "tools/call",
            int(era),
            session,
            "" if session else principal,
            token=b"" if token is None else json.dumps(token).encode(),
            retry="requestState" in retry,
        )
        (front or self.a).tell(head, json.dumps(params).encode())
        return self.last_number

    def reply(
        self, question_id: str, session: str, result: Any = None, error: Any = None, front: FrontEnd | None = None
    ) -> None:
        """A client answers a question that it was asked."""
        body = result if error is None else error
        (front or self.a).tell(rpc.Reply(question_id, session, error is not None), msgspec.json.encode(body))

    def expect_nothing_left(self) -> None:
        """No table of the worker or the session remembers anything."""
        for session in self.sessions:
            assert session.correlation.calls == {}
            assert session.active == 0
        assert self.upstream.traffic.in_flight == 0
        assert not self.broker.remembers_anything
        assert not self.unsolicited.remembers_anything
        assert self.a.peer.calls == self.b.peer.calls == {}
