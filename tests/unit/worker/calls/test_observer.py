"""``worker.calls.observer``: every call that an upstream is given begins once and ends once, whatever becomes of it."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from shared.errors import CallError, NotDelivered
from shared.mcp.rope import Body
from shared.mcp.versions import Era
from shared.rpc import messages as rpc
from tests.unit.worker.worker_harness import ALL, META, WorkerHarness, run_ready, timeless
from worker.bridge.inputs import ELICIT
from worker.calls.call import Call
from worker.calls.observer import (
    ANSWERED,
    CANCELLED,
    UPSTREAM_ERROR,
    CallObserver,
    Counters,
    ObservedCall,
    ObservedUpstream,
    Traffic,
)
from worker.input.parked_call import GATHER_S

LEGACY, MODERN = Era.LEGACY, Era.MODERN
GONE = NotDelivered("upstream_unavailable", "gone")
YES = {"action": "accept", "content": {}}
ERROR = {"code": -5, "message": "no"}


class NotedCalls:
    """``calls.observer.CallObserver``: notes what it hears."""

    hears_begun = True

    def __init__(self) -> None:
        self.heard: list[tuple[str, ...]] = []

    def begun(self, call: ObservedCall, upstream: ObservedUpstream) -> None:
        self.heard.append(("begun", call.method))

    def finished(self, call: ObservedCall, outcome: str, upstream: ObservedUpstream) -> None:
        self.heard.append(("finished", call.method, outcome))


Story = Callable[[WorkerHarness, int, int], Awaitable[None]]
"""What becomes of a call: its number, and its id upstream."""


async def _is_answered(harness: WorkerHarness, number: int, id: int) -> None:
    harness.session.receives(id=id, result={"content": []})


async def _is_answered_twice(harness: WorkerHarness, number: int, id: int) -> None:
    harness.session.receives(id=id, result={})
    harness.session.receives(id=id, error=ERROR)


async def _is_answered_by_an_error(harness: WorkerHarness, number: int, id: int) -> None:
    harness.session.receives(id=id, error=ERROR)


async def _loses_its_session(harness: WorkerHarness, number: int, id: int) -> None:
    harness.session.lost(GONE)


async def _meets_the_end_of_its_session(harness: WorkerHarness, number: int, id: int) -> None:
    await harness.session.close()


async def _takes_too_long(harness: WorkerHarness, number: int, id: int) -> None:
    await asyncio.sleep(31)
    harness.session.receives(id=id, result={})


async def _is_cancelled(harness: WorkerHarness, number: int, id: int) -> None:
    harness.a.tell(rpc.Cancel(number, "enough"))
    harness.a.tell(rpc.Cancel(number, "enough"))
    harness.session.receives(id=id, result={})


async def _outlives_its_clients_session(harness: WorkerHarness, number: int, id: int) -> None:
    harness.a.tell(rpc.EndSession("s1"))


async def _loses_its_front_end(harness: WorkerHarness, number: int, id: int) -> None:
    harness.a.close()


async def _loses_its_front_end_and_is_answered(harness: WorkerHarness, number: int, id: int) -> None:
    harness.a.close()
    harness.session.receives(id=id, result={})


async def _asks_and_is_answered(harness: WorkerHarness, number: int, id: int) -> None:
    harness.session.receives(id="q", method=ELICIT, params={"message": "?"})
    (question,) = harness.a.interim(number)
    harness.reply(question["id"], "s1", YES)
    harness.session.receives(id=id, result={})


async def _asks_in_vain(harness: WorkerHarness, number: int, id: int) -> None:
    harness.session.receives(id="q", method=ELICIT, params={"message": "?"})
    await asyncio.sleep(61)


async def _is_sent_again_with_input(harness: WorkerHarness, number: int, id: int) -> None:
    _require(harness, id)
    (question,) = harness.a.interim(number)
    harness.reply(question["id"], "s1", YES)
    await run_ready()
    (sent,) = harness.session.take()
    harness.session.receives(id=sent["id"], result={"resultType": "complete"})


async def _is_refused_the_input_that_it_needs(harness: WorkerHarness, number: int, id: int) -> None:
    _require(harness, id, "sampling/createMessage")
    (question,) = harness.a.interim(number)
    harness.reply(question["id"], "s1", error=ERROR)


async def _needs_input(harness: WorkerHarness, number: int, id: int) -> None:
    _require(harness, id)


def _require(harness: WorkerHarness, id: int, method: str = ELICIT) -> None:
    needs = {"k": {"method": method, "params": {"message": "?"}}}
    harness.session.receives(id=id, result={"resultType": "input_required", "inputRequests": needs})


@pytest.mark.parametrize(
    ("client", "upstream", "story", "outcome"),
    [
        (LEGACY, LEGACY, _is_answered, ANSWERED),
        (LEGACY, MODERN, _is_answered, ANSWERED),
        (MODERN, LEGACY, _is_answered, ANSWERED),
        (MODERN, MODERN, _is_answered, ANSWERED),
        (LEGACY, LEGACY, _is_answered_twice, ANSWERED),
        (LEGACY, LEGACY, _is_answered_by_an_error, UPSTREAM_ERROR),
        (MODERN, MODERN, _is_answered_by_an_error, UPSTREAM_ERROR),
        (LEGACY, LEGACY, _loses_its_session, "outcome_unknown"),
        (LEGACY, LEGACY, _meets_the_end_of_its_session, "outcome_unknown"),
        (LEGACY, LEGACY, _takes_too_long, "timeout"),
        (MODERN, MODERN, _takes_too_long, "timeout"),
        (LEGACY, LEGACY, _is_cancelled, CANCELLED),
        (MODERN, MODERN, _is_cancelled, CANCELLED),
        (LEGACY, LEGACY, _outlives_its_clients_session, CANCELLED),
        (MODERN, LEGACY, _loses_its_front_end, CANCELLED),
        (LEGACY, LEGACY, _loses_its_front_end_and_is_answered, ANSWERED),
        (LEGACY, LEGACY, _asks_and_is_answered, ANSWERED),
        (LEGACY, LEGACY, _asks_in_vain, "timeout"),
        (LEGACY, MODERN, _is_sent_again_with_input, ANSWERED),
        (LEGACY, MODERN, _is_refused_the_input_that_it_needs, "upstream_protocol"),
        (MODERN, MODERN, _needs_input, ANSWERED),
    ],
)
@timeless
async def test_a_call_begins_once_and_ends_once(client: Era, upstream: Era, story: Story, outcome: str) -> None:
    observer = NotedCalls()
    harness = WorkerHarness(upstream, observer=observer, request_timeout_s=30.0, input_timeout_s=60.0)
    harness.a.open("s1", ALL)
    number = harness.call(client, "s1" if client is LEGACY else "")
    (sent,) = harness.session.take()
    assert observer.heard == [("begun", "tools/call")]
    assert harness.upstream.traffic.in_flight == 1
    await story(harness, number, sent["id"])
    await asyncio.sleep(200)
    assert observer.heard == [("begun", "tools/call"), ("finished", "tools/call", outcome)]
    harness.expect_nothing_left()


@pytest.mark.parametrize(
    ("opens", "outcome"),
    [(None, "timeout"), (GONE, "upstream_unavailable"), (True, ANSWERED)],
    ids=["never", "refuses", "opens"],
)
@timeless
async def test_a_call_that_waits_for_the_handshake_begins_once_and_ends_once(opens: Any, outcome: str) -> None:
    observer = NotedCalls()
    harness = WorkerHarness(LEGACY, observer=observer, request_timeout_s=5.0)
    harness.connect(ready=False)
    harness.session.opens = asyncio.get_running_loop().create_future()
    harness.a.open("s1", ALL)
    harness.call(LEGACY, "s1")
    await run_ready()
    assert observer.heard == [("begun", "tools/call")]
    if opens is GONE:
        harness.session.refuses = GONE
    if opens is not None:
        harness.session.opens.set_result(None)
        await run_ready()
    for sent in harness.session.take():
        harness.session.receives(id=sent["id"], result={})
    await asyncio.sleep(20)
    assert observer.heard == [("begun", "tools/call"), ("finished", "tools/call", outcome)]


@timeless
async def test_a_call_that_meets_a_closed_session_ends_at_once() -> None:
    observer = NotedCalls()
    harness = WorkerHarness(LEGACY, observer=observer)
    harness.session.lost(GONE)
    harness.a.open("s1", ALL)
    harness.call(LEGACY, "s1")
    assert observer.heard == [("begun", "tools/call"), ("finished", "tools/call", "upstream_unavailable")]


# ---- parked: the upstream's call outlives its client's tries, which are not calls of their own

ParkedStory = Callable[[WorkerHarness, int, dict[str, Any]], Awaitable[None]]
"""What becomes of a parked call: its id upstream, and what the client was answered."""


def _comes_back(harness: WorkerHarness, result: dict[str, Any]) -> int:
    (key,) = result["inputRequests"]
    return harness.call(MODERN, requestState=result["requestState"], inputResponses={key: YES})


async def _the_client_comes_back(harness: WorkerHarness, id: int, result: dict[str, Any]) -> None:
    _comes_back(harness, result)
    harness.session.receives(id=id, result={})


async def _the_answer_is_an_error(harness: WorkerHarness, id: int, result: dict[str, Any]) -> None:
    _comes_back(harness, result)
    harness.session.receives(id=id, error=ERROR)


async def _the_answer_waits_for_the_client(harness: WorkerHarness, id: int, result: dict[str, Any]) -> None:
    harness.session.receives(id=id, result={})
    _comes_back(harness, result)


async def _the_answer_waits_in_vain(harness: WorkerHarness, id: int, result: dict[str, Any]) -> None:
    harness.session.receives(id=id, result={})


async def _the_client_leaves(harness: WorkerHarness, id: int, result: dict[str, Any]) -> None:
    again, parked = _comes_back(harness, result), harness.session.correlation.calls[id]
    harness.a.tell(rpc.Cancel(again, "closed"))
    harness.session.receives(id=id, result={})
    parked.answer(False, b"{}")
    parked.fail(GONE)


async def _the_clients_front_end_is_lost(harness: WorkerHarness, id: int, result: dict[str, Any]) -> None:
    _comes_back(harness, result)
    harness.a.close()


async def _nobody_comes_back(harness: WorkerHarness, id: int, result: dict[str, Any]) -> None:
    await asyncio.sleep(61)
    harness.session.receives(id=id, result={})


async def _the_session_is_lost(harness: WorkerHarness, id: int, result: dict[str, Any]) -> None:
    harness.session.lost(GONE)
    _comes_back(harness, result)


@pytest.mark.parametrize(
    ("story", "outcome"),
    [
        (_the_client_comes_back, ANSWERED),
        (_the_answer_is_an_error, UPSTREAM_ERROR),
        (_the_answer_waits_for_the_client, ANSWERED),
        (_the_answer_waits_in_vain, ANSWERED),
        (_the_client_leaves, "cancelled"),
        (_the_clients_front_end_is_lost, "cancelled"),
        (_nobody_comes_back, "cancelled"),
        (_the_session_is_lost, "outcome_unknown"),
    ],
)
@timeless
async def test_a_parked_call_begins_once_and_ends_once_with_the_upstream(story: ParkedStory, outcome: str) -> None:
    observer = NotedCalls()
    harness = WorkerHarness(LEGACY, observer=observer, request_timeout_s=30.0, input_timeout_s=60.0)
    number = harness.call(MODERN)
    (sent,) = harness.session.take()
    harness.session.receives(id="q", method=ELICIT, params={"message": "?"})
    await asyncio.sleep(GATHER_S * 1.5)
    result = harness.a.answer(number)["result"]
    assert observer.heard == [("begun", "tools/call")], "the upstream is still at it"
    assert harness.upstream.traffic.in_flight == 1
    await story(harness, sent["id"], result)
    await asyncio.sleep(200)
    assert observer.heard == [("begun", "tools/call"), ("finished", "tools/call", outcome)]
    harness.expect_nothing_left()


@timeless
async def test_a_parked_call_that_is_left_while_questions_are_gathered_ends_once() -> None:
    observer = NotedCalls()
    harness = WorkerHarness(LEGACY, observer=observer)
    number = harness.call(MODERN)
    harness.session.receives(id="q", method=ELICIT, params={"message": "?"})
    harness.a.tell(rpc.Cancel(number, "closed"))
    await asyncio.sleep(200)
    assert observer.heard == [("begun", "tools/call"), ("finished", "tools/call", "cancelled")]
    harness.expect_nothing_left()


class Traces:
    """``calls.observer.CallObserver``: notes what calls say of themselves."""

    hears_begun = True

    def __init__(self) -> None:
        self.told: list[tuple[str, str, str]] = []

    def begun(self, call: ObservedCall, upstream: ObservedUpstream) -> None:
        self.told.append((call.method, call.name, call.trace))

    def finished(self, call: ObservedCall, outcome: str, upstream: ObservedUpstream) -> None:
        self.told.append((call.method, call.name, call.trace))


@pytest.mark.parametrize("parked", [False, True])
@timeless
async def test_an_observer_is_told_what_the_call_is_and_which_trace_it_belongs_to(parked: bool) -> None:
    observer = Traces()
    harness = WorkerHarness(LEGACY, observer=observer, input_timeout_s=60.0)
    head = rpc.Call(1, "up", "tools/call", int(MODERN), principal="ada", name="t", trace="00-1-2-01")
    harness.a.tell(head, json.dumps({"name": "t", "_meta": META}).encode())
    if parked:
        harness.session.receives(id="q", method=ELICIT, params={"message": "?"})
        await asyncio.sleep(1)
        assert harness.broker.parked == 1
        await asyncio.sleep(61)
    else:
        harness.a.tell(rpc.Cancel(1, "enough"))
    assert observer.told == [("tools/call", "t", "00-1-2-01")] * 2


class SilentCall(Call):
    """A call whose answer goes nowhere."""

    def __init__(self, observer: CallObserver) -> None:
        super().__init__("tools/call", b"{}", LEGACY, 30.0)
        self.observer = Traffic(observer)
        self.answers = 0

    def _answered(self, is_error: bool, raw: Body) -> None:
        self.answers += 1

    def _failed(self, error: CallError) -> None:
        self.answers += 1


ENDS: dict[str, Callable[[Call], None]] = {
    ANSWERED: lambda call: call.answer(False, b"{}"),
    UPSTREAM_ERROR: lambda call: call.complete(True, b"{}"),
    GONE.code: lambda call: call.fail(GONE),
    "timeout": lambda call: call.expire(),
}


@pytest.mark.parametrize("first", ENDS)
@pytest.mark.parametrize("second", ENDS)
def test_what_comes_after_a_calls_end_is_no_second_one(first: str, second: str) -> None:
    observer = NotedCalls()
    call = SilentCall(observer)
    ENDS[first](call)
    ENDS[second](call)
    call.complete(False, b"{}")
    assert observer.heard == [("finished", "tools/call", first)]
    assert call.answers == 1


# ---- the observers that there are


def _call() -> Call:
    return Call("tools/call", b"{}", 0, 30.0)


def test_counters_count_answers_errors_and_failures_when_a_call_ends() -> None:
    counters, call = Counters(), _call()
    upstream = Traffic(None, "up", "g")
    counters.begun(call, upstream)
    assert (counters.calls, counters.errors, counters.failures) == (0, 0, 0)
    for outcome in (ANSWERED, UPSTREAM_ERROR, "timeout", CANCELLED, ANSWERED):
        counters.finished(call, outcome, upstream)
    assert (counters.calls, counters.errors, counters.failures) == (5, 1, 1)


def test_traffic_counts_what_is_in_flight_and_passes_everything_on() -> None:
    observer = NotedCalls()
    traffic, call = Traffic(observer), _call()
    traffic.begun(call)
    traffic.begun(call)
    assert traffic.in_flight == 2
    traffic.finished(call, ANSWERED)
    assert traffic.in_flight == 1
    assert observer.heard == [("begun", "tools/call")] * 2 + [("finished", "tools/call", ANSWERED)]


def test_traffic_needs_nobody_to_pass_it_on_to() -> None:
    traffic = Traffic()
    traffic.begun(_call())
    traffic.finished(_call(), "timeout")
    assert traffic.in_flight == 0
