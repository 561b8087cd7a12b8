"""HTTP APIs that are called in the name of each caller: by exchanged tokens, and by accounts that callers connect."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from typing import Any

import pytest_asyncio
from aiohttp import web

from tests.clients import RawClient
from tests.e2e.test_connect import URL_META, Browser
from tests.fleet import Fleet
from tests.issuer import Issuer
from tests.servers.api import DOCUMENTS, KEY, Api
from tests.token_server import TokenServer

AUDIENCE = "https://mcp.example/mcp"
METADATA = "/.well-known/oauth-protected-resource"


class ProtectedApi(Api):
    """An API that wants tokens of ``server``. ``who`` are those in whose name it was called."""

    def __init__(self, server: TokenServer) -> None:
        super().__init__()
        self.server = server
        self.who: list[str] = []

    async def _handle(self, request: web.BaseRequest) -> web.StreamResponse:
        if request.path.startswith(METADATA):
            return web.json_response({"resource": self.url, "authorization_servers": [self.server.issuer]})
        if request.method != "HEAD" and request.path != "/openapi.json":
            token = self.server.tokens.get(request.headers.get("Authorization", "").removeprefix("Bearer "))
            if token is None:
                named = f"http://127.0.0.1:{self.port}{METADATA}/v1"
                challenge = f'Bearer error="invalid_token", resource_metadata="{named}"'
                return web.Response(status=401, headers={"WWW-Authenticate": challenge})
            self.who.append(token["sub"])
        return await super()._handle(request)


@pytest_asyncio.fixture(scope="module")
async def fleet(redis_url: str, issuer: Issuer) -> AsyncIterator[Fleet]:
    rules = {"authentication": [{"type": "jwt", "issuer": issuer.url, "audience": AUDIENCE}]}
    settings = {"admin_token": "the-admin-token", "access_rules": json.dumps(rules), "allow_stdio_registration": True}
    async with Fleet(redis_url, frontends=2, workers=2, **settings) as fleet:
        yield fleet


def petstore(api: Api, auth: dict[str, Any]) -> dict[str, Any]:
    return {"url": api.url, "spec": str(DOCUMENTS / "petstore.yaml"), "headers": KEY, "auth": auth}


class As(RawClient):
    """Somebody with an access token, at one front end after the other."""

    def __init__(self, fleet: Fleet, token: str, which: int, group: str) -> None:
        super().__init__(f"{fleet.frontends[which].url}/servers/{group}/mcp")
        self.session.headers["Authorization"] = f"Bearer {token}"

    async def pet(self, **more: Any) -> Any:
        params = {"name": "showPetById", "arguments": {"petId": "1"}, **more}
        return (await self.modern("tools/call", params, meta=URL_META)).body


async def test_a_callers_token_is_exchanged_for_one_of_the_api(
    fleet: Fleet, issuer: Issuer, server: TokenServer
) -> None:
    auth = {"type": "tokenExchange", "clientId": "gw", "clientSecret": "s3cret:/%", "issuer": server.url}
    async with ProtectedApi(server) as api:
        await fleet.register("exchanged", petstore(api, auth))
        sent = []
        for number, who in enumerate(("ann", "bob", "ann", "bob")):
            sent.append(issuer.token(sub=who))
            async with As(fleet, sent[-1], number // 2, "exchanged") as client:
                answer = await client.pet()
                assert not answer["result"].get("isError"), answer
        assert api.who == ["ann", "bob", "ann", "bob"]
        headers = " ".join(one["headers"]["Authorization"] for one in api.seen)
        assert not any(token in headers for token in sent), "a client's token never goes up"
        await fleet.store.unregister("exchanged")


async def test_tools_are_listed_before_anybody_has_connected_and_calls_lead_to_the_page(
    fleet: Fleet, issuer: Issuer, server: TokenServer
) -> None:
    async with ProtectedApi(server) as api:
        await fleet.register("personal", petstore(api, {"type": "user"}))  # and it is connected
        ann, bob = issuer.token(sub="ann"), issuer.token(sub="bob")
        async with As(fleet, ann, 0, "personal") as client, As(fleet, bob, 1, "personal") as other:
            listed = (await client.modern("tools/list")).body["result"]["tools"]
            assert "showPetById" in [one["name"] for one in listed]
            asked = (await client.pet())["result"]
            assert asked["resultType"] == "input_required" and not api.who, asked
            ((key, question),) = asked["inputRequests"].items()
            server.person = "ann@api"
            async with Browser(fleet) as browser:
                await browser.connect(question["params"]["url"])
            answer = await client.pet(inputResponses={key: {"action": "accept"}}, requestState=asked["requestState"])
            assert not answer["result"].get("isError") and api.who == ["ann@api"], answer
            assert (await other.pet())["result"]["resultType"] == "input_required" and api.who == ["ann@api"]
        await fleet.store.unregister("personal")
