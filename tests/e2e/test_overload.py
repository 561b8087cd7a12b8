"""Overload: what an upstream without room costs, and who is told."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator

import pytest
import pytest_asyncio
from aiohttp import web

from tests.clients import RawClient
from tests.fleet import Fleet, eventually
from tests.machine import stretched
from tests.servers.raw import RawUpstreams


@pytest_asyncio.fixture(scope="module")
async def fleet(redis_url: str) -> AsyncIterator[Fleet]:
    async with Fleet(
        redis_url,
        workers=2,
        health_check_interval_s=0.2,
        health_check_timeout_s=stretched(1.0),
        reconnect_min_s=0.1,
        reconnect_max_s=0.5,
    ) as fleet:
        yield fleet


@pytest_asyncio.fixture
async def client(fleet: Fleet) -> AsyncIterator[RawClient]:
    async with RawClient(fleet.urls[0]) as client:
        yield client


async def register(fleet: Fleet, upstreams: RawUpstreams, group: str, count: int, era: str = "modern") -> None:
    """Register ``group-1`` … as replicas with a tool ``{group}_who``."""
    for number in range(1, count + 1):
        id = f"{group}-{number}"
        upstreams.add(id, [{"name": f"{group}_who", "inputSchema": {"type": "object"}}], era)
        await fleet.register(id, upstreams.connection(id), name=group)


# ---- an upstream's own 429 and 503


@pytest.mark.parametrize("era", ["modern", "legacy"])
@pytest.mark.parametrize("status", ["429", "503"])
async def test_an_upstreams_own_refusal_reaches_the_client_as_such(
    fleet: Fleet, client: RawClient, status: str, era: str
) -> None:
    group = f"full{status}{era}"
    async with RawUpstreams() as upstreams:
        await register(fleet, upstreams, group, 1, era)
        upstreams.endpoints[f"{group}-1"].behaviour = status
        for _ in range(3):
            answer = await client.call(f"{group}_who")
            assert answer.status == int(status) and answer.headers["Retry-After"] == "7"
            assert answer.error["data"]["code"] == "overloaded", answer.body
            assert answer.error["data"]["retryAfter"] == "7" and answer.error["data"]["upstream"] == f"{group}-1"
        assert len(upstreams.endpoints[f"{group}-1"].tool_calls) == 3, "the only replica is asked each time"
        upstreams.endpoints[f"{group}-1"].behaviour = "ok"
        assert (await client.call(f"{group}_who")).content == f"{group}-1", "nothing is suspended"


async def test_a_client_of_the_handshake_era_gets_the_error_in_a_200(fleet: Fleet, client: RawClient) -> None:
    async with RawUpstreams() as upstreams:
        await register(fleet, upstreams, "fulllegacy", 1)
        upstreams.endpoints["fulllegacy-1"].behaviour = "503"
        await client.initialize()
        answer = await client.legacy_call("fulllegacy_who")
        assert answer.status == 200 and answer.error["data"]["code"] == "overloaded"
        assert answer.headers["Retry-After"] == answer.error["data"]["retryAfter"] == "7"


async def test_another_replica_serves_what_one_has_no_room_for(fleet: Fleet, client: RawClient) -> None:
    async with RawUpstreams() as upstreams:
        await register(fleet, upstreams, "half", 2)
        first, second = upstreams.endpoints["half-1"], upstreams.endpoints["half-2"]
        first.behaviour = "429"
        assert Counter([(await client.call("half_who")).content for _ in range(20)]) == {"half-2": 20}
        assert len(first.tool_calls) == 1, "it asked to be left alone for 7 s"
        second.behaviour = "503"
        answer = await client.call("half_who")
        assert answer.error["data"]["code"] == "overloaded" and answer.headers["Retry-After"] == "7"
        assert len(first.tool_calls) == 2, "both are asked before the client is refused"


async def test_refused_probes_do_not_take_an_upstream_out(fleet: Fleet, client: RawClient) -> None:
    async with RawUpstreams() as upstreams:
        await register(fleet, upstreams, "busyprobe", 1)
        endpoint = upstreams.endpoints["busyprobe-1"]
        endpoint.behaviour = "503-always"
        before = len(endpoint.calls)
        await eventually(lambda: len(endpoint.calls) > before + 5, 10.0, "five probes were refused")
        record = await fleet.record("busyprobe-1")
        assert record is not None and record.status.value == "connected"
        assert (await client.call("busyprobe_who")).error["data"]["code"] == "overloaded"
        endpoint.behaviour = "ok"
        assert (await client.call("busyprobe_who")).content == "busyprobe-1"


async def test_a_refused_message_over_the_older_transport_is_told_too(fleet: Fleet, client: RawClient) -> None:
    """HTTP+SSE: the refusal of the POST."""
    full = False
    streams: list[web.StreamResponse] = []

    async def handle(request: web.BaseRequest) -> web.StreamResponse:
        if request.method == "GET":
            response = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
            await response.prepare(request)
            await response.write(b"event: endpoint\ndata: /message\n\n")
            streams.append(response)
            await asyncio.Event().wait()
        message = await request.json()
        if message["method"] == "tools/call" and full:
            return web.Response(status=503, headers={"Retry-After": "3"})
        results = {
            "initialize": {
                "protocolVersion": "2024-11-05",
                "capabilities": {"tools": {}},
                "serverInfo": {"name": "old", "version": "1"},
            },
            "tools/list": {"tools": [{"name": "old_who", "inputSchema": {"type": "object"}}]},
            "tools/call": {"content": [{"type": "text", "text": "old"}]},
        }
        if "id" in message:
            answer = {"jsonrpc": "2.0", "id": message["id"], "result": results.get(message["method"], {})}
            body = web.json_response(answer).text
            for stream in streams:
                await stream.write(f"data: {body}\n\n".encode())
        return web.Response(status=202)

    runner = web.ServerRunner(web.Server(handle), shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    try:
        port = runner.addresses[0][1]
        await fleet.register("old", {"type": "sse", "url": f"http://127.0.0.1:{port}/sse"})
        assert (await client.call("old_who")).content == "old"
        full = True
        answer = await client.call("old_who")
        assert answer.status == 503 and answer.headers["Retry-After"] == "3"
        assert answer.error["data"]["code"] == "overloaded"
        full = False
        assert (await client.call("old_who")).content == "old", "its stream lives on"
    finally:
        await runner.cleanup()
