"""The tasks extension through two front ends, to one and to two replicas: tasks pass, under ids of the gateway."""

from __future__ import annotations

import json
import signal
from collections.abc import AsyncIterator
from typing import Any

import pytest
import pytest_asyncio

from tests.clients import Answer, RawClient
from tests.e2e.test_metrics import scrape, total
from tests.fleet import Fleet, eventually
from tests.servers.tasking import CAPABILITIES, EXTENSION, TaskServer
from tests.streams import listening

DECLARED = {CAPABILITIES: {"extensions": {EXTENSION: {}}, "elicitation": {}, "sampling": {}}}


@pytest_asyncio.fixture(scope="module")
async def servers() -> AsyncIterator[dict[str, TaskServer]]:
    async with TaskServer("jobs-1") as one, TaskServer("jobs-2") as two, TaskServer("alone") as alone:
        yield {"jobs-1": one, "jobs-2": two, "alone": alone}


@pytest_asyncio.fixture(scope="module")
async def fleet(redis_url: str, servers: dict[str, TaskServer]) -> AsyncIterator[Fleet]:
    """Two front ends, two workers; ``jobs`` has two replicas and ``alone`` one."""
    async with Fleet(redis_url, frontends=2, workers=2) as fleet:
        for id, server in servers.items():
            await fleet.register(id, server.connection, name=id.partition("-")[0])
        yield fleet


@pytest_asyncio.fixture
async def clients(fleet: Fleet) -> AsyncIterator[list[RawClient]]:
    async with RawClient(fleet.urls[0]) as one, RawClient(fleet.urls[1]) as two:
        yield [one, two]


async def ask(client: RawClient, method: str, id: str, **params: Any) -> Answer:
    """One request about a task."""
    headers = {"Mcp-Name": id}
    return await client.modern(method, {"taskId": id, **params}, headers=headers, meta=DECLARED)


async def until(client: RawClient, id: str, *statuses: str) -> dict[str, Any]:
    """The task, once it has one of these statuses."""

    async def found() -> dict[str, Any] | None:
        task: dict[str, Any] = (await ask(client, "tasks/get", id)).body["result"]
        return task if task["status"] in statuses else None

    return await eventually(found)


@pytest.mark.parametrize("group", ["alone", "jobs"])
async def test_a_task_made_at_one_front_end_is_known_at_the_other_and_ends_as_directly(
    clients: list[RawClient], servers: dict[str, TaskServer], group: str
) -> None:
    made: list[dict[str, Any]] = []
    for number in range(4):
        answer = await clients[number % 2].call(f"{group}__slow_compute", {"seconds": 0.1}, meta=DECLARED)
        made.append(answer.body["result"])
    owners = set()
    for number, task in enumerate(made):
        assert task["resultType"] == "task", task
        assert all(task["taskId"] not in server.tasks for server in servers.values())
        done = await until(clients[(number + 1) % 2], task["taskId"], "completed")
        assert done["taskId"] == task["taskId"]
        assert done["resultType"] == "complete"
        owner = done["result"]["content"][0]["text"].partition(" ")[0]
        own = [one.document for one in servers[owner].tasks.values()]
        assert {**done, "taskId": None, "resultType": None} in [
            {**one, "taskId": None, "resultType": None} for one in own
        ]
        owners.add(owner)
        assert done["result"]["structuredContent"] == {"taskId": "mine"}, "only the task's own id is replaced"
    assert owners == ({"alone"} if group == "alone" else {"jobs-1", "jobs-2"})

    async def counted() -> bool:
        figures = await scrape(f"{clients[0].url.removesuffix('mcp')}metrics", scope="fleet")
        return total(figures, "gateway_tasks_total", waits="client") >= 4

    await eventually(counted, 10.0, "tasks are counted")


async def test_a_large_result_has_the_clients_id_too(clients: list[RawClient]) -> None:
    size = 3_000_000
    made = (await clients[0].call("jobs__slow_compute", {"size": size}, meta=DECLARED)).body["result"]["taskId"]
    done = await until(clients[1], made, "completed")
    assert done["taskId"] == made
    assert len(done["result"]["content"][0]["text"]) > size


async def test_input_that_a_task_needs_passes_at_any_front_end(clients: list[RawClient]) -> None:
    made = (await clients[0].call("jobs__multi_input", meta=DECLARED)).body["result"]["taskId"]
    waiting = await until(clients[1], made, "input_required")
    assert set(waiting["inputRequests"]) == {"first", "second"}
    for client, key in ((clients[1], "first"), (clients[0], "second")):
        given = {key: {"action": "accept", "content": {"value": key}}}
        assert (await ask(client, "tasks/update", made, inputResponses=given)).body["result"] == {
            "resultType": "complete"
        }
    done = await until(clients[1], made, "completed")
    assert [one["content"]["value"] for one in json.loads(done["result"]["content"][0]["text"])] == ["first", "second"]


async def test_a_task_is_cancelled_from_any_front_end(clients: list[RawClient]) -> None:
    made = (await clients[0].call("jobs__slow_compute", {"seconds": 60}, meta=DECLARED)).body["result"]["taskId"]
    assert (await ask(clients[1], "tasks/cancel", made)).body["result"] == {"resultType": "complete"}
    await until(clients[0], made, "cancelled")


async def test_what_is_no_task_of_the_caller_is_unknown_in_the_same_words(
    clients: list[RawClient], fleet: Fleet
) -> None:
    made = (await clients[0].call("alone__slow_compute", meta=DECLARED)).body["result"]["taskId"]
    never = await ask(clients[0], "tasks/get", "never-was")
    assert (never.status, never.error["code"]) == (400, -32602)
    broken = await ask(clients[0], "tasks/get", made[:-4] + "AAAA")
    async with RawClient(f"{fleet.frontends[0].url}/servers/jobs/mcp") as elsewhere:
        hidden = await ask(elsewhere, "tasks/get", made)
    assert never.error == broken.error == hidden.error
    async with RawClient(f"{fleet.frontends[0].url}/servers/alone/mcp") as shown:
        assert (await ask(shown, "tasks/get", made)).body["result"]["taskId"] == made


async def test_the_extension_is_offered_to_modern_clients_where_an_upstream_has_it(
    clients: list[RawClient], fleet: Fleet
) -> None:
    discovered = (await clients[0].modern("server/discover")).body["result"]["capabilities"]
    assert discovered["extensions"] == {EXTENSION: {}}
    assert "tasks" not in discovered
    assert EXTENSION not in json.dumps((await clients[0].initialize()).body)
    for method in ("tasks/get", "tasks/update", "tasks/cancel"):
        refused = await clients[0].modern(method, {"taskId": "x"}, headers={"Mcp-Name": "x"})
        assert (refused.status, refused.error["code"]) == (400, -32021)
        assert refused.error["data"]["requiredCapabilities"] == {"extensions": {EXTENSION: {}}}
    differing = await clients[0].modern("tasks/get", {"taskId": "x"}, headers={"Mcp-Name": "y"}, meta=DECLARED)
    assert differing.error["code"] == -32020


async def test_notifications_of_tasks_come_on_a_listen_under_the_clients_ids(
    clients: list[RawClient], servers: dict[str, TaskServer]
) -> None:
    made = []
    for server in servers.values():
        server.settled.clear()
    for _ in range(2):
        for group in ("jobs", "alone"):
            answer = await clients[0].call(f"{group}__slow_compute", {"held": True}, meta=DECLARED)
            made.append(answer.body["result"]["taskId"])
    for id in made:
        await until(clients[0], id, "working")
    async with listening(clients[1], clients[1].url, DECLARED, taskIds=[*made, "never-was"]) as stream:
        await eventually(lambda: stream.messages)
        assert sorted(stream.messages[0]["params"]["notifications"]["taskIds"]) == sorted(made)
        for server in servers.values():
            server.settled.set()
        await eventually(lambda: len(stream.messages) > len(made))
        told = [one["params"] for one in stream.messages[1:]]
        assert {one["method"] for one in stream.messages[1:]} == {"notifications/tasks"}
        assert {one["taskId"] for one in told if one["status"] == "completed"} == set(made)
        assert all(one["_meta"]["io.modelcontextprotocol/subscriptionId"] for one in told)


async def test_a_listen_for_tasks_without_the_extension_is_refused(clients: list[RawClient]) -> None:
    refused = await clients[0].modern("subscriptions/listen", {"notifications": {"taskIds": ["x"]}})
    assert refused.error["code"] == -32021


async def test_a_replica_that_is_gone_is_named_and_its_task_goes_on_when_it_is_back(
    fleet: Fleet, clients: list[RawClient], servers: dict[str, TaskServer]
) -> None:
    made = (await clients[0].call("jobs__slow_compute", {"seconds": 0.1}, meta=DECLARED)).body["result"]["taskId"]
    done = await until(clients[1], made, "completed")
    owner = done["result"]["content"][0]["text"].partition(" ")[0]
    await servers[owner].stop()
    try:
        gone = await ask(clients[1], "tasks/get", made)
        assert owner in gone.error["message"], gone.error
        assert gone.error["code"] == -31001
    finally:
        await servers[owner].start()

    async def back() -> bool:
        return "result" in (await ask(clients[1], "tasks/get", made)).body

    await eventually(back, 30)


async def test_ids_outlive_front_ends_and_workers(redis_url: str) -> None:
    async with TaskServer("jobs-1") as server, Fleet(redis_url, frontends=1, workers=1) as fleet:
        await fleet.register("jobs-1", server.connection, name="jobs")
        async with RawClient(fleet.urls[0]) as client:
            made = (await client.call("slow_compute", meta=DECLARED)).body["result"]["taskId"]
        await fleet.add_frontend()
        await fleet.add_worker()
        fleet.kill_frontend(0)
        fleet.signal_worker(await fleet.pid_of_owner("jobs-1"), signal.SIGKILL)
        async with RawClient(fleet.urls[-1]) as client:

            async def found() -> bool:
                return "result" in (await ask(client, "tasks/get", made)).body

            await eventually(found, 30)
