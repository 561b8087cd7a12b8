"""Resource subscriptions in every pair of eras, at any front end, on whichever worker."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest
import pytest_asyncio

from tests.clients import RawClient
from tests.fleet import Fleet, SdkServer, eventually, stdio_connection
from tests.machine import stretched
from tests.streams import listening, standing

GROUPS = {"web": "both", "legacy": "legacy", "old": "sse", "local": "modern", "local-legacy": "legacy"}


@pytest_asyncio.fixture(scope="module")
async def fleet(redis_url: str) -> AsyncIterator[Fleet]:
    async with (
        SdkServer("http", "web") as web,
        SdkServer("http", "legacy") as legacy,
        SdkServer("sse", "old") as sse,
        Fleet(redis_url, 2, 2) as fleet,
    ):
        await fleet.register("web", web.connection)
        await fleet.register("legacy", legacy.connection, era="legacy")
        await fleet.register("old", sse.connection)
        await fleet.register("local", stdio_connection("local"), era="modern")
        await fleet.register("local-legacy", stdio_connection("local-legacy"), era="legacy")
        yield fleet


def uri(group: str) -> str:
    return f"memo://{group}/fixed"


@pytest.mark.parametrize("group", GROUPS)
async def test_a_legacy_session_hears_of_its_resource_wherever_it_subscribed(fleet: Fleet, group: str) -> None:
    async with RawClient(fleet.urls[0]) as client, RawClient(fleet.urls[1]) as other:
        await client.initialize()
        async with standing(client, fleet.urls[0]) as stream:
            answer = await client.legacy("resources/subscribe", {"uri": uri(group)}, url=fleet.urls[1])
            assert answer.body["result"] == {}, answer.body

            async def touched() -> bool:
                if GROUPS[group] in ("legacy", "both", "sse"):  # the session that subscribed must say so as well
                    await client.legacy_call(f"{group}__touch", {"uri": uri(group)})
                else:
                    await other.call(f"{group}__touch", {"uri": uri(group)})
                return bool(stream.updated())

            await eventually(touched, 10.0, "updated")
            assert set(stream.updated()) == {uri(group)}
            assert all("_meta" not in message["params"] for message in stream.messages if "params" in message)
            answer = await client.legacy("resources/unsubscribe", {"uri": uri(group)})
            assert answer.body["result"] == {}
            await asyncio.sleep(stretched(0.1))  # what was told before has arrived
            count = len(stream.updated())
            await client.legacy_call(f"{group}__touch", {"uri": uri(group)})
            await asyncio.sleep(0.2)
            assert len(stream.updated()) == count


@pytest.mark.parametrize("group", GROUPS)
async def test_a_modern_client_listens_for_a_resource(fleet: Fleet, group: str) -> None:
    async with RawClient(fleet.urls[0]) as client:
        wanted = [uri(group), "memo://nowhere/at-all"]
        async with listening(client, fleet.urls[1], resourceSubscriptions=wanted) as stream:
            first = stream.messages[0]
            assert first["method"] == "notifications/subscriptions/acknowledged"
            assert uri(group) in first["params"]["notifications"]["resourceSubscriptions"], first

            async def touched() -> bool:
                await client.call(f"{group}__touch", {"uri": uri(group)})
                return bool(stream.updated())

            await eventually(touched, 10.0, "updated")
            (*_, message) = [m for m in stream.messages if m.get("method") == "notifications/resources/updated"]
            assert message["params"]["_meta"] == {"io.modelcontextprotocol/subscriptionId": "listen-1"}


async def test_the_upstream_is_told_once_and_untold_when_the_last_one_leaves(fleet: Fleet) -> None:
    resource = uri("local-legacy")

    async def subscriptions(client: RawClient) -> int:
        return int((await client.call("local-legacy__touch", {"uri": resource})).content)

    async with RawClient(fleet.urls[0]) as client:
        await eventually(lambda: _is(subscriptions(client), 0), 10.0, "nobody is subscribed")
        async with (
            listening(client, fleet.urls[0], resourceSubscriptions=[resource]) as first,
            listening(client, fleet.urls[1], resourceSubscriptions=[resource]) as second,
        ):
            assert await subscriptions(client) == 1
            await eventually(lambda: first.updated() and second.updated(), 5.0, "both hear of it")
        await eventually(lambda: _is(subscriptions(client), 0), 10.0, "unsubscribed when both are gone")


async def _is(counted: Any, wanted: int) -> bool:
    return await counted == wanted


async def test_what_the_upstream_refuses_is_told_in_its_words(fleet: Fleet) -> None:
    async with RawClient(f"{fleet.url}/servers/legacy/mcp") as client:
        await client.initialize()
        answer = await client.legacy("resources/subscribe", {"uri": "memo://forbidden"})
        assert answer.error["code"] == -32002
        answer = await client.legacy("resources/subscribe", {"uri": "other://x"})
        assert answer.error["code"] == -32002 and "not found" in answer.error["message"]
