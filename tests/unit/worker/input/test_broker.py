"""``worker.input.broker``: what an upstream needs of a client, in every pair of eras, from frame to message and back."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest

from shared.errors import NotDelivered
from shared.mcp import jsonrpc
from shared.mcp.versions import Era
from shared.rpc import messages as rpc
from tests.unit.worker.worker_harness import ALL, META, PONG_S, Rig, settle, timeless
from worker.bridge.inputs import ELICIT, MAX_REQUESTS, ROOTS, SAMPLE
from worker.calls.client_facts import ClientFacts
from worker.calls.own_call import OwnCall
from worker.input import broker
from worker.input.broker import GATHER_S

LEGACY, MODERN = Era.LEGACY, Era.MODERN
YES = {"action": "accept", "content": {"n": 1}}
FORM = {"message": "?", "requestedSchema": {}}
DONE = {"content": [{"type": "text", "text": "done"}]}


def _only(sent: list[dict[str, Any]]) -> dict[str, Any]:
    (one,) = sent
    return one


def _started(rig: Rig, era: Era = LEGACY, session: str = "s1", **how: Any) -> tuple[int, int]:
    """A call is with the upstream: its number, and its id there."""
    if era is LEGACY and session:
        rig.a.open(session, ALL)
    number = rig.call(era, session if era is LEGACY else "", **how)
    return number, _only(rig.session.take())["id"]


# ---- relayed: legacy client, legacy upstream


@timeless
async def test_a_question_reaches_the_calls_client_and_its_answer_the_upstream() -> None:
    rig = Rig(LEGACY)
    number, id = _started(rig)
    rig.session.receives(id="q", method=ELICIT, params=FORM)
    question = _only(rig.a.interim(number))
    assert (question["method"], question["params"]) == (ELICIT, FORM)
    assert question["id"].startswith("w1."), "any front end can tell which worker waits"
    rig.reply(question["id"], "s1", YES)
    assert rig.session.take() == [{"jsonrpc": "2.0", "id": "q", "result": YES}]
    rig.session.receives(id=id, result=DONE)
    assert rig.a.answer(number) == {"result": DONE}
    rig.expect_nothing_left()


@timeless
async def test_a_clients_error_is_an_answer() -> None:
    rig = Rig(LEGACY)
    number, _ = _started(rig)
    rig.session.receives(id=7, method=SAMPLE, params={})
    rig.reply(_only(rig.a.interim(number))["id"], "s1", error={"code": -1, "message": "no"})
    assert rig.session.take() == [{"jsonrpc": "2.0", "id": 7, "error": {"code": -1, "message": "no"}}]


@timeless
async def test_the_answer_may_come_from_any_front_end_but_only_from_the_session_that_was_asked_and_once() -> None:
    rig = Rig(LEGACY)
    number, _ = _started(rig)
    rig.session.receives(id=1, method=ELICIT, params=FORM)
    ask = _only(rig.a.interim(number))["id"]
    for session in ("", "s2", "s11"):
        rig.reply(ask, session, YES)
    rig.reply("w1.999", "s1", YES)
    rig.reply(ask.removeprefix("w1."), "s1", YES)
    assert rig.session.take() == []
    rig.reply(ask, "s1", YES, front=rig.b)
    rig.reply(ask, "s1", {"action": "decline"})
    assert rig.session.take() == [{"jsonrpc": "2.0", "id": 1, "result": YES}]


@timeless
async def test_questions_of_two_calls_are_told_apart_by_their_streams_and_refused_without() -> None:
    rig = Rig(LEGACY)
    one, first = _started(rig)
    two, _ = _started(rig, session="s2")
    rig.session.receives(id=1, method=ELICIT, params=FORM)
    refused = _only(rig.session.take())
    assert (refused["id"], refused["error"]["code"]) == (1, -32601)
    assert "isolation: client" in refused["error"]["message"]
    rig.session.receives(rig.session.correlation.calls[first], id=2, method=ELICIT, params=FORM)
    assert len(rig.a.interim(one)) == 1
    assert rig.a.interim(two) == []


@pytest.mark.parametrize("answered", [True, False])
@timeless
async def test_what_a_call_that_was_given_up_still_asks_or_logs_reaches_nobody_else(answered: bool) -> None:
    """Its client is not asked any more; somebody else, whose call is the only one in flight, must not be."""
    rig = Rig(LEGACY)
    given_up, id = _started(rig)
    rig.a.tell(rpc.Cancel(given_up, "enough"))
    rig.session.take()
    other, _ = _started(rig, session="s2")
    rig.session.receives(id="q", method=ELICIT, params=FORM)
    rig.session.receives(method="notifications/message", params={"level": "error", "data": "a secret"})
    refused = _only(rig.session.take())
    assert (refused["id"], refused["error"]["code"]) == ("q", -32601)
    assert rig.a.interim(other) == []
    if answered:
        rig.session.receives(id=id, result=DONE)
    else:
        await asyncio.sleep(2 * PONG_S)  # what was asked of it after the cancel is answered: it knows
    rig.session.receives(id="r", method=ELICIT, params=FORM)
    assert _only(rig.a.interim(other))["method"] == ELICIT


@timeless
async def test_a_clients_own_given_up_call_does_not_keep_it_from_being_asked() -> None:
    rig = Rig(LEGACY)
    given_up, _ = _started(rig)
    rig.a.tell(rpc.Cancel(given_up, "enough"))
    number, _ = _started_again(rig)
    rig.session.receives(id="q", method=ELICIT, params=FORM)
    assert _only(rig.a.interim(number))["method"] == ELICIT


def _started_again(rig: Rig) -> tuple[int, int]:
    rig.session.take()
    return _started(rig)


@timeless
async def test_on_a_clients_own_session_a_question_needs_no_stream_to_be_about_that_client() -> None:
    rig = Rig(LEGACY, ClientFacts("ada", "2025-11-25", json.dumps(ALL).encode()))
    rig.session.sid_of_client = "s1"
    one, _ = _started(rig)
    two, _ = _started_again(rig)
    rig.session.receives(id="q", method=ROOTS)
    asked = [*rig.a.interim(one), *rig.a.interim(two)]
    assert _only(asked)["method"] == ROOTS


@timeless
async def test_our_own_requests_do_not_hide_whose_question_it_is() -> None:
    rig = Rig(LEGACY)
    number, _ = _started(rig)
    rig.session.submit(OwnCall("ping", b"", LEGACY))
    rig.session.receives(id=1, method=ELICIT, params=FORM)
    rig.session.receives(method="notifications/message", params={"level": "info", "data": "x"})
    assert [message["method"] for message in rig.a.interim(number)] == [ELICIT, "notifications/message"]


@timeless
async def test_with_no_call_in_flight_or_only_our_own_nobody_is_asked() -> None:
    rig = Rig(LEGACY)
    rig.session.receives(id=1, method=ELICIT, params=FORM)
    rig.session.submit(OwnCall("ping", b"", LEGACY))
    rig.session.take()
    rig.session.receives(id=2, method=ELICIT, params=FORM)
    assert _only(rig.session.take())["error"]["code"] == -32601


@timeless
async def test_a_ping_is_answered_by_the_gateway() -> None:
    rig = Rig(LEGACY)
    number, _ = _started(rig)
    rig.session.receives(id="p", method="ping")
    assert rig.session.take() == [{"jsonrpc": "2.0", "id": "p", "result": {}}]
    assert rig.a.interim(number) == []


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
    rig = Rig(LEGACY)
    rig.a.open("s1", capabilities)
    number = rig.call(LEGACY, "s1")
    rig.session.take()
    rig.session.receives(id=1, method=method, params=params)
    assert _only(rig.session.take())["error"]["code"] == code
    assert rig.a.interim(number) == []


@timeless
async def test_a_clients_own_session_knows_its_roots() -> None:
    rig = Rig(LEGACY, ClientFacts("ada", "2025-11-25", b'{"roots":{}}'))
    number, _ = _started(rig)
    rig.session.receives(id=1, method=ROOTS)
    assert _only(rig.a.interim(number))["method"] == ROOTS


@timeless
async def test_a_client_without_a_session_cannot_be_asked() -> None:
    rig = Rig(LEGACY)
    _started(rig, session="")
    rig.session.receives(id=1, method=ELICIT, params=FORM)
    assert _only(rig.session.take())["error"]["code"] == -32601


@timeless
async def test_a_call_that_ends_takes_its_questions_with_it() -> None:
    rig = Rig(LEGACY)
    number, id = _started(rig)
    rig.session.receives(id=1, method=ELICIT, params=FORM)
    rig.session.receives(id=2, method=SAMPLE, params={})
    asks = [question["id"] for question in rig.a.interim(number)]
    rig.session.receives(id=id, result=DONE)
    assert [(one["id"], one["error"]["code"]) for one in rig.session.take()] == [(1, -32603), (2, -32603)]
    for ask in asks:
        rig.reply(ask, "s1", YES)
    assert rig.session.take() == []
    rig.expect_nothing_left()


@timeless
async def test_a_cancelled_call_takes_its_question_with_it() -> None:
    rig = Rig(LEGACY)
    number, id = _started(rig)
    rig.session.receives(id=1, method=ELICIT, params=FORM)
    rig.a.tell(rpc.Cancel(number, "enough"))
    cancelled, declined = rig.session.take()
    assert cancelled["method"] == "notifications/cancelled"
    assert cancelled["params"] == {"requestId": id, "reason": "enough"}
    assert (declined["id"], declined["error"]["code"]) == (1, -32603)
    assert rig.a.answer(number)["failed"] == "cancelled"
    rig.expect_nothing_left()


@timeless
async def test_a_lost_session_fails_the_call_and_forgets_its_question() -> None:
    rig = Rig(LEGACY)
    number, _ = _started(rig)
    rig.session.receives(id=1, method=ELICIT, params=FORM)
    rig.session.lost(NotDelivered("upstream_unavailable", "gone"))
    failed = rig.a.answer(number)
    assert (failed["failed"], failed["delivered"]) == ("outcome_unknown", True)
    assert rig.session.take() == []
    rig.expect_nothing_left()


@timeless
async def test_a_legacy_call_outlives_its_front_end_and_can_still_be_answered() -> None:
    rig = Rig(LEGACY)
    number, id = _started(rig)
    rig.session.receives(id=1, method=ELICIT, params=FORM)
    ask = _only(rig.a.interim(number))["id"]
    rig.a.close()
    rig.reply(ask, "s1", YES, front=rig.b)
    assert _only(rig.session.take())["result"] == YES
    rig.session.receives(id=id, result=DONE)
    rig.expect_nothing_left()


@timeless
async def test_one_call_may_have_so_many_questions_open() -> None:
    rig = Rig(LEGACY)
    number, _ = _started(rig)
    for question in range(MAX_REQUESTS + 1):
        rig.session.receives(id=question, method=ELICIT, params=FORM)
    refused = _only(rig.session.take())
    assert (refused["id"], refused["error"]["code"]) == (MAX_REQUESTS, -32603)
    rig.reply(rig.a.interim(number)[0]["id"], "s1", YES)
    rig.session.take()
    rig.session.receives(id="again", method=ELICIT, params=FORM)
    assert rig.session.take() == []


@timeless
async def test_all_calls_together_may_have_so_many_questions_open() -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(broker, "MAX_OPEN", 2)
        rig = Rig(LEGACY)
        for call in range(3):
            _, id = _started(rig, session=f"s{call}")
            rig.session.receives(rig.session.correlation.calls[id], id=call, method=ELICIT, params=FORM)
        refused = _only(rig.session.take())
        assert (refused["id"], refused["error"]["code"]) == (2, -32603)


# ---- the clocks


@timeless
async def test_while_the_client_is_asked_the_calls_clock_stands_still() -> None:
    rig = Rig(LEGACY, request_timeout_s=30.0, input_timeout_s=600.0)
    number, id = _started(rig)
    await asyncio.sleep(20)
    rig.session.receives(id=1, method=ELICIT, params=FORM)
    await asyncio.sleep(500)
    assert rig.a.answers(number) == []
    rig.reply(_only(rig.a.interim(number))["id"], "s1", YES)
    await asyncio.sleep(25)
    rig.session.receives(id=id, result=DONE)
    assert rig.a.answer(number) == {"result": DONE}


@pytest.mark.parametrize("thought_s", [1, 45, 500])
@timeless
async def test_after_the_last_answer_the_calls_clock_runs_again(thought_s: float) -> None:
    rig = Rig(LEGACY, request_timeout_s=30.0, input_timeout_s=600.0)
    number, id = _started(rig)
    rig.session.receives(id=1, method=ELICIT, params=FORM)
    rig.session.receives(id=2, method=ELICIT, params=FORM)
    asks = [question["id"] for question in rig.a.interim(number)]
    await asyncio.sleep(thought_s)
    rig.reply(asks[1], "s1", YES)
    await asyncio.sleep(40)
    assert rig.a.answers(number) == [], "one is still open"
    rig.reply(asks[0], "s1", YES)
    rig.session.take()
    await asyncio.sleep(29.8)
    assert rig.a.answers(number) == []
    await asyncio.sleep(0.5)
    assert rig.a.answer(number)["failed"] == "timeout"
    assert _only(rig.session.take())["params"]["requestId"] == id
    rig.expect_nothing_left()


@timeless
async def test_a_client_that_never_answers_costs_its_call() -> None:
    rig = Rig(LEGACY, input_timeout_s=60.0)
    number, _ = _started(rig)
    rig.session.receives(id=1, method=ELICIT, params=FORM)
    rig.session.receives(method="notifications/message", params={"level": "info", "data": "does not restart it"})
    await asyncio.sleep(59.5)
    assert rig.a.answers(number) == []
    await asyncio.sleep(1)
    assert rig.a.answer(number)["failed"] == "timeout"
    rig.expect_nothing_left()


@timeless
async def test_the_wheel_holds_a_call_once_however_often_it_asked() -> None:
    rig = Rig(LEGACY)
    number, id = _started(rig)
    for question in range(200):
        rig.session.receives(id=question, method=ELICIT, params=FORM)
        rig.reply(rig.a.interim(number)[-1]["id"], "s1", YES)
        await asyncio.sleep(20)
    held = [item for bucket in rig.deadlines._buckets.values() for item in bucket]
    assert len(held) < 5
    rig.session.receives(id=id, result=DONE)


# ---- parked: modern client, legacy upstream


async def _parked(rig: Rig, *questions: tuple[Any, str, Any], front: Any = None) -> tuple[int, dict[str, Any]]:
    """A modern call whose client was asked these: its id upstream, and the ``input_required`` result."""
    number, id = _started(rig, MODERN, front=front)
    for question, method, params in questions or [(1, ELICIT, FORM)]:
        rig.session.receives(rig.session.correlation.calls[id], id=question, method=method, params=params)
    await asyncio.sleep(GATHER_S * 1.5)
    result = (front or rig.a).answer(number)["result"]
    assert result["resultType"] == "input_required"
    return id, result


def _state(result: dict[str, Any], **responses: Any) -> dict[str, Any]:
    """What a client's next try carries."""
    return {"requestState": result["requestState"], **({"inputResponses": responses} if responses else {})}


@timeless
async def test_questions_of_a_moment_are_one_result_and_the_next_try_wakes_the_call() -> None:
    rig = Rig(LEGACY)
    id, result = await _parked(rig, (1, ELICIT, FORM), ("two", SAMPLE, {"messages": []}))
    assert result["inputRequests"] == {
        "elicitation-1": {"method": ELICIT, "params": FORM},
        "sampling-2": {"method": SAMPLE, "params": {"messages": []}},
    }
    assert rig.session.take() == [], "having asked is no cancel"
    answers = {"elicitation-1": YES, "sampling-2": {"role": "assistant"}}
    again = rig.call(MODERN, front=rig.b, **_state(result, **answers))
    assert rig.session.take() == [
        {"jsonrpc": "2.0", "id": 1, "result": YES},
        {"jsonrpc": "2.0", "id": "two", "result": {"role": "assistant"}},
    ]
    rig.session.receives(id=id, result=DONE)
    assert rig.b.answer(again) == {"result": {"resultType": "complete", **DONE}}
    rig.expect_nothing_left()


@timeless
async def test_partial_answers_ask_for_the_rest() -> None:
    rig = Rig(LEGACY)
    id, result = await _parked(rig, (1, ELICIT, FORM), (2, ELICIT, FORM))
    again = rig.call(MODERN, **_state(result, **{"elicitation-1": YES}))
    rest = rig.a.answer(again)["result"]
    assert list(rest["inputRequests"]) == ["elicitation-2"]
    assert [one["id"] for one in rig.session.take()] == [1]
    last = rig.call(MODERN, **_state(rest, **{"elicitation-2": YES}))
    rig.session.receives(id=id, result=DONE)
    assert "result" in rig.a.answer(last)
    rig.expect_nothing_left()


@timeless
async def test_a_later_question_is_the_next_round() -> None:
    rig = Rig(LEGACY)
    id, result = await _parked(rig)
    again = rig.call(MODERN, **_state(result, **{"elicitation-1": YES}))
    rig.session.receives(id="later", method=ELICIT, params=FORM)
    await asyncio.sleep(GATHER_S * 1.5)
    assert list(rig.a.answer(again)["result"]["inputRequests"]) == ["elicitation-2"]
    rig.session.receives(id=id, result=DONE)
    assert rig.needs.parked == 1, "the outcome is held for the client"


@timeless
async def test_an_error_of_the_upstream_is_held_and_delivered_too() -> None:
    rig = Rig(LEGACY)
    id, result = await _parked(rig)
    rig.session.receives(id=id, error={"code": -5, "message": "no"})
    again = rig.call(MODERN, **_state(result, **{"elicitation-1": YES}))
    assert rig.a.answer(again) == {"error": {"code": -5, "message": "no"}}
    rig.expect_nothing_left()


@timeless
async def test_a_session_lost_meanwhile_fails_the_next_try() -> None:
    rig = Rig(LEGACY)
    _, result = await _parked(rig)
    rig.session.lost(NotDelivered("upstream_unavailable", "gone"))
    again = rig.call(MODERN, **_state(result, **{"elicitation-1": YES}))
    failed = rig.a.answer(again)
    assert (failed["failed"], failed["delivered"]) == ("outcome_unknown", True)
    rig.expect_nothing_left()


@timeless
async def test_a_state_counts_once_for_this_request_and_this_principal() -> None:
    rig = Rig(LEGACY)
    id, result = await _parked(rig)
    state = _state(result, **{"elicitation-1": YES})
    for wrong in (
        rig.call(MODERN, principal="eve", **state),
        rig.call(MODERN, arguments={"a": 2}, **state),
        rig.call(MODERN, arguments={"a": int("9" * 4200)}, **state),
        rig.call(MODERN, requestState=result["requestState"][:-8], inputResponses={}),
        rig.call(MODERN, requestState=5),
        rig.call(MODERN, requestState=result["requestState"], inputResponses=[]),
    ):
        assert rig.a.answer(wrong)["failed"] == "invalid_params"
    assert rig.session.take() == []
    again = rig.call(MODERN, meta={**META, "progressToken": 5}, **state)
    replayed = rig.call(MODERN, **state)
    assert rig.a.answer(replayed)["failed"] == "invalid_params"
    rig.session.receives(id=id, result=DONE)
    assert "result" in rig.a.answer(again)
    assert rig.a.answer(rig.call(MODERN, **state))["failed"] == "invalid_params"
    rig.expect_nothing_left()


@timeless
async def test_arguments_that_python_cannot_read_cost_no_other_call() -> None:
    rig = Rig(LEGACY)
    _, result = await _parked(rig)
    huge = json.dumps({"name": "t", "requestState": result["requestState"]}).encode()
    huge = huge[:-1] + b',"arguments":{"a":' + b"9" * 5000 + b"}}"
    rig.a.tell(rpc.Call(77, "up", "tools/call", 1, "", "ada", retry=True), huge)
    assert rig.a.answer(77)["failed"] == "invalid_params"


@timeless
async def test_one_principal_may_have_so_many_calls_parked() -> None:
    rig = Rig(LEGACY, max_parked=2)
    waiting = []
    for _ in range(2):
        number, id = _started(rig, MODERN)
        rig.session.receives(rig.session.correlation.calls[id], id=id, method=ELICIT, params=FORM)
        waiting.append(number)
    _, id = _started(rig, MODERN)
    rig.session.receives(rig.session.correlation.calls[id], id="full", method=ELICIT, params=FORM)
    refused = _only(rig.session.take())
    assert (refused["id"], refused["error"]["code"]) == ("full", -32603)
    _, other = _started(rig, MODERN, principal="bob")
    rig.session.receives(rig.session.correlation.calls[other], id="bob's", method=ELICIT, params=FORM)
    assert rig.session.take() == []
    rig.a.tell(rpc.Cancel(waiting[0]))
    rig.session.take()
    rig.session.receives(rig.session.correlation.calls[id], id="room", method=ELICIT, params=FORM)
    assert rig.session.take() == []


@pytest.mark.parametrize("capabilities", [{}, {"elicitation": {}}])
@timeless
async def test_a_modern_client_declares_with_each_call_what_it_may_be_asked(capabilities: dict[str, Any]) -> None:
    rig = Rig(LEGACY)
    _, id = _started(rig, MODERN, meta={**META, "io.modelcontextprotocol/clientCapabilities": capabilities})
    rig.session.receives(id=1, method=ELICIT, params={"mode": "url", "url": "u"})
    assert "error" in _only(rig.session.take())
    assert rig.needs.parked == 0
    rig.session.receives(id=id, result=DONE)


@timeless
async def test_a_try_that_its_client_leaves_cancels_the_call() -> None:
    rig = Rig(LEGACY)
    id, result = await _parked(rig)
    again = rig.call(MODERN, **_state(result, **{"elicitation-1": YES}))
    rig.session.take()
    rig.a.tell(rpc.Cancel(again, "closed"))
    assert _only(rig.session.take())["params"] == {"requestId": id, "reason": "closed"}
    rig.session.receives(id=id, result=DONE)
    assert rig.a.answer(again)["failed"] == "cancelled"
    rig.expect_nothing_left()


@timeless
async def test_a_front_end_that_is_lost_leaves_the_tries_that_wait_there_and_no_others() -> None:
    rig = Rig(LEGACY)
    first, asked = await _parked(rig)
    _, other = await _parked(rig, front=rig.b)
    rig.call(MODERN, **_state(asked, **{"elicitation-1": YES}))
    rig.session.take()
    rig.a.close()
    assert _only(rig.session.take())["params"]["requestId"] == first
    assert rig.needs.parked == 1
    rig.call(MODERN, front=rig.b, **_state(other, **{"elicitation-1": YES}))
    assert _only(rig.session.take())["result"] == YES


@timeless
async def test_a_first_try_that_is_left_while_questions_are_gathered_cancels_the_call() -> None:
    rig = Rig(LEGACY)
    number, id = _started(rig, MODERN)
    rig.session.receives(id=1, method=ELICIT, params=FORM)
    rig.a.tell(rpc.Cancel(number, "closed"))
    declined, cancelled = rig.session.take()
    assert (declined["id"], cancelled["params"]["requestId"]) == (1, id)
    await asyncio.sleep(1)
    rig.expect_nothing_left()


@timeless
async def test_a_call_that_nobody_comes_back_to_is_cancelled_when_its_time_is_over() -> None:
    rig = Rig(LEGACY, input_timeout_s=60.0)
    id, result = await _parked(rig)
    await asyncio.sleep(59)
    assert rig.session.take() == []
    await asyncio.sleep(2)
    declined, cancelled = rig.session.take()
    assert (declined["id"], declined["error"]["code"]) == (1, -32603)
    assert cancelled["params"]["requestId"] == id
    assert rig.a.answer(rig.call(MODERN, **_state(result)))["failed"] == "invalid_params"
    rig.expect_nothing_left()


@timeless
async def test_each_round_has_the_whole_time() -> None:
    rig = Rig(LEGACY, input_timeout_s=60.0)
    _, result = await _parked(rig)
    for _ in range(5):
        await asyncio.sleep(50)
        result = rig.a.answer(rig.call(MODERN, **_state(result)))["result"]
    held = [item for bucket in rig.deadlines._buckets.values() for item in bucket if item.expires_at]
    assert len(held) <= 2, "the wheel does not hold it once for each round"
    assert rig.session.take() == []
    await asyncio.sleep(61)
    assert len(rig.session.take()) == 2
    rig.expect_nothing_left()


@timeless
async def test_an_outcome_that_nobody_comes_back_for_is_forgotten() -> None:
    rig = Rig(LEGACY, input_timeout_s=60.0)
    id, _ = await _parked(rig)
    rig.session.receives(id=id, result=DONE)
    await asyncio.sleep(61)
    assert [one["id"] for one in rig.session.take()] == [1]
    rig.expect_nothing_left()


@timeless
async def test_a_try_that_waits_has_the_requests_time() -> None:
    rig = Rig(LEGACY, request_timeout_s=30.0)
    id, result = await _parked(rig)
    await asyncio.sleep(100)
    again = rig.call(MODERN, **_state(result, **{"elicitation-1": YES}))
    rig.session.take()
    await asyncio.sleep(29.5)
    assert rig.a.answers(again) == []
    await asyncio.sleep(1)
    assert rig.a.answer(again)["failed"] == "timeout"
    assert _only(rig.session.take())["params"]["requestId"] == id
    rig.expect_nothing_left()


def _progress(rig: Rig, id: int, progress: int) -> None:
    rig.session.receives(method="notifications/progress", params={"progressToken": id, "progress": progress})


@timeless
async def test_the_newest_progress_is_kept_for_the_next_try_and_log_messages_are_dropped() -> None:
    rig = Rig(LEGACY)
    number, id = _started(rig, MODERN, token="first")
    _progress(rig, id, 1)
    rig.session.receives(id=1, method=ELICIT, params=FORM)
    await asyncio.sleep(GATHER_S * 1.5)
    _progress(rig, id, 2)
    _progress(rig, id, 3)
    rig.session.receives(method="notifications/message", params={"level": "info", "data": "x"})
    result = rig.a.answer(number)["result"]
    again = rig.call(MODERN, token="second", **_state(result, **{"elicitation-1": YES}))
    assert [one["params"] for one in rig.a.interim(again)] == [{"progressToken": "second", "progress": 3}]
    _progress(rig, id, 4)
    assert rig.a.interim(again)[-1]["params"] == {"progressToken": "second", "progress": 4}
    assert [one["params"]["progress"] for one in rig.a.interim(number)] == [1]


@timeless
async def test_progress_that_a_try_was_too_short_for_is_kept_for_the_one_after() -> None:
    rig = Rig(LEGACY)
    number, id = _started(rig, MODERN, token="first")
    rig.session.receives(id=1, method=ELICIT, params=FORM)
    await asyncio.sleep(GATHER_S * 1.5)
    _progress(rig, id, 2)
    short = rig.call(MODERN, token="short", **_state(rig.a.answer(number)["result"]))
    again = rig.call(MODERN, token="long", **_state(rig.a.answer(short)["result"], **{"elicitation-1": YES}))
    assert [one["params"]["progressToken"] for one in rig.a.interim(again)] == ["long"]


# ---- URL elicitation by error: modern client, legacy upstream

URL_ERROR = {"code": -32042, "message": "go", "data": {"elicitations": [{"mode": "url", "url": "https://x.test"}]}}


@timeless
async def test_a_url_error_is_input_that_is_required_and_the_retry_a_new_call() -> None:
    rig = Rig(LEGACY)
    number, id = _started(rig, MODERN)
    rig.session.receives(id=id, error=URL_ERROR)
    result = rig.a.answer(number)["result"]
    assert result["inputRequests"] == {
        "url-1": {"method": ELICIT, "params": {"mode": "url", "url": "https://x.test"}},
    }
    again = rig.call(MODERN, **_state(result, **{"url-1": {"action": "accept"}}))
    sent = _only(rig.session.take())
    assert sent["params"] == {"name": "t", "arguments": {"a": 1}}
    rig.session.receives(id=sent["id"], result=DONE)
    assert "result" in rig.a.answer(again)
    rig.expect_nothing_left()


@timeless
async def test_a_url_that_the_user_did_not_go_to_ends_the_call() -> None:
    rig = Rig(LEGACY)
    number, id = _started(rig, MODERN)
    rig.session.receives(id=id, error=URL_ERROR)
    again = rig.call(MODERN, **_state(rig.a.answer(number)["result"], **{"url-1": {"action": "decline"}}))
    assert rig.a.answer(again)["failed"] == "cancelled"
    assert rig.session.take() == []


@pytest.mark.parametrize(("era", "capabilities"), [(MODERN, {"elicitation": {}}), (LEGACY, ALL)])
@timeless
async def test_where_no_url_may_be_asked_for_the_error_stays(era: Era, capabilities: dict[str, Any]) -> None:
    rig = Rig(LEGACY)
    number, id = _started(rig, era, meta={**META, "io.modelcontextprotocol/clientCapabilities": capabilities})
    rig.session.receives(id=id, error=URL_ERROR)
    assert rig.a.answer(number) == {"error": URL_ERROR}


@timeless
async def test_a_call_that_was_parked_before_may_require_a_url_too() -> None:
    rig = Rig(LEGACY)
    id, result = await _parked(rig)
    again = rig.call(MODERN, **_state(result, **{"elicitation-1": YES}))
    rig.session.take()
    rig.session.receives(id=id, error=URL_ERROR)
    required = rig.a.answer(again)["result"]
    assert list(required["inputRequests"]) == ["url-1"]
    rig.call(MODERN, **_state(required, **{"url-1": {"action": "accept"}}))
    assert _only(rig.session.take())["params"] == {"name": "t", "arguments": {"a": 1}}


# ---- passed: modern client, modern upstream

REQUIRED = {"resultType": "input_required", "inputRequests": {"k": {"method": ROOTS}}}


@pytest.mark.parametrize("inner", ["theirs", None])
@timeless
async def test_an_upstreams_state_is_wrapped_and_comes_back_to_it_as_it_was(inner: str | None) -> None:
    rig = Rig(MODERN)
    number, id = _started(rig, MODERN)
    rig.session.receives(id=id, result={**REQUIRED, **({"requestState": inner} if inner else {})})
    result = rig.a.answer(number)["result"]
    assert result["inputRequests"] == REQUIRED["inputRequests"]
    assert inner not in result["requestState"] if inner else result["requestState"]
    again = rig.call(MODERN, front=rig.b, **_state(result, k={"roots": []}))
    sent = _only(rig.session.take())
    assert sent["params"].get("requestState") == inner
    assert sent["params"]["inputResponses"] == {"k": {"roots": []}}
    rig.session.receives(id=sent["id"], result={"resultType": "complete", **DONE})
    assert rig.b.answer(again) == {"result": {"resultType": "complete", **DONE}}
    rig.expect_nothing_left()


@timeless
async def test_a_wrapped_state_is_for_its_own_request_and_principal() -> None:
    rig = Rig(MODERN)
    number, id = _started(rig, MODERN)
    rig.session.receives(id=id, result={**REQUIRED, "requestState": "theirs"})
    result = rig.a.answer(number)["result"]
    for wrong in (
        rig.call(MODERN, principal="eve", **_state(result)),
        rig.call(MODERN, arguments={}, **_state(result)),
        rig.call(MODERN, requestState="theirs"),
    ):
        assert rig.a.answer(wrong)["failed"] == "invalid_params"
    assert rig.session.take() == []


@timeless
async def test_a_state_that_could_not_come_back_fails_the_call() -> None:
    rig = Rig(MODERN)
    number, id = _started(rig, MODERN)
    rig.session.receives(id=id, result={**REQUIRED, "requestState": "x" * 1_000_000})
    assert rig.a.answer(number)["failed"] == "upstream_protocol"


@timeless
async def test_a_result_that_only_speaks_of_it_passes_as_it_is() -> None:
    rig = Rig(MODERN)
    number, id = _started(rig, MODERN)
    rig.session.receives(id=id, result={"resultType": "complete", "content": ["input_required"]})
    assert rig.a.answer(number) == {"result": {"resultType": "complete", "content": ["input_required"]}}


@timeless
async def test_a_malformed_one_is_the_upstreams_error() -> None:
    rig = Rig(MODERN)
    number, id = _started(rig, MODERN)
    rig.session.receives(id=id, result={"resultType": "input_required", "inputRequests": 5})
    assert rig.a.answer(number)["failed"] == "upstream_protocol"


# ---- asked: legacy client, modern upstream


def _required(rig: Rig, id: int, state: str | None = "theirs", **needs: Any) -> None:
    members = {"inputRequests": needs, **({"requestState": state} if state else {})}
    rig.session.receives(id=id, result={"resultType": "input_required", **members})


@timeless
async def test_a_legacy_client_is_asked_in_its_own_words_and_the_call_sent_again() -> None:
    rig = Rig(MODERN)
    number, id = _started(rig)
    _required(rig, id, f={"method": ELICIT, "params": FORM}, r={"method": ROOTS})
    form, roots = rig.a.interim(number)
    assert (form["method"], form["params"], roots["method"]) == (ELICIT, FORM, ROOTS)
    rig.reply(roots["id"], "s1", {"roots": []}, front=rig.b)
    rig.reply(form["id"], "s1", error={"code": -1, "message": "no"})
    await settle()
    sent = _only(rig.session.take())
    assert sent["id"] != id
    assert sent["params"]["inputResponses"] == {"r": {"roots": []}, "f": {"action": "cancel"}}
    assert sent["params"]["requestState"] == "theirs"
    assert (sent["params"]["name"], sent["params"]["arguments"]) == ("t", {"a": 1})
    rig.session.receives(id=sent["id"], result={"resultType": "complete", **DONE})
    assert rig.a.answer(number) == {"result": DONE}
    rig.expect_nothing_left()


@timeless
async def test_the_next_round_carries_only_its_own_answers_and_state() -> None:
    rig = Rig(MODERN)
    number, id = _started(rig)
    _required(rig, id, f={"method": ELICIT, "params": FORM})
    rig.reply(rig.a.interim(number)[0]["id"], "s1", YES)
    await settle()
    _required(rig, _only(rig.session.take())["id"], None, g={"method": ROOTS})
    rig.reply(rig.a.interim(number)[1]["id"], "s1", {"roots": []})
    await settle()
    sent = _only(rig.session.take())
    assert sent["params"]["inputResponses"] == {"g": {"roots": []}}
    assert "requestState" not in sent["params"]


@timeless
async def test_state_alone_is_sent_again_after_a_moment_and_not_for_ever() -> None:
    rig = Rig(MODERN)
    number, id = _started(rig)
    rounds = 0
    while not rig.a.answers(number):
        rounds += 1
        _required(rig, id)
        await settle()
        assert rig.session.take() == []
        await asyncio.sleep(0.3)
        for sent in rig.session.take():
            id = sent["id"]
    assert rounds == 11
    failed = rig.a.answer(number)
    assert (failed["failed"], failed["delivered"]) == ("upstream_protocol", True)
    rig.expect_nothing_left()


@timeless
async def test_a_url_elicitation_gets_the_id_that_legacy_clients_know_it_by() -> None:
    rig = Rig(MODERN)
    number, id = _started(rig)
    _required(rig, id, u={"method": ELICIT, "params": {"mode": "url", "url": "https://x.test"}})
    assert _only(rig.a.interim(number))["params"]["elicitationId"]


@pytest.mark.parametrize("session", ["", "s1"])
@timeless
async def test_a_client_that_cannot_be_asked_fails_its_call(session: str) -> None:
    rig = Rig(MODERN)
    rig.a.open("s1", {"elicitation": {}})
    number = rig.call(LEGACY, session)
    _required(rig, _only(rig.session.take())["id"], s={"method": SAMPLE}, f={"method": ELICIT})
    assert rig.a.answer(number)["failed"] == "upstream_protocol"
    assert rig.a.interim(number) == []
    rig.expect_nothing_left()


@timeless
async def test_a_client_that_refuses_to_sample_fails_its_call_and_is_asked_nothing_more() -> None:
    rig = Rig(MODERN)
    number, id = _started(rig)
    _required(rig, id, f={"method": ELICIT, "params": FORM}, s={"method": SAMPLE})
    form, sample = rig.a.interim(number)
    rig.reply(sample["id"], "s1", error={"code": -1, "message": "no"})
    assert rig.a.answer(number)["failed"] == "upstream_protocol"
    rig.reply(form["id"], "s1", YES)
    await asyncio.sleep(1)
    assert rig.session.take() == []
    rig.expect_nothing_left()


@timeless
async def test_more_needs_than_may_be_open_are_cancelled_by_us() -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(broker, "MAX_OPEN", 1)
        rig = Rig(MODERN)
        number, id = _started(rig)
        _required(rig, id, f={"method": ELICIT, "params": FORM}, g={"method": ELICIT, "params": FORM})
        rig.reply(_only(rig.a.interim(number))["id"], "s1", YES)
        await settle()
        assert _only(rig.session.take())["params"]["inputResponses"] == {"g": {"action": "cancel"}, "f": YES}


@timeless
async def test_a_call_that_is_cancelled_before_it_is_sent_again_is_not_sent() -> None:
    rig = Rig(MODERN)
    number, id = _started(rig)
    _required(rig, id)
    rig.a.tell(rpc.Cancel(number, "enough"))
    await asyncio.sleep(1)
    assert [one for one in rig.session.take() if "id" in one] == []
    rig.expect_nothing_left()


@timeless
async def test_once_the_client_was_asked_nothing_is_repeated_elsewhere() -> None:
    rig = Rig(MODERN)
    number, id = _started(rig)
    _required(rig, id, f={"method": ELICIT, "params": FORM})
    rig.session.lost(NotDelivered("upstream_unavailable", "gone"))
    rig.reply(_only(rig.a.interim(number))["id"], "s1", YES)
    await settle()
    failed = rig.a.answer(number)
    assert (failed["failed"], failed["delivered"]) == ("upstream_unavailable", True)
    rig.expect_nothing_left()


@timeless
async def test_a_client_that_never_answers_ends_the_call_there_too() -> None:
    rig = Rig(MODERN, input_timeout_s=60.0)
    number, id = _started(rig)
    _required(rig, id, f={"method": ELICIT, "params": FORM})
    await asyncio.sleep(59)
    assert rig.a.answers(number) == []
    await asyncio.sleep(2)
    assert rig.a.answer(number)["failed"] == "timeout"
    rig.expect_nothing_left()


def test_an_object_of_ours_is_json() -> None:
    for raw in (broker._OVER, broker.FULL):
        assert jsonrpc.members(raw)


# ---- what is kept


@timeless
async def test_what_is_kept_for_a_lost_stream_is_the_answer_and_not_all_that_came_with_it() -> None:
    rig = Rig(LEGACY)
    number, id = _started(rig)
    rig.a.tell(rpc.Detach(number))
    large = {"content": [{"type": "text", "text": "x" * 20_000}]}
    rig.session.receives(junk="j" * 100_000, id=id, result=large)
    replay = rig.needs.replays.find(("a", number), "s1")
    assert replay is not None and replay.outcome is not None
    cells: Any = replay.outcome.send.__closure__
    kept = [cell.cell_contents for cell in cells if isinstance(cell.cell_contents, bytes | memoryview)]
    assert [type(one) for one in kept] == [bytes] and json.loads(kept[0]) == large


# ---- taken back


@timeless
async def test_a_question_that_the_upstream_cancels_is_taken_back_from_the_client() -> None:
    rig = Rig(LEGACY)
    number, id = _started(rig)
    rig.session.receives(id="q", method=ELICIT, params=FORM)
    ask = _only(rig.a.interim(number))["id"]
    rig.session.receives(method="notifications/cancelled", params={"requestId": "q"})
    assert rig.a.interim(number)[1]["method"] == "notifications/cancelled"
    assert rig.a.interim(number)[1]["params"] == {"requestId": ask}
    rig.reply(ask, "s1", YES)
    assert rig.session.take() == [], "an answer that comes all the same is of no use"
    rig.session.receives(method="notifications/cancelled", params={"requestId": "q"})
    rig.session.receives(id=id, result=DONE)
    assert rig.a.answer(number) == {"result": DONE}
    rig.expect_nothing_left()


@timeless
async def test_the_clock_of_a_call_runs_again_once_its_question_was_taken_back() -> None:
    rig = Rig(LEGACY, request_timeout_s=5.0, input_timeout_s=600.0)
    number, _ = _started(rig)
    rig.session.receives(id="q", method=ELICIT, params=FORM)
    rig.session.receives(method="notifications/cancelled", params={"requestId": "q"})
    await asyncio.sleep(6)
    assert rig.a.answer(number)["failed"] == "timeout"


@timeless
async def test_a_client_whose_call_ends_is_told_that_its_question_needs_no_answer() -> None:
    rig = Rig(LEGACY)
    number, id = _started(rig)
    rig.session.receives(id="q", method=ELICIT, params=FORM)
    rig.session.receives(id=id, result=DONE)
    question, taken_back = rig.a.interim(number)
    assert (taken_back["method"], taken_back["params"]["requestId"]) == ("notifications/cancelled", question["id"])
    assert rig.a.answer(number) == {"result": DONE}


@timeless
async def test_that_an_elicitation_by_url_is_done_is_told_on_its_calls_stream() -> None:
    rig = Rig(LEGACY)
    number, _ = _started(rig)
    done = {"elicitationId": "e1"}
    rig.session.receives(method="notifications/elicitation/complete", params=done)
    told = _only(rig.a.interim(number))
    assert (told["method"], told["params"]) == ("notifications/elicitation/complete", done)
