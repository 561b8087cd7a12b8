"""Overload: what an upstream without room costs, and who is told."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator

import pytest
import pytest_asyncio
from aiohttp import web

from tests.clients import Answer, RawClient
from tests.fleet import Fleet, eventually
from tests.machine import stretched
from tests.servers.raw import Endpoint, RawUpstreams


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


# ---- a limit of calls under way


async def limited(fleet: Fleet, upstreams: RawUpstreams, id: str, delay_s: float, **settings: object) -> Endpoint:
    endpoint = upstreams.add(id, [{"name": f"{id}_who", "inputSchema": {"type": "object"}}])
    endpoint.delay_s = delay_s
    await fleet.register(id, upstreams.connection(id), settings=settings)
    return endpoint


async def offered(client: RawClient, tool: str, rate: float, seconds: float) -> list[tuple[float, Answer]]:
    """Calls at a steady rate, whatever becomes of them: how long each took, and its answer."""
    loop = asyncio.get_running_loop()
    answers: list[tuple[float, Answer]] = []

    async def one() -> None:
        began = loop.time()
        answer = await client.call(tool)
        answers.append((loop.time() - began, answer))

    began, calls = loop.time(), []
    for number in range(int(rate * seconds)):
        await asyncio.sleep(max(0.0, began + number / rate - loop.time()))
        calls.append(asyncio.ensure_future(one()))
    await asyncio.gather(*calls)
    return answers


async def test_a_limit_is_kept_to_and_five_times_the_load_costs_little_of_the_capacity(
    fleet: Fleet, client: RawClient
) -> None:
    async with RawUpstreams() as upstreams:
        delay_s = stretched(0.1)
        endpoint = await limited(fleet, upstreams, "five", delay_s, maxConcurrency=2)
        record = await fleet.record("five")
        assert record is not None and len(record.owners) == 1, "one worker counts"
        capacity, seconds = 2 / delay_s, 40 * delay_s
        usual = [took for took, answer in await offered(client, "five_who", 0.9 * capacity, seconds)]
        before = len(endpoint.tool_calls)
        answers = await offered(client, "five_who", 5 * capacity, seconds)
        served = [took for took, answer in answers if "result" in answer.body]
        assert endpoint.most_under_way <= 2
        assert len(endpoint.tool_calls) - before == len(served), "nothing was run for a caller that was refused"
        assert len(served) >= 0.9 * capacity * seconds
        late = sorted(served)[int(0.9 * len(served))]
        assert late <= 3 * sorted(usual)[int(0.9 * len(usual))]
        refused = [(took, answer) for took, answer in answers if "error" in answer.body]
        assert all(answer.error["data"]["code"] == "overloaded" for _, answer in refused)
        assert all(answer.status == 503 and int(answer.headers["Retry-After"]) >= 1 for _, answer in refused)
        assert sorted(took for took, _ in refused)[len(refused) // 2] < delay_s / 2, "at once"


async def test_a_client_that_leaves_the_queue_costs_the_upstream_nothing(fleet: Fleet, client: RawClient) -> None:
    async with RawUpstreams() as upstreams:
        endpoint = await limited(fleet, upstreams, "gone", 0.0, maxConcurrency=1)
        endpoint.behaviour = "hang"
        first = asyncio.ensure_future(client.call("gone_who"))
        await eventually(lambda: endpoint.tool_calls, 5.0, "one call runs")
        waiting = [asyncio.ensure_future(client.call("gone_who")) for _ in range(3)]
        last = asyncio.ensure_future(client.call("gone_who"))
        await asyncio.sleep(0.2)
        for call in waiting:
            call.cancel()
        await asyncio.sleep(0.2)
        endpoint.behaviour = "ok"
        endpoint.release.set()
        assert (await first).content == (await last).content == "gone"
        assert len(endpoint.tool_calls) == 2


async def test_sessions_take_turns(fleet: Fleet, client: RawClient) -> None:
    async with RawUpstreams() as upstreams, RawClient(fleet.urls[0]) as other:
        endpoint = await limited(fleet, upstreams, "turns", 0.1, maxConcurrency=1, maxQueueWait=20_000)
        await client.initialize()
        await other.initialize()
        assert (await other.legacy_call("turns_who")).content == "turns"
        ends: list[str] = []

        async def call(who: RawClient, name: str) -> None:
            await who.legacy_call("turns_who")
            ends.append(name)

        greedy = [asyncio.ensure_future(call(client, "greedy")) for _ in range(4)]
        await eventually(lambda: endpoint.under_way, 5.0, "the first one runs")
        greedy += [asyncio.ensure_future(call(client, "greedy")) for _ in range(10)]
        await asyncio.sleep(0.02)
        await asyncio.gather(*greedy, call(other, "modest"))
        assert ends.index("modest") <= 5, ends


async def test_a_limit_is_learned(fleet: Fleet, client: RawClient) -> None:
    """The upstream has 4 places; what comes on top of them waits there, and is refused here instead."""
    async with RawUpstreams() as upstreams:
        endpoint = await limited(fleet, upstreams, "learns", 0.05, concurrency="adaptive")
        endpoint.places = asyncio.Semaphore(4)
        loop = asyncio.get_running_loop()
        until = loop.time() + 2.0

        async def caller() -> int:
            done = 0
            while loop.time() < until:
                done += "result" in (await client.call("learns_who")).body
            return done

        capacity = sum(await asyncio.gather(*(caller() for _ in range(4)))) / 2.0
        await offered(client, "learns_who", 2 * capacity, 6.0)
        endpoint.most_under_way = 0
        answers = await offered(client, "learns_who", 2 * capacity, 3.0)
        served = [took for took, answer in answers if "result" in answer.body]
        assert endpoint.most_under_way <= 2 * 10, "two workers, each with a limit not far from the places"
        assert len(served) >= 0.8 * 3.0 * capacity
        assert len(served) < len(answers), "what cannot be served is refused"
