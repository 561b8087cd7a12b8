"""Lost streams go on at any front end, also when the one that opened them was killed; nothing is lost."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
import pytest_asyncio

from tests.clients import Answer, RawClient
from tests.fleet import Fleet, SdkServer, eventually
from tests.machine import scaled
from tests.servers.raw import RawUpstreams
from tests.servers.scripted import Exchange, Scripted
from tests.streams import calling, standing


@pytest_asyncio.fixture
async def fleet(redis_url: str) -> AsyncIterator[Fleet]:
    async with SdkServer("http", "web") as web, Fleet(redis_url, 2, 2) as fleet:
        await fleet.register("web", web.connection)
        yield fleet


def steps(count: int, id: Any = 7) -> dict[str, Any]:
    """A call that reports progress every 20 ms."""
    params = {"name": "progress", "arguments": {"steps": count}, "_meta": {"progressToken": "t"}}
    return {"jsonrpc": "2.0", "id": id, "method": "tools/call", "params": params}


def progress(messages: list[dict[str, Any]]) -> list[int]:
    return [m["params"]["progress"] for m in messages if m.get("method") == "notifications/progress"]


async def test_a_dropped_call_goes_on_at_another_front_end(fleet: Fleet) -> None:
    async with RawClient("") as client:
        client.url = fleet.urls[0]
        await client.initialize()
        async with calling(client, fleet.urls[0], steps(40)) as first:
            await eventually(lambda: len(progress(first.messages)) >= 3, 10.0, "some progress")
        assert first.retry_ms == 1000 and first.ids[0].endswith(".0")  # the priming event of 2025-11-25
        async with standing(client, fleet.urls[1], first.ids[-1]) as second:
            await eventually(lambda: second.closed, 10.0, "the answer")
        assert progress(first.messages) + progress(second.messages) == list(range(1, 41))
        assert second.messages[-1]["id"] == 7
        assert second.messages[-1]["result"]["content"][0]["text"] == "finished"
        # Once more: the whole stream is kept for a while, for its session alone.
        async with standing(client, fleet.urls[0], first.ids[0]) as again:
            await eventually(lambda: again.closed, 10.0, "the answer again")
        assert progress(again.messages) == list(range(1, 41)) and "result" in again.messages[-1]
        async with RawClient(fleet.urls[0]) as stranger:
            await stranger.initialize()
            headers = {**stranger.legacy_headers(), "Accept": "text/event-stream", "Last-Event-ID": first.ids[-1]}
            async with stranger.session.get(fleet.urls[0], headers=headers) as response:
                assert response.status == 400


async def test_a_call_survives_the_front_end_that_took_it(fleet: Fleet) -> None:
    async with RawClient("") as client:
        client.url = fleet.urls[0]
        await client.initialize()
        async with calling(client, fleet.urls[0], steps(60)) as first:
            await eventually(lambda: len(progress(first.messages)) >= 3, 10.0, "some progress")
            fleet.kill_frontend(0)
            await eventually(lambda: first.closed, 5.0, "the connection drops")
        async with standing(client, fleet.urls[1], first.ids[-1]) as second:
            await eventually(lambda: second.closed, 10.0, "the answer")
        assert progress(first.messages) + progress(second.messages) == list(range(1, 61))
        assert second.messages[-1]["result"]["content"][0]["text"] == "finished"


@asynccontextmanager
async def hanging(redis_url: str) -> AsyncIterator[tuple[Fleet, RawClient, asyncio.Task[Answer]]]:
    """A call ``mine`` at the first of two front ends that its upstream does not answer."""
    async with RawUpstreams() as upstreams, Fleet(redis_url, 2, 1) as fleet, RawClient("") as client:
        endpoint = upstreams.add("up")
        await fleet.register("up", upstreams.connection("up"))
        client.url = fleet.urls[0]
        await client.initialize()
        endpoint.behaviour = "hang"
        call = asyncio.create_task(client.legacy_call("who", id="mine"))
        await eventually(lambda: endpoint.calls[-1]["method"] == "tools/call", 5.0, "the call arrived")
        yield fleet, client, call
        endpoint.release.set()


async def test_a_call_is_cancelled_at_any_front_end(redis_url: str) -> None:
    async with hanging(redis_url) as (fleet, client, call):
        await client.legacy_notice("notifications/cancelled", {"requestId": "mine"}, url=fleet.urls[1])
        assert (await asyncio.wait_for(call, scaled(5.0))).error["data"]["code"] == "cancelled"


@pytest.mark.parametrize("frontend", [0, 1])
async def test_the_end_of_a_session_ends_its_calls_at_any_front_end(redis_url: str, frontend: int) -> None:
    async with hanging(redis_url) as (fleet, client, call):
        async with client.session.delete(fleet.urls[frontend], headers=client.legacy_headers()) as response:
            assert response.status == 200
        # At another front end, whoever hears of it first says it: the worker, after which it is not sent again, or we.
        codes = ["cancelled", "session_unknown"][: 1 + frontend]
        assert (await asyncio.wait_for(call, scaled(5.0))).error["data"]["code"] in codes


async def test_what_changed_while_a_standing_stream_was_down_is_told(fleet: Fleet) -> None:
    resource = "memo://web/fixed"
    async with RawClient("") as client:
        client.url = fleet.urls[0]
        await client.initialize()
        async with standing(client, fleet.urls[0]) as first:
            await client.legacy("resources/subscribe", {"uri": resource})
            await eventually(lambda: first.ids, 5.0, "a priming event")
            fleet.kill_frontend(0)
            await eventually(lambda: first.closed, 5.0, "the connection drops")
        client.url = fleet.urls[1]
        await client.legacy_call("grow", {"tool": "grown-meanwhile"})
        await eventually(lambda: _lists(client, "grown-meanwhile"), 10.0, "the list has it")
        async with standing(client, fleet.urls[1], first.ids[-1]) as second:
            await eventually(lambda: "notifications/tools/list_changed" in second.methods(), 5.0, "list_changed")
            await eventually(lambda: resource in second.updated(), 5.0, "the resource may have changed")


async def _lists(client: RawClient, tool: str) -> bool:
    answer = await client.legacy("tools/list")
    return tool in {one["name"] for one in answer.body["result"]["tools"]}


async def test_a_resumed_read_has_the_uri_that_the_client_asked_for(fleet: Fleet) -> None:
    """Two groups have a resource of one URI: the second's is listed under another, and its contents say that one."""
    go = asyncio.Event()

    async def read(exchange: Exchange) -> dict[str, Any] | None:
        params = {"progressToken": exchange.token, "progress": 1}
        await exchange.send({"method": "notifications/progress", "params": params})
        await go.wait()
        uri = exchange.message["params"]["uri"]
        await exchange.answer({"contents": [{"uri": uri, "text": "mine"}, {"uri": "memo:other", "text": "as it is"}]})
        return None

    async with (
        Scripted("one", "legacy", resources={}) as one,
        Scripted("two", "legacy", resources={}) as two,
        RawClient(fleet.urls[0]) as client,
    ):
        one.resources = two.resources = ["memo:same"]
        two.on["resources/read"] = read
        await fleet.register("one", one.connection)
        await fleet.register("two", two.connection)
        await client.initialize()
        listed = [r["uri"] for r in (await client.legacy("resources/list")).body["result"]["resources"]]
        (uri,) = [one for one in listed if "two" in one]
        params = {"uri": uri, "_meta": {"progressToken": "t"}}
        message = {"jsonrpc": "2.0", "id": 3, "method": "resources/read", "params": params}
        async with calling(client, fleet.urls[0], message) as first:
            await eventually(lambda: progress(first.messages), 5.0, "it has begun")
        go.set()
        async with standing(client, fleet.urls[1], first.ids[-1]) as second:
            await eventually(lambda: second.closed, 10.0, "the answer")
        contents = second.messages[-1]["result"]["contents"]
        assert [one["uri"] for one in contents] == [uri, "memo:other"]
        await fleet.store.unregister("one")
        await fleet.store.unregister("two")
