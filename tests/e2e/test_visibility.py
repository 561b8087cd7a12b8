"""Who was told of a change finds it at every front end."""

from __future__ import annotations

import asyncio

from shared.models import ServerStatus, make_spec
from tests.clients import RawClient
from tests.fleet import Fleet
from tests.machine import scaled
from tests.servers.raw import RawUpstreams


async def test_a_tool_is_callable_as_soon_as_the_registry_says_connected(redis_url: str) -> None:
    """Without asking for what it has not heard of yet, a front end would say "unknown tool" for some milliseconds."""
    async with RawUpstreams() as upstreams, Fleet(redis_url, frontends=2) as fleet, RawClient("") as client:
        for number in range(5):
            id = f"new{number}"
            upstreams.add(id)
            await fleet.store.register(make_spec(id, upstreams.connection(id)))
            async with asyncio.timeout(scaled(20.0)):
                while not ((record := await fleet.record(id)) and record.status is ServerStatus.CONNECTED):
                    await asyncio.sleep(0.001)
            for client.url in fleet.urls:
                answer = await client.call(f"{id}__who")
                assert "result" in answer.body, answer.body
