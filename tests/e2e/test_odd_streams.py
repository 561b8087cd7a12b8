"""Servers that answer on another stream than they should, never end one, or see another address of themselves."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import aiohttp
import pytest_asyncio
from aiohttp import web

from tests.clients import RawClient
from tests.fleet import Fleet, eventually

Answer = dict[str, Any]
TOOLS = [{"name": "echo", "inputSchema": {"type": "object"}}]


class Odd:
    """A server with one event stream to each client, which is its last GET. ``post`` says how it answers POSTs."""

    def __init__(self, post: Callable[[Odd, web.Request], Awaitable[web.StreamResponse]], first: str = "") -> None:
        self.post = post
        self.first = first  # what it writes first on its stream
        self.status = 200
        self.tools = TOOLS
        self.streams: list[web.StreamResponse] = []

    async def serve(self, request: web.Request) -> web.StreamResponse:
        if request.method == "POST":
            return await self.post(self, request)
        return await self.stream(request) if request.method == "GET" else web.Response()

    async def stream(self, request: web.Request, kind: str = "Text/Event-Stream; charset=UTF-8") -> web.StreamResponse:
        response = web.StreamResponse(status=self.status, headers={"Content-Type": kind})
        await response.prepare(request)
        await response.write(self.first.format(host=request.host).encode())
        self.streams.append(response)
        await asyncio.Event().wait()
        return response

    def answer(self, message: Answer) -> Answer:
        capabilities = {"tools": {"listChanged": True}}
        info = {"name": "s", "version": "1"}
        results: dict[str, Answer] = {
            "initialize": {"protocolVersion": "2025-06-18", "capabilities": capabilities, "serverInfo": info},
            "ping": {},
            "tools/list": {"tools": self.tools},
            "tools/call": {"content": [{"type": "text", "text": "hi"}]},
        }
        found: Answer = {"jsonrpc": "2.0", "id": message["id"]}
        if message["method"] in results:
            return {**found, "result": results[message["method"]]}
        return {**found, "error": {"code": -32601, "message": "Method not found"}}

    async def say(self, message: Answer) -> None:
        await eventually(lambda: self.streams, 10.0, "the stream is open")
        await self.streams[-1].write(b"data: " + json.dumps(message).encode() + b"\n\n")


async def directly(odd: Odd, request: web.Request) -> web.StreamResponse:
    message = await request.json()
    return web.json_response(odd.answer(message)) if "id" in message else web.Response(status=202)


async def elsewhere(odd: Odd, request: web.Request) -> web.StreamResponse:
    """Answers on the standing stream, as soon as there is a session."""
    message = await request.json()
    if message["method"] in ("initialize", "server/discover"):
        return web.json_response(odd.answer(message), headers={"Mcp-Session-Id": "s"})
    if "id" in message:
        asyncio.get_running_loop().create_task(odd.say(odd.answer(message)))
    return web.Response(status=202)


async def endlessly(odd: Odd, request: web.Request) -> web.StreamResponse:
    """Answers with event streams that it never ends."""
    message = await request.json()
    if "id" not in message:
        return web.Response(status=202)
    response = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
    await response.prepare(request)
    await response.write(b"data: " + json.dumps(odd.answer(message)).encode() + b"\n\n")
    odd.streams.append(response)
    while request.transport is not None and not request.transport.is_closing():
        await asyncio.sleep(0.05)
    odd.streams.remove(response)
    return response


async def accepted(odd: Odd, request: web.Request) -> web.StreamResponse:
    """HTTP+SSE, which opens its stream for any request to ``/sse`` (Quarkus)."""
    if not request.path.endswith("/messages"):
        return await odd.stream(request)
    message = await request.json()
    if "id" in message:
        await odd.say(odd.answer(message))
    return web.Response(status=202, text="Accepted")


async def cut(odd: Odd, request: web.Request) -> web.StreamResponse:
    """HTTP+SSE behind a proxy that ends the responses to messages before their bodies."""
    response = web.StreamResponse(status=202, headers={"Content-Length": "8"})
    await response.prepare(request)
    assert request.transport is not None
    message = await request.json()
    request.transport.close()
    if "id" in message:
        await odd.say(odd.answer(message))
    return response


ODD = {
    "elsewhere": Odd(elsewhere),
    "standing": Odd(directly),
    "endless": Odd(endlessly),
    "older": Odd(accepted, "event: endpoint\ndata: /older/messages\n\n"),
    "cut": Odd(cut, "event: endpoint\ndata: /cut/messages\n\n"),
    "inside": Odd(accepted, "event: endpoint\ndata: http://0.0.0.0:8000/inside/messages?s=1\n\n"),
    "inside_tls": Odd(accepted, "event: endpoint\ndata: https://{host}/inside_tls/messages?s=1\n\n"),
}
ODD["standing"].status = 202  # as mcp-go had it
SSE = ("cut", "inside", "inside_tls")


@pytest_asyncio.fixture(scope="module")
async def fleet(redis_url: str) -> AsyncIterator[Fleet]:
    app = web.Application()
    for name, odd in ODD.items():
        app.router.add_route("*", f"/{name}{{_:(/.*)?}}", odd.serve)
    runner = web.AppRunner(app, shutdown_timeout=0.1)
    await runner.setup()
    try:
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        async with Fleet(redis_url, 1, 1, probe_timeout_s=2.0) as fleet:
            for name in ODD:
                url = f"http://127.0.0.1:{runner.addresses[0][1]}/{name}"
                connection = {"type": "sse", "url": f"{url}/sse"} if name in SSE else {"url": url}
                await fleet.register(name, connection, connected=False)
            await fleet.connected(*ODD)
            yield fleet
    finally:
        await runner.cleanup()


async def test_an_answer_is_taken_from_whatever_stream_it_comes_on(fleet: Fleet) -> None:
    async with RawClient(f"{fleet.url}/mcp") as client:
        await client.initialize()
        for name in ODD:
            for call in (client.legacy_call, client.call):
                assert (await call(f"{name}__echo")).content == "hi", name
    for name in ("inside", "inside_tls"):
        async with aiohttp.ClientSession() as session, session.get(f"{fleet.url}/admin/v1/servers/{name}") as response:
            (note,) = (await response.json())["notes"]
        assert f"/{name}/messages" in note and "was taken for this path at its own address" in note


async def test_a_standing_stream_is_listened_to_whatever_its_2xx_status_is(fleet: Fleet) -> None:
    odd = ODD["standing"]
    odd.tools = [*TOOLS, {"name": "later", "inputSchema": {"type": "object"}}]
    await odd.say({"jsonrpc": "2.0", "method": "notifications/tools/list_changed"})
    async with RawClient(f"{fleet.url}/servers/standing/mcp") as client:

        async def listed() -> bool:
            return len((await client.modern("tools/list")).body["result"]["tools"]) == 2

        await eventually(listed, 10.0, "the new tool is listed")


async def test_a_stream_that_goes_on_behind_its_answer_is_closed(fleet: Fleet) -> None:
    odd = ODD["endless"]
    async with RawClient(f"{fleet.url}/servers/endless/mcp") as client:
        for _ in range(20):
            assert (await client.call("echo")).content == "hi"
    await eventually(lambda: len(odd.streams) < 10, 10.0, "their connections are not held")
