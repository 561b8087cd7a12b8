"""``worker.input.unsolicited``: questions of an upstream while no call of its client is in flight."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest

from shared.errors import NotDelivered
from shared.mcp.versions import Era
from shared.rpc import messages as rpc
from tests.unit.worker.worker_harness import ALL, WorkerHarness, run_ready, timeless
from worker.bridge.inputs import ELICIT, MAX_REQUESTS, SAMPLE
from worker.calls.client_facts import ClientFacts

NEWS = "notifications/x/news"


def make(capabilities: dict[str, Any] | None = None) -> WorkerHarness:
    """A worker with an upstream session of ``s1``'s own, which front end ``b`` knows."""
    facts = ClientFacts("ada", "2025-11-25", json.dumps(ALL if capabilities is None else capabilities).encode())
    harness = WorkerHarness(Era.LEGACY, facts, "s1", input_timeout_s=60.0)
    harness.b.open("s1", ALL)
    return harness


def ask(harness: WorkerHarness, id: int = 1, method: str = ELICIT, **params: Any) -> None:
    harness.session.receives(id=id, method=method, params={"message": "?", **params})


@timeless
async def test_it_is_asked_by_a_front_end_that_knows_the_session_and_answered_at_any() -> None:
    harness = make()
    ask(harness)
    (question,) = harness.b.unsolicited("s1")
    assert question["method"] == ELICIT and question["params"] == {"message": "?"} and not harness.a.unsolicited("s1")
    harness.reply(question["id"], "s2", {"action": "accept"}, front=harness.a)
    assert harness.session.take() == []
    harness.reply(question["id"], "s1", {"action": "accept"}, front=harness.a)
    harness.reply(question["id"], "s1", {"action": "decline"}, front=harness.b)
    assert harness.session.take() == [{"jsonrpc": "2.0", "id": 1, "result": {"action": "accept"}}]
    harness.expect_nothing_left()


@timeless
async def test_it_waits_for_a_stream_and_then_for_the_client() -> None:
    harness = make()
    ask(harness)
    (question,) = harness.b.unsolicited("s1")
    wait_s = harness.settings.sessions.standing_wait_s
    await asyncio.sleep(wait_s - 1)
    harness.b.tell(rpc.QuestionNews(question["id"], "s1"))
    await asyncio.sleep(55.0)
    harness.b.tell(rpc.QuestionNews(question["id"], "s1"))  # shown again, at another front end: the clock runs on
    assert harness.session.take() == []
    await asyncio.sleep(10.0)
    (answer,) = harness.session.take()
    assert "did not answer in time" in answer["error"]["message"]
    assert harness.b.unsolicited("s1")[1]["params"] == {"requestId": question["id"]}
    harness.expect_nothing_left()


@pytest.mark.parametrize("news", [None, "s2"])
@timeless
async def test_without_a_stream_it_is_refused(news: str | None) -> None:
    harness = make()
    ask(harness)
    (question,) = harness.b.unsolicited("s1")
    if news is not None:  # of another session's stream
        harness.b.tell(rpc.QuestionNews(question["id"], news))
    await asyncio.sleep(harness.settings.sessions.standing_wait_s + 1)
    (answer,) = harness.session.take()
    assert "no stream" in answer["error"]["message"]
    harness.expect_nothing_left()


@timeless
async def test_without_a_front_end_it_is_refused_at_once() -> None:
    harness = make()
    harness.a.close()
    harness.b.close()
    ask(harness)
    (answer,) = harness.session.take()
    assert answer["error"]["code"] == -32603
    harness.unsolicited.end_session("s1")
    harness.expect_nothing_left()


@timeless
async def test_what_the_client_did_not_declare_is_refused() -> None:
    harness = make({"elicitation": {}})
    ask(harness, 1, SAMPLE)
    ask(harness, 2, ELICIT, mode="url", url="https://x.test")
    assert [one["error"]["code"] for one in harness.session.take()] == [-32601, -32602]
    assert harness.b.unsolicited("s1") == []
    harness.expect_nothing_left()


@timeless
async def test_open_questions_are_bounded() -> None:
    harness = make()
    for id in range(MAX_REQUESTS + 1):
        ask(harness, id)
    assert len(harness.b.unsolicited("s1")) == MAX_REQUESTS
    (refused,) = harness.session.take()
    assert refused["id"] == MAX_REQUESTS and "too many" in refused["error"]["message"]
    first = harness.b.unsolicited("s1")[0]
    harness.reply(first["id"], "s1", {"action": "cancel"}, front=harness.b)
    ask(harness, 1000)
    assert len(harness.b.unsolicited("s1")) == MAX_REQUESTS + 1
    await harness.session.close()
    harness.expect_nothing_left()


@timeless
async def test_the_end_of_the_upstream_session_takes_them_back() -> None:
    for lose in (True, False):
        harness = make()
        ask(harness)
        question, *_ = harness.b.unsolicited("s1")
        if lose:
            harness.session.lost(NotDelivered("upstream_unavailable", "gone"))
        else:
            await harness.session.close()
        cancelled = harness.b.unsolicited("s1")[1]
        assert cancelled["method"] == "notifications/cancelled"
        assert cancelled["params"] == {"requestId": question["id"]}
        assert harness.session.take() == []
        harness.expect_nothing_left()


@timeless
async def test_what_may_be_about_a_call_that_was_given_up_is_not_asked() -> None:
    harness = make()
    number = harness.call(Era.LEGACY, "s1", front=harness.b)
    harness.b.tell(rpc.Cancel(number, "enough"))
    harness.session.take()
    ask(harness)
    assert harness.b.unsolicited("s1") == [] and "error" in harness.session.take()[-1]
    await asyncio.sleep(1.0)  # the upstream has answered a ping: it knows of the cancel
    ask(harness, 2)
    assert len(harness.b.unsolicited("s1")) == 1
    await harness.session.close()
    harness.expect_nothing_left()


@timeless
async def test_a_session_with_an_open_question_is_in_use() -> None:
    harness = make()
    ask(harness)
    assert harness.session.active == 1
    harness.session.receives(method="notifications/cancelled", params={"requestId": 1})
    assert harness.session.active == 0
    harness.expect_nothing_left()


@timeless
async def test_unknown_notifications_go_to_the_client_of_its_own_session_only() -> None:
    harness = make()
    harness.session.receives(method=NEWS, params={"n": 1})
    harness.session.receives(method="notifications/initialized")
    harness.session.receives(method="notifications/roots/list_changed")
    harness.session.receives(method="notifications/subscriptions/acknowledged")
    assert harness.b.unsolicited("s1") == [{"jsonrpc": "2.0", "method": NEWS, "params": {"n": 1}}]
    shared = WorkerHarness(Era.LEGACY)
    shared.a.open("s1", ALL)
    shared.session.receives(method=NEWS, params={"n": 1})
    assert shared.a.fake.frames[1:] == shared.b.fake.frames[1:], "clients share it, and it is about none of them"


@timeless
async def test_unknown_notifications_belong_to_the_call_on_whose_stream_they_come() -> None:
    harness = make()
    number = harness.call(Era.LEGACY, "s1", front=harness.b)
    (call,) = harness.session.correlation.calls.values()
    harness.session.receives(call, method=NEWS, params={"n": 1})
    harness.session.receives(call, method="notifications/tools/list_changed")
    harness.session.receives(call, method="notifications/initialized")
    assert [one["method"] for one in harness.b.interim(number)] == [NEWS]
    assert harness.b.unsolicited("s1") == []
    harness.b.tell(rpc.Cancel(number, "enough"))
    await run_ready()


@timeless
async def test_a_parked_question_that_is_taken_back_is_not_asked() -> None:
    harness = WorkerHarness(Era.LEGACY)
    number = harness.call(Era.MODERN)
    for id in (1, 2):
        harness.session.receives(id=id, method=ELICIT, params={"message": str(id)})
    harness.session.receives(method="notifications/cancelled", params={"requestId": 1})
    await asyncio.sleep(1.0)
    (need,) = harness.a.answer(number)["result"]["inputRequests"].values()
    assert need["params"] == {"message": "2"}


@timeless
async def test_progress_towards_an_answer_has_the_upstreams_own_token_again() -> None:
    harness = make()
    number = harness.call(Era.LEGACY, "s1", front=harness.b)
    (call,) = harness.session.correlation.calls.values()
    harness.session.take()
    meta = {"progressToken": 7, "x": 1}
    harness.session.receives(call, id=1, method=SAMPLE, params={"messages": [], "_meta": meta})
    (question,) = harness.b.interim(number)
    token = question["params"]["_meta"]["progressToken"]
    assert token == question["id"] and question["params"]["_meta"]["x"] == 1
    harness.b.tell(rpc.QuestionNews(token, "s2"), b'{"progressToken":"?","progress":1}')
    harness.b.tell(rpc.QuestionNews(token, "s1"), b'{"progressToken":"?","progress":2}')
    params = {"progressToken": 7, "progress": 2}
    assert harness.session.take() == [{"jsonrpc": "2.0", "method": "notifications/progress", "params": params}]
    harness.reply(token, "s1", {"role": "assistant"}, front=harness.b)
    harness.b.tell(rpc.QuestionNews(token, "s1"), b'{"progressToken":"?","progress":3}')
    assert [one["id"] for one in harness.session.take()] == [1]
    harness.session.receives(id=next(iter(harness.session.correlation.calls)), result={})
    harness.expect_nothing_left()


@timeless
async def test_a_front_end_that_does_not_keep_up_loses_notifications_and_is_told_how_many() -> None:
    harness = make()
    harness.b.fake.congested = True
    for number in range(3):
        harness.session.receives(method=NEWS, params={"n": number})
    assert harness.b.unsolicited("s1") == [] and harness.a.unsolicited("s1") == [], "in order, so by one front end only"
    ask(harness)
    (question,) = harness.b.unsolicited("s1")
    head = next(head for head, _ in harness.b.fake.frames if isinstance(head, rpc.Unsolicited))
    assert question["method"] == ELICIT and head.dropped == 3, "a question goes all the same"
    harness.b.fake.congested = False
    harness.session.receives(method=NEWS, params={"n": 4})
    assert [head.dropped for head, _ in harness.b.fake.frames if isinstance(head, rpc.Unsolicited)] == [3, 0]
    await harness.session.close()
    harness.expect_nothing_left()


@timeless
async def test_what_is_open_for_a_session_is_bounded_in_bytes() -> None:
    harness = make()
    limit = harness.settings.sessions.replay_bytes
    ask(harness, 1, ELICIT, filler="x" * (limit // 2))
    ask(harness, 2, ELICIT, filler="x" * (limit // 2))
    (refused,) = harness.session.take()
    assert refused["id"] == 2 and "too large" in refused["error"]["message"]
    harness.reply(harness.b.unsolicited("s1")[0]["id"], "s1", {"action": "cancel"}, front=harness.b)
    ask(harness, 3, ELICIT, filler="x" * (limit // 2))
    assert len(harness.b.unsolicited("s1")) == 2
    harness.session.receives(method=NEWS, params={"x": "x" * limit})
    harness.session.receives(method=NEWS, params={})
    assert [head.dropped for head, _ in harness.b.fake.frames if isinstance(head, rpc.Unsolicited)] == [0, 0, 1]
    await harness.session.close()
    harness.expect_nothing_left()


@timeless
async def test_methods_that_we_do_not_know_are_asked_of_who_sees_the_group_alone() -> None:
    for alone in (True, False):
        harness = make()
        harness.session.client.alone = alone
        ask(harness, 1, "x/new")
        assert len(harness.b.unsolicited("s1")) == alone
        assert len(harness.session.take()) == (not alone)
        await harness.session.close()
