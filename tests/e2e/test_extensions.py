"""A client that declares what the gateway does not carry loses no call: it is not declared upwards. The tasks extension
is, for clients of the modern era (``test_tasks``)."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import pytest_asyncio

from tests.clients import RawClient
from tests.fleet import Fleet
from tests.servers.raw import RawUpstreams

TASKS = "io.modelcontextprotocol/tasks"
CAPABILITIES = "io.modelcontextprotocol/clientCapabilities"
TOOL = {"inputSchema": {"type": "object"}}
TOOLS: list[dict[str, Any]] = [
    {"name": "plain", **TOOL},
    {"name": "may", "execution": {"taskSupport": "optional"}, **TOOL},
    {"name": "must", "execution": {"taskSupport": "required"}, **TOOL},
]


@pytest_asyncio.fixture(scope="module")
async def upstreams() -> AsyncIterator[RawUpstreams]:
    async with RawUpstreams() as upstreams:
        upstreams.add("modern", TOOLS, "modern")
        upstreams.add("legacy", TOOLS, "legacy")
        yield upstreams


@pytest_asyncio.fixture(scope="module")
async def fleet(redis_url: str, upstreams: RawUpstreams) -> AsyncIterator[Fleet]:
    async with Fleet(redis_url) as fleet:
        for name in ("modern", "legacy"):
            await fleet.register(name, upstreams.connection(name))
        yield fleet


async def test_no_upstream_is_told_of_tasks_of_the_legacy_era_and_tools_that_need_one_are_called_without(
    fleet: Fleet, upstreams: RawUpstreams
) -> None:
    declared = {CAPABILITIES: {"extensions": {TASKS: {}}, "tasks": {"requests": {}}, "sampling": {}}}
    async with RawClient(fleet.urls[0]) as client:
        await client.initialize(capabilities=declared[CAPABILITIES])
        for group in ("modern", "legacy"):
            seen = upstreams.endpoints[group].calls
            del seen[:]
            for call in (client.call, client.legacy_call):
                options = {"meta": declared} if call == client.call else {}
                assert (await call(f"{group}__plain", {"task": "mine"}, **options)).content == group
            answer = await client.modern(
                "tools/call", {"name": f"{group}__plain", "arguments": {}, "task": {"ttl": 1}}, meta=declared
            )
            assert answer.content == group
            assert (await client.legacy("tools/call", {"name": f"{group}__plain", "task": {}})).content == group
            told = [
                one["params"].get("_meta", {}).get(CAPABILITIES, {}) for one in seen if one["method"] == "tools/call"
            ]
            assert all("tasks" not in one for one in told)
            extended = [bool(one.get("extensions")) for one in told]
            assert extended == ([True, False, True, False] if group == "modern" else [False] * 4)
            assert group == "modern" or "tasks" not in str(seen)
            assert all("task" not in one["params"] for one in seen if one["method"] == "tools/call")
        for listed in (await client.modern("tools/list"), await client.legacy("tools/list")):
            names = {tool["name"] for tool in listed.body["result"]["tools"]}
            assert {"plain", "may"} <= {name.rpartition("__")[2] for name in names}
            assert {name for name in names if "must" in name} == {"must", "legacy__must"}
            assert "taskSupport" not in listed.text
