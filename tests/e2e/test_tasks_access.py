"""Whose tasks they are: another principal's, and those of a tool that a role or a virtual server hides, never were."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator

import pytest_asyncio

from tests.clients import Answer
from tests.e2e.test_access import As, admin, make_key
from tests.e2e.test_tasks import DECLARED, ask, until
from tests.fleet import Fleet, eventually
from tests.servers.tasking import TaskServer
from tests.streams import listening

RULES = {
    "authentication": [{"type": "apiKey"}],
    "roles": {
        "all": {"allow": ["*"]},
        "some": {"allow": ["jobs/*"], "deny": ["jobs/slow_compute"]},
        "steady": {"allow": ["*"], "deny": ["methods:tasks/cancel"]},
    },
}
SHOWN = {"tools": ["jobs/slow_compute"], "override": {"jobs/slow_compute": {"name": "compute"}}}


@pytest_asyncio.fixture(scope="module")
async def fleet(redis_url: str) -> AsyncIterator[Fleet]:
    settings = {"admin_token": "the-admin-token", "access_rules": json.dumps(RULES)}
    async with TaskServer("jobs") as server, Fleet(redis_url, 2, 1, **settings) as fleet:
        await fleet.register("jobs", server.connection)
        yield fleet


async def test_a_task_is_its_principals_and_hidden_where_its_tool_is(fleet: Fleet) -> None:
    keys = [await make_key(fleet, name, "all") for name in ("ada", "bob")]
    async with As(fleet.urls[0], keys[0]) as ada, As(fleet.urls[1], keys[1]) as bob:
        made = (await ada.call("slow_compute", meta=DECLARED)).body["result"]["taskId"]
        await until(ada, made, "completed")
        never = await ask(bob, "tasks/get", "never-was")
        for method in ("tasks/get", "tasks/update", "tasks/cancel"):
            foreign = await ask(bob, method, made, inputResponses={})
            assert (foreign.status, foreign.error) == (never.status, never.error)
        async with listening(bob, bob.url, DECLARED, taskIds=[made]) as stream:
            assert "taskIds" not in stream.messages[0]["params"]["notifications"]
    for role in ("all", "some"):  # the same principal, with a key of its own for each role
        await admin(fleet, "DELETE", "keys/ada")
        async with As(fleet.urls[0], await make_key(fleet, "ada", role)) as again:

            async def known(client: As = again) -> Answer | None:
                answer = await ask(client, "tasks/get", made)
                return answer if answer.status != 401 else None

            answer = await eventually(known)
            assert answer.body.get("error") == (None if role == "all" else never.error)


async def test_a_method_that_a_role_denies_is_not_offered(fleet: Fleet) -> None:
    async with As(fleet.urls[0], await make_key(fleet, "cyd", "steady")) as cyd:
        made = (await cyd.call("slow_compute", meta=DECLARED)).body["result"]["taskId"]
        assert (await ask(cyd, "tasks/cancel", made)).error["code"] == -32601
        await until(cyd, made, "completed")


async def test_a_task_of_a_renamed_tool_is_known_where_the_tool_is(fleet: Fleet) -> None:
    status, _ = await admin(fleet, "PUT", "virtual-servers/few", SHOWN)
    assert status in (200, 201)
    key = await make_key(fleet, "dan", "all")
    url = f"{fleet.frontends[1].url}/servers/few/mcp"
    async with As(url, key) as few, As(fleet.urls[0], key) as whole:

        async def called() -> str:
            return str((await few.call("compute", meta=DECLARED)).body.get("result", {}).get("taskId", ""))

        made = await eventually(called)
        assert (await until(few, made, "completed"))["taskId"] == made
        assert (await until(whole, made, "completed"))["taskId"] == made
        other = (await whole.call("multi_input", meta=DECLARED)).body["result"]["taskId"]
        assert (await ask(few, "tasks/get", other)).error["code"] == -32602
