"""Prompts, resources, templates and completion, for clients of both eras and upstreams over all transports."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest
import pytest_asyncio
from mcp.client.client import Client
from mcp.types import PromptReference, ResourceTemplateReference

from tests.clients import RawClient
from tests.fleet import Fleet, SdkServer, stdio_connection

GROUPS = ("web", "old", "local")


@pytest_asyncio.fixture(scope="module")
async def fleet(redis_url: str) -> AsyncIterator[Fleet]:
    async with SdkServer("http", "web") as http, SdkServer("sse", "old") as sse, Fleet(redis_url, 2, 2) as fleet:
        await fleet.register("web", http.connection)
        await fleet.register("old", sse.connection)
        await fleet.register("local", stdio_connection("local"))
        yield fleet


@pytest.mark.parametrize("mode", ["auto", "legacy"])
async def test_everything_is_listed_once_and_collisions_are_marked(fleet: Fleet, mode: str) -> None:
    async with Client(fleet.urls[0], mode=mode) as client:
        assert [one.name for one in (await client.list_prompts()).prompts] == ["greet", "old__greet", "local__greet"]
        resources = {str(one.uri) for one in (await client.list_resources()).resources}
        assert resources == {f"memo://{group}/fixed" for group in GROUPS} | {
            "memo://common",
            "memo://old__common",
            "memo://local__common",
        }
        templates = {one.uri_template for one in (await client.list_resource_templates()).resource_templates}
        assert templates == {f"memo://{group}/notes/{{number}}" for group in GROUPS}


@pytest.mark.parametrize("group", GROUPS)
@pytest.mark.parametrize("mode", ["auto", "legacy"])
async def test_each_is_served_by_its_own_upstream(fleet: Fleet, mode: str, group: str) -> None:
    async with Client(fleet.urls[1], mode=mode) as client:
        prompt = await client.get_prompt(f"{group}__greet", {"person": "Ada"})
        assert prompt.messages[0].content.text == f"Hello Ada, from {group}"
        assert (await client.read_resource(f"memo://{group}/fixed")).contents[0].text == f"fixed of {group}"
        assert (await client.read_resource(f"memo://{group}/notes/7")).contents[0].text == f"note 7 of {group}"
        marked = "memo://common" if group == "web" else f"memo://{group}__common"
        read = await client.read_resource(marked)
        assert (str(read.contents[0].uri), read.contents[0].text) == (marked, f"common of {group}")
        done = await client.complete(PromptReference(name=f"{group}__greet"), {"name": "person", "value": "A"})
        assert done.completion.values == ["A-completed"]
        reference = ResourceTemplateReference(uri=f"memo://{group}/notes/{{number}}")
        assert (await client.complete(reference, {"name": "number", "value": "1"})).completion.values == ["1-completed"]


async def test_what_nobody_knows_is_named(fleet: Fleet) -> None:
    async with RawClient(fleet.urls[0]) as client:
        modern = await client.modern("resources/read", {"uri": "nobody://x"}, headers={"Mcp-Name": "nobody://x"})
        assert (modern.status, modern.error["code"], modern.error["data"]["uri"]) == (400, -32602, "nobody://x")
        legacy = await client.legacy("resources/read", {"uri": "nobody://x"})
        assert (legacy.status, legacy.error["code"]) == (200, -32002)
        unknown = (await client.legacy("prompts/get", {"name": "greeet"})).error["data"]
        assert unknown["code"] == "prompt_unknown" and "greet" in unknown["closeMatches"]
        empty = await client.legacy(
            "completion/complete", {"ref": {"type": "ref/prompt", "name": "no"}, "argument": {}}
        )
        assert empty.body["result"]["completion"]["values"] == []


async def test_instructions_and_capabilities_of_all_are_offered(fleet: Fleet) -> None:
    async with RawClient(fleet.urls[0]) as client:
        offered = (await client.initialize()).body["result"]
        assert "## web\nI am web." in offered["instructions"] and "I am local." in offered["instructions"]
        assert {"tools", "prompts", "resources", "completions"} <= set(offered["capabilities"])


async def test_unknown_methods_pass_on_the_endpoint_of_one_group(fleet: Fleet) -> None:
    async with RawClient(f"{fleet.url}/servers/old/mcp") as client:
        await client.initialize()
        answer = await client.legacy("custom/thing", {"x": 1})
        assert answer.error["code"] == -32601 and "not offered here" not in answer.error["message"]
