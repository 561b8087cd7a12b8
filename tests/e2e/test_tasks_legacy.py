"""Tools of the handshake era that need a task of 2025-11-25, over stdio: clients of either era get their results."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncIterator
from typing import Any

import pytest
import pytest_asyncio

from tests.clients import RawClient
from tests.fleet import ROOT, Fleet, eventually
from tests.machine import stretched
from tests.servers.tasking import CAPABILITIES, EXTENSION
from tests.streams import calling

ASKABLE = {CAPABILITIES: {"elicitation": {}}}
KNOWS = {CAPABILITIES: {"elicitation": {"form": {}}, "extensions": {EXTENSION: {}}}}


@pytest_asyncio.fixture(scope="module")
async def fleet(redis_url: str) -> AsyncIterator[Fleet]:
    async with Fleet(
        redis_url, frontends=2, request_timeout_s=stretched(2.0), request_timeout_max_s=stretched(3.0)
    ) as fleet:
        command = {"command": sys.executable, "args": ["-m", "tests.servers.legacy_tasks"], "cwd": str(ROOT)}
        await fleet.register("jobs", command)
        yield fleet


@pytest_asyncio.fixture
async def clients(fleet: Fleet) -> AsyncIterator[list[RawClient]]:
    async with RawClient(fleet.urls[0]) as one, RawClient(fleet.urls[1]) as two:
        await one.initialize(capabilities={"elicitation": {}})
        two.sid = one.sid
        yield [one, two]


async def seen(client: RawClient) -> list[str]:
    return str((await client.call("seen")).content).split()


@pytest.mark.parametrize("era", ["legacy", "modern"])
async def test_the_call_has_the_tasks_result(clients: list[RawClient], era: str) -> None:
    listed = (await clients[0].modern("tools/list")).body["result"]["tools"]
    assert [one["name"] for one in listed] == ["wait", "fail", "confirm", "forever", "seen"]
    assert not any("execution" in one for one in listed), "clients need no task"
    call = clients[0].legacy_call if era == "legacy" else clients[0].call
    done = (await call("wait", {"n": 1})).body["result"]
    assert done["content"] == [{"type": "text", "text": "wait {'n': 1}"}]
    assert done.get("resultType") == (None if era == "legacy" else "complete")
    failed = (await call("fail")).body["result"]
    assert failed["isError"] is True and failed["content"][0]["text"] == "fail"


async def test_a_legacy_client_is_told_of_the_task_and_asked_on_its_calls_stream(
    clients: list[RawClient], fleet: Fleet
) -> None:
    params: dict[str, Any] = {"name": "wait", "arguments": {}, "_meta": {"progressToken": "p"}}
    message = {"jsonrpc": "2.0", "id": 7, "method": "tools/call", "params": params}
    async with calling(clients[0], fleet.urls[0], message) as stream:
        await eventually(lambda: stream.messages and "result" in stream.messages[-1])
    assert [one["params"]["message"] for one in stream.messages[:-1]] == ["wait: working"]
    message = {"jsonrpc": "2.0", "id": 8, "method": "tools/call", "params": {"name": "confirm", "arguments": {}}}
    async with calling(clients[0], fleet.urls[0], message) as stream:
        await eventually(lambda: stream.messages)
        (question,) = stream.messages
        assert question["method"] == "elicitation/create" and question["params"]["message"] == "sure?"
        result = {"action": "accept", "content": {"sure": True}}
        answer = {"jsonrpc": "2.0", "id": question["id"], "result": result}
        await clients[1].post(answer, clients[1].legacy_headers())
        await eventually(lambda: "result" in stream.messages[-1])
    assert stream.messages[-1]["result"]["content"][0]["text"] == "accept {'sure': True}"


async def test_a_modern_client_is_asked_by_input_required_and_comes_again_at_any_front_end(
    clients: list[RawClient],
) -> None:
    params: dict[str, Any] = {"name": "confirm", "arguments": {}}
    asked = (await clients[0].modern("tools/call", params, meta=ASKABLE)).body["result"]
    assert asked["resultType"] == "input_required"
    given = {key: {"action": "accept", "content": {"sure": False}} for key in asked["inputRequests"]}
    again = {**params, "inputResponses": given, "requestState": asked["requestState"]}
    assert (await clients[1].modern("tools/call", again, meta=ASKABLE)).content == "accept {'sure': False}"


async def test_a_task_that_takes_too_long_is_cancelled(clients: list[RawClient]) -> None:
    error = (await clients[0].call("forever")).body["error"]
    assert "requestTimeoutMax" in error["message"]
    await eventually(lambda: _has_cancelled(clients[0]), what="the task is cancelled")


async def about(client: RawClient, method: str, id: str, **more: Any) -> dict[str, Any]:
    answer = await client.modern(method, {"taskId": id, **more}, meta=KNOWS)
    assert "result" in answer.body, answer.body
    return dict(answer.body["result"])


async def becomes(client: RawClient, id: str, status: str) -> dict[str, Any]:
    """Poll until the task has this status."""

    async def there() -> dict[str, Any] | None:
        found = await about(client, "tasks/get", id)
        assert found["taskId"] == id and found["resultType"] == "complete", found
        return found if found["status"] == status else None

    return dict(await eventually(there, what=f"the task is {status}"))


async def made(client: RawClient, tool: str) -> str:
    task = (await client.modern("tools/call", {"name": tool, "arguments": {"n": 1}}, meta=KNOWS)).body["result"]
    assert task["resultType"] == "task" and task["pollIntervalMs"] == 100, task
    return str(task["taskId"])


async def test_a_client_that_knows_tasks_gets_the_task_and_asks_at_any_front_end(clients: list[RawClient]) -> None:
    offered = (await clients[0].modern("server/discover")).body["result"]["capabilities"]["extensions"]
    assert EXTENSION in offered
    id = await made(clients[0], "wait")
    assert (await about(clients[1], "tasks/get", id))["status"] == "working"
    done = await becomes(clients[1], id, "completed")
    assert done["result"]["content"][0]["text"] == "wait {'n': 1}" and done["statusMessage"] == "wait: working"
    failed = await becomes(clients[0], await made(clients[1], "fail"), "completed")
    assert failed["result"]["isError"] is True
    assert (await about(clients[0], "tasks/get", id)) == done, "it is kept"


async def test_what_the_task_needs_is_asked_and_given_by_the_extension(clients: list[RawClient]) -> None:
    id = await made(clients[0], "confirm")
    asked = await becomes(clients[1], id, "input_required")
    ((key, question),) = asked["inputRequests"].items()
    assert question["method"] == "elicitation/create" and question["params"]["message"] == "sure?"
    await about(clients[1], "tasks/update", id, inputResponses={"made-up": {"action": "accept"}})
    assert (await about(clients[0], "tasks/get", id))["status"] == "input_required"
    answer = {"action": "accept", "content": {"sure": True}}
    await about(clients[1], "tasks/update", id, inputResponses={key: answer})
    done = await becomes(clients[0], id, "completed")
    assert done["result"]["content"][0]["text"] == "accept {'sure': True}" and "inputRequests" not in done


async def test_a_task_is_cancelled_where_it_runs_and_lives_longer_than_a_call(clients: list[RawClient]) -> None:
    before = (await seen(clients[0])).count("tasks/cancel")
    id = await made(clients[0], "forever")
    await asyncio.sleep(stretched(3.0) + 0.5)  # requestTimeoutMax
    assert (await about(clients[1], "tasks/get", id))["status"] == "working"
    await about(clients[1], "tasks/cancel", id)
    assert (await about(clients[0], "tasks/get", id))["status"] == "cancelled"
    await about(clients[0], "tasks/cancel", id)  # once more does nothing

    async def told() -> bool:
        return (await seen(clients[0])).count("tasks/cancel") == before + 1

    await eventually(told, what="the upstream has cancelled it")


async def _has_cancelled(client: RawClient) -> bool:
    return "tasks/cancel" in await seen(client)
