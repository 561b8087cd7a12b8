"""Redis goes away, comes back, comes back empty: calls keep flowing, and everything reconciles without a restart."""

from __future__ import annotations

import asyncio
import json
import signal
import tempfile
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import aiohttp
import pytest
import pytest_asyncio

from gateway.supervisor.embedded_redis import EmbeddedRedis
from tests.clients import RawClient
from tests.e2e.test_up import run
from tests.fleet import Fleet, alive, eventually, script_connection, stdio_connection
from tests.machine import stretched
from tests.servers.raw import RawUpstreams
from tests.servers.scripted import Exchange, Scripted, said
from tests.streams import sse_data, standing

STUBBORN = """
import json, os, signal, sys, time

INFO = {"name": "s", "version": "1"}
signal.signal(signal.SIGTERM, signal.SIG_IGN)
for line in sys.stdin:
    message = json.loads(line)
    result = {
        "initialize": {"protocolVersion": "2025-11-25", "capabilities": {"tools": {}}, "serverInfo": INFO},
        "tools/list": {"tools": [{"name": "who", "inputSchema": {"type": "object"}}]},
        "tools/call": {"content": [{"type": "text", "text": str(os.getpid())}]},
        "ping": {},
    }.get(message.get("method"))
    if "id" in message:
        answer = {"error": {"code": -32601, "message": "no"}} if result is None else {"result": result}
        print(json.dumps({"jsonrpc": "2.0", "id": message["id"], **answer}), flush=True)
time.sleep(600)
"""
"""A server that goes on when its input ends, and when it is asked to end."""


@pytest_asyncio.fixture
async def own_redis() -> AsyncIterator[EmbeddedRedis]:
    with tempfile.TemporaryDirectory(prefix="gwr-") as scratch:
        redis = EmbeddedRedis(Path(scratch))
        await redis.start()
        yield redis
        await redis.stop()


async def test_calls_flow_without_redis_and_an_emptied_redis_is_filled_again(
    own_redis: EmbeddedRedis,
) -> None:
    async with RawUpstreams() as upstreams, Fleet(own_redis.url, frontends=2, workers=2) as fleet:
        upstreams.add("h", [{"name": "h_who", "inputSchema": {"type": "object"}}])
        await fleet.register("h", upstreams.connection("h"))
        await fleet.register("s", stdio_connection("s"))
        async with RawClient(fleet.urls[0]) as client:
            child = (await client.call("who")).content
            await client.initialize()
            await own_redis.stop()
            for url in fleet.urls * 3:
                assert (await client.legacy_call("h_who", url=url)).content == "h"
                assert (await client.call("who")).content == child
            body = {"id": "new", "connection": upstreams.connection("h")}
            async with client.session.post(f"{fleet.url}/admin/v1/servers", json=body) as response:
                assert response.status == 503
                assert "Redis does not answer" in (await response.json())["error"]
            code, shown = await run("status", "--url", fleet.url)
            assert code == 0 and "Redis does not answer: other front ends" in shown and "connected" in shown
            code, found = await run("doctor", "--url", fleet.url)
            assert code == 1 and "Redis does not answer" in found and "no worker is running" not in found
            await asyncio.sleep(6.0)  # longer than a heartbeat lives: nobody may take the child away
            assert (await client.call("who")).content == child
            await own_redis.start()  # empty
            await eventually(lambda: _restored(fleet), 15.0, "specs, catalogues and owners are written back")
            for url in fleet.urls:
                client.url = url
                assert (await client.call("who")).content == child, "the child was not restarted"
                assert (await client.call("h_who")).content == "h"
            client.url = fleet.urls[0]
            async with client.session.post(f"{fleet.url}/admin/v1/servers", json={**body, "name": "later"}) as response:
                assert response.status == 201
            await fleet.connected("new")
            assert (await client.call("later__h_who")).content == "h"


@pytest.mark.parametrize("emptied", [True, False])
async def test_children_are_stopped_while_redis_is_away_where_two_of_them_would_be_worse(
    own_redis: EmbeddedRedis, emptied: bool
) -> None:
    assert own_redis.process is not None
    async with (
        Scripted("h", "modern") as h,
        Fleet(own_redis.url, stdio_on_redis_loss="stop", heartbeat_s=0.2, heartbeat_ttl_s=stretched(3.0)) as fleet,
        RawClient(fleet.urls[0]) as client,
    ):
        await fleet.register("h", h.connection)
        await fleet.register("s", script_connection(STUBBORN))
        child = int((await client.call("who")).content)
        ttl_s = fleet.settings.fleet.heartbeat_ttl_s
        await asyncio.sleep(ttl_s / 2)  # several heartbeats
        assert int((await client.call("who")).content) == child, "as long as Redis is there, nothing is stopped"
        if emptied:
            await own_redis.stop()
        else:
            own_redis.process.send_signal(signal.SIGSTOP)
        began = time.monotonic()
        await eventually(lambda: not alive(child), ttl_s, "the child is stopped")
        assert time.monotonic() - began < ttl_s, "before another worker may start one"
        refused = await client.call("who")
        assert "error" in refused.body, refused.body
        assert (await client.call("h")).content == "h", "what has no child is served on"
        if emptied:
            await own_redis.start()
        else:
            own_redis.process.send_signal(signal.SIGCONT)
        await eventually(lambda: _serves(client, "who"), 20.0, "it is started again")


async def _serves(client: RawClient, tool: str) -> bool:
    return "result" in (await client.call(tool)).body


async def _restored(fleet: Fleet) -> bool:
    records = await fleet.store.load_all()
    return {"h", "s"} <= set(records) and all(
        record.status == "connected" and record.catalog.digest and record.owners for record in records.values()
    )


async def test_an_http_sse_client_without_redis(own_redis: EmbeddedRedis) -> None:
    """Where its stream is held it is served; elsewhere it hears that this cannot be, and what was taken is not lost."""
    go = asyncio.Event()

    async def slow(exchange: Exchange) -> dict[str, Any]:
        if exchange.arguments.get("wait"):
            await go.wait()
        return said("here")

    async with (
        Fleet(own_redis.url, frontends=2, workers=1) as fleet,
        Scripted("up", "modern") as up,
        RawClient(fleet.urls[0]) as client,
        client.session.get(f"{fleet.url}/sse") as stream,
    ):
        up.on["tools/call"] = slow
        await fleet.register("up", up.connection)
        path = await sse_data(stream)
        here, there = f"{fleet.url}{path}", f"{fleet.frontends[1].url}{path}"

        def call(id: int, **arguments: Any) -> dict[str, Any]:
            params = {"name": "up", "arguments": arguments}
            return {"jsonrpc": "2.0", "id": id, "method": "tools/call", "params": params}

        assert (await client.post(call(1), url=there)).status == 202
        await _answered(stream, 1)
        assert (await client.post(call(2, wait=True), url=there)).status == 202
        await eventually(lambda: up.seen["tools/call"] == 2, 5.0, "it is under way")
        await own_redis.stop()
        await eventually(lambda: _refuses(client, call(3), there), 10.0, "refused where nothing leads to the stream")
        assert (await client.post(call(4), url=here)).status == 202
        await _answered(stream, 4)
        go.set()  # the answer is there, and Redis is not
        await asyncio.sleep(1.0)
        await own_redis.start()
        await _answered(stream, 2)


async def _answered(stream: aiohttp.ClientResponse, id: int) -> None:
    """The next answer is to this request."""
    while "id" not in (message := json.loads(await sse_data(stream, 20.0))):
        pass
    assert message["id"] == id and "result" in message


async def _refuses(client: RawClient, message: dict[str, Any], url: str) -> bool:
    answer = await client.post(message, url=url)
    return answer.status == 503 and "Redis" in answer.error["message"]


async def test_an_upstream_can_ask_without_redis_where_the_stream_is_held(own_redis: EmbeddedRedis) -> None:
    async with (
        Fleet(own_redis.url, frontends=1, workers=1) as fleet,
        Scripted("up", "legacy") as up,
        RawClient(fleet.urls[0]) as client,
    ):
        await fleet.register("up", up.connection)
        await client.initialize(capabilities={"roots": {}})
        before = len(up.standing)
        await client.legacy_call("up")
        await eventually(lambda: len(up.standing) > before, 5.0, "the upstream session's stream")
        async with standing(client, fleet.urls[0]) as stream:
            await eventually(lambda: stream.ids, 5.0, "open")
            await own_redis.stop()
            await up.standing[-1].send({"id": "q", "method": "roots/list"})
            await eventually(lambda: "roots/list" in stream.methods(), 10.0, "asked")
            reply = {"jsonrpc": "2.0", "id": stream.messages[-1]["id"], "result": {"roots": []}}
            await client.post(reply, client.legacy_headers())
            await eventually(lambda: "q" in up.replies, 5.0, "answered")
        await own_redis.start()


async def test_a_worker_that_is_to_leave_while_redis_hangs_serves_on_and_hands_over_afterwards(
    own_redis: EmbeddedRedis,
) -> None:
    async with Fleet(own_redis.url, 1, 2, drain_timeout_s=stretched(20.0)) as fleet, RawClient(fleet.urls[0]) as client:
        await fleet.register("s", stdio_connection("s"))
        child = (await client.call("who")).content
        pid = await fleet.pid_of_owner("s")
        assert own_redis.process is not None
        own_redis.process.send_signal(signal.SIGSTOP)
        fleet.signal_worker(pid, signal.SIGTERM)
        until = time.monotonic() + 3.0  # it would have left, and nobody could take over what it had
        while time.monotonic() < until:
            answer = await client.call("who")
            assert answer.content == child, answer.body
        own_redis.process.send_signal(signal.SIGCONT)
        await eventually(lambda: not alive(pid), 20.0, "it has left")
        answer = await client.call("who")
        assert answer.content not in ("", child), answer.body
