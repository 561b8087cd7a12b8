"""JSON-RPC batches: who may send one, and that a call in one has all that a call has."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator
from typing import Any

import pytest
import pytest_asyncio

from tests.clients import RawClient
from tests.fleet import Fleet, eventually
from tests.machine import scaled
from tests.servers.scripted import Exchange, Scripted, said
from tests.streams import Stream, reading, sse_data

PING = {"jsonrpc": "2.0", "id": "ping", "method": "ping"}
ELICITS = {"elicitation": {}}


@pytest_asyncio.fixture(scope="module")
async def up() -> AsyncIterator[Scripted]:
    async with Scripted("up") as upstream:
        yield upstream


@pytest_asyncio.fixture(scope="module")
async def fleet(redis_url: str, up: Scripted) -> AsyncIterator[Fleet]:
    async with Fleet(redis_url, frontends=2, keepalive_comment_s=1.0) as fleet:
        await fleet.register("up", up.connection)
        yield fleet


@pytest_asyncio.fixture
async def client(fleet: Fleet, up: Scripted) -> AsyncIterator[RawClient]:
    async with RawClient(fleet.urls[0]) as client:
        await client.initialize("2025-03-26", ELICITS)
        yield client
    up.on.pop("tools/call", None)


def call(id: Any, **meta: Any) -> dict[str, Any]:
    params = {"name": "up", "arguments": {"id": id}, "_meta": meta}
    return {"jsonrpc": "2.0", "id": id, "method": "tools/call", "params": params}


@contextlib.asynccontextmanager
async def sending(client: RawClient, *batch: dict[str, Any], url: str = "") -> AsyncIterator[Stream]:
    headers = {**client.legacy_headers(), "Accept": "application/json, text/event-stream"}
    async with client.session.post(url or client.url, json=list(batch), headers=headers) as response:
        assert response.content_type == "text/event-stream", await response.text()
        async with reading(response) as stream:
            yield stream


def answered(stream: Stream) -> dict[Any, Any]:
    """Results by request id, in the order in which they came."""
    return {one["id"]: one["result"] for one in stream.messages if "result" in one}


async def test_it_is_answered_with_an_array(client: RawClient) -> None:
    batch = [call("a"), {"jsonrpc": "2.0", "method": "notifications/initialized"}, PING, {**call("?"), "method": "no"}]
    answer = await client.post(batch, client.legacy_headers())
    by_id = {one["id"]: one for one in answer.body}
    assert by_id.keys() == {"a", "ping", "?"}
    assert by_id["a"]["result"]["content"] == [{"type": "text", "text": "up"}]
    assert by_id["?"]["error"]["code"] == -32601


async def test_notifications_alone_are_accepted(client: RawClient) -> None:
    answer = await client.post([{"jsonrpc": "2.0", "method": "notifications/initialized"}], client.legacy_headers())
    assert (answer.status, answer.text) == (202, "")


async def test_its_calls_may_ask_and_tell(client: RawClient, up: Scripted) -> None:
    """Then each answer comes on the stream, those that were there before as well."""

    async def ask(exchange: Exchange) -> dict[str, Any] | None:
        if exchange.arguments["id"] == "quiet":
            return said("nothing to ask")
        params = {"progressToken": exchange.token, "progress": 1}
        await exchange.send({"method": "notifications/progress", "params": params})
        await exchange.ask("q")
        await eventually(lambda: "q" in up.replies, 5.0, "the client's answer arrives")
        await exchange.answer(said(up.replies.pop("q")["result"]["content"]["text"]))
        return None

    up.on["tools/call"] = ask
    async with sending(client, call("quiet"), PING, call("asks", progressToken="mine")) as stream:
        await eventually(lambda: answered(stream).keys() == {"quiet", "ping"}, 5.0, "their answers are not held back")
        await eventually(lambda: "elicitation/create" in stream.methods(), 5.0, "asked")
        progress, question = (one for one in stream.messages if "method" in one)
        assert progress["params"]["progressToken"] == "mine"
        reply = {"action": "accept", "content": {"text": "said by the client"}}
        await client.post({"jsonrpc": "2.0", "id": question["id"], "result": reply}, client.legacy_headers())
        await eventually(lambda: stream.closed, 5.0, "the stream ends with the last answer")
    assert answered(stream)["asks"]["content"][0]["text"] == "said by the client"
    assert len(answered(stream)) == 3


async def test_a_silent_one_shows_a_sign_of_life(client: RawClient, up: Scripted) -> None:
    over = asyncio.Event()

    async def slow(exchange: Exchange) -> dict[str, Any]:
        await over.wait()
        return said("at last")

    up.on["tools/call"] = slow
    async with sending(client, call("slow"), PING) as stream:
        await eventually(lambda: stream.comments, 5.0, "a comment")
        over.set()
        await eventually(lambda: stream.closed, 5.0, "answered")
    assert answered(stream).keys() == {"slow", "ping"}


async def test_a_client_that_leaves_is_not_asked_any_more_and_can_cancel(client: RawClient, up: Scripted) -> None:
    cancelled = asyncio.Event()

    def noticed(message: dict[str, Any]) -> None:
        if message.get("method") == "notifications/cancelled":
            cancelled.set()

    async def ask(exchange: Exchange) -> None:
        await exchange.ask("late")
        await cancelled.wait()

    up.on["tools/call"], up.noticed = ask, noticed
    async with sending(client, call("one"), PING) as stream:
        await eventually(lambda: any("method" in one for one in stream.messages), 5.0, "asked")
    await client.legacy_notice("notifications/cancelled", {"requestId": "one"})
    async with asyncio.timeout(scaled(5.0)):
        await cancelled.wait()


@pytest.mark.parametrize("version", ["2025-03-26", "2025-06-18"])
async def test_over_http_sse_it_is_for_the_versions_that_have_them(fleet: Fleet, version: str) -> None:
    async with RawClient(fleet.url) as client, client.session.get(f"{fleet.url}/sse") as stream:
        url = f"{fleet.url}{await sse_data(stream)}"
        pings = [{"jsonrpc": "2.0", "id": id, "method": "ping"} for id in ("a", "b")]
        assert (await client.post(pings, url=url)).status == 400, "before initialize"
        info = {"name": "raw", "version": "1"}
        params = {"protocolVersion": version, "capabilities": {}, "clientInfo": info}
        initialize = {"jsonrpc": "2.0", "id": 0, "method": "initialize", "params": params}
        await client.post(initialize, url=url)
        assert json.loads(await sse_data(stream))["result"]["protocolVersion"] == version
        answer = await client.post(pings, url=url)
        if version == "2025-06-18":
            assert answer.status == 400 and "no batches" in answer.error["message"]
            return
        assert answer.status == 202
        assert {json.loads(await sse_data(stream))["id"] for _ in range(2)} == {"a", "b"}
        answer = await client.post([initialize], url=url)
        assert answer.status == 400 and "initialize" in answer.error["message"]
