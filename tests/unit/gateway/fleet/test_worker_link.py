"""``gateway.fleet.worker_link``: whatever a worker, its link and clients do, in any order, each call ends once.

The worker answers (rightly, twice, to nothing), tells and asks; clients take events, cancel, leave and come back; the
worker drains or is gone. At the end every call has had exactly one last event, in its place, and nothing is counted.
"""

from __future__ import annotations

import asyncio
from typing import cast

import pytest
from hypothesis import Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from gateway.balancers import NO_CHOICE
from gateway.calls.events import Answered, CallEvent, Failure, Interim, Resumed
from gateway.calls.in_flight import InFlight
from gateway.fleet import worker_link
from gateway.fleet.worker_link import WorkerLink
from gateway.routing.entries import Entry
from gateway.routing.routes import Replica, Route
from gateway.sessions.session import ClientSession
from shared.mcp import jsonrpc
from shared.mcp.listings import Kind
from shared.rpc import messages as rpc
from shared.rpc.connection import Link
from shared.rpc.peer_credentials import Credentials
from tests.unit.builders import record
from tests.unit.gateway.fakes import FakeLink, Unheard, outgoing

ROUTE = Route("up", Entry(Kind.TOOLS, "t", b"{}", b"{}"), (), NO_CHOICE)


class _Call:
    """One call and what its client has taken."""

    def __init__(self, in_flight: InFlight) -> None:
        self.in_flight = in_flight
        self.told: list[int] = []  # what the worker said, in order
        self.taken: list[CallEvent] = []
        self.given_up = False
        self.answered = False  # by the worker


class AnyOrder(RuleBasedStateMachine):
    """See the module."""

    @initialize()
    def begin(self) -> None:
        """A link that is up."""
        self.loop = asyncio.new_event_loop()
        self.calls: dict[int, _Call] = {}
        self.session = ClientSession("s", "2025-11-25", "", "")
        self.replica = Replica(record("up"))
        self.closed = self.draining = False
        self.forgotten = 0
        self.last_told = 0

        async def make() -> None:
            self.client = WorkerLink("w1", "f1", 1.0, Unheard(), lambda client: None)

        self.loop.run_until_complete(make())
        self.link = FakeLink()
        self.client.on_connected(cast(Link, self.link))

    def _frame(self, head: rpc.Head, body: bytes = b"") -> None:
        async def arrive() -> None:
            self.client.on_frame(cast(Link, self.link), head, body)

        self.loop.run_until_complete(arrive())

    def _pick(self, data: st.DataObject) -> tuple[int, _Call]:
        return data.draw(st.sampled_from(sorted(self.calls.items(), key=lambda one: one[0])))

    # ---- clients

    @rule(count=st.integers(1, 3), named=st.booleans(), modern=st.booleans())
    def call(self, count: int, named: bool, modern: bool) -> None:
        """Clients call, while the worker takes calls."""
        if self.closed or self.draining:
            return

        async def act() -> None:
            for _ in range(count):
                session = self.session if named else None
                call = outgoing(ROUTE, session, era=0 if named else int(modern))
                head = rpc.Call(0, "up", "tools/call", call.era, session="s" if named else "")
                in_flight = self.client.call(
                    self.replica, head, call, session, lambda one: rpc.OpenSession("s", "", ""), self.loop.time()
                )
                self.calls[in_flight.number] = _Call(in_flight)
                if named:
                    in_flight.register(self.session, b"%d" % in_flight.number)

        self.loop.run_until_complete(act())

    @precondition(lambda self: self.calls)
    @rule(data=st.data(), how=st.sampled_from(["cancel", "leave", "detach", "show life", "stand"]))
    def give_up(self, data: st.DataObject, how: str) -> None:
        """A client gives up, perhaps on what is over, or waits on; a call may turn out to have no end."""
        _, call = self._pick(data)

        async def act() -> None:
            if how == "cancel":
                call.given_up = True
                call.in_flight.cancel("enough")
            elif how == "leave":
                call.given_up = call.given_up or call.in_flight.modern
                call.in_flight.client_left("gone")
            elif how == "detach":
                call.in_flight.detach()
            elif how == "show life":
                call.in_flight.show_life(1.0)
            elif not call.in_flight.standing:
                call.in_flight.stand()

        self.loop.run_until_complete(act())

    @rule(over=st.booleans())
    def forget(self, over: bool) -> None:
        """The session is not used any more, or not for now: the worker forgets it, and is told again."""
        self.forgotten += 1
        self.client.forget_session("s", over)
        assert self.session.announced_to == 0

    @precondition(lambda self: self.calls)
    @rule(data=st.data())
    def take(self, data: st.DataObject) -> None:
        """A client takes what there is."""
        self._take(self._pick(data)[1])

    def _take(self, call: _Call) -> None:
        async def act() -> None:
            while True:
                taking = asyncio.ensure_future(call.in_flight.next())
                await asyncio.sleep(0)
                if not taking.done():
                    taking.cancel()
                    return
                call.taken.append(taking.result())

        self.loop.run_until_complete(act())

    # ---- the worker

    @precondition(lambda self: self.calls and not self.closed)
    @rule(data=st.data(), times=st.sampled_from([1, 1, 5]))
    def tell(self, data: st.DataObject, times: int) -> None:
        """Progress."""
        number, call = self._pick(data)
        for _ in range(times):
            self.last_told += 1
            if not call.in_flight.done:
                call.told.append(self.last_told)
            self._frame(rpc.Interim(number), jsonrpc.notification("n", b"%d" % self.last_told))

    @precondition(lambda self: self.calls and not self.closed)
    @rule(data=st.data(), how=st.sampled_from(["answer", "fail", "twice", "stranger"]))
    def end(self, data: st.DataObject, how: str) -> None:
        """The answer, perhaps to a call that is over, perhaps to none."""
        number, call = self._pick(data)
        if how == "stranger":
            number = 10_000
        else:
            call.answered = True
        for _ in range(2 if how == "twice" else 1):
            if how == "fail":
                self._frame(rpc.Failed(number, "timeout", "late", True))
            else:
                self._frame(rpc.Answer(number), b"%d" % number)

    @precondition(lambda self: not self.closed)
    @rule(really=st.sampled_from([False, False, False, True]), data=st.data())
    def drain(self, really: bool, data: st.DataObject) -> None:
        """The worker shuts down: what it did not take any more goes elsewhere."""
        if really:
            last = data.draw(st.integers(0, len(self.calls)))
            self.draining = True
            self._frame(rpc.GoAway(last))
            for number, call in self.calls.items():
                if number > last:
                    assert call.in_flight.done

    @precondition(lambda self: not self.closed)
    @rule(really=st.sampled_from([False, False, False, True]))
    def gone(self, really: bool) -> None:
        """The link is lost."""
        if really:
            self.closed = self.link.closed = True
            self.client.on_closed(cast(Link, self.link), None)

    # ---- what holds

    @invariant()
    def counted_once(self) -> None:
        """Calls that are under way are counted, once each, and no others."""
        if hasattr(self, "calls"):
            open_calls = [one.in_flight for one in self.calls.values() if not one.in_flight.done]
            standing = [one for one in open_calls if one.standing]
            assert self.replica.in_flight == self.client.in_flight == len(open_calls) - len(standing)
            assert self.client.standing == len(standing)
            assert set((self.session.under_way or {}).values()) <= set(open_calls)
            assert set(self.client.calls.values()) == set(open_calls)

    def teardown(self) -> None:
        """The worker is gone, and everybody takes what is left."""
        if hasattr(self, "calls"):
            if not self.closed:
                self.client.on_closed(cast(Link, self.link), None)
            for number, call in self.calls.items():
                self._take(call)
                self._check(number, call)
            self.counted_once()
            assert self.replica.in_flight == 0 and self.session.under_way is None
            opened = [head for head, _ in self.link.frames if isinstance(head, rpc.OpenSession)]
            assert len(opened) <= 1 + self.forgotten, "told once, and again after it was forgotten"
            self.loop.close()

    def _check(self, number: int, call: _Call) -> None:
        events = [event for event in call.taken if isinstance(event, Interim | Answered | Failure)]
        ends = [event for event in events if not isinstance(event, Interim)]
        assert len(ends) == 1 and events[-1] is ends[0], "exactly one end, and nothing after it"
        told = [int(bytes(jsonrpc.decode(event.message).params)) for event in events if isinstance(event, Interim)]
        assert told == call.told, "in order, nothing twice, nothing of others"
        if isinstance(ends[0], Answered):
            assert ends[0].body == b"%d" % number, "somebody else's answer"
        elif ends[0].code == "cancelled":
            assert call.given_up
        elif ends[0].code == "timeout":
            assert call.answered
        else:
            assert ends[0].delivered is (ends[0].code == "outcome_unknown")


def test_a_lost_link_leaves_no_mark_on_sessions_and_its_mark_is_used_again() -> None:
    async def play() -> None:
        session = ClientSession("s", "2025-11-25", "", "")
        marks = set()
        for _ in range(100):
            client = WorkerLink("w1", "f1", 1.0, Unheard(), lambda client: None)
            link = FakeLink()
            client.on_connected(cast(Link, link))
            replica = Replica(record("up"))
            for _ in range(2):
                head = rpc.Call(0, "up", "ping", session="s")
                call = outgoing(ROUTE, session, method="ping")
                client.call(replica, head, call, session, lambda one: rpc.OpenSession("s", "", ""), 0.0)
            assert [type(head) for head, _ in link.frames] == [rpc.OpenSession, rpc.Call, rpc.Call]
            marks.add(session.announced_to)
            client.on_closed(cast(Link, link), None)
            assert session.announced_to == 0
        assert len(marks) == 1

    asyncio.run(play())


def test_a_call_that_is_over_is_not_found_any_more() -> None:
    async def play() -> None:
        session = ClientSession("s", "2025-11-25", "", "")
        client = WorkerLink("w1", "f1", 1.0, Unheard(), lambda client: None)
        link = cast(Link, FakeLink())
        client.on_connected(link)
        in_flight = client.resume("s", "f0", 1, 0)
        client.on_frame(link, rpc.Resumed(in_flight.number, b"7"), b"")
        client.on_frame(link, rpc.Answer(in_flight.number), b"{}")
        assert await in_flight.next() == Resumed(b"7")
        in_flight.register(session, b"7")
        assert session.under_way is None
        client.on_closed(link, None)

    asyncio.run(play())


class _Answering(FakeLink):
    """A link to a worker that answers pings unless it is stopped."""

    def __init__(self, client: WorkerLink, stopped: bool) -> None:
        super().__init__()
        self.client = client
        self.stopped = stopped
        self.pings = 0

    def send(self, head: rpc.Head, body: bytes | memoryview = b"") -> None:
        super().send(head, body)
        if isinstance(head, rpc.Ping):
            self.pings += 1
            if not self.stopped:
                self.client.on_frame(cast(Link, self), rpc.Pong(head.number), b"")


@pytest.mark.parametrize(
    ("called", "stopped", "pings", "rounds"),
    [(True, False, 20, 20), (False, False, 4, 20), (True, True, 1, 1), (False, True, 1, 1)],
)
async def test_a_link_on_which_nobody_waits_is_pinged_less_often_unless_its_worker_is_stopped(
    called: bool, stopped: bool, pings: int, rounds: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    client = WorkerLink("w1", "f1", 1.0, Unheard(), lambda client: None)
    link = _Answering(client, stopped)
    monkeypatch.setattr(worker_link, "credentials", lambda socket: Credentials(1, 0))
    client.on_connected(cast(Link, link))
    if called:
        head, call = rpc.Call(0, "up", "ping"), outgoing(ROUTE, None, method="ping")
        client.call(Replica(record("up")), head, call, None, lambda one: rpc.OpenSession("s", "", ""), 0.0)
    waited = 0

    async def wait(every_s: float) -> None:
        nonlocal waited
        waited += 1
        link.closed = waited == 20

    monkeypatch.setattr(worker_link, "tick", wait)
    monkeypatch.setattr(worker_link, "is_stopped", lambda pid: stopped)
    await client.keep_checking()
    assert (link.pings, waited) == (pings, rounds)


class TestAnyOrder(AnyOrder.TestCase):  # type: ignore[misc,valid-type]
    """Runs the machine."""

    settings = settings(
        derandomize=True, max_examples=100, stateful_step_count=40, phases=[Phase.explicit, Phase.generate]
    )
