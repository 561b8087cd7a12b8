"""Clients that know no tasks, of either era: the gateway waits for the task that an upstream makes of their call."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Any

import pytest
import pytest_asyncio

from tests.clients import MODERN_META, RawClient
from tests.fleet import Fleet, eventually
from tests.servers.tasking import CAPABILITIES, REQUIRED, TaskServer
from tests.streams import calling

ASKABLE = {CAPABILITIES: {"elicitation": {}, "sampling": {}}}
NEEDING = ("confirm_delete", "multi_input", "sample", "slow_compute", "protocol_error_job")


@pytest_asyncio.fixture(scope="module")
async def server() -> AsyncIterator[TaskServer]:
    """Its tools are refused to clients without the extension."""
    REQUIRED.update(NEEDING)
    try:
        async with TaskServer("jobs") as server:
            yield server
    finally:
        REQUIRED.difference_update(NEEDING)


@pytest_asyncio.fixture(scope="module")
async def fleet(redis_url: str, server: TaskServer) -> AsyncIterator[Fleet]:
    async with Fleet(redis_url, frontends=2, request_timeout_s=3.0, request_timeout_max_s=8.0) as fleet:
        await fleet.register("jobs", server.connection)
        yield fleet


@pytest_asyncio.fixture
async def clients(fleet: Fleet) -> AsyncIterator[list[RawClient]]:
    async with RawClient(fleet.urls[0]) as one, RawClient(fleet.urls[1]) as two:
        await one.initialize(capabilities={"elicitation": {}, "sampling": {}})
        two.sid = one.sid
        yield [one, two]


def newest(server: TaskServer) -> dict[str, Any]:
    """The task that was made last."""
    return list(server.tasks.values())[-1].document


@pytest.mark.parametrize("era", ["legacy", "modern"])
async def test_the_call_has_the_tasks_result_or_error(clients: list[RawClient], server: TaskServer, era: str) -> None:
    call = clients[0].legacy_call if era == "legacy" else clients[0].call
    failed = (await call("failing_job")).body["result"]
    assert failed["content"] == [{"type": "text", "text": "it did not work"}]
    assert failed["isError"] is True
    assert failed.get("resultType") == (None if era == "legacy" else "complete")
    broken = await call("protocol_error_job")
    assert broken.error == {"code": -32603, "message": "the job panicked"}
    computed = (await call("slow_compute", {"seconds": 4})).body["result"]
    assert computed["structuredContent"] == {"taskId": "mine"}, "longer than requestTimeout, and polled meanwhile"
    polls = [one["params"] for one in server.called("tasks/get") if one["params"]["taskId"] == newest(server)["taskId"]]
    assert 4 < len(polls) < 100
    assert (await call("greet", {"name": "Ada"})).content == "Hello, Ada!"


@pytest.mark.parametrize("era", ["legacy", "modern"])
async def test_a_task_that_takes_too_long_is_cancelled(clients: list[RawClient], server: TaskServer, era: str) -> None:
    call = clients[0].legacy_call if era == "legacy" else clients[0].call
    late = await call("slow_compute", {"seconds": 60})
    assert late.error["code"] == -31004
    assert "made a task" in late.error["message"]
    await eventually(lambda: newest(server)["status"] == "cancelled")


async def test_a_legacy_client_is_told_how_far_the_task_is_and_is_asked_on_its_calls_stream(
    clients: list[RawClient], server: TaskServer, fleet: Fleet
) -> None:
    params = {"name": "slow_compute", "arguments": {"seconds": 0.5}, "_meta": {"progressToken": "p"}}
    message = {"jsonrpc": "2.0", "id": 77, "method": "tools/call", "params": params}
    async with calling(clients[0], fleet.urls[0], message) as stream:
        await eventually(lambda: stream.messages and "result" in stream.messages[-1])
    told = [one["params"] for one in stream.messages[:-1]]
    assert told == [{"progressToken": "p", "progress": 1, "message": "half way"}]
    message = {"jsonrpc": "2.0", "id": 78, "method": "tools/call", "params": {"name": "multi_input", "arguments": {}}}
    async with calling(clients[0], fleet.urls[0], message) as stream:
        await eventually(lambda: len(stream.messages) == 2)
        assert {one["params"]["message"] for one in stream.messages} == {"First?", "Second?"}
        for question in stream.messages:
            result = {"action": "accept", "content": {"value": question["params"]["message"]}}
            answer = {"jsonrpc": "2.0", "id": question["id"], "result": result}
            await clients[1].post(answer, clients[1].legacy_headers())
        await eventually(lambda: "result" in stream.messages[-1])
    said = json.loads(stream.messages[-1]["result"]["content"][0]["text"])
    assert [one["content"]["value"] for one in said] == ["First?", "Second?"]


async def test_a_legacy_client_that_refuses_to_sample_ends_its_task(
    clients: list[RawClient], server: TaskServer, fleet: Fleet
) -> None:
    message = {"jsonrpc": "2.0", "id": 79, "method": "tools/call", "params": {"name": "sample", "arguments": {}}}
    async with calling(clients[0], fleet.urls[0], message) as stream:
        await eventually(lambda: stream.messages)
        answer = {"jsonrpc": "2.0", "id": stream.messages[0]["id"], "error": {"code": -1, "message": "no"}}
        await clients[0].post(answer, clients[0].legacy_headers())
        await eventually(lambda: "error" in stream.messages[-1])
    assert "refused sampling/createMessage" in stream.messages[-1]["error"]["message"]
    await eventually(lambda: newest(server)["status"] == "cancelled")


async def test_a_modern_client_is_asked_by_input_required_and_comes_again_at_any_front_end(
    clients: list[RawClient], server: TaskServer
) -> None:
    params: dict[str, Any] = {"name": "multi_input", "arguments": {"n": 1}}
    asked = (await clients[0].modern("tools/call", params, meta=ASKABLE)).body["result"]
    assert asked["resultType"] == "input_required"
    assert len(asked["inputRequests"]) == 2
    given = {key: {"action": "accept", "content": {"value": key}} for key in asked["inputRequests"]}
    again = {**params, "inputResponses": given, "requestState": asked["requestState"]}
    done = await clients[1].modern("tools/call", again, meta=ASKABLE)
    assert [one["action"] for one in json.loads(done.content)] == ["accept", "accept"]
    refused = await clients[0].modern("tools/call", {"name": "confirm_delete", "arguments": {}})
    assert refused.content == "jobs: cancel", "a client that cannot be asked cancels an elicitation"


async def test_input_that_comes_before_the_task_is_asked_for_as_ever(clients: list[RawClient]) -> None:
    params: dict[str, Any] = {"name": "test_tool_with_task", "arguments": {}}
    asked = (await clients[0].modern("tools/call", params, meta=ASKABLE)).body["result"]
    assert list(asked["inputRequests"]) == ["user_name"]
    given = {"user_name": {"action": "accept", "content": {"name": "Ada"}}}
    again = {**params, "inputResponses": given, "requestState": asked["requestState"]}
    assert "Ada" in (await clients[1].modern("tools/call", again, meta=ASKABLE)).content


@pytest.mark.parametrize("era", ["legacy", "modern"])
async def test_cancelling_the_call_cancels_the_task(
    clients: list[RawClient], server: TaskServer, fleet: Fleet, era: str
) -> None:
    before = len(server.tasks)
    params: dict[str, Any] = {"name": "slow_compute", "arguments": {"seconds": 60}}
    if era == "legacy":
        message = {"jsonrpc": "2.0", "id": 99, "method": "tools/call", "params": params}
        call = asyncio.create_task(clients[0].post(message, clients[0].legacy_headers()))
    else:
        call = asyncio.create_task(clients[0].modern("tools/call", {**params, "_meta": MODERN_META}))
    await eventually(lambda: len(server.tasks) > before)
    await eventually(lambda: newest(server).get("statusMessage") == "half way")
    if era == "legacy":
        await clients[1].legacy_notice("notifications/cancelled", {"requestId": 99})
    else:
        call.cancel()
    await eventually(lambda: newest(server)["status"] == "cancelled")
    call.cancel()
    await asyncio.wait({call})


async def test_an_upstream_that_is_gone_ends_the_wait(clients: list[RawClient], server: TaskServer) -> None:
    before = len(server.tasks)
    call = asyncio.create_task(clients[0].legacy_call("slow_compute", {"seconds": 60}))
    await eventually(lambda: len(server.tasks) > before)
    server.tasks.clear()
    lost = (await call).error
    assert "Task not found" in lost["message"], lost
