"""``worker.input.broker``: a modern client is asked what a legacy upstream needs, and its call is parked meanwhile."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest

from shared.errors import NotDelivered
from shared.mcp.versions import Era
from shared.rpc import messages as rpc
from tests.unit.worker.input.questions import DONE, FORM, LEGACY, MODERN, YES, begun, next_try, only
from tests.unit.worker.worker_harness import ALL, META, WorkerHarness, timeless
from worker.bridge.inputs import ELICIT, SAMPLE
from worker.input.parked_call import GATHER_S

# ---- parked: modern client, legacy upstream


async def _parked(
    harness: WorkerHarness, *questions: tuple[Any, str, Any], front: Any = None
) -> tuple[int, dict[str, Any]]:
    """A modern call whose client was asked these: its id upstream, and the ``input_required`` result."""
    number, id = begun(harness, MODERN, front=front)
    for question, method, params in questions or [(1, ELICIT, FORM)]:
        harness.session.receives(harness.session.correlation.calls[id], id=question, method=method, params=params)
    await asyncio.sleep(GATHER_S * 1.5)
    result = (front or harness.a).answer(number)["result"]
    assert result["resultType"] == "input_required"
    return id, result


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
    again = harness.call(MODERN, front=harness.b, **next_try(result, **answers))
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
    again = harness.call(MODERN, **next_try(result, **{"elicitation-1": YES}))
    rest = harness.a.answer(again)["result"]
    assert list(rest["inputRequests"]) == ["elicitation-2"]
    assert [one["id"] for one in harness.session.take()] == [1]
    last = harness.call(MODERN, **next_try(rest, **{"elicitation-2": YES}))
    harness.session.receives(id=id, result=DONE)
    assert "result" in harness.a.answer(last)
    harness.expect_nothing_left()


@timeless
async def test_a_later_question_is_the_next_round() -> None:
    harness = WorkerHarness(LEGACY)
    id, result = await _parked(harness)
    again = harness.call(MODERN, **next_try(result, **{"elicitation-1": YES}))
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
    again = harness.call(MODERN, **next_try(result, **{"elicitation-1": YES}))
    assert harness.a.answer(again) == {"error": {"code": -5, "message": "no"}}
    harness.expect_nothing_left()


@timeless
async def test_a_session_lost_meanwhile_fails_the_next_try() -> None:
    harness = WorkerHarness(LEGACY)
    _, result = await _parked(harness)
    harness.session.lost(NotDelivered("upstream_unavailable", "gone"))
    again = harness.call(MODERN, **next_try(result, **{"elicitation-1": YES}))
    failed = harness.a.answer(again)
    assert (failed["failed"], failed["delivered"]) == ("outcome_unknown", True)
    harness.expect_nothing_left()


@timeless
async def test_a_state_counts_once_for_this_request_and_this_principal() -> None:
    harness = WorkerHarness(LEGACY)
    id, result = await _parked(harness)
    state = next_try(result, **{"elicitation-1": YES})
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
        number, id = begun(harness, MODERN)
        harness.session.receives(harness.session.correlation.calls[id], id=id, method=ELICIT, params=FORM)
        waiting.append(number)
    _, id = begun(harness, MODERN)
    harness.session.receives(harness.session.correlation.calls[id], id="full", method=ELICIT, params=FORM)
    refused = only(harness.session.take())
    assert (refused["id"], refused["error"]["code"]) == ("full", -32603)
    _, other = begun(harness, MODERN, principal="bob")
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
    _, id = begun(harness, MODERN, meta={**META, "io.modelcontextprotocol/clientCapabilities": capabilities})
    harness.session.receives(id=1, method=ELICIT, params={"mode": "url", "url": "u"})
    assert "error" in only(harness.session.take())
    assert harness.broker.parked == 0
    harness.session.receives(id=id, result=DONE)


@timeless
async def test_a_try_that_its_client_leaves_cancels_the_call() -> None:
    harness = WorkerHarness(LEGACY)
    id, result = await _parked(harness)
    again = harness.call(MODERN, **next_try(result, **{"elicitation-1": YES}))
    harness.session.take()
    harness.a.tell(rpc.Cancel(again, "closed"))
    assert only(harness.session.take())["params"] == {"requestId": id, "reason": "closed"}
    harness.session.receives(id=id, result=DONE)
    assert harness.a.answer(again)["failed"] == "cancelled"
    harness.expect_nothing_left()


@timeless
async def test_a_front_end_that_is_lost_leaves_the_tries_that_wait_there_and_no_others() -> None:
    harness = WorkerHarness(LEGACY)
    first, asked = await _parked(harness)
    _, other = await _parked(harness, front=harness.b)
    harness.call(MODERN, **next_try(asked, **{"elicitation-1": YES}))
    harness.session.take()
    harness.a.close()
    assert only(harness.session.take())["params"]["requestId"] == first
    assert harness.broker.parked == 1
    harness.call(MODERN, front=harness.b, **next_try(other, **{"elicitation-1": YES}))
    assert only(harness.session.take())["result"] == YES


@timeless
async def test_a_first_try_that_is_left_while_questions_are_gathered_cancels_the_call() -> None:
    harness = WorkerHarness(LEGACY)
    number, id = begun(harness, MODERN)
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
    assert harness.a.answer(harness.call(MODERN, **next_try(result)))["failed"] == "invalid_params"
    harness.expect_nothing_left()


@timeless
async def test_each_round_has_the_whole_time() -> None:
    harness = WorkerHarness(LEGACY, input_timeout_s=60.0)
    _, result = await _parked(harness)
    for _ in range(5):
        await asyncio.sleep(50)
        result = harness.a.answer(harness.call(MODERN, **next_try(result)))["result"]
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
    again = harness.call(MODERN, **next_try(result, **{"elicitation-1": YES}))
    harness.session.take()
    await asyncio.sleep(29.5)
    assert harness.a.answers(again) == []
    await asyncio.sleep(1)
    assert harness.a.answer(again)["failed"] == "timeout"
    assert only(harness.session.take())["params"]["requestId"] == id
    harness.expect_nothing_left()


def _progress(harness: WorkerHarness, id: int, progress: int) -> None:
    harness.session.receives(method="notifications/progress", params={"progressToken": id, "progress": progress})


@timeless
async def test_the_newest_progress_is_kept_for_the_next_try_and_log_messages_are_dropped() -> None:
    harness = WorkerHarness(LEGACY)
    number, id = begun(harness, MODERN, token="first")
    _progress(harness, id, 1)
    harness.session.receives(id=1, method=ELICIT, params=FORM)
    await asyncio.sleep(GATHER_S * 1.5)
    _progress(harness, id, 2)
    _progress(harness, id, 3)
    harness.session.receives(method="notifications/message", params={"level": "info", "data": "x"})
    result = harness.a.answer(number)["result"]
    again = harness.call(MODERN, token="second", **next_try(result, **{"elicitation-1": YES}))
    assert [one["params"] for one in harness.a.interim(again)] == [{"progressToken": "second", "progress": 3}]
    _progress(harness, id, 4)
    assert harness.a.interim(again)[-1]["params"] == {"progressToken": "second", "progress": 4}
    assert [one["params"]["progress"] for one in harness.a.interim(number)] == [1]


@timeless
async def test_progress_that_a_try_was_too_short_for_is_kept_for_the_one_after() -> None:
    harness = WorkerHarness(LEGACY)
    number, id = begun(harness, MODERN, token="first")
    harness.session.receives(id=1, method=ELICIT, params=FORM)
    await asyncio.sleep(GATHER_S * 1.5)
    _progress(harness, id, 2)
    short = harness.call(MODERN, token="short", **next_try(harness.a.answer(number)["result"]))
    again = harness.call(MODERN, token="long", **next_try(harness.a.answer(short)["result"], **{"elicitation-1": YES}))
    assert [one["params"]["progressToken"] for one in harness.a.interim(again)] == ["long"]


# ---- URL elicitation by error: modern client, legacy upstream

URL_ERROR = {"code": -32042, "message": "go", "data": {"elicitations": [{"mode": "url", "url": "https://x.test"}]}}


@timeless
async def test_a_url_error_is_input_that_is_required_and_the_retry_a_new_call() -> None:
    harness = WorkerHarness(LEGACY)
    number, id = begun(harness, MODERN)
    harness.session.receives(id=id, error=URL_ERROR)
    result = harness.a.answer(number)["result"]
    assert result["inputRequests"] == {
        "url-1": {"method": ELICIT, "params": {"mode": "url", "url": "https://x.test"}},
    }
    again = harness.call(MODERN, **next_try(result, **{"url-1": {"action": "accept"}}))
    sent = only(harness.session.take())
    assert sent["params"] == {"name": "t", "arguments": {"a": 1}}
    harness.session.receives(id=sent["id"], result=DONE)
    assert "result" in harness.a.answer(again)
    harness.expect_nothing_left()


@timeless
async def test_a_url_that_the_user_did_not_go_to_ends_the_call() -> None:
    harness = WorkerHarness(LEGACY)
    number, id = begun(harness, MODERN)
    harness.session.receives(id=id, error=URL_ERROR)
    again = harness.call(MODERN, **next_try(harness.a.answer(number)["result"], **{"url-1": {"action": "decline"}}))
    assert harness.a.answer(again)["failed"] == "cancelled"
    assert harness.session.take() == []


@pytest.mark.parametrize(("era", "capabilities"), [(MODERN, {"elicitation": {}}), (LEGACY, ALL)])
@timeless
async def test_where_no_url_may_be_asked_for_the_error_stays(era: Era, capabilities: dict[str, Any]) -> None:
    harness = WorkerHarness(LEGACY)
    number, id = begun(harness, era, meta={**META, "io.modelcontextprotocol/clientCapabilities": capabilities})
    harness.session.receives(id=id, error=URL_ERROR)
    assert harness.a.answer(number) == {"error": URL_ERROR}


@timeless
async def test_a_call_that_was_parked_before_may_require_a_url_too() -> None:
    harness = WorkerHarness(LEGACY)
    id, result = await _parked(harness)
    again = harness.call(MODERN, **next_try(result, **{"elicitation-1": YES}))
    harness.session.take()
    harness.session.receives(id=id, error=URL_ERROR)
    required = harness.a.answer(again)["result"]
    assert list(required["inputRequests"]) == ["url-1"]
    harness.call(MODERN, **next_try(required, **{"url-1": {"action": "accept"}}))
    assert only(harness.session.take())["params"] == {"name": "t", "arguments": {"a": 1}}
