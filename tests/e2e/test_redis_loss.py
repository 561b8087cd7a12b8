"""Redis goes away, comes back, comes back empty: calls keep flowing, and everything reconciles without a restart."""

from __future__ import annotations

import asyncio
import tempfile
from collections.abc import AsyncIterator
from pathlib import Path

import pytest_asyncio

from gateway.embedded_redis import EmbeddedRedis
from tests.clients import RawClient
from tests.fleet import Fleet, eventually, stdio_connection
from tests.servers.raw import RawUpstreams


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


async def _restored(fleet: Fleet) -> bool:
    records = await fleet.store.load_all()
    return {"h", "s"} <= set(records) and all(
        record.status == "connected" and record.catalog.digest and record.owners for record in records.values()
    )
