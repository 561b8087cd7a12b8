"""``worker.input.held_task``: a task of 2025-11-25 as the extension shows it."""

from __future__ import annotations

import json
from typing import Any

import msgspec
from msgspec import Raw

from shared.errors import OutcomeUnknown
from worker.bridge.inputs import ELICIT, MAX_REQUESTS, Need
from worker.calls.client_facts import ClientFacts
from worker.input.held_task import LIFE_S, HeldTask


class First:
    """The client's call."""

    method, params, timeout_s, upstream, name = "tools/call", b"{}", 30.0, "u", "wait"
    client = ClientFacts("ann", "2026-07-28", b'{"elicitation":{"form":{}}}')


class Wait:
    """What waits for the task upstream."""

    def __init__(self) -> None:
        self.abandoned: list[str] = []

    def abandon(self, call: Any, reason: str) -> bool:
        self.abandoned.append(reason)
        return False


class Bench:
    def __init__(self) -> None:
        self.gone: list[HeldTask] = []
        self.task = HeldTask("t", First(), {"pollInterval": Raw(b"100")}, self.gone.append)  # type: ignore[arg-type]
        self.wait = Wait()
        self.task.holder = self.wait
        self.answers: list[tuple[bool, bytes]] = []

    def seen(self) -> dict[str, Any]:
        return dict(json.loads(self.task.document("id")))

    def answered(self, is_error: bool, raw: bytes) -> None:
        self.answers.append((is_error, raw))

    def ask(self) -> None:
        self.task.ask(self.answered, Need(ELICIT, b'{"message":"?","requestedSchema":{}}'), None)  # type: ignore[arg-type]


async def test_its_life_from_the_beginning_to_the_result() -> None:
    bench = Bench()
    assert {
        "taskId": "id",
        "status": "working",
        "pollIntervalMs": 100,
        "ttlMs": LIFE_S * 1000,
    }.items() <= bench.seen().items()
    bench.task.told("half way")
    assert bench.seen()["statusMessage"] == "half way"
    bench.ask()
    ((key, need),) = bench.seen()["inputRequests"].items()
    assert (bench.seen()["status"], need["method"], need["params"]["message"]) == ("input_required", ELICIT, "?")
    bench.task.update({"x": Raw(b"1"), key: Raw(b'{"action":"accept"}')})
    bench.task.update({key: Raw(b'{"action":"decline"}')})
    assert bench.answers == [(False, b'{"action":"accept"}')] and bench.seen()["status"] == "working"
    bench.task.complete(False, b'{"content":[]}')
    bench.task.cancel()
    found = bench.seen()
    assert (found["status"], found["result"]) == ("completed", {"content": []}) and not bench.wait.abandoned


async def test_what_fails_is_said_and_a_question_may_be_taken_back() -> None:
    bench = Bench()
    bench.ask()
    bench.task.withdrawn(bench.answered)
    assert bench.seen()["status"] == "working" and "inputRequests" not in bench.seen()
    bench.task.fail(OutcomeUnknown("upstream_protocol", "it broke"))
    assert bench.seen()["status"] == "failed" and bench.seen()["error"]["message"] == "it broke"
    assert msgspec.json.decode(bench.task.document("id", resultType="complete"))["resultType"] == "complete"


async def test_questions_are_bounded_and_only_for_clients_that_can_be_asked() -> None:
    bench = Bench()
    for _ in range(MAX_REQUESTS + 1):
        bench.ask()
    assert len(bench.seen()["inputRequests"]) == MAX_REQUESTS and [error for error, _ in bench.answers] == [True]
    bench.task.ask(bench.answered, Need("roots/list", b""), None)  # type: ignore[arg-type]
    assert bench.answers[-1][0] and b"roots" in bench.answers[-1][1]


async def test_a_task_whose_time_is_over_ends_upstream_and_is_forgotten() -> None:
    bench = Bench()
    bench.task.expire()
    assert bench.wait.abandoned and bench.gone == [bench.task] and bench.task.status == "cancelled"
    bench = Bench()
    bench.task.complete(False, b"{}")
    assert bench.task.expires_at > 0, "the result is kept"
    bench.task.expire()
    assert not bench.wait.abandoned and bench.gone == [bench.task] and bench.task.status == "completed"
