"""``worker.input.unsolicited``: questions of an upstream while no call of its client is in flight."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest

from shared.errors import NotDelivered
from shared.mcp.versions import Era
from shared.rpc import messages as rpc
from tests.unit.worker.worker_harness import ALL, Rig, settle, timeless
from worker.bridge.inputs import ELICIT, MAX_REQUESTS, SAMPLE
from worker.calls.client_facts import ClientFacts

NEWS = "notifications/x/news"


def make(capabilities: dict[str, Any] | None = None) -> Rig:
    """A worker with an upstream session of ``s1``'s own, which front end ``b`` knows."""
    facts = ClientFacts("ada", "2025-11-25", json.dumps(ALL if capabilities is None else capabilities).encode())
    rig = Rig(Era.LEGACY, facts, "s1", input_timeout_s=60.0)
    rig.b.open("s1", ALL)
    return rig


def ask(rig: Rig, id: int = 1, method: str = ELICIT, **params: Any) -> None:
    rig.session.receives(id=id, method=method, params={"message": "?", **params})


@timeless
async def test_it_is_asked_by_a_front_end_that_knows_the_session_and_answered_at_any() -> None:
    rig = make()
    ask(rig)
    (question,) = rig.b.asides("s1")
    assert question["method"] == ELICIT and question["params"] == {"message": "?"} and not rig.a.asides("s1")
    rig.reply(question["id"], "s2", {"action": "accept"}, front=rig.a)
    assert rig.session.take() == []
    rig.reply(question["id"], "s1", {"action": "accept"}, front=rig.a)
    rig.reply(question["id"], "s1", {"action": "decline"}, front=rig.b)
    assert rig.session.take() == [{"jsonrpc": "2.0", "id": 1, "result": {"action": "accept"}}]
    rig.expect_nothing_left()


@timeless
async def test_it_waits_for_a_stream_and_then_for_the_client() -> None:
    rig = make()
    ask(rig)
    (question,) = rig.b.asides("s1")
    wait_s = rig.settings.sessions.standing_wait_s
    await asyncio.sleep(wait_s - 1)
    rig.b.tell(rpc.QuestionNews(question["id"], "s1"))
    await asyncio.sleep(55.0)
    rig.b.tell(rpc.QuestionNews(question["id"], "s1"))  # shown again, at another front end: the clock runs on
    assert rig.session.take() == []
    await asyncio.sleep(10.0)
    (answer,) = rig.session.take()
    assert "did not answer in time" in answer["error"]["message"]
    assert rig.b.asides("s1")[1]["params"] == {"requestId": question["id"]}
    rig.expect_nothing_left()


@pytest.mark.parametrize("news", [None, "s2"])
@timeless
async def test_without_a_stream_it_is_refused(news: str | None) -> None:
    rig = make()
    ask(rig)
    (question,) = rig.b.asides("s1")
    if news is not None:  # of another session's stream
        rig.b.tell(rpc.QuestionNews(question["id"], news))
    await asyncio.sleep(rig.settings.sessions.standing_wait_s + 1)
    (answer,) = rig.session.take()
    assert "no stream" in answer["error"]["message"]
    rig.expect_nothing_left()


@timeless
async def test_without_a_front_end_it_is_refused_at_once() -> None:
    rig = make()
    rig.a.close()
    rig.b.close()
    ask(rig)
    (answer,) = rig.session.take()
    assert answer["error"]["code"] == -32603
    rig.server.beside.end_session("s1")
    rig.expect_nothing_left()


@timeless
async def test_what_the_client_did_not_declare_is_refused() -> None:
    rig = make({"elicitation": {}})
    ask(rig, 1, SAMPLE)
    ask(rig, 2, ELICIT, mode="url", url="https://x.test")
    assert [one["error"]["code"] for one in rig.session.take()] == [-32601, -32602]
    assert rig.b.asides("s1") == []
    rig.expect_nothing_left()


@timeless
async def test_open_questions_are_bounded() -> None:
    rig = make()
    for id in range(MAX_REQUESTS + 1):
        ask(rig, id)
    assert len(rig.b.asides("s1")) == MAX_REQUESTS
    (refused,) = rig.session.take()
    assert refused["id"] == MAX_REQUESTS and "too many" in refused["error"]["message"]
    first = rig.b.asides("s1")[0]
    rig.reply(first["id"], "s1", {"action": "cancel"}, front=rig.b)
    ask(rig, 1000)
    assert len(rig.b.asides("s1")) == MAX_REQUESTS + 1
    await rig.session.close()
    rig.expect_nothing_left()


@timeless
async def test_the_end_of_the_upstream_session_takes_them_back() -> None:
    for lose in (True, False):
        rig = make()
        ask(rig)
        question, *_ = rig.b.asides("s1")
        if lose:
            rig.session.lost(NotDelivered("upstream_unavailable", "gone"))
        else:
            await rig.session.close()
        cancelled = rig.b.asides("s1")[1]
        assert cancelled["method"] == "notifications/cancelled"
        assert cancelled["params"] == {"requestId": question["id"]}
        assert rig.session.take() == []
        rig.expect_nothing_left()


@timeless
async def test_what_may_be_about_a_call_that_was_given_up_is_not_asked() -> None:
    rig = make()
    number = rig.call(Era.LEGACY, "s1", front=rig.b)
    rig.b.tell(rpc.Cancel(number, "enough"))
    rig.session.take()
    ask(rig)
    assert rig.b.asides("s1") == [] and "error" in rig.session.take()[-1]
    await asyncio.sleep(1.0)  # the upstream has answered a ping: it knows of the cancel
    ask(rig, 2)
    assert len(rig.b.asides("s1")) == 1
    await rig.session.close()
    rig.expect_nothing_left()


@timeless
async def test_a_session_with_an_open_question_is_in_use() -> None:
    rig = make()
    ask(rig)
    assert rig.session.active == 1
    rig.session.receives(method="notifications/cancelled", params={"requestId": 1})
    assert rig.session.active == 0
    rig.expect_nothing_left()


@timeless
async def test_unknown_notifications_go_to_the_client_of_its_own_session_only() -> None:
    rig = make()
    rig.session.receives(method=NEWS, params={"n": 1})
    rig.session.receives(method="notifications/initialized")
    rig.session.receives(method="notifications/roots/list_changed")
    rig.session.receives(method="notifications/subscriptions/acknowledged")
    assert rig.b.asides("s1") == [{"jsonrpc": "2.0", "method": NEWS, "params": {"n": 1}}]
    shared = Rig(Era.LEGACY)
    shared.a.open("s1", ALL)
    shared.session.receives(method=NEWS, params={"n": 1})
    assert shared.a.fake.frames[1:] == shared.b.fake.frames[1:], "clients share it, and it is about none of them"


@timeless
async def test_unknown_notifications_belong_to_the_call_on_whose_stream_they_come() -> None:
    rig = make()
    number = rig.call(Era.LEGACY, "s1", front=rig.b)
    (call,) = rig.session.correlation.calls.values()
    rig.session.receives(call, method=NEWS, params={"n": 1})
    rig.session.receives(call, method="notifications/tools/list_changed")
    rig.session.receives(call, method="notifications/initialized")
    assert [one["method"] for one in rig.b.interim(number)] == [NEWS]
    assert rig.b.asides("s1") == []
    rig.b.tell(rpc.Cancel(number, "enough"))
    await settle()


@timeless
async def test_a_parked_question_that_is_taken_back_is_not_asked() -> None:
    rig = Rig(Era.LEGACY)
    number = rig.call(Era.MODERN)
    for id in (1, 2):
        rig.session.receives(id=id, method=ELICIT, params={"message": str(id)})
    rig.session.receives(method="notifications/cancelled", params={"requestId": 1})
    await asyncio.sleep(1.0)
    (need,) = rig.a.answer(number)["result"]["inputRequests"].values()
    assert need["params"] == {"message": "2"}


@timeless
async def test_progress_towards_an_answer_has_the_upstreams_own_token_again() -> None:
    rig = make()
    number = rig.call(Era.LEGACY, "s1", front=rig.b)
    (call,) = rig.session.correlation.calls.values()
    rig.session.take()
    meta = {"progressToken": 7, "x": 1}
    rig.session.receives(call, id=1, method=SAMPLE, params={"messages": [], "_meta": meta})
    (question,) = rig.b.interim(number)
    token = question["params"]["_meta"]["progressToken"]
    assert token == question["id"] and question["params"]["_meta"]["x"] == 1
    rig.b.tell(rpc.QuestionNews(token, "s2"), b'{"progressToken":"?","progress":1}')
    rig.b.tell(rpc.QuestionNews(token, "s1"), b'{"progressToken":"?","progress":2}')
    params = {"progressToken": 7, "progress": 2}
    assert rig.session.take() == [{"jsonrpc": "2.0", "method": "notifications/progress", "params": params}]
    rig.reply(token, "s1", {"role": "assistant"}, front=rig.b)
    rig.b.tell(rpc.QuestionNews(token, "s1"), b'{"progressToken":"?","progress":3}')
    assert [one["id"] for one in rig.session.take()] == [1]
    rig.session.receives(id=next(iter(rig.session.correlation.calls)), result={})
    rig.expect_nothing_left()


@timeless
async def test_a_front_end_that_does_not_keep_up_loses_notifications_and_is_told_how_many() -> None:
    rig = make()
    rig.b.fake.congested = True
    for number in range(3):
        rig.session.receives(method=NEWS, params={"n": number})
    assert rig.b.asides("s1") == [] and rig.a.asides("s1") == [], "in order, so by one front end only"
    ask(rig)
    (question,) = rig.b.asides("s1")
    head = next(head for head, _ in rig.b.fake.frames if isinstance(head, rpc.Unsolicited))
    assert question["method"] == ELICIT and head.dropped == 3, "a question goes all the same"
    rig.b.fake.congested = False
    rig.session.receives(method=NEWS, params={"n": 4})
    assert [head.dropped for head, _ in rig.b.fake.frames if isinstance(head, rpc.Unsolicited)] == [3, 0]
    await rig.session.close()
    rig.expect_nothing_left()


@timeless
async def test_what_is_open_for_a_session_is_bounded_in_bytes() -> None:
    rig = make()
    limit = rig.settings.sessions.replay_bytes
    ask(rig, 1, ELICIT, filler="x" * (limit // 2))
    ask(rig, 2, ELICIT, filler="x" * (limit // 2))
    (refused,) = rig.session.take()
    assert refused["id"] == 2 and "too large" in refused["error"]["message"]
    rig.reply(rig.b.asides("s1")[0]["id"], "s1", {"action": "cancel"}, front=rig.b)
    ask(rig, 3, ELICIT, filler="x" * (limit // 2))
    assert len(rig.b.asides("s1")) == 2
    rig.session.receives(method=NEWS, params={"x": "x" * limit})
    rig.session.receives(method=NEWS, params={})
    assert [head.dropped for head, _ in rig.b.fake.frames if isinstance(head, rpc.Unsolicited)] == [0, 0, 1]
    await rig.session.close()
    rig.expect_nothing_left()


@timeless
async def test_methods_that_we_do_not_know_are_asked_of_who_sees_the_group_alone() -> None:
    for alone in (True, False):
        rig = make()
        rig.session.client.alone = alone
        ask(rig, 1, "x/new")
        assert len(rig.b.asides("s1")) == alone
        assert len(rig.session.take()) == (not alone)
        await rig.session.close()
