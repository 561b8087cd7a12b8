"""Upstreams and clients that misbehave on the wire: they harm themselves at most."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest_asyncio

from tests.clients import RawClient
from tests.fleet import Fleet, eventually
from tests.machine import stretched
from tests.servers.raw import RawUpstreams

CACHED = {"resultType": "complete", "ttlMs": 0, "cacheScope": "private"}
Talk = Callable[[dict[str, Any], asyncio.StreamWriter], Awaitable[None]]


@pytest_asyncio.fixture(scope="module")
async def fleet(redis_url: str) -> AsyncIterator[Fleet]:
    async with Fleet(
        redis_url, 1, 1, request_timeout_s=stretched(3.0), max_connections=4, reconnect_min_s=0.1
    ) as fleet:
        yield fleet


def http(body: bytes, extra: str = "") -> bytes:
    """One HTTP response."""
    head = f"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n{extra}Content-Length: {len(body)}\r\n\r\n"
    return head.encode() + body


def answer(id: Any, result: dict[str, Any]) -> bytes:
    """A JSON-RPC response as one HTTP response."""
    return http(json.dumps({"jsonrpc": "2.0", "id": id, "result": result}).encode())


@asynccontextmanager
async def byte_server(talk: Talk, tool: str) -> AsyncIterator[dict[str, Any]]:
    """A modern upstream on raw sockets; ``talk`` answers its tools/call requests byte by byte."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while True:
                head = (await reader.readuntil(b"\r\n\r\n")).decode().lower()
                length = int(head.partition("content-length:")[2].partition("\r\n")[0] or 0)
                message = json.loads(await reader.readexactly(length)) if length else {}
                method = message.get("method")
                if method == "server/discover":
                    said = {"supportedVersions": ["2026-07-28"], "capabilities": {"tools": {}}, **CACHED}
                    writer.write(answer(message["id"], said))
                elif method == "tools/list":
                    tools = [{"name": tool, "inputSchema": {"type": "object"}}]
                    writer.write(answer(message["id"], {"tools": tools, **CACHED}))
                elif method == "tools/call":
                    await talk(message, writer)
                else:
                    writer.write(b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n")
                await writer.drain()
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    try:
        yield {"type": "http", "url": f"http://127.0.0.1:{port}/mcp"}
    finally:
        server.close()


async def test_two_responses_to_one_request_reach_nobody_else(fleet: Fleet, client: RawClient) -> None:
    async def talk(message: dict[str, Any], writer: asyncio.StreamWriter) -> None:
        own = message["params"]["arguments"].get("who", "?")
        result = {"content": [{"type": "text", "text": own}], "resultType": "complete"}
        forged = {"content": [{"type": "text", "text": "stolen"}], "resultType": "complete"}
        writer.write(answer(message["id"], result) + answer(message["id"] + 1, forged) + answer(message["id"], forged))

    async with byte_server(talk, "twice") as connection:
        await fleet.register("twice", connection)
        for _ in range(5):
            answers = await asyncio.gather(*(client.call("twice", {"who": str(n)}) for n in range(8)))
            assert [one.content for one in answers] == [str(n) for n in range(8)]
        await fleet.store.unregister("twice")


async def test_answers_in_pieces_after_1xx_and_without_length_are_understood(fleet: Fleet, client: RawClient) -> None:
    async def talk(message: dict[str, Any], writer: asyncio.StreamWriter) -> None:
        result = {"content": [{"type": "text", "text": "pieces"}], "resultType": "complete"}
        body = json.dumps({"jsonrpc": "2.0", "id": message["id"], "result": result}).encode()
        writer.write(b"HTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\n")
        await writer.drain()
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nConnection: close\r\n\r\n")
        for at in range(0, len(body), 7):
            writer.write(body[at : at + 7])
            await writer.drain()
        writer.close()

    async with byte_server(talk, "pieces") as connection:
        await fleet.register("pieces", connection)
        for _ in range(3):
            assert (await client.call("pieces")).content == "pieces"
        await fleet.store.unregister("pieces")


async def test_large_progress_and_long_words_harm_no_other_call(fleet: Fleet, client: RawClient) -> None:
    async def talk(message: dict[str, Any], writer: asyncio.StreamWriter) -> None:
        token = message["params"]["_meta"].get("progressToken")
        params = {"progressToken": token, "progress": 1, "message": "m" * 200_000}
        progress = {"jsonrpc": "2.0", "method": "notifications/progress", "params": params}
        result = {"content": [{"type": "text", "text": "done"}], "resultType": "complete"}
        final = {"jsonrpc": "2.0", "id": message["id"], "result": result}
        events = "".join(f"event: message\r\ndata: {json.dumps(one)}\r\n\r\n" for one in (progress, final)).encode()
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nConnection: close\r\n\r\n" + events)
        await writer.drain()
        writer.close()

    async with byte_server(talk, "wordy") as connection, RawUpstreams() as upstreams:
        endpoint = upstreams.add("calm", [{"name": "calm_who", "inputSchema": {"type": "object"}}])
        await fleet.register("calm", upstreams.connection("calm"))
        await fleet.register("wordy", connection)
        endpoint.behaviour = "hang"
        victim = asyncio.ensure_future(client.call("calm_who"))
        await eventually(lambda: endpoint.tool_calls, 5.0)
        wordy = await client.call("wordy", meta={"progressToken": "p"})
        assert wordy.content == "done" and len(wordy.messages[0]["params"]["message"]) == 200_000
        refused = await client.call("calm_who", meta={"progressToken": "x" * 70_000})
        assert refused.error["code"] == -32602
        endpoint.release.set()
        assert (await victim).content == "calm"
        for id in ("calm", "wordy"):
            await fleet.store.unregister(id)


async def test_timed_out_calls_give_their_connections_back(fleet: Fleet, client: RawClient) -> None:
    async with RawUpstreams() as upstreams:
        endpoint = upstreams.add("hog", [{"name": "hog_who", "inputSchema": {"type": "object"}}], era="legacy")
        await fleet.register("hog", upstreams.connection("hog"))
        endpoint.behaviour = "hang"
        answers = await asyncio.gather(*(client.legacy_call("hog_who") for _ in range(4)))  # all connections there are
        assert {one.error["data"]["code"] for one in answers} == {"timeout"}
        endpoint.behaviour = "ok"

        async def served() -> bool:
            return "result" in (await client.legacy_call("hog_who")).body

        await eventually(served, 10.0, "a connection is free again")
        endpoint.release.set()
        await fleet.store.unregister("hog")


async def test_one_unreadable_schema_or_record_costs_nobody_else_theirs(fleet: Fleet, client: RawClient) -> None:
    deep: dict[str, Any] = {"x-mcp-header": "A", "type": "string"}
    for _ in range(200):
        deep = {"type": "object", "properties": {"p": deep}}
    async with RawUpstreams() as upstreams:
        upstreams.add("deep", [{"name": "deep_who", "inputSchema": deep}, {"name": "fine", "inputSchema": {}}])
        await fleet.register("deep", upstreams.connection("deep"))
        await fleet.store.redis.hset(fleet.store.keys.server("deep"), "isolation", "from-the-future")
        await fleet.store.run_script("ANNOUNCE", "server", "deep")
        upstreams.add("after", [{"name": "after_who", "inputSchema": {"type": "object"}}])
        await fleet.register("after", upstreams.connection("after"))
        assert (await client.call("after_who")).content == "after"
        await fleet.store.unregister("deep")
        await fleet.store.unregister("after")


async def test_registering_and_unregistering_quickly_does_not_stop_the_worker(fleet: Fleet, client: RawClient) -> None:
    async with RawUpstreams() as upstreams:
        upstreams.add("brief", [{"name": "brief_who", "inputSchema": {"type": "object"}}])
        for round in range(10):
            ids = [f"brief{round}x{number}" for number in range(6)]
            for id in ids:
                await fleet.register(id, upstreams.connection("brief"), connected=False)
            for id in ids:
                await fleet.store.unregister(id)
        await fleet.register("brief", upstreams.connection("brief"))
        assert (await client.call("brief_who")).content == "brief"
        await fleet.store.unregister("brief")
