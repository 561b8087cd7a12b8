"""What the settings of health checks and connections promise."""

from __future__ import annotations

import asyncio

from tests.clients import RawClient
from tests.fleet import Fleet, eventually
from tests.machine import stretched
from tests.servers.scripted import Exchange, Scripted


async def test_after_a_failure_so_many_good_probes_bring_an_upstream_back(redis_url: str) -> None:
    settings = {"healthy_after": 4, "reconnect_min_s": 0.1, "reconnect_max_s": 0.2, "health_check_interval_s": 60.0}
    async with Fleet(redis_url, 1, 1, **settings) as fleet, Scripted("up", "legacy") as up:
        await fleet.register("up", up.connection)
        assert up.seen["ping"] <= 1, "the first time it is taken at its word"
        await up.__aexit__()
        async with RawClient(fleet.urls[0]) as client:
            await client.call("up")  # finds it gone
        await fleet.failed("up")
        up.seen.clear()
        async with up:
            await fleet.connected("up")
            assert up.seen["ping"] == 4


async def test_a_call_that_never_got_a_connection_is_said_not_to_have_been_sent(redis_url: str) -> None:
    release = asyncio.Event()

    async def busy(exchange: Exchange) -> None:
        """Progress restarts the clock, so this call keeps the one connection for as long as it is wanted."""
        while not release.is_set():
            params = {"progressToken": exchange.token, "progress": 1}
            await exchange.send({"method": "notifications/progress", "params": params})
            await asyncio.sleep(0.2)
        await asyncio.sleep(600)

    limits = {"max_connections": 1, "request_timeout_s": stretched(1.0), "spread": 1}
    async with Fleet(redis_url, 1, 1, **limits) as fleet, Scripted("up", "modern") as up:
        await fleet.register("up", up.connection)
        up.on["tools/call"] = busy
        async with RawClient(fleet.urls[0]) as client:
            first = asyncio.ensure_future(client.call("up", meta={"progressToken": "t"}))
            await eventually(lambda: up.seen["tools/call"] == 1, 5.0, "the first has the connection")
            second = await client.call("up")
            assert second.error["data"]["code"] == "timeout" and "was not sent" in second.error["message"]
            assert up.seen["tools/call"] == 1
            release.set()
            sent = await first
            assert sent.error["data"]["code"] == "timeout" and "may have run" in sent.error["message"]
