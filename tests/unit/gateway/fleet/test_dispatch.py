"""``gateway.fleet.dispatch``: each call begins once, is attempted where it may run, and is over exactly once.

Observers hear that, whatever becomes of a call; the front end and its links are real, workers answer as they are told.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable

import pytest

from gateway.calls.events import Answered, Interim
from gateway.calls.in_flight import InFlight
from gateway.fleet import dispatch
from gateway.fleet.dispatch import Abandoned
from gateway.fleet.outgoing import Bound, Exact, Outgoing
from gateway.sessions.session import ClientSession
from gateway.telemetry.observer import ABANDONED, ANSWERED, LISTENING, UPSTREAM_ERROR, ObservedCall
from shared.errors import CallError, NotDelivered, OutcomeUnknown, Refused
from shared.models import ServerStatus
from shared.registry.records import UpstreamRecord
from shared.rpc import messages as rpc
from tests.fleet import eventually
from tests.unit.builders import record, tool
from tests.unit.gateway.fakes import Frame, Front, Heard, error, failed, outgoing, result, told

Note = tuple[object, ...]
ONE = (record("a", "g", 1, tools=["t"]),)
TWO = (record("a", "g", 1, tools=["t"]), record("b", "g", 2, tools=["t"]))
SAFE = tuple(record(id, "g", n, tools=[tool("t", annotations={"readOnlyHint": True})]) for n, id in enumerate("ab"))
BUSY = failed("overloaded", False, "busy")
ELSEWHERE = failed("not_delivered", False)
DOWN = failed("upstream_unavailable", False, "refused")
LOST = failed("outcome_unknown", True)


class Bench:
    """A front end with these upstreams, whose dispatcher is observed."""

    def __init__(self, *records: UpstreamRecord, max_in_flight: int = 100, workers: tuple[str, ...] = ("w1",)) -> None:
        self.heard = Heard()
        self.front = Front(*records, observer=self.heard, max_in_flight=max_in_flight, workers=workers)
        self.dispatcher = self.front.dispatcher

    def call(self, **options: object) -> Outgoing:
        """A request for the tool."""
        return outgoing(self.front.route("t"), **options)  # type: ignore[arg-type]

    def begin(self, call: Outgoing) -> InFlight:
        """Begin a call, as the express lane does."""
        begun = self.dispatcher.begin(call)
        assert isinstance(begun, InFlight)
        return begun

    async def send(self, call: Outgoing, begun: InFlight | None = None) -> Answered:
        """Send a call and end it with its answer, as ``Carrier`` does."""
        in_flight, event = await self.dispatcher.send(call, begun)
        assert isinstance(event, Answered)
        self.dispatcher.answered(in_flight, event)
        return event

    def over(self) -> None:
        """Nothing is under way, and nothing is counted."""
        assert not self.dispatcher.under_way
        assert all(replica.in_flight == 0 for replica in self.front.registry.catalog.replicas)


def _attempts(*upstreams: str) -> list[Note]:
    return [("attempted", 0, upstream, "w1") for upstream in upstreams]


# ---- how a call ends


@pytest.mark.parametrize("express", [False, True])
@pytest.mark.parametrize(
    ("records", "answers", "attempted", "outcome"),
    [
        (ONE, {"a": [result()]}, "a", ANSWERED),
        (ONE, {"a": [error(b"{}")]}, "a", UPSTREAM_ERROR),
        (ONE, {"a": [failed("timeout", True)]}, "a", "timeout"),
        (ONE, {"a": [LOST]}, "a", "outcome_unknown"),
        (TWO, {"a": [LOST], "b": [result()]}, "a", "outcome_unknown"),
        (SAFE, {"a": [LOST], "b": [result()]}, "ab", ANSWERED),
        (SAFE, {"a": [failed("timeout", True)], "b": [result()]}, "a", "timeout"),
        (TWO, {"a": [BUSY], "b": [result()]}, "ab", ANSWERED),
        (TWO, {"a": [DOWN], "b": [error(b"{}")]}, "ab", UPSTREAM_ERROR),
        (TWO, {"a": [BUSY], "b": [LOST]}, "ab", "outcome_unknown"),
        (TWO, {"a": [BUSY], "b": [BUSY]}, "ab", "overloaded"),
        (TWO, {"a": [DOWN], "b": [DOWN]}, "ab", "upstream_unavailable"),
        (ONE, {"a": [ELSEWHERE, result()]}, "aa", ANSWERED),
        (TWO, {"a": [ELSEWHERE], "b": [ELSEWHERE, result()]}, "abb", ANSWERED),
        (TWO, {"a": [failed("cancelled", False)]}, "a", "cancelled"),
    ],
)
async def test_a_call_begins_once_is_attempted_where_it_may_run_and_is_over_once(
    records: tuple[UpstreamRecord, ...],
    answers: dict[str, list[list[Frame]]],
    attempted: str,
    outcome: str,
    express: bool,
) -> None:
    """A call that the express lane began and the ordinary lane went on with is one call."""
    bench = Bench(*records)
    for id, frames in answers.items():
        bench.front.upstream(id, *frames)
    call = bench.call()
    begun = bench.begin(call) if express else None
    assert express is (begun is not None)
    failure = None
    try:
        await bench.send(call, begun)
    except CallError as caught:
        failure = caught.code
    assert bench.heard.notes == [("begun", 0), *_attempts(*attempted), ("finished", 0, outcome)]
    assert failure == (None if outcome in (ANSWERED, UPSTREAM_ERROR) else outcome)
    assert bench.heard.calls == [call] and call.attempts == len(attempted) == len(bench.front.asked)
    assert bench.heard.seconds[0] >= 0
    bench.over()


@pytest.mark.parametrize("express", [False, True])
async def test_a_call_that_is_refused_for_want_of_room_begins_and_ends_unsent(express: bool) -> None:
    bench = Bench(*ONE, max_in_flight=1)
    bench.front.upstream("a")
    assert bench.dispatcher.begin(bench.call()) is not None
    with pytest.raises(NotDelivered) as caught:
        if express:
            bench.dispatcher.begin(bench.call())
        else:
            await bench.dispatcher.send(bench.call())
    assert caught.value.code == "overloaded" and "maxInflight" in str(caught.value)
    assert bench.heard.notes[2:] == [("begun", 1), ("finished", 1, "overloaded")]
    assert bench.front.asked == ["a"]


@pytest.mark.parametrize("end", ["answered", "complete", "discard"])
async def test_a_call_that_is_over_is_not_ended_again(end: str) -> None:
    bench = Bench(*ONE)
    in_flight = bench.begin(bench.call())
    ends: dict[str, Callable[[], None]] = {
        "answered": lambda: bench.dispatcher.answered(in_flight, Answered(False, b"{}")),
        "complete": lambda: bench.dispatcher.complete(in_flight, LISTENING),
        "discard": lambda: bench.dispatcher.discard(in_flight),
    }
    ends[end]()
    first = list(bench.heard.notes)
    for again in ends.values():
        again()
    assert bench.heard.notes == first
    assert [note[2] for note in first if note[0] == "finished"] == [
        {"answered": ANSWERED, "complete": LISTENING, "discard": ABANDONED}[end]
    ]
    assert not bench.dispatcher.under_way


async def test_a_call_that_nobody_took_over_is_cancelled() -> None:
    bench = Bench(*ONE)
    in_flight = bench.begin(bench.call())
    bench.dispatcher.discard(in_flight)
    assert bench.heard.notes == [("begun", 0), *_attempts("a"), ("finished", 0, ABANDONED)]
    assert [head.call for head, _ in bench.front.worker.fake.frames if isinstance(head, rpc.Cancel)] == [1]
    bench.over()


@pytest.mark.parametrize("express", [False, True])
async def test_a_call_whose_client_leaves_is_abandoned_and_handed_over(express: bool) -> None:
    bench = Bench(*ONE)
    call = bench.call()
    begun = bench.begin(call) if express else None
    waiting = asyncio.ensure_future(bench.dispatcher.send(call, begun))
    await asyncio.sleep(0)
    assert len(bench.dispatcher.under_way) == 1
    waiting.cancel()
    with pytest.raises(Abandoned) as caught:
        await waiting
    bench.dispatcher.complete(caught.value.in_flight, ABANDONED)
    assert bench.heard.notes == [("begun", 0), *_attempts("a"), ("finished", 0, ABANDONED)]
    assert not bench.dispatcher.under_way and not caught.value.in_flight.done, "what becomes of it is its era's rule"


async def test_a_call_that_waits_for_a_replica_and_is_given_up_was_never_attempted() -> None:
    bench = Bench(record("a", "g", tools=["t"], status=ServerStatus.CONNECTING))
    waiting = asyncio.ensure_future(bench.dispatcher.send(bench.call()))
    await asyncio.sleep(0)
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    assert bench.heard.notes == [("begun", 0), ("finished", 0, ABANDONED)]


async def test_a_call_whose_worker_is_gone_may_have_run() -> None:
    bench = Bench(*ONE)
    sending = asyncio.ensure_future(bench.dispatcher.send(bench.call()))
    await asyncio.sleep(0)
    bench.front.worker.lose()
    with pytest.raises(OutcomeUnknown, match="upstream 'a'"):
        await sending
    assert bench.heard.notes[-1] == ("finished", 0, "outcome_unknown")
    bench.over()


@pytest.mark.parametrize("others", [True, False])
async def test_what_may_run_twice_is_sent_to_the_same_replica_by_another_worker_when_its_worker_is_gone(
    others: bool,
) -> None:
    """At once if another worker has the replica, else as soon as one takes it over."""
    read = record("a", "g", tools=[tool("t", annotations={"readOnlyHint": True})], owners=[(0, "w1"), (1, "w2")])
    bench = Bench(read, workers=("w1", "w2") if others else ("w1",))
    sending = asyncio.ensure_future(bench.send(bench.call()))
    await asyncio.sleep(0)
    carrier = next(one for one in bench.front.workers.values() if one.fake.calls)
    bench.front.upstream("a", result())
    bench.front.pool.lose(carrier.link)
    carrier.lose()
    await asyncio.sleep(0)
    if not others:
        assert not sending.done() and bench.dispatcher.waiting == 1
        bench.front.join("w2").answers["a"] = [result()]
    await sending
    assert [note[3] for note in bench.heard.notes[1:-1]] in (["w1", "w2"], ["w2", "w1"])
    assert bench.heard.notes[-1] == ("finished", 0, ANSWERED)
    bench.over()


async def test_what_moved_while_redis_does_not_answer_here_is_found_at_the_worker_that_has_it() -> None:
    """A front end that is cut off from Redis has links to all workers all the same."""
    bench = Bench(*ONE, workers=("w1", "w2"))
    bench.front.workers["w1"].answers["a"] = [ELSEWHERE]
    bench.front.workers["w2"].answers["a"] = [result()]
    await bench.send(bench.call())
    await bench.send(bench.call())
    workers = [note[3] for note in bench.heard.notes if note[0] == "attempted"]
    assert workers == ["w1", "w2", "w2"], "and the next call knows"
    bench.front.take(record("a", "g", 1, tools=["t"], status_since=1.0))
    bench.front.workers["w1"].answers["a"] = [result()]
    await bench.send(bench.call())
    assert bench.heard.notes[-2][3] == "w1", "Redis says again who has it"
    bench.over()


async def test_a_stream_is_over_when_it_is_said_to_be() -> None:
    bench = Bench(*ONE)
    bench.front.upstream("a", told())
    in_flight, event = await bench.dispatcher.send(bench.call())
    assert event == Interim(b"{}")
    assert bench.heard.notes == [("begun", 0), *_attempts("a")]
    bench.dispatcher.complete(in_flight, LISTENING)
    assert bench.heard.notes[-1] == ("finished", 0, LISTENING)


async def test_a_call_that_another_front_end_sent_begins_here_when_it_is_adopted() -> None:
    bench = Bench(*ONE)
    in_flight = bench.front.worker.link.resume("s", "f0", 1, 0)
    bench.dispatcher.adopt(in_flight)
    bench.dispatcher.answered(in_flight, Answered(False, b"{}"))
    assert bench.heard.notes == [("begun", 0), ("finished", 0, ANSWERED)]


async def test_without_an_observer_calls_are_the_same() -> None:
    front = Front(*ONE)
    front.upstream("a", result(b'{"n":1}'))
    in_flight, event = await front.dispatcher.send(outgoing(front.route("t")))
    assert event == Answered(False, b'{"n":1}')
    front.dispatcher.answered(in_flight, event)
    assert not front.dispatcher.under_way


async def test_an_observer_may_give_a_call_its_trace_which_travels_to_the_worker() -> None:
    class Tracing(Heard):
        """Sets a trace when a call begins."""

        def begun(self, call: ObservedCall) -> None:
            """Set it."""
            call.trace = "00-ab-cd-01"

    front = Front(*TWO, observer=Tracing())
    front.upstream("a", BUSY)
    front.upstream("b", result())
    await front.dispatcher.send(outgoing(front.route("t")))
    assert [head.trace for head in front.worker.fake.calls] == ["00-ab-cd-01"] * 2


# ---- where a call goes


async def test_what_a_worker_is_told_of_a_call() -> None:
    bench = Bench(*ONE)
    bench.front.upstream("a", result())
    call = bench.call(era=1)
    call.token, call.headers, call.listed_name = b"5", {"Mcp-Param-A": "1"}, "shown"
    await bench.send(call)
    (head,) = bench.front.worker.fake.calls
    assert (head.upstream, head.method, head.era, head.principal, head.name) == ("a", "tools/call", 1, "ada", "t")
    assert (head.token, head.headers, head.session, head.request) == (b"5", {"Mcp-Param-A": "1"}, "", b"")
    assert (head.listed_name, head.retry, head.trace) == ("", False, "")


async def test_facts_of_a_session_go_before_its_first_call_and_the_session_finds_its_calls() -> None:
    bench, session = Bench(*ONE), ClientSession("s", "2025-11-25", "ada", "g")
    for number in (1, 2):
        in_flight = bench.dispatcher.begin(bench.call(session=session))
        assert in_flight is not None and session.calls[-1] is in_flight
        assert len(bench.front.worker.fake.calls) == number
    frames = [head for head, _ in bench.front.worker.fake.frames]
    opened = [head for head in frames if isinstance(head, rpc.OpenSession)]
    assert opened == [rpc.OpenSession("s", "ada", "2025-11-25", b"{}", b"", "", True)]
    assert frames.index(opened[0]) < frames.index(bench.front.worker.fake.calls[0])


async def test_a_replica_that_refused_a_call_is_left_out_for_a_while() -> None:
    bench = Bench(*TWO)
    bench.front.upstream("a", DOWN)
    bench.front.upstream("b", result())
    for _ in range(3):
        await bench.send(bench.call())
    assert bench.front.asked == ["a", "b", "b", "b"]


async def test_a_replica_that_is_busy_is_asked_again() -> None:
    bench = Bench(*TWO)
    bench.front.upstream("a", BUSY)
    bench.front.upstream("b", result())
    for _ in range(3):
        await bench.send(bench.call())
    assert bench.front.asked == ["a", "b", "b", "a", "b"]


async def test_a_call_waits_for_a_replica_that_is_starting() -> None:
    bench = Bench(record("a", "g", tools=["t"], status=ServerStatus.CONNECTING))
    bench.front.upstream("a", result())
    sending = asyncio.ensure_future(bench.send(bench.call()))
    await asyncio.sleep(0)
    assert bench.front.asked == []
    bench.front.take(*ONE)
    await sending
    assert bench.heard.notes == [("begun", 0), *_attempts("a"), ("finished", 0, ANSWERED)]


async def test_a_call_waits_for_a_worker_that_is_not_linked_yet() -> None:
    bench = Bench(*ONE, workers=())
    assert bench.dispatcher.begin(bench.call()) is None and bench.heard.notes == [], "that takes time"
    sending = asyncio.ensure_future(bench.send(bench.call()))
    await asyncio.sleep(0)
    bench.front.join("w1").answers["a"] = [result()]
    await sending
    assert bench.heard.notes == [("begun", 0), *_attempts("a"), ("finished", 0, ANSWERED)]


async def test_nobody_is_waited_for_longer_than_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dispatch, "WAKE_S", 0.02)
    for bench in (Bench(*ONE, workers=()), Bench(record("a", "g", tools=["t"], status=ServerStatus.CONNECTING))):
        with pytest.raises(NotDelivered, match="no healthy replica of 'g'"):
            await bench.send(bench.call())
        assert bench.heard.notes == [("begun", 0), ("finished", 0, "upstream_unavailable")]


async def test_a_replica_that_moves_to_another_worker_is_waited_for_longer(monkeypatch: pytest.MonkeyPatch) -> None:
    """Also if it is not there yet when any other call would give up."""
    monkeypatch.setattr(dispatch, "WAKE_S", 0.0)
    bench = Bench(*ONE)
    bench.front.upstream("a", result())
    bench.front.take(record("a", "g", tools=["t"], status=ServerStatus.CONNECTING))
    sending = asyncio.ensure_future(bench.send(bench.call()))
    await asyncio.sleep(0.05)
    assert bench.dispatcher.waiting == 1, "a front end that drains waits for it as well"
    bench.front.take(*ONE)
    await sending
    assert bench.dispatcher.waiting == 0
    assert bench.heard.notes == [("begun", 0), *_attempts("a"), ("finished", 0, ANSWERED)]
    bench.front.take(record("a", "g", tools=["t"], status=ServerStatus.ERROR, error="it cannot start"))
    bench.front.take(record("a", "g", tools=["t"], status=ServerStatus.CONNECTING))
    with pytest.raises(NotDelivered):  # it failed meanwhile: it does not just move
        await bench.send(bench.call())


async def test_a_call_waits_while_a_dead_workers_upstream_is_taken_over(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dispatch, "WAKE_S", 0.0)
    bench = Bench(*ONE)
    bench.front.pool.lose(bench.front.worker.link)
    sending = asyncio.ensure_future(bench.send(bench.call()))
    await asyncio.sleep(0.05)
    assert not sending.done()
    bench.front.join("w1").answers["a"] = [result()]
    await sending
    assert bench.heard.notes == [("begun", 0), *_attempts("a"), ("finished", 0, ANSWERED)]


async def test_a_replica_that_is_down_is_not_waited_for() -> None:
    bench = Bench(record("a", "g", tools=["t"], status=ServerStatus.ERROR, error="refused"))
    with pytest.raises(NotDelivered, match="refused"):
        await bench.send(bench.call())
    assert bench.heard.notes == [("begun", 0), ("finished", 0, "upstream_unavailable")]


async def test_a_child_that_ended_is_waited_for_while_it_is_started_again() -> None:
    def child(status: ServerStatus, since_s: float) -> UpstreamRecord:
        return record("a", "g", tools=["t"], transport="stdio", status=status, status_since=since_s)

    bench = Bench(child(ServerStatus.CONNECTED, 1.0))
    bench.front.upstream("a", DOWN, result())
    sending = asyncio.ensure_future(bench.send(bench.call()))  # it finds that the child is gone
    await eventually(lambda: bench.dispatcher.waiting == 1)
    bench.front.take(child(ServerStatus.ERROR, time.time()))
    later = asyncio.ensure_future(bench.send(bench.call()))  # when all know
    await eventually(lambda: bench.dispatcher.waiting == 2)
    bench.front.take(child(ServerStatus.CONNECTED, time.time() + 1))
    await asyncio.gather(sending, later)
    assert bench.front.asked == ["a", "a", "a"]
    bench.front.take(child(ServerStatus.ERROR, time.time() - 60))
    with pytest.raises(NotDelivered, match="no healthy replica"):
        await bench.send(bench.call())  # it does not come back
    bench.over()


# ---- calls that belong somewhere


def _own(id: str, sequence: int) -> UpstreamRecord:
    return record(id, "g", sequence, tools=["t"], transport="stdio", isolation="client")


async def test_a_session_stays_with_the_replica_that_it_is_bound_to() -> None:
    bench, session = Bench(_own("a", 1), _own("b", 2)), ClientSession("s", "2025-11-25", "ada", "")
    for id in "ab":
        bench.front.upstream(id, result())
    for _ in range(4):
        call = bench.call(session=session)
        call.affinity = Bound(session)
        await bench.send(call)
    assert len(set(bench.front.asked)) == 1 and session.pins == {"g": bench.front.asked[0]}


async def test_a_call_that_goes_on_goes_to_its_upstream_or_elsewhere_when_that_is_down() -> None:
    bench = Bench(*TWO)
    for id in "ab":
        bench.front.upstream(id, result())
    for upstream in "bbb":
        call = bench.call()
        call.affinity = Exact(upstream, "w1", False)
        await bench.send(call)
    assert bench.front.asked == ["b", "b", "b"]
    assert all(head.retry for head in bench.front.worker.fake.calls)
    bench.front.take(TWO[0], record("b", "g", 2, tools=["t"], status=ServerStatus.ERROR))
    call = bench.call()
    call.affinity = Exact("b", "w1", False)
    await bench.send(call)
    assert bench.front.asked[-1] == "a"


@pytest.mark.parametrize("express", [False, True])
async def test_a_call_that_a_lost_worker_kept_is_refused(express: bool) -> None:
    bench = Bench(*TWO)
    call = bench.call()
    call.affinity = Exact("b", "gone", True)
    with pytest.raises(Refused, match="send it anew"):
        if express:
            bench.dispatcher.begin(call)
        else:
            await bench.dispatcher.send(call)
    assert bench.heard.notes == [("begun", 0), ("finished", 0, "invalid_params")]


async def test_a_call_of_a_session_that_ended_meanwhile_is_refused() -> None:
    bench, session = Bench(*ONE), ClientSession("s", "2025-11-25", "ada", "")
    session.ended = True
    with pytest.raises(Refused, match="the session has ended"):
        await bench.dispatcher.send(bench.call(session=session))
    assert bench.heard.notes == [("begun", 0), ("finished", 0, "session_unknown")]
    assert bench.front.asked == []


async def test_calls_that_were_silent_for_long_show_a_sign_of_life() -> None:
    bench = Bench(*ONE)
    in_flight = bench.begin(bench.call())
    heard: list[None] = []
    in_flight.listener = lambda: heard.append(None)
    bench.dispatcher.show_life(60.0)
    assert not heard
    bench.dispatcher.show_life(0.0)
    assert len(heard) == 1
