"""In whose name upstreams are called, over two front ends and two workers."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import aiohttp
import pytest_asyncio

from tests.clients import RawClient
from tests.fleet import Fleet
from tests.token_server import ProtectedUpstreams, TokenServer

ADMIN = {"Authorization": "Bearer the-admin-token"}
SECRET = "s3cret:/%"


@pytest_asyncio.fixture(scope="module")
async def upstreams(server: TokenServer) -> AsyncIterator[ProtectedUpstreams]:
    async with ProtectedUpstreams(server) as upstreams:
        yield upstreams


@pytest_asyncio.fixture(scope="module")
async def fleet(redis_url: str) -> AsyncIterator[Fleet]:
    async with Fleet(redis_url, frontends=2, workers=2, admin_token="the-admin-token") as fleet:
        yield fleet


async def call(url: str, tool: str) -> Any:
    async with RawClient(url) as client:
        answer = await client.modern("tools/call", {"name": tool, "arguments": {}})
        return answer.body


async def test_a_fleet_has_one_token_and_one_renewal(
    fleet: Fleet, server: TokenServer, upstreams: ProtectedUpstreams
) -> None:
    upstreams.add("cc")
    auth = {"type": "clientCredentials", "clientId": "gw", "clientSecret": SECRET, "issuer": server.url}
    await fleet.register("cc", {**upstreams.connection("cc"), "auth": auth})
    record = await fleet.record("cc")
    assert record is not None and len(record.owners) == 2
    calls = [call(fleet.urls[n % 2], "cc__who") for n in range(40)]
    assert all("result" in answer for answer in await asyncio.gather(*calls))
    assert len(server.requests) == 1, "two workers, one token"
    await asyncio.sleep(1.1)  # no token is renewed within a second of its making
    server.revoke_all()
    calls = [call(fleet.urls[n % 2], "cc__who") for n in range(40)]
    assert all("result" in answer for answer in await asyncio.gather(*calls))
    assert len(server.requests) == 2, "two workers, one renewal"


async def test_secrets_are_shown_nowhere(fleet: Fleet, server: TokenServer) -> None:
    async with aiohttp.ClientSession(headers=ADMIN) as session:
        for path in ("servers", "servers/cc"):
            async with session.get(f"{fleet.url}/admin/v1/{path}") as response:
                text = await response.text()
            assert "clientCredentials" in text and SECRET not in text
    (sealed,) = (await fleet.store.redis.hgetall(fleet.store.keys.credentials("cc"))).values()
    assert not any(token.encode() in sealed for token in server.tokens)


async def test_tokens_go_with_their_upstream(fleet: Fleet) -> None:
    await fleet.store.unregister("cc")
    assert not await fleet.store.redis.exists(fleet.store.keys.credentials("cc"))
