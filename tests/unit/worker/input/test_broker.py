"""``worker.input.broker``: a legacy client is asked what a legacy upstream needs, from frame to message and back."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest

from shared.errors import NotDelivered
from shared.rpc import messages as rpc
from tests.unit.worker.input.questions import DONE, FORM, LEGACY, YES, begun, only
from tests.unit.worker.worker_harness import ALL, PONG_S, WorkerHarness, timeless
from worker.bridge.inputs import ELICIT, MAX_REQUESTS, ROOTS, SAMPLE
from worker.calls.client_facts import ClientFacts
from worker.calls.own_call import OwnCall

# ---- relayed: legacy client, legacy upstream


@timeless
async def test_a_question_reaches_the_calls_client_and_its_answer_the_upstream() -> None:
    harness = WorkerHarness(LEGACY)
    number, id = begun(harness)
    harness.session.receives(id="q", method=ELICIT, params=FORM)
    question = only(harness.a.interim(number))
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
    number, _ = begun(harness)
    harness.session.receives(id=7, method=SAMPLE, params={})
    harness.reply(only(harness.a.interim(number))["id"], "s1", error={"code": -1, "message": "no"})
    assert harness.session.take() == [{"jsonrpc": "2.0", "id": 7, "error": {"code": -1, "message": "no"}}]


@timeless
async def test_the_answer_may_come_from_any_front_end_but_only_from_the_session_that_was_asked_and_once() -> None:
    harness = WorkerHarness(LEGACY)
    number, _ = begun(harness)
    harness.session.receives(id=1, method=ELICIT, params=FORM)
    question_id = only(harness.a.interim(number))["id"]
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
    one, first = begun(harness)
    two, _ = begun(harness, session="s2")
    harness.session.receives(id=1, method=ELICIT, params=FORM)
    refused = only(harness.session.take())
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
    given_up, id = begun(harness)
    harness.a.tell(rpc.Cancel(given_up, "enough"))
    harness.session.take()
    other, _ = begun(harness, session="s2")
    harness.session.receives(id="q", method=ELICIT, params=FORM)
    harness.session.receives(method="notifications/message", params={"level": "error", "data": "a secret"})
    refused = only(harness.session.take())
    assert (refused["id"], refused["error"]["code"]) == ("q", -32601)
    assert harness.a.interim(other) == []
    if answered:
        harness.session.receives(id=id, result=DONE)
    else:
        await asyncio.sleep(2 * PONG_S)  # what was asked of it after the cancel is answered: it knows
    harness.session.receives(id="r", method=ELICIT, params=FORM)
    assert only(harness.a.interim(other))["method"] == ELICIT


@timeless
async def test_a_clients_own_given_up_call_does_not_keep_it_from_being_asked() -> None:
    harness = WorkerHarness(LEGACY)
    given_up, _ = begun(harness)
    harness.a.tell(rpc.Cancel(given_up, "enough"))
    number, _ = _started_again(harness)
    harness.session.receives(id="q", method=ELICIT, params=FORM)
    assert only(harness.a.interim(number))["method"] == ELICIT


def _started_again(harness: WorkerHarness) -> tuple[int, int]:
    harness.session.take()
    return begun(harness)


@timeless
async def test_on_a_clients_own_session_a_question_needs_no_stream_to_be_about_that_client() -> None:
    harness = WorkerHarness(LEGACY, ClientFacts("ada", "2025-11-25", json.dumps(ALL).encode()), "s1")
    one, _ = begun(harness)
    two, _ = _started_again(harness)
    harness.session.receives(id="q", method=ROOTS)
    asked = [*harness.a.interim(one), *harness.a.interim(two)]
    assert only(asked)["method"] == ROOTS


@timeless
async def test_our_own_requests_do_not_hide_whose_question_it_is() -> None:
    harness = WorkerHarness(LEGACY)
    number, _ = begun(harness)
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
    assert only(harness.session.take())["error"]["code"] == -32601


@timeless
async def test_a_ping_is_answered_by_the_gateway() -> None:
    harness = WorkerHarness(LEGACY)
    number, _ = begun(harness)
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
    assert only(harness.session.take())["error"]["code"] == code
    assert harness.a.interim(number) == []


@timeless
async def test_a_clients_own_session_knows_its_roots() -> None:
    harness = WorkerHarness(LEGACY, ClientFacts("ada", "2025-11-25", b'{"roots":{}}'))
    number, _ = begun(harness)
    harness.session.receives(id=1, method=ROOTS)
    assert only(harness.a.interim(number))["method"] == ROOTS


@timeless
async def test_a_client_without_a_session_cannot_be_asked() -> None:
    harness = WorkerHarness(LEGACY)
    begun(harness, session="")
    harness.session.receives(id=1, method=ELICIT, params=FORM)
    assert only(harness.session.take())["error"]["code"] == -32601


@timeless
async def test_a_call_that_ends_takes_its_questions_with_it() -> None:
    harness = WorkerHarness(LEGACY)
    number, id = begun(harness)
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
    number, id = begun(harness)
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
    number, _ = begun(harness)
    harness.session.receives(id=1, method=ELICIT, params=FORM)
    harness.session.lost(NotDelivered("upstream_unavailable", "gone"))
    failed = harness.a.answer(number)
    assert (failed["failed"], failed["delivered"]) == ("outcome_unknown", True)
    assert harness.session.take() == []
    harness.expect_nothing_left()


@timeless
async def test_a_legacy_call_outlives_its_front_end_and_can_still_be_answered() -> None:
    harness = WorkerHarness(LEGACY)
    number, id = begun(harness)
    harness.session.receives(id=1, method=ELICIT, params=FORM)
    question_id = only(harness.a.interim(number))["id"]
    harness.a.close()
    harness.reply(question_id, "s1", YES, front=harness.b)
    assert only(harness.session.take())["result"] == YES
    harness.session.receives(id=id, result=DONE)
    harness.expect_nothing_left()


@timeless
async def test_one_call_may_have_so_many_questions_open() -> None:
    harness = WorkerHarness(LEGACY)
    number, _ = begun(harness)
    for question in range(MAX_REQUESTS + 1):
        harness.session.receives(id=question, method=ELICIT, params=FORM)
    refused = only(harness.session.take())
    assert (refused["id"], refused["error"]["code"]) == (MAX_REQUESTS, -32603)
    harness.reply(harness.a.interim(number)[0]["id"], "s1", YES)
    harness.session.take()
    harness.session.receives(id="again", method=ELICIT, params=FORM)
    assert harness.session.take() == []


@timeless
async def test_all_calls_together_may_have_so_many_questions_open() -> None:
    harness = WorkerHarness(LEGACY, max_open=2)
    for call in range(3):
        _, id = begun(harness, session=f"s{call}")
        harness.session.receives(harness.session.correlation.calls[id], id=call, method=ELICIT, params=FORM)
    refused = only(harness.session.take())
    assert (refused["id"], refused["error"]["code"]) == (2, -32603)


# ---- the clocks


@timeless
async def test_while_the_client_is_asked_the_calls_clock_stands_still() -> None:
    harness = WorkerHarness(LEGACY, request_timeout_s=30.0, input_timeout_s=600.0)
    number, id = begun(harness)
    await asyncio.sleep(20)
    harness.session.receives(id=1, method=ELICIT, params=FORM)
    await asyncio.sleep(500)
    assert harness.a.answers(number) == []
    harness.reply(only(harness.a.interim(number))["id"], "s1", YES)
    await asyncio.sleep(25)
    harness.session.receives(id=id, result=DONE)
    assert harness.a.answer(number) == {"result": DONE}


@pytest.mark.parametrize("thought_s", [1, 45, 500])
@timeless
async def test_after_the_last_answer_the_calls_clock_runs_again(thought_s: float) -> None:
    harness = WorkerHarness(LEGACY, request_timeout_s=30.0, input_timeout_s=600.0)
    number, id = begun(harness)
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
    assert only(harness.session.take())["params"]["requestId"] == id
    harness.expect_nothing_left()


@timeless
async def test_a_client_that_never_answers_costs_its_call() -> None:
    harness = WorkerHarness(LEGACY, input_timeout_s=60.0)
    number, _ = begun(harness)
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
    number, id = begun(harness)
    for question in range(200):
        harness.session.receives(id=question, method=ELICIT, params=FORM)
        harness.reply(harness.a.interim(number)[-1]["id"], "s1", YES)
        await asyncio.sleep(20)
    assert harness.deadlines.held < 5
    harness.session.receives(id=id, result=DONE)


# ---- what is kept


@timeless
async def test_what_is_kept_for_a_lost_stream_is_the_answer_and_not_all_that_came_with_it() -> None:
    harness = WorkerHarness(LEGACY)
    number, id = begun(harness)
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
    number, id = begun(harness)
    harness.session.receives(id="q", method=ELICIT, params=FORM)
    question_id = only(harness.a.interim(number))["id"]
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
    number, _ = begun(harness)
    harness.session.receives(id="q", method=ELICIT, params=FORM)
    harness.session.receives(method="notifications/cancelled", params={"requestId": "q"})
    await asyncio.sleep(6)
    assert harness.a.answer(number)["failed"] == "timeout"


@timeless
async def test_a_client_whose_call_ends_is_told_that_its_question_needs_no_answer() -> None:
    harness = WorkerHarness(LEGACY)
    number, id = begun(harness)
    harness.session.receives(id="q", method=ELICIT, params=FORM)
    harness.session.receives(id=id, result=DONE)
    question, taken_back = harness.a.interim(number)
    assert (taken_back["method"], taken_back["params"]["requestId"]) == ("notifications/cancelled", question["id"])
    assert harness.a.answer(number) == {"result": DONE}


@timeless
async def test_that_an_elicitation_by_url_is_done_is_told_on_its_calls_stream() -> None:
    harness = WorkerHarness(LEGACY)
    number, _ = begun(harness)
    done = {"elicitationId": "e1"}
    harness.session.receives(method="notifications/elicitation/complete", params=done)
    told = only(harness.a.interim(number))
    assert (told["method"], told["params"]) == ("notifications/elicitation/complete", done)
