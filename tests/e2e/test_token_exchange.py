"""An upstream that is called in the name of each caller: two front ends, two workers, two principals."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Any

import aiohttp
import pytest
import pytest_asyncio

from tests.clients import RawClient
from tests.fleet import Fleet, eventually
from tests.issuer import Issuer
from tests.token_server import ProtectedUpstreams, TokenServer

ADMIN = {"Authorization": "Bearer the-admin-token"}
AUDIENCE = "https://mcp.example/mcp"


@pytest_asyncio.fixture(scope="module")
async def upstreams(server: TokenServer) -> AsyncIterator[ProtectedUpstreams]:
    async with ProtectedUpstreams(server) as upstreams:
        upstreams.add("modern")
        upstreams.add("legacy", era="legacy")
        upstreams.add("plain")
        yield upstreams


@pytest_asyncio.fixture(scope="module")
async def fleet(
    redis_url: str, issuer: Issuer, server: TokenServer, upstreams: ProtectedUpstreams
) -> AsyncIterator[Fleet]:
    rules = {
        "authentication": [{"type": "apiKey"}, {"type": "jwt", "issuer": issuer.url, "audience": AUDIENCE}],
        "roles": {"all": {"when": "true", "allow": ["*"]}},
    }
    settings = {"admin_token": "the-admin-token", "access_rules": json.dumps(rules)}
    client = {"clientId": "gw", "clientSecret": "s3cret:/%", "issuer": server.url}
    async with Fleet(redis_url, frontends=2, workers=2, **settings) as fleet:
        for name in ("modern", "legacy"):
            auth = {"type": "tokenExchange", **client, "audience": name}
            await fleet.register(name, {**upstreams.connection(name), "auth": auth})
        await fleet.register(
            "plain", {**upstreams.connection("plain"), "auth": {"type": "clientCredentials", **client}}
        )
        yield fleet


class As(RawClient):
    """A client with an access token."""

    def __init__(self, url: str, token: str) -> None:
        super().__init__(url)
        self.session.headers["Authorization"] = f"Bearer {token}"

    async def call_tool(self, tool: str) -> Any:
        return (await self.modern("tools/call", {"name": tool, "arguments": {}})).body


@pytest.mark.parametrize("name", ["modern", "legacy"])
async def test_each_call_is_made_in_the_name_of_its_caller(
    fleet: Fleet, issuer: Issuer, server: TokenServer, upstreams: ProtectedUpstreams, name: str
) -> None:
    upstreams.who.clear()
    before = len(server.requests)

    async def play(who: str, times: int) -> None:
        for n in range(times):
            async with As(fleet.urls[n % 2], issuer.token(sub=who)) as client:
                answer = await client.call_tool(f"{name}__who")
                assert "result" in answer, answer

    await asyncio.gather(*(play(who, 10) for who in ("ann", "bob", "cee")))
    assert sorted(upstreams.who[name]) == ["ann"] * 10 + ["bob"] * 10 + ["cee"] * 10
    exchanged = [one for one in server.requests[before:] if one["grant_type"].endswith("token-exchange")]
    assert 3 <= len(exchanged) <= 6, "once for each caller and worker"
    assert {one["audience"] for one in exchanged} == {name}
    sent = {one["subject_token"] for one in exchanged}
    headers = [headers.get("Authorization", "") for headers in upstreams.endpoints[name].headers]
    assert not any(token in header for token in sent for header in headers), "a client's token never goes up"


async def test_callers_share_the_limit_of_an_upstream(
    fleet: Fleet, issuer: Issuer, server: TokenServer, upstreams: ProtectedUpstreams
) -> None:
    upstreams.add("narrow").delay_s = 0.02
    auth = {"type": "tokenExchange", "clientId": "gw", "clientSecret": "s3cret:/%", "issuer": server.url}
    connection = {**upstreams.connection("narrow"), "auth": auth}
    await fleet.register("narrow", connection, settings={"maxConcurrency": 1})

    async def play(who: str) -> None:
        async with As(fleet.urls[0], issuer.token(sub=who)) as client:
            for _ in range(5):
                answer = await client.call_tool("narrow__who")
                assert "result" in answer, answer

    await asyncio.gather(*(play(who) for who in ("ann", "bob", "cee")))
    assert sorted(upstreams.who["narrow"]) == ["ann"] * 5 + ["bob"] * 5 + ["cee"] * 5


async def test_what_one_scope_got_does_not_serve_another(
    fleet: Fleet, issuer: Issuer, server: TokenServer, upstreams: ProtectedUpstreams
) -> None:
    upstreams.needed["modern"] = "write"
    try:
        async with As(fleet.url + "/mcp", issuer.token(sub="dan", scope="write")) as client:
            assert "result" in await client.call_tool("modern__who")
        async with As(fleet.url + "/mcp", issuer.token(sub="dan", scope="read")) as client:
            taken = server.scopes_of_subject
            server.scopes_of_subject = True
            answer = await client.call_tool("modern__who")
            server.scopes_of_subject = taken
            assert answer["error"]["data"]["code"] == "upstream_unauthorized", answer
    finally:
        upstreams.needed.clear()


async def test_a_legacy_session_is_of_its_principal(
    fleet: Fleet, issuer: Issuer, upstreams: ProtectedUpstreams
) -> None:
    upstreams.who.clear()
    for who in ("ann", "bob"):
        async with As(fleet.url + "/mcp", issuer.token(sub=who)) as client:
            await client.initialize()
            for name in ("modern", "legacy"):
                message = {
                    "jsonrpc": "2.0",
                    "id": 7,
                    "method": "tools/call",
                    "params": {"name": f"{name}__who", "arguments": {}},
                }
                answer = await client.post(message)
                assert "result" in answer.body, answer.text
    assert upstreams.who == {"modern": ["ann", "bob"], "legacy": ["ann", "bob"]}


async def test_a_caller_without_a_token_is_told_so_and_harms_nobody(fleet: Fleet, issuer: Issuer) -> None:
    async with (
        aiohttp.ClientSession(headers=ADMIN) as session,
        session.post(f"{fleet.url}/admin/v1/keys", json={"name": "ci", "roles": ["all"]}) as response,
    ):
        key = (await response.json())["key"]
    async with As(fleet.url + "/mcp", key) as client, As(fleet.url + "/mcp", issuer.token(sub="ann")) as ann:
        for _ in range(3):
            answer = await client.call_tool("modern__who")
            assert answer["error"]["data"]["code"] == "upstream_unauthorized", answer
            assert "has none" in answer["error"]["message"]
            assert "result" in await ann.call_tool("modern__who")
        assert "result" in await client.call_tool("plain__who")


async def test_tokens_of_callers_leave_a_front_end_only_where_they_are_needed(
    fleet: Fleet, issuer: Issuer, server: TokenServer
) -> None:
    token = issuer.token(sub="eve")
    before = len(server.requests)
    async with As(fleet.url + "/mcp", token) as client:
        assert "result" in await client.call_tool("plain__who")
    assert not any(token in str(one) for one in server.requests[before:])
    async for key in fleet.store.redis.scan_iter(match=f"{fleet.prefix}*"):
        if await fleet.store.redis.type(key) == b"hash":
            assert token not in str(await fleet.store.redis.hgetall(key))


async def test_a_revoked_token_is_exchanged_again(fleet: Fleet, issuer: Issuer, server: TokenServer) -> None:
    async with As(fleet.url + "/mcp", issuer.token(sub="fay")) as client:
        assert "result" in await client.call_tool("modern__who")

        async def again() -> bool:
            server.revoke_all()
            return "result" in await client.call_tool("modern__who")

        await eventually(again, 5.0, "a new token is got")
