"""``worker.bridge.waited``: a task that the gateway waits for. This event in, these commands out."""

from __future__ import annotations

import json
from typing import Any

import msgspec
import pytest
from msgspec import Raw

from worker.bridge.asked import CANCEL_ACTION
from worker.bridge.inputs import ELICIT, SAMPLE, Need
from worker.bridge.waited import (
    DEFAULT_POLL_S,
    LONGEST_POLL_S,
    MAX_QUESTIONS,
    MAX_TROUBLES,
    SHORTEST_POLL_S,
    Ask,
    Deliver,
    Fail,
    Poll,
    Tell,
    Update,
    Waited,
    Withdraw,
    read_created,
)

FORM, MODEL = Need(ELICIT, b'{"message":"?"}'), Need(SAMPLE, b'{"messages":[]}')


def task(status: str, **members: Any) -> dict[str, Raw]:
    """A task as an upstream says it."""
    return msgspec.json.decode(json.dumps({"taskId": "t", "status": status, **members}), type=dict[str, Raw])


def needing(**needs: Need) -> dict[str, Any]:
    """The questions of a task."""
    return {
        "inputRequests": {key: {"method": one.method, "params": json.loads(one.params)} for key, one in needs.items()}
    }


@pytest.mark.parametrize(
    ("given", "after_s"),
    [
        ({}, DEFAULT_POLL_S),
        ({"pollIntervalMs": None}, DEFAULT_POLL_S),
        ({"pollIntervalMs": 200}, 0.2),
        ({"pollIntervalMs": 0}, SHORTEST_POLL_S),
        ({"pollIntervalMs": -5}, SHORTEST_POLL_S),
        ({"pollIntervalMs": 86_400_000}, LONGEST_POLL_S),
    ],
)
def test_a_task_is_polled_as_often_as_it_says_within_bounds(given: dict[str, Any], after_s: float) -> None:
    assert Waited().observed(task("working", **given)) == [Poll(after_s)]


def test_a_status_message_is_told_once() -> None:
    waited = Waited()
    assert waited.observed(task("working", statusMessage="one"), created=True) == [Tell("one", 1), Poll(DEFAULT_POLL_S)]
    assert waited.observed(task("working", statusMessage="one")) == [Poll(DEFAULT_POLL_S)]
    assert waited.observed(task("working", statusMessage="two"))[0] == Tell("two", 2)


def test_a_task_that_is_over_when_it_is_made_is_read_at_once() -> None:
    for status in ("completed", "failed", "input_required"):
        assert Waited().observed(task(status), created=True) == [Poll(0.0)]


def test_the_end_of_a_task_is_the_answer() -> None:
    assert Waited().observed(task("completed", result={"content": []})) == [Deliver(False, b'{"content":[]}')]
    assert Waited().observed(task("failed", error={"code": 1})) == [Deliver(True, b'{"code":1}')]
    assert Waited().observed(task("cancelled", statusMessage="no")) == [
        Fail("the upstream cancelled the task: no")
    ]  # fmt: skip
    assert Waited().observed(task("cancelled")) == [Fail("the upstream cancelled the task")]


@pytest.mark.parametrize(
    "odd",
    [
        {"status": "odd"},
        {"status": 7},
        {},
        {"status": "completed", "result": 3},
        {"status": "working", "pollIntervalMs": "soon"},
        {"status": "input_required", "inputRequests": []},
        {"status": "input_required", "inputRequests": {"a": {}}},
    ],
)
def test_what_breaks_the_protocol_fails_the_call_and_cancels_the_task(odd: dict[str, Any]) -> None:
    commands = Waited().observed(msgspec.json.decode(json.dumps(odd), type=dict[str, Raw]))
    assert isinstance(commands[-1], Fail)
    assert commands[-1].cancel


def test_each_key_is_asked_once_and_the_answers_are_given_together() -> None:
    waited = Waited()
    both = task("input_required", **needing(a=FORM, b=MODEL))
    assert waited.observed(both) == [
        Ask("a", Need(ELICIT, b'{"message": "?"}')), Ask("b", Need(SAMPLE, b'{"messages": []}')), Poll(DEFAULT_POLL_S)
    ]  # fmt: skip
    assert waited.observed(both) == [Poll(DEFAULT_POLL_S)]
    assert waited.replied("b", False, b"{}") == []
    assert waited.replied("a", True, b"{}") == [Update({"b": b"{}", "a": CANCEL_ACTION})]
    assert waited.replied("a", False, b"{}") == [], "an answer counts once"


def test_a_client_that_refuses_to_sample_ends_the_task() -> None:
    waited = Waited()
    waited.observed(task("input_required", **needing(a=MODEL, b=FORM)))
    (failed,) = waited.replied("a", True, b"no")
    assert isinstance(failed, Fail)
    assert failed.cancel
    assert waited.replied("b", False, b"{}") == []


def test_a_question_that_is_not_needed_any_more_is_withdrawn() -> None:
    waited = Waited()
    waited.observed(task("input_required", **needing(a=FORM, b=FORM)))
    assert waited.observed(task("input_required", **needing(b=FORM)))[0] == Withdraw("a")
    assert waited.observed(task("working"))[0] == Withdraw("b")


def test_questions_are_bounded() -> None:
    waited = Waited()
    for number in range(MAX_QUESTIONS // 64):
        waited.observed(task("input_required", **needing(**{f"{number}-{one}": FORM for one in range(64)})))
    (failed,) = waited.observed(task("input_required", **needing(more=FORM)))
    assert isinstance(failed, Fail)
    assert failed.cancel


def test_some_polls_may_fail_but_not_many_in_a_row_and_none_that_says_there_is_no_task() -> None:
    waited = Waited()
    for _ in range(2):
        for number in range(1, MAX_TROUBLES):
            assert waited.troubled("lost") == [Poll(DEFAULT_POLL_S * number)]
        waited.observed(task("working"))
    for _ in range(MAX_TROUBLES - 1):
        waited.troubled("lost")
    assert isinstance(waited.troubled("lost")[0], Fail)
    assert isinstance(Waited().troubled("Task not found", certain=True)[0], Fail)


def test_only_a_create_task_result_is_one() -> None:
    assert read_created(b'{"resultType":"task","taskId":"t"}') is not None
    for other in (b'{"resultType":"complete","taskId":"t"}', b'{"resultType":"task"}', b"[]", b'{"a":{"taskId":1}}'):
        assert read_created(other) is None
