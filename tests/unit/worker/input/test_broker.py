"""``worker.input.broker``: what an upstream needs of a client in every pair of eras, from frame to message and back."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest

from shared.errors import NotDelivered
from shared.mcp import jsonrpc
from shared.mcp.versions import Era
from shared.rpc import messages as rpc
from tests.unit.worker.worker_harness import ALL, META, PONG_S, WorkerHarness, run_ready, timeless
from worker.bridge.inputs import ELICIT, MAX_REQUESTS, ROOTS, SAMPLE
from worker.calls.client_facts import ClientFacts
from worker.calls.own_call import OwnCall
from worker.input.broker import FULL, OVER, TOO_LARGE
from worker.input.parked_call import GATHER_S

LEGACY, MODERN = Era.LEGACY, Era.MODERN
YES = {"action": "accept", "content": {"n": 1}}
FORM = {"message": "?", "requestedSchema": {}}
DONE = {"content": [{"type": "text", "text": "done"}]}


def _only(sent: list[dict[str, Any]]) -> dict[str, Any]:
    (one,) = sent
    return one


def _started(harness: WorkerHarness, era: Era = LEGACY, session: str = "s1", **how: Any) -> tuple[int, int]:
    """A call is with the upstream: its number, and its id there."""
    if era is LEGACY and session:
        harness.a.open(session, ALL)
    number = harness.call(era, session if era is LEGACY else "", **how)
    return number, _only(harness.session.take())["id"]


# ---- relayed: legacy client, legacy upstream


@timeless
async def test_a_question_reaches_the_calls_client_and_its_answer_the_upstream() -> None:
    harness = WorkerHarness(LEGACY)
    number, id = _started(harness)
    harness.session.receives(id="q", method=ELICIT, params=FORM)
    question = _only(harness.a.interim(number))
    assert (question["method"], question["params"]) == (ELICIT, FORM)
    assert question["id"].startswith("w1."), "any front end can tell which worker waits"
    harness.reply(question["id"], "s1", YES)
    assert harness.session.take() == [{"jsonrpc": "2.0", "id": "q", "result": YES}]
    harness.session.receives(id=id, result=DONE)
    assert harness.a.answer(number) == {"result": DONE}
    harness.expect_nothing_left()


@timeless
async def test_a_clients_error_is_an_answer() -> None:
    harness = WorkerHarness(LEGACY)
    number, _ = _started(harness)
    harness.session.receives(id=7, method=SAMPLE, params={})
    harness.reply(_only(harness.a.interim(number))["id"], "s1", error={"code": -1, "message": "no"})
    assert harness.session.take() == [{"jsonrpc": "2.0", "id": 7, "error": {"code": -1, "message": "no"}}]


@timeless
async def test_the_answer_may_come_from_any_front_end_but_only_from_the_session_that_was_asked_and_once() -> None:
    harness = WorkerHarness(LEGACY)
    number, _ = _started(harness)
    harness.session.receives(id=1, method=ELICIT, params=FORM)
    question_id = _only(harness.a.interim(number))["id"]
    for session in ("", "s2", "s11"):
        harness.reply(question_id, session, YES)
    harness.reply("w1.999", "s1", YES)
    harness.reply(question_id.removeprefix("w1."), "s1", YES)
    assert harness.session.take() == []
    harness.reply(question_id, "s1", YES, front=harness.b)
    harness.reply(question_id, "s1", {"action": "decline"})
    assert harness.session.take() == [{"jsonrpc": "2.0", "id": 1, "result": YES}]


@timeless
async def test_questions_of_two_calls_are_told_apart_by_their_streams_and_refused_without() -> None:
    harness = WorkerHarness(LEGACY)
    one, first = _started(harness)
    two, _ = _started(harness, session="s2")
    harness.session.receives(id=1, method=ELICIT, params=FORM)
    refused = _only(harness.session.take())
    assert (refused["id"], refused["error"]["code"]) == (1, -32601)
    assert "isolation: client" in refused["error"]["message"]
    harness.session.receives(harness.session.correlation.calls[first], id=2, method=ELICIT, params=FORM)
    assert len(harness.a.interim(one)) == 1
    assert harness.a.interim(two) == []


@pytest.mark.parametrize("answered", [True, False])
@timeless
async def test_what_a_call_that_was_given_up_still_asks_or_logs_reaches_nobody_else(answered: bool) -> None:
    """Its client is not asked any more; somebody else, whose call is the only one in flight, must not be."""
    harness = WorkerHarness(LEGACY)
    given_up, id = _started(harness)
    harness.a.tell(rpc.Cancel(given_up, "enough"))
    harness.session.take()
    other, _ = _started(harness, session="s2")
    harness.session.receives(id="q", method=ELICIT, params=FORM)
    harness.session.receives(method="notifications/message", params={"level": "error", "data": "a secret"})
    refused = _only(harness.session.take())
    assert (refused["id"], refused["error"]["code"]) == ("q", -32601)
    assert harness.a.interim(other) == []
    if answered:
        harness.session.receives(id=id, result=DONE)
    else:
        await asyncio.sleep(2 * PONG_S)  # what was asked of it after the cancel is answered: it knows
    harness.session.receives(id="r", method=ELICIT, params=FORM)
    assert _only(harness.a.interim(other))["method"] == ELICIT


@timeless
async def test_a_clients_own_given_up_call_does_not_keep_it_from_being_asked() -> None:
    harness = WorkerHarness(LEGACY)
    given_up, _ = _started(harness)
    harness.a.tell(rpc.Cancel(given_up, "enough"))
    number, _ = _started_again(harness)
    harness.session.receives(id="q", method=ELICIT, params=FORM)
    assert _only(harness.a.interim(number))["method"] == ELICIT


def _started_again(harness: WorkerHarness) -> tuple[int, int]:
    harness.session.take()
    return _started(harness)


@timeless
async def test_on_a_clients_own_session_a_question_needs_no_stream_to_be_about_that_client() -> None:
    harness = WorkerHarness(LEGACY, ClientFacts("ada", "2025-11-25", json.dumps(ALL).encode()), "s1")
    one, _ = _started(harness)
    two, _ = _started_again(harness)
    harness.session.receives(id="q", method=ROOTS)
    asked = [*harness.a.interim(one), *harness.a.interim(two)]
    assert _only(asked)["method"] == ROOTS


@timeless
async def test_our_own_requests_do_not_hide_whose_question_it_is() -> None:
    harness = WorkerHarness(LEGACY)
    number, _ = _started(harness)
    harness.session.submit(OwnCall("ping", b"", LEGACY))
    harness.session.receives(id=1, method=ELICIT, params=FORM)
    harness.session.receives(method="notifications/message", params={"level": "info", "data": "x"})
    assert [message["method"] for message in harness.a.interim(number)] == [ELICIT, "notifications/message"]


@timeless
async def test_with_no_call_in_flight_or_only_our_own_nobody_is_asked() -> None:
    harness = WorkerHarness(LEGACY)
    harness.session.receives(id=1, method=ELICIT, params=FORM)
    harness.session.submit(OwnCall("ping", b"", LEGACY))
    harness.session.take()
    harness.session.receives(id=2, method=ELICIT, params=FORM)
    assert _only(harness.session.take())["error"]["code"] == -32601


@timeless
async def test_a_ping_is_answered_by_the_gateway() -> None:
    harness = WorkerHarness(LEGACY)
    number, _ = _started(harness)
    harness.session.receives(id="p", method="ping")
    assert harness.session.take() == [{"jsonrpc": "2.0", "id": "p", "result": {}}]
    assert harness.a.interim(number) == []


@pytest.mark.parametrize(
    ("capabilities", "method", "params", "code"),
    [
        ({}, ELICIT, FORM, -32601),
        ({"elicitation": {}}, ELICIT, {"mode": "url", "url": "u"}, -32602),
        ({"elicitation": {}}, SAMPLE, {}, -32601),
        (ALL, "tasks/get", {}, -32601),
        (ALL, ROOTS, {}, -32601),
    ],
)
@timeless
async def test_a_client_is_not_asked_for_what_it_did_not_declare_nor_for_roots_on_a_shared_session(
    capabilities: dict[str, Any], method: str, params: Any, code: int
) -> None:
    harness = WorkerHarness(LEGACY)
    harness.a.open("s1", capabilities)
    number = harness.call(LEGACY, "s1")
    harness.session.take()
    harness.session.receives(id=1, method=method, params=params)
    assert _only(harness.session.take())["error"]["code"] == code
    assert harness.a.interim(number) == []


@timeless
async def test_a_clients_own_session_knows_its_roots() -> None:
    harness = WorkerHarness(LEGACY, ClientFacts("ada", "2025-11-25", b'{"roots":{}}'))
    number, _ = _started(harness)
    harness.session.receives(id=1, method=ROOTS)
    assert _only(harness.a.interim(number))["method"] == ROOTS


@timeless
async def test_a_client_without_a_session_cannot_be_asked() -> None:
    harness = WorkerHarness(LEGACY)
    _started(harness, session="")
    harness.session.receives(id=1, method=ELICIT, params=FORM)
    assert _only(harness.session.take())["error"]["code"] == -32601


@timeless
async def test_a_call_that_ends_takes_its_questions_with_it() -> None:
    harness = WorkerHarness(LEGACY)
    number, id = _started(harness)
    harness.session.receives(id=1, method=ELICIT, params=FORM)
    harness.session.receives(id=2, method=SAMPLE, params={})
    question_ids = [question["id"] for question in harness.a.interim(number)]
    harness.session.receives(id=id, result=DONE)
    assert [(one["id"], one["error"]["code"]) for one in harness.session.take()] == [(1, -32603), (2, -32603)]
    for question_id in question_ids:
        harness.reply(question_id, "s1", YES)
    assert harness.session.take() == []
    harness.expect_nothing_left()


@timeless
async def test_a_cancelled_call_takes_its_question_with_it() -> None:
    harness = WorkerHarness(LEGACY)
    number, id = _started(harness)
    harness.session.receives(id=1, method=ELICIT, params=FORM)
    harness.a.tell(rpc.Cancel(number, "enough"))
    cancelled, declined = harness.session.take()
    assert cancelled["method"] == "notifications/cancelled"
    assert cancelled["params"] == {"requestId": id, "reason": "enough"}
    assert (declined["id"], declined["error"]["code"]) == (1, -32603)
    assert harness.a.answer(number)["failed"] == "cancelled"
    harness.expect_nothing_left()


@timeless
async def test_a_lost_session_fails_the_call_and_forgets_its_question() -> None:
    harness = WorkerHarness(LEGACY)
    number, _ = _started(harness)
    harness.session.receives(id=1, method=ELICIT, params=FORM)
    harness.session.lost(NotDelivered("upstream_unavailable", "gone"))
    failed = harness.a.answer(number)
    assert (failed["failed"], failed["delivered"]) == ("outcome_unknown", True)
    assert harness.session.take() == []
    harness.expect_nothing_left()


@timeless
async def test_a_legacy_call_outlives_its_front_end_and_can_still_be_answered() -> None:
    harness = WorkerHarness(LEGACY)
    number, id = _started(harness)
    harness.session.receives(id=1, method=ELICIT, params=FORM)
    question_id = _only(harness.a.interim(number))["id"]
    harness.a.close()
    harness.reply(question_id, "s1", YES, front=harness.b)
    assert _only(harness.session.take())["result"] == YES
    harness.session.receives(id=id, result=DONE)
    harness.expect_nothing_left()


@timeless
async def test_one_call_may_have_so_many_questions_open() -> None:
    harness = WorkerHarness(LEGACY)
    number, _ = _started(harness)
    for question in range(MAX_REQUESTS + 1):
        harness.session.receives(id=question, method=ELICIT, params=FORM)
    refused = _only(harness.session.take())
    assert (refused["id"], refused["error"]["code"]) == (MAX_REQUESTS, -32603)
    harness.reply(harness.a.interim(number)[0]["id"], "s1", YES)
    harness.session.take()
    harness.session.receives(id="again", method=ELICIT, params=FORM)
    assert harness.session.take() == []


@timeless
async def test_all_calls_together_may_have_so_many_questions_open() -> None:
    harness = WorkerHarness(LEGACY, max_open=2)
    for call in range(3):
        _, id = _started(harness, session=f"s{call}")
        harness.session.receives(harness.session.correlation.calls[id], id=call, method=ELICIT, params=FORM)
    refused = _only(harness.session.take())
    assert (refused["id"], refused["error"]["code"]) == (2, -32603)


# ---- the clocks


@timeless
async def test_while_the_client_is_asked_the_calls_clock_stands_still() -> None:
    harness = WorkerHarness(LEGACY, request_timeout_s=30.0, input_timeout_s=600.0)
    number, id = _started(harness)
    await asyncio.sleep(20)
    harness.session.receives(id=1, method=ELICIT, params=FORM)
    await asyncio.sleep(500)
    assert harness.a.answers(number) == []
    harness.reply(_only(harness.a.interim(number))["id"], "s1", YES)
    await asyncio.sleep(25)
    harness.session.receives(id=id, result=DONE)
    assert harness.a.answer(number) == {"result": DONE}


@pytest.mark.parametrize("thought_s", [1, 45, 500])
@timeless
async def test_after_the_last_answer_the_calls_clock_runs_again(thought_s: float) -> None:
    harness = WorkerHarness(LEGACY, request_timeout_s=30.0, input_timeout_s=600.0)
    number, id = _started(harness)
    harness.session.receives(id=1, method=ELICIT, params=FORM)
    harness.session.receives(id=2, method=ELICIT, params=FORM)
    question_ids = [question["id"] for question in harness.a.interim(number)]
    await asyncio.sleep(thought_s)
    harness.reply(question_ids[1], "s1", YES)
    await asyncio.sleep(40)
    assert harness.a.answers(number) == [], "one is still open"
    harness.reply(question_ids[0], "s1", YES)
    harness.session.take()
    await asyncio.sleep(29.8)
    assert harness.a.answers(number) == []
    await asyncio.sleep(0.5)
    assert harness.a.answer(number)["failed"] == "timeout"
    assert _only(harness.session.take())["params"]["requestId"] == id
    harness.expect_nothing_left()


@timeless
async def test_a_client_that_never_answers_costs_its_call() -> None:
    harness = WorkerHarness(LEGACY, input_timeout_s=60.0)
    number, _ = _started(harness)
    harness.session.receives(id=1, method=ELICIT, params=FORM)
    harness.session.receives(method="notifications/message", params={"level": "info", "data": "does not restart it"})
    await asyncio.sleep(59.5)
    assert harness.a.answers(number) == []
    await asyncio.sleep(1)
    assert harness.a.answer(number)["failed"] == "timeout"
    harness.expect_nothing_left()


@timeless
async def test_the_wheel_holds_a_call_once_however_often_it_asked() -> None:
    harness = WorkerHarness(LEGACY)
    number, id = _started(harness)
    for question in range(200):
        harness.session.receives(id=question, method=ELICIT, params=FORM)
        harness.reply(harness.a.interim(number)[-1]["id"], "s1", YES)
        await asyncio.sleep(20)
    assert harness.deadlines.held < 5
    harness.session.receives(id=id, result=DONE)


# ---- parked: modern client, legacy upstream


async def _parked(
    harness: WorkerHarness, *questions: tuple[Any, str, Any], front: Any = None
) -> tuple[int, dict[str, Any]]:
    """A modern call whose client was asked these: its id upstream, and the ``input_required`` result."""
    number, id = _started(harness, MODERN, front=front)
    for question, method, params in questions or [(1, ELICIT, FORM)]:
        harness.session.receives(harness.session.correlation.calls[id], id=question, method=method, params=params)
    await asyncio.sleep(GATHER_S * 1.5)
    result = (front or harness.a).answer(number)["result"]
    assert result["resultType"] == "input_required"
    return id, result


def _state(result: dict[str, Any], **responses: Any) -> dict[str, Any]:
    """What a client's next try carries."""
    return {"requestState": result["requestState"], **({"inputResponses": responses} if responses else {})}


@timeless
async def test_questions_of_a_moment_are_one_result_and_the_next_try_wakes_the_call() -> None:
    harness = WorkerHarness(LEGACY)
    id, result = await _parked(harness, (1, ELICIT, FORM), ("two", SAMPLE, {"messages": []}))
    assert result["inputRequests"] == {
        "elicitation-1": {"method": ELICIT, "params": FORM},
        "sampling-2": {"method": SAMPLE, "params": {"messages": []}},
    }
    assert harness.session.take() == [], "having asked is no cancel"
    answers = {"elicitation-1": YES, "sampling-2": {"role": "assistant"}}
    again = harness.call(MODERN, front=harness.b, **_state(result, **answers))
    assert harness.session.take() == [
        {"jsonrpc": "2.0", "id": 1, "result": YES},
        {"jsonrpc": "2.0", "id": "two", "result": {"role": "assistant"}},
    ]
    harness.session.receives(id=id, result=DONE)
    assert harness.b.answer(again) == {"result": {"resultType": "complete", **DONE}}
    harness.expect_nothing_left()


@timeless
async def test_partial_answers_ask_for_the_rest() -> None:
    harness = WorkerHarness(LEGACY)
    id, result = await _parked(harness, (1, ELICIT, FORM), (2, ELICIT, FORM))
    again = harness.call(MODERN, **_state(result, **{"elicitation-1": YES}))
    rest = harness.a.answer(again)["result"]
    assert list(rest["inputRequests"]) == ["elicitation-2"]
    assert [one["id"] for one in harness.session.take()] == [1]
    last = harness.call(MODERN, **_state(rest, **{"elicitation-2": YES}))
    harness.session.receives(id=id, result=DONE)
    assert "result" in harness.a.answer(last)
    harness.expect_nothing_left()


@timeless
async def test_a_later_question_is_the_next_round() -> None:
    harness = WorkerHarness(LEGACY)
    id, result = await _parked(harness)
    again = harness.call(MODERN, **_state(result, **{"elicitation-1": YES}))
    harness.session.receives(id="later", method=ELICIT, params=FORM)
    await asyncio.sleep(GATHER_S * 1.5)
    assert list(harness.a.answer(again)["result"]["inputRequests"]) == ["elicitation-2"]
    harness.session.receives(id=id, result=DONE)
    assert harness.broker.parked == 1, "the outcome is held for the client"


@timeless
async def test_an_error_of_the_upstream_is_held_and_delivered_too() -> None:
    harness = WorkerHarness(LEGACY)
    id, result = await _parked(harness)
    harness.session.receives(id=id, error={"code": -5, "message": "no"})
    again = harness.call(MODERN, **_state(result, **{"elicitation-1": YES}))
    assert harness.a.answer(again) == {"error": {"code": -5, "message": "no"}}
    harness.expect_nothing_left()


@timeless
async def test_a_session_lost_meanwhile_fails_the_next_try() -> None:
    harness = WorkerHarness(LEGACY)
    _, result = await _parked(harness)
    harness.session.lost(NotDelivered("upstream_unavailable", "gone"))
    again = harness.call(MODERN, **_state(result, **{"elicitation-1": YES}))
    failed = harness.a.answer(again)
    assert (failed["failed"], failed["delivered"]) == ("outcome_unknown", True)
    harness.expect_nothing_left()


@timeless
async def test_a_state_counts_once_for_this_request_and_this_principal() -> None:
    harness = WorkerHarness(LEGACY)
    id, result = await _parked(harness)
    state = _state(result, **{"elicitation-1": YES})
    for wrong in (
        harness.call(MODERN, principal="eve", **state),
        harness.call(MODERN, arguments={"a": 2}, **state),
        harness.call(MODERN, arguments={"a": int("9" * 4200)}, **state),
        harness.call(MODERN, requestState=result["requestState"][:-8], inputResponses={}),
        harness.call(MODERN, requestState=5),
        harness.call(MODERN, requestState=result["requestState"], inputResponses=[]),
    ):
        assert harness.a.answer(wrong)["failed"] == "invalid_params"
    assert harness.session.take() == []
    again = harness.call(MODERN, meta={**META, "progressToken": 5}, **state)
    replayed = harness.call(MODERN, **state)
    assert harness.a.answer(replayed)["failed"] == "invalid_params"
    harness.session.receives(id=id, result=DONE)
    assert "result" in harness.a.answer(again)
    assert harness.a.answer(harness.call(MODERN, **state))["failed"] == "invalid_params"
    harness.expect_nothing_left()


@timeless
async def test_arguments_that_python_cannot_read_cost_no_other_call() -> None:
    harness = WorkerHarness(LEGACY)
    _, result = await _parked(harness)
    huge = json.dumps({"name": "t", "requestState": result["requestState"]}).encode()
    huge = huge[:-1] + b',"arguments":{"a":' + b"9" * 5000 + b"}}"
    harness.a.tell(rpc.Call(77, "up", "tools/call", 1, "", "ada", retry=True), huge)
    assert harness.a.answer(77)["failed"] == "invalid_params"


@timeless
async def test_one_principal_may_have_so_many_calls_parked() -> None:
    harness = WorkerHarness(LEGACY, max_parked=2)
    waiting = []
    for _ in range(2):
        number, id = _started(harness, MODERN)
        harness.session.receives(harness.session.correlation.calls[id], id=id, method=ELICIT, params=FORM)
        waiting.append(number)
    _, id = _started(harness, MODERN)
    harness.session.receives(harness.session.correlation.calls[id], id="full", method=ELICIT, params=FORM)
    refused = _only(harness.session.take())
    assert (refused["id"], refused["error"]["code"]) == ("full", -32603)
    _, other = _started(harness, MODERN, principal="bob")
    harness.session.receives(harness.session.correlation.calls[other], id="bob's", method=ELICIT, params=FORM)
    assert harness.session.take() == []
    harness.a.tell(rpc.Cancel(waiting[0]))
    harness.session.take()
    harness.session.receives(harness.session.correlation.calls[id], id="room", method=ELICIT, params=FORM)
    assert harness.session.take() == []


@pytest.mark.parametrize("capabilities", [{}, {"elicitation": {}}])
@timeless
async def test_a_modern_client_declares_with_each_call_what_it_may_be_asked(capabilities: dict[str, Any]) -> None:
    harness = WorkerHarness(LEGACY)
    _, id = _started(harness, MODERN, meta={**META, "io.modelcontextprotocol/clientCapabilities": capabilities})
    harness.session.receives(id=1, method=ELICIT, params={"mode": "url", "url": "u"})
    assert "error" in _only(harness.session.take())
    assert harness.broker.parked == 0
    harness.session.receives(id=id, result=DONE)


@timeless
async def test_a_try_that_its_client_leaves_cancels_the_call() -> None:
    harness = WorkerHarness(LEGACY)
    id, result = await _parked(harness)
    again = harness.call(MODERN, **_state(result, **{"elicitation-1": YES}))
    harness.session.take()
    harness.a.tell(rpc.Cancel(again, "closed"))
    assert _only(harness.session.take())["params"] == {"requestId": id, "reason": "closed"}
    harness.session.receives(id=id, result=DONE)
    assert harness.a.answer(again)["failed"] == "cancelled"
    harness.expect_nothing_left()


@timeless
async def test_a_front_end_that_is_lost_leaves_the_tries_that_wait_there_and_no_others() -> None:
    harness = WorkerHarness(LEGACY)
    first, asked = await _parked(harness)
    _, other = await _parked(harness, front=harness.b)
    harness.call(MODERN, **_state(asked, **{"elicitation-1": YES}))
    harness.session.take()
    harness.a.close()
    assert _only(harness.session.take())["params"]["requestId"] == first
    assert harness.broker.parked == 1
    harness.call(MODERN, front=harness.b, **_state(other, **{"elicitation-1": YES}))
    assert _only(harness.session.take())["result"] == YES


@timeless
async def test_a_first_try_that_is_left_while_questions_are_gathered_cancels_the_call() -> None:
    harness = WorkerHarness(LEGACY)
    number, id = _started(harness, MODERN)
    harness.session.receives(id=1, method=ELICIT, params=FORM)
    harness.a.tell(rpc.Cancel(number, "closed"))
    declined, cancelled = harness.session.take()
    assert (declined["id"], cancelled["params"]["requestId"]) == (1, id)
    await asyncio.sleep(1)
    harness.expect_nothing_left()


@timeless
async def test_a_call_that_nobody_comes_back_to_is_cancelled_when_its_time_is_over() -> None:
    harness = WorkerHarness(LEGACY, input_timeout_s=60.0)
    id, result = await _parked(harness)
    await asyncio.sleep(59)
    assert harness.session.take() == []
    await asyncio.sleep(2)
    declined, cancelled = harness.session.take()
    assert (declined["id"], declined["error"]["code"]) == (1, -32603)
    assert cancelled["params"]["requestId"] == id
    assert harness.a.answer(harness.call(MODERN, **_state(result)))["failed"] == "invalid_params"
    harness.expect_nothing_left()


@timeless
async def test_each_round_has_the_whole_time() -> None:
    harness = WorkerHarness(LEGACY, input_timeout_s=60.0)
    _, result = await _parked(harness)
    for _ in range(5):
        await asyncio.sleep(50)
        result = harness.a.answer(harness.call(MODERN, **_state(result)))["result"]
    assert harness.deadlines.held <= 3, "the wheel does not hold it once for each round, and the last try once"
    assert harness.session.take() == []
    await asyncio.sleep(61)
    assert len(harness.session.take()) == 2
    harness.expect_nothing_left()


@timeless
async def test_an_outcome_that_nobody_comes_back_for_is_forgotten() -> None:
    harness = WorkerHarness(LEGACY, input_timeout_s=60.0)
    id, _ = await _parked(harness)
    harness.session.receives(id=id, result=DONE)
    await asyncio.sleep(61)
    assert [one["id"] for one in harness.session.take()] == [1]
    harness.expect_nothing_left()


@timeless
async def test_a_try_that_waits_has_the_requests_time() -> None:
    harness = WorkerHarness(LEGACY, request_timeout_s=30.0)
    id, result = await _parked(harness)
    await asyncio.sleep(100)
    again = harness.call(MODERN, **_state(result, **{"elicitation-1": YES}))
    harness.session.take()
    await asyncio.sleep(29.5)
    assert harness.a.answers(again) == []
    await asyncio.sleep(1)
    assert harness.a.answer(again)["failed"] == "timeout"
    assert _only(harness.session.take())["params"]["requestId"] == id
    harness.expect_nothing_left()


def _progress(harness: WorkerHarness, id: int, progress: int) -> None:
    harness.session.receives(method="notifications/progress", params={"progressToken": id, "progress": progress})


@timeless
async def test_the_newest_progress_is_kept_for_the_next_try_and_log_messages_are_dropped() -> None:
    harness = WorkerHarness(LEGACY)
    number, id = _started(harness, MODERN, token="first")
    _progress(harness, id, 1)
    harness.session.receives(id=1, method=ELICIT, params=FORM)
    await asyncio.sleep(GATHER_S * 1.5)
    _progress(harness, id, 2)
    _progress(harness, id, 3)
    harness.session.receives(method="notifications/message", params={"level": "info", "data": "x"})
    result = harness.a.answer(number)["result"]
    again = harness.call(MODERN, token="second", **_state(result, **{"elicitation-1": YES}))
    assert [one["params"] for one in harness.a.interim(again)] == [{"progressToken": "second", "progress": 3}]
    _progress(harness, id, 4)
    assert harness.a.interim(again)[-1]["params"] == {"progressToken": "second", "progress": 4}
    assert [one["params"]["progress"] for one in harness.a.interim(number)] == [1]


@timeless
async def test_progress_that_a_try_was_too_short_for_is_kept_for_the_one_after() -> None:
    harness = WorkerHarness(LEGACY)
    number, id = _started(harness, MODERN, token="first")
    harness.session.receives(id=1, method=ELICIT, params=FORM)
    await asyncio.sleep(GATHER_S * 1.5)
    _progress(harness, id, 2)
    short = harness.call(MODERN, token="short", **_state(harness.a.answer(number)["result"]))
    again = harness.call(MODERN, token="long", **_state(harness.a.answer(short)["result"], **{"elicitation-1": YES}))
    assert [one["params"]["progressToken"] for one in harness.a.interim(again)] == ["long"]


# ---- URL elicitation by error: modern client, legacy upstream

URL_ERROR = {"code": -32042, "message": "go", "data": {"elicitations": [{"mode": "url", "url": "https://x.test"}]}}


@timeless
async def test_a_url_error_is_input_that_is_required_and_the_retry_a_new_call() -> None:
    harness = WorkerHarness(LEGACY)
    number, id = _started(harness, MODERN)
    harness.session.receives(id=id, error=URL_ERROR)
    result = harness.a.answer(number)["result"]
    assert result["inputRequests"] == {
        "url-1": {"method": ELICIT, "params": {"mode": "url", "url": "https://x.test"}},
    }
    again = harness.call(MODERN, **_state(result, **{"url-1": {"action": "accept"}}))
    sent = _only(harness.session.take())
    assert sent["params"] == {"name": "t", "arguments": {"a": 1}}
    harness.session.receives(id=sent["id"], result=DONE)
    assert "result" in harness.a.answer(again)
    harness.expect_nothing_left()


@timeless
async def test_a_url_that_the_user_did_not_go_to_ends_the_call() -> None:
    harness = WorkerHarness(LEGACY)
    number, id = _started(harness, MODERN)
    harness.session.receives(id=id, error=URL_ERROR)
    again = harness.call(MODERN, **_state(harness.a.answer(number)["result"], **{"url-1": {"action": "decline"}}))
    assert harness.a.answer(again)["failed"] == "cancelled"
    assert harness.session.take() == []


@pytest.mark.parametrize(("era", "capabilities"), [(MODERN, {"elicitation": {}}), (LEGACY, ALL)])
@timeless
async def test_where_no_url_may_be_asked_for_the_error_stays(era: Era, capabilities: dict[str, Any]) -> None:
    harness = WorkerHarness(LEGACY)
    number, id = _started(harness, era, meta={**META, "io.modelcontextprotocol/clientCapabilities": capabilities})
    harness.session.receives(id=id, error=URL_ERROR)
    assert harness.a.answer(number) == {"error": URL_ERROR}


@timeless
async def test_a_call_that_was_parked_before_may_require_a_url_too() -> None:
    harness = WorkerHarness(LEGACY)
    id, result = await _parked(harness)
    again = harness.call(MODERN, **_state(result, **{"elicitation-1": YES}))
    harness.session.take()
    harness.session.receives(id=id, error=URL_ERROR)
    required = harness.a.answer(again)["result"]
    assert list(required["inputRequests"]) == ["url-1"]
    harness.call(MODERN, **_state(required, **{"url-1": {"action": "accept"}}))
    assert _only(harness.session.take())["params"] == {"name": "t", "arguments": {"a": 1}}


# ---- passed: modern client, modern upstream

REQUIRED = {"resultType": "input_required", "inputRequests": {"k": {"method": ROOTS}}}


@pytest.mark.parametrize("inner", ["theirs", None])
@timeless
async def test_an_upstreams_state_is_wrapped_and_comes_back_to_it_as_it_was(inner: str | None) -> None:
    harness = WorkerHarness(MODERN)
    number, id = _started(harness, MODERN)
    harness.session.receives(id=id, result={**REQUIRED, **({"requestState": inner} if inner else {})})
    result = harness.a.answer(number)["result"]
    assert result["inputRequests"] == REQUIRED["inputRequests"]
    assert inner not in result["requestState"] if inner else result["requestState"]
    again = harness.call(MODERN, front=harness.b, **_state(result, k={"roots": []}))
    sent = _only(harness.session.take())
    assert sent["params"].get("requestState") == inner
    assert sent["params"]["inputResponses"] == {"k": {"roots": []}}
    harness.session.receives(id=sent["id"], result={"resultType": "complete", **DONE})
    assert harness.b.answer(again) == {"result": {"resultType": "complete", **DONE}}
    harness.expect_nothing_left()


@timeless
async def test_a_wrapped_state_is_for_its_own_request_and_principal() -> None:
    harness = WorkerHarness(MODERN)
    number, id = _started(harness, MODERN)
    harness.session.receives(id=id, result={**REQUIRED, "requestState": "theirs"})
    result = harness.a.answer(number)["result"]
    for wrong in (
        harness.call(MODERN, principal="eve", **_state(result)),
        harness.call(MODERN, arguments={}, **_state(result)),
        harness.call(MODERN, requestState="theirs"),
    ):
        assert harness.a.answer(wrong)["failed"] == "invalid_params"
    assert harness.session.take() == []


@timeless
async def test_a_state_that_could_not_come_back_fails_the_call() -> None:
    harness = WorkerHarness(MODERN)
    number, id = _started(harness, MODERN)
    harness.session.receives(id=id, result={**REQUIRED, "requestState": "x" * 1_000_000})
    assert harness.a.answer(number)["failed"] == "upstream_protocol"


@timeless
async def test_a_result_that_only_speaks_of_it_passes_as_it_is() -> None:
    harness = WorkerHarness(MODERN)
    number, id = _started(harness, MODERN)
    harness.session.receives(id=id, result={"resultType": "complete", "content": ["input_required"]})
    assert harness.a.answer(number) == {"result": {"resultType": "complete", "content": ["input_required"]}}


@timeless
async def test_a_malformed_one_is_the_upstreams_error() -> None:
    harness = WorkerHarness(MODERN)
    number, id = _started(harness, MODERN)
    harness.session.receives(id=id, result={"resultType": "input_required", "inputRequests": 5})
    assert harness.a.answer(number)["failed"] == "upstream_protocol"


# ---- asked: legacy client, modern upstream


def _required(harness: WorkerHarness, id: int, state: str | None = "theirs", **needs: Any) -> None:
    members = {"inputRequests": needs, **({"requestState": state} if state else {})}
    harness.session.receives(id=id, result={"resultType": "input_required", **members})


@timeless
async def test_a_legacy_client_is_asked_in_its_own_words_and_the_call_sent_again() -> None:
    harness = WorkerHarness(MODERN)
    number, id = _started(harness)
    _required(harness, id, f={"method": ELICIT, "params": FORM}, r={"method": ROOTS})
    form, roots = harness.a.interim(number)
    assert (form["method"], form["params"], roots["method"]) == (ELICIT, FORM, ROOTS)
    harness.reply(roots["id"], "s1", {"roots": []}, front=harness.b)
    harness.reply(form["id"], "s1", error={"code": -1, "message": "no"})
    await run_ready()
    sent = _only(harness.session.take())
    assert sent["id"] != id
    assert sent["params"]["inputResponses"] == {"r": {"roots": []}, "f": {"action": "cancel"}}
    assert sent["params"]["requestState"] == "theirs"
    assert (sent["params"]["name"], sent["params"]["arguments"]) == ("t", {"a": 1})
    harness.session.receives(id=sent["id"], result={"resultType": "complete", **DONE})
    assert harness.a.answer(number) == {"result": DONE}
    harness.expect_nothing_left()


@timeless
async def test_the_next_round_carries_only_its_own_answers_and_state() -> None:
    harness = WorkerHarness(MODERN)
    number, id = _started(harness)
    _required(harness, id, f={"method": ELICIT, "params": FORM})
    harness.reply(harness.a.interim(number)[0]["id"], "s1", YES)
    await run_ready()
    _required(harness, _only(harness.session.take())["id"], None, g={"method": ROOTS})
    harness.reply(harness.a.interim(number)[1]["id"], "s1", {"roots": []})
    await run_ready()
    sent = _only(harness.session.take())
    assert sent["params"]["inputResponses"] == {"g": {"roots": []}}
    assert "requestState" not in sent["params"]


@timeless
async def test_state_alone_is_sent_again_after_a_moment_and_not_for_ever() -> None:
    harness = WorkerHarness(MODERN)
    number, id = _started(harness)
    rounds = 0
    while not harness.a.answers(number):
        rounds += 1
        _required(harness, id)
        await run_ready()
        assert harness.session.take() == []
        await asyncio.sleep(0.3)
        for sent in harness.session.take():
            id = sent["id"]
    assert rounds == 11
    failed = harness.a.answer(number)
    assert (failed["failed"], failed["delivered"]) == ("upstream_protocol", True)
    harness.expect_nothing_left()


@timeless
async def test_a_url_elicitation_gets_the_id_that_legacy_clients_know_it_by() -> None:
    harness = WorkerHarness(MODERN)
    number, id = _started(harness)
    _required(harness, id, u={"method": ELICIT, "params": {"mode": "url", "url": "https://x.test"}})
    assert _only(harness.a.interim(number))["params"]["elicitationId"]


@pytest.mark.parametrize("session", ["", "s1"])
@timeless
async def test_a_client_that_cannot_be_asked_fails_its_call(session: str) -> None:
    harness = WorkerHarness(MODERN)
    harness.a.open("s1", {"elicitation": {}})
    number = harness.call(LEGACY, session)
    _required(harness, _only(harness.session.take())["id"], s={"method": SAMPLE}, f={"method": ELICIT})
    assert harness.a.answer(number)["failed"] == "upstream_protocol"
    assert harness.a.interim(number) == []
    harness.expect_nothing_left()


@timeless
async def test_a_client_that_refuses_to_sample_fails_its_call_and_is_asked_nothing_more() -> None:
    harness = WorkerHarness(MODERN)
    number, id = _started(harness)
    _required(harness, id, f={"method": ELICIT, "params": FORM}, s={"method": SAMPLE})
    form, sample = harness.a.interim(number)
    harness.reply(sample["id"], "s1", error={"code": -1, "message": "no"})
    assert harness.a.answer(number)["failed"] == "upstream_protocol"
    harness.reply(form["id"], "s1", YES)
    await asyncio.sleep(1)
    assert harness.session.take() == []
    harness.expect_nothing_left()


@timeless
async def test_more_needs_than_may_be_open_are_cancelled_by_us() -> None:
    harness = WorkerHarness(MODERN, max_open=1)
    number, id = _started(harness)
    _required(harness, id, f={"method": ELICIT, "params": FORM}, g={"method": ELICIT, "params": FORM})
    harness.reply(_only(harness.a.interim(number))["id"], "s1", YES)
    await run_ready()
    assert _only(harness.session.take())["params"]["inputResponses"] == {"g": {"action": "cancel"}, "f": YES}


@timeless
async def test_a_call_that_is_cancelled_before_it_is_sent_again_is_not_sent() -> None:
    harness = WorkerHarness(MODERN)
    number, id = _started(harness)
    _required(harness, id)
    harness.a.tell(rpc.Cancel(number, "enough"))
    await asyncio.sleep(1)
    assert [one for one in harness.session.take() if "id" in one] == []
    harness.expect_nothing_left()


@timeless
async def test_once_the_client_was_asked_nothing_is_repeated_elsewhere() -> None:
    harness = WorkerHarness(MODERN)
    number, id = _started(harness)
    _required(harness, id, f={"method": ELICIT, "params": FORM})
    harness.session.lost(NotDelivered("upstream_unavailable", "gone"))
    harness.reply(_only(harness.a.interim(number))["id"], "s1", YES)
    await run_ready()
    failed = harness.a.answer(number)
    assert (failed["failed"], failed["delivered"]) == ("upstream_unavailable", True)
    harness.expect_nothing_left()


@timeless
async def test_a_client_that_never_answers_ends_the_call_there_too() -> None:
    harness = WorkerHarness(MODERN, input_timeout_s=60.0)
    number, id = _started(harness)
    _required(harness, id, f={"method": ELICIT, "params": FORM})
    await asyncio.sleep(59)
    assert harness.a.answers(number) == []
    await asyncio.sleep(2)
    assert harness.a.answer(number)["failed"] == "timeout"
    harness.expect_nothing_left()


def test_an_object_of_ours_is_json() -> None:
    for raw in (OVER, FULL, TOO_LARGE):
        assert jsonrpc.members(raw)


# ---- what is kept


@timeless
async def test_what_is_kept_for_a_lost_stream_is_the_answer_and_not_all_that_came_with_it() -> None:
    harness = WorkerHarness(LEGACY)
    number, id = _started(harness)
    harness.a.tell(rpc.Detach(number))
    large = {"content": [{"type": "text", "text": "x" * 20_000}]}
    harness.session.receives(junk="j" * 100_000, id=id, result=large)
    harness.b.tell(rpc.Resume(900, "s1", "a", number, 0))
    (kept,) = [body for head, body in harness.b.fake.of(900) if isinstance(head, rpc.Answer)]
    assert type(kept) is bytes, "a view of what came would keep all of it"
    assert json.loads(kept) == large


# ---- taken back


@timeless
async def test_a_question_that_the_upstream_cancels_is_taken_back_from_the_client() -> None:
    harness = WorkerHarness(LEGACY)
    number, id = _started(harness)
    harness.session.receives(id="q", method=ELICIT, params=FORM)
    question_id = _only(harness.a.interim(number))["id"]
    harness.session.receives(method="notifications/cancelled", params={"requestId": "q"})
    assert harness.a.interim(number)[1]["method"] == "notifications/cancelled"
    assert harness.a.interim(number)[1]["params"] == {"requestId": question_id}
    harness.reply(question_id, "s1", YES)
    assert harness.session.take() == [], "an answer that comes all the same is of no use"
    harness.session.receives(method="notifications/cancelled", params={"requestId": "q"})
    harness.session.receives(id=id, result=DONE)
    assert harness.a.answer(number) == {"result": DONE}
    harness.expect_nothing_left()


@timeless
async def test_the_clock_of_a_call_runs_again_once_its_question_was_taken_back() -> None:
    harness = WorkerHarness(LEGACY, request_timeout_s=5.0, input_timeout_s=600.0)
    number, _ = _started(harness)
    harness.session.receives(id="q", method=ELICIT, params=FORM)
    harness.session.receives(method="notifications/cancelled", params={"requestId": "q"})
    await asyncio.sleep(6)
    assert harness.a.answer(number)["failed"] == "timeout"


@timeless
async def test_a_client_whose_call_ends_is_told_that_its_question_needs_no_answer() -> None:
    harness = WorkerHarness(LEGACY)
    number, id = _started(harness)
    harness.session.receives(id="q", method=ELICIT, params=FORM)
    harness.session.receives(id=id, result=DONE)
    question, taken_back = harness.a.interim(number)
    assert (taken_back["method"], taken_back["params"]["requestId"]) == ("notifications/cancelled", question["id"])
    assert harness.a.answer(number) == {"result": DONE}


@timeless
async def test_that_an_elicitation_by_url_is_done_is_told_on_its_calls_stream() -> None:
    harness = WorkerHarness(LEGACY)
    number, _ = _started(harness)
    done = {"elicitationId": "e1"}
    harness.session.receives(method="notifications/elicitation/complete", params=done)
    told = _only(harness.a.interim(number))
    assert (told["method"], told["params"]) == ("notifications/elicitation/complete", done)
