"""``worker.input.broker``: what a modern upstream needs is passed on to a modern client; a legacy client is asked."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from shared.errors import NotDelivered
from shared.mcp import jsonrpc
from shared.rpc import messages as rpc
from tests.unit.worker.input.questions import DONE, FORM, LEGACY, MODERN, YES, begun, next_try, only
from tests.unit.worker.worker_harness import WorkerHarness, run_ready, timeless
from worker.bridge.inputs import ELICIT, ROOTS, SAMPLE
from worker.input.broker import FULL, OVER, TOO_LARGE

# ---- passed: modern client, modern upstream

REQUIRED = {"resultType": "input_required", "inputRequests": {"k": {"method": ROOTS}}}


@pytest.mark.parametrize("inner", ["theirs", None])
@timeless
async def test_an_upstreams_state_is_wrapped_and_comes_back_to_it_as_it_was(inner: str | None) -> None:
    harness = WorkerHarness(MODERN)
    number, id = begun(harness, MODERN)
    harness.session.receives(id=id, result={**REQUIRED, **({"requestState": inner} if inner else {})})
    result = harness.a.answer(number)["result"]
    assert result["inputRequests"] == REQUIRED["inputRequests"]
    assert inner not in result["requestState"] if inner else result["requestState"]
    again = harness.call(MODERN, front=harness.b, **next_try(result, k={"roots": []}))
    sent = only(harness.session.take())
    assert sent["params"].get("requestState") == inner
    assert sent["params"]["inputResponses"] == {"k": {"roots": []}}
    harness.session.receives(id=sent["id"], result={"resultType": "complete", **DONE})
    assert harness.b.answer(again) == {"result": {"resultType": "complete", **DONE}}
    harness.expect_nothing_left()


@timeless
async def test_a_wrapped_state_is_for_its_own_request_and_principal() -> None:
    harness = WorkerHarness(MODERN)
    number, id = begun(harness, MODERN)
    harness.session.receives(id=id, result={**REQUIRED, "requestState": "theirs"})
    result = harness.a.answer(number)["result"]
    for wrong in (
        harness.call(MODERN, principal="eve", **next_try(result)),
        harness.call(MODERN, arguments={}, **next_try(result)),
        harness.call(MODERN, requestState="theirs"),
    ):
        assert harness.a.answer(wrong)["failed"] == "invalid_params"
    assert harness.session.take() == []


@timeless
async def test_a_state_that_could_not_come_back_fails_the_call() -> None:
    harness = WorkerHarness(MODERN)
    number, id = begun(harness, MODERN)
    harness.session.receives(id=id, result={**REQUIRED, "requestState": "x" * 1_000_000})
    assert harness.a.answer(number)["failed"] == "upstream_protocol"


@timeless
async def test_a_result_that_only_speaks_of_it_passes_as_it_is() -> None:
    harness = WorkerHarness(MODERN)
    number, id = begun(harness, MODERN)
    harness.session.receives(id=id, result={"resultType": "complete", "content": ["input_required"]})
    assert harness.a.answer(number) == {"result": {"resultType": "complete", "content": ["input_required"]}}


@timeless
async def test_a_malformed_one_is_the_upstreams_error() -> None:
    harness = WorkerHarness(MODERN)
    number, id = begun(harness, MODERN)
    harness.session.receives(id=id, result={"resultType": "input_required", "inputRequests": 5})
    assert harness.a.answer(number)["failed"] == "upstream_protocol"


# ---- asked: legacy client, modern upstream


def _required(harness: WorkerHarness, id: int, state: str | None = "theirs", **needs: Any) -> None:
    members = {"inputRequests": needs, **({"requestState": state} if state else {})}
    harness.session.receives(id=id, result={"resultType": "input_required", **members})


@timeless
async def test_a_legacy_client_is_asked_in_its_own_words_and_the_call_sent_again() -> None:
    harness = WorkerHarness(MODERN)
    number, id = begun(harness)
    _required(harness, id, f={"method": ELICIT, "params": FORM}, r={"method": ROOTS})
    form, roots = harness.a.interim(number)
    assert (form["method"], form["params"], roots["method"]) == (ELICIT, FORM, ROOTS)
    harness.reply(roots["id"], "s1", {"roots": []}, front=harness.b)
    harness.reply(form["id"], "s1", error={"code": -1, "message": "no"})
    await run_ready()
    sent = only(harness.session.take())
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
    number, id = begun(harness)
    _required(harness, id, f={"method": ELICIT, "params": FORM})
    harness.reply(harness.a.interim(number)[0]["id"], "s1", YES)
    await run_ready()
    _required(harness, only(harness.session.take())["id"], None, g={"method": ROOTS})
    harness.reply(harness.a.interim(number)[1]["id"], "s1", {"roots": []})
    await run_ready()
    sent = only(harness.session.take())
    assert sent["params"]["inputResponses"] == {"g": {"roots": []}}
    assert "requestState" not in sent["params"]


@timeless
async def test_state_alone_is_sent_again_after_a_moment_and_not_for_ever() -> None:
    harness = WorkerHarness(MODERN)
    number, id = begun(harness)
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
    number, id = begun(harness)
    _required(harness, id, u={"method": ELICIT, "params": {"mode": "url", "url": "https://x.test"}})
    assert only(harness.a.interim(number))["params"]["elicitationId"]


@pytest.mark.parametrize("session", ["", "s1"])
@timeless
async def test_a_client_that_cannot_be_asked_fails_its_call(session: str) -> None:
    harness = WorkerHarness(MODERN)
    harness.a.open("s1", {"elicitation": {}})
    number = harness.call(LEGACY, session)
    _required(harness, only(harness.session.take())["id"], s={"method": SAMPLE}, f={"method": ELICIT})
    assert harness.a.answer(number)["failed"] == "upstream_protocol"
    assert harness.a.interim(number) == []
    harness.expect_nothing_left()


@timeless
async def test_a_client_that_refuses_to_sample_fails_its_call_and_is_asked_nothing_more() -> None:
    harness = WorkerHarness(MODERN)
    number, id = begun(harness)
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
    number, id = begun(harness)
    _required(harness, id, f={"method": ELICIT, "params": FORM}, g={"method": ELICIT, "params": FORM})
    harness.reply(only(harness.a.interim(number))["id"], "s1", YES)
    await run_ready()
    assert only(harness.session.take())["params"]["inputResponses"] == {"g": {"action": "cancel"}, "f": YES}


@timeless
async def test_a_call_that_is_cancelled_before_it_is_sent_again_is_not_sent() -> None:
    harness = WorkerHarness(MODERN)
    number, id = begun(harness)
    _required(harness, id)
    harness.a.tell(rpc.Cancel(number, "enough"))
    await asyncio.sleep(1)
    assert [one for one in harness.session.take() if "id" in one] == []
    harness.expect_nothing_left()


@timeless
async def test_once_the_client_was_asked_nothing_is_repeated_elsewhere() -> None:
    harness = WorkerHarness(MODERN)
    number, id = begun(harness)
    _required(harness, id, f={"method": ELICIT, "params": FORM})
    harness.session.lost(NotDelivered("upstream_unavailable", "gone"))
    harness.reply(only(harness.a.interim(number))["id"], "s1", YES)
    await run_ready()
    failed = harness.a.answer(number)
    assert (failed["failed"], failed["delivered"]) == ("upstream_unavailable", True)
    harness.expect_nothing_left()


@timeless
async def test_a_client_that_never_answers_ends_the_call_there_too() -> None:
    harness = WorkerHarness(MODERN, input_timeout_s=60.0)
    number, id = begun(harness)
    _required(harness, id, f={"method": ELICIT, "params": FORM})
    await asyncio.sleep(59)
    assert harness.a.answers(number) == []
    await asyncio.sleep(2)
    assert harness.a.answer(number)["failed"] == "timeout"
    harness.expect_nothing_left()


def test_an_object_of_ours_is_json() -> None:
    for raw in (OVER, FULL, TOO_LARGE):
        assert jsonrpc.members(raw)
