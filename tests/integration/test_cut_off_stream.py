"""HTTP+SSE after the network was away: a stream on which no answers arrive is replaced, and one that works stays."""

from __future__ import annotations

import asyncio
import json
import uuid
from collections.abc import AsyncIterator
from typing import Any

import pytest_asyncio
from aiohttp import web

from shared.errors import CallError
from shared.mcp.versions import LATEST_LEGACY, Era
from shared.models import make_spec
from shared.settings import build
from tests.integration.test_ended_sessions import Leader
from tests.machine import scaled
from tests.unit.worker.worker_harness import NoWayToClients
from worker.calls.client_facts import ClientFacts
from worker.calls.own_call import OwnCall
from worker.ownership.upstream import Upstream
from worker.transports.transport import UpstreamFacts


class Server:
    """Answers on the stream of each session, unless that is among ``silent``."""

    def __init__(self) -> None:
        self.streams: dict[str, web.StreamResponse] = {}
        self.silent: set[str] = set()
        self.called: list[tuple[str, str]] = []
        self.over = asyncio.Event()
        self.url = ""

    async def stream(self, request: web.Request) -> web.StreamResponse:
        session = uuid.uuid4().hex
        response = self.streams[session] = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
        await response.prepare(request)
        await response.write(f"event: endpoint\ndata: /messages?session={session}\n\n".encode())
        await self.over.wait()
        return response

    async def message(self, request: web.Request) -> web.Response:
        session, message = request.query["session"], await request.json()
        if message["method"] == "tools/call":
            self.called.append((session, message["params"]["name"]))
        if "id" in message and session not in self.silent:
            result: dict[str, Any] = {}
            if message["method"] == "initialize":
                result = {"protocolVersion": LATEST_LEGACY, "capabilities": {}, "serverInfo": {"name": "s"}}
            answer = json.dumps({"jsonrpc": "2.0", "id": message["id"], "result": result})
            await self.streams[session].write(f"data: {answer}\n\n".encode())
        return web.Response(status=202)


@pytest_asyncio.fixture
async def server() -> AsyncIterator[Server]:
    server = Server()
    app = web.Application()
    app.add_routes([web.get("/sse", server.stream), web.post("/messages", server.message)])
    runner = web.AppRunner(app)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    server.url = f"http://127.0.0.1:{runner.addresses[0][1]}/sse"
    yield server
    server.over.set()
    await runner.cleanup()


@pytest_asyncio.fixture
async def upstream(server: Server) -> AsyncIterator[Upstream]:
    settings = build({"healthCheckTimeout": 2000})
    spec = make_spec("up", {"type": "sse", "url": server.url}, isolation="client")
    upstream = Upstream(spec, settings, "worker", Leader(), NoWayToClients(), lambda line: None)
    upstream.adopt(UpstreamFacts(("legacy",), "sse", server.url, True, LATEST_LEGACY))
    yield upstream
    await upstream.close()


def submit(upstream: Upstream, name: str) -> OwnCall:
    """Submit a call of a client session."""
    call = OwnCall("tools/call", json.dumps({"name": name, "arguments": {}}).encode(), Era.LEGACY, 0)
    call.session, call.client = "sid", ClientFacts("somebody", LATEST_LEGACY, b"{}", b'{"name":"c","version":"1"}')
    upstream.submit(call)
    return call


async def answer(call: OwnCall) -> bytes:
    return await asyncio.wait_for(asyncio.shield(call.future), scaled(10.0))


async def test_a_stream_without_answers_is_replaced(server: Server, upstream: Upstream) -> None:
    await answer(submit(upstream, "before"))
    first = server.called[0][0]
    server.silent.add(first)
    lost = submit(upstream, "during")
    while len(server.called) < 2:
        await asyncio.sleep(0.01)
    upstream.was_cut_off()
    assert await answer(submit(upstream, "after")) == b"{}"
    assert [name for _, name in server.called] == ["before", "during", "after"], "each ran once"
    assert server.called[2][0] != first
    try:
        await answer(lost)
    except CallError as error:
        assert (error.code, "cut off" in error.message) == ("outcome_unknown", True)
    else:
        raise AssertionError("nobody knows whether it ran")


async def test_a_stream_with_answers_stays(server: Server, upstream: Upstream) -> None:
    await answer(submit(upstream, "before"))
    upstream.was_cut_off()
    await asyncio.gather(*(answer(submit(upstream, "after")) for _ in range(3)))
    assert len(server.streams) == 1
    assert [name for _, name in server.called] == ["before", "after", "after", "after"]
