"""An upstream whose authorization server trusts the one at which callers sign in (ID-JAG): nobody has to consent."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from typing import Any

import jwt
import pytest_asyncio

from tests.clients import RawClient
from tests.fleet import Fleet
from tests.issuer import Issuer
from tests.token_server import ProtectedUpstreams, TokenServer

AUDIENCE = "https://mcp.example/mcp"
ID_JAG = "urn:ietf:params:oauth:token-type:id-jag"
KEY = "what the two servers share, as if it were a key pair"


class IdentityServer(TokenServer):
    """Gives assertions of whose token it is, but of nobody in ``refused``."""

    def __init__(self) -> None:
        super().__init__()
        self.clients = {"gateway": "of the provider"}
        self.refused: set[str] = set()

    def grant(self, form: dict[str, str], client: str) -> dict[str, Any] | str:
        subject = self.subject(form["subject_token"])
        if form.get("requested_token_type") != ID_JAG or subject is None:
            return "invalid_request"
        if subject["sub"] in self.refused:
            return "access_denied"
        return {"sub": subject["sub"], "aud": form["audience"], "resource": form["resource"], "scope": ""}

    def issue(self, claims: dict[str, Any]) -> dict[str, Any]:
        assertion = jwt.encode({**claims, "iss": self.issuer}, KEY, "HS256", {"typ": "oauth-id-jag+jwt"})
        return {"access_token": assertion, "issued_token_type": ID_JAG, "token_type": "N_A", "expires_in": 300}


class ResourceServer(TokenServer):
    """Gives tokens for assertions that are meant for it."""

    def grant(self, form: dict[str, str], client: str) -> dict[str, Any] | str:
        if not form["grant_type"].endswith(":jwt-bearer"):
            return super().grant(form, client)
        try:
            claims = jwt.decode(form["assertion"], KEY, ["HS256"], audience=self.issuer)
        except jwt.PyJWTError:
            return "invalid_grant"
        return {"sub": claims["sub"], "scope": form.get("scope", ""), "aud": claims["resource"]}


@pytest_asyncio.fixture(scope="module")
async def issuer() -> AsyncIterator[Issuer]:
    async with Issuer() as issuer:
        yield issuer


@pytest_asyncio.fixture(scope="module")
async def provider() -> AsyncIterator[IdentityServer]:
    async with IdentityServer() as provider:
        yield provider


@pytest_asyncio.fixture(scope="module")
async def upstreams() -> AsyncIterator[ProtectedUpstreams]:
    async with ResourceServer() as server, ProtectedUpstreams(server) as upstreams:
        upstreams.add("box")
        upstreams.add("other")
        yield upstreams


@pytest_asyncio.fixture(scope="module")
async def fleet(
    redis_url: str, issuer: Issuer, provider: IdentityServer, upstreams: ProtectedUpstreams
) -> AsyncIterator[Fleet]:
    rules = {
        "authentication": [{"type": "jwt", "issuer": issuer.url, "audience": AUDIENCE}],
        "roles": {"all": {"when": "true", "allow": ["*"]}},
    }
    client = {"clientId": "gw", "clientSecret": "s3cret:/%", "issuer": upstreams.server.url}
    known = {"clientId": "gateway", "clientSecret": "of the provider"}
    async with Fleet(redis_url, 2, 2, admin_token="the-admin-token", access_rules=json.dumps(rules)) as fleet:
        for name, where in (("box", {"issuer": provider.url}), ("other", {"tokenUrl": f"{provider.url}/token"})):
            auth = {"type": "tokenExchange", **client, "identityProvider": {**known, **where}}
            await fleet.register(name, {**upstreams.connection(name), "auth": auth})
        yield fleet


async def call(fleet: Fleet, issuer: Issuer, who: str, tool: str) -> Any:
    """Call a tool with a token of the identity provider."""
    async with RawClient(f"{fleet.url}/mcp") as client:
        client.session.headers["Authorization"] = f"Bearer {issuer.token(sub=who)}"
        return (await client.modern("tools/call", {"name": tool, "arguments": {}})).body


async def test_a_caller_is_who_the_provider_says(
    fleet: Fleet, issuer: Issuer, provider: IdentityServer, upstreams: ProtectedUpstreams
) -> None:
    for name in ("box", "other"):
        for who in ("ann", "bob"):
            answer = await call(fleet, issuer, who, f"{name}__who")
            assert "result" in answer, answer
        assert upstreams.who[name] == ["ann", "bob"]
    asked = provider.requests[0]
    assert asked["requested_token_type"] == ID_JAG
    assert asked["subject_token_type"] == "urn:ietf:params:oauth:token-type:access_token"
    assert (asked["audience"], asked["client"]) == (upstreams.server.url, "gateway")
    redeemed = [one for one in upstreams.server.requests if one["grant_type"].endswith(":jwt-bearer")]
    assert redeemed and {one["client"] for one in redeemed} == {"gw"}
    assert not any("subject_token" in one for one in upstreams.server.requests), "the caller's token goes to no other"


async def test_whom_the_provider_refuses_is_refused(
    fleet: Fleet, issuer: Issuer, provider: IdentityServer, upstreams: ProtectedUpstreams
) -> None:
    provider.refused.add("eve")
    error = (await call(fleet, issuer, "eve", "box__who"))["error"]
    assert error["data"]["code"] == "upstream_unauthorized", error
    assert "access_denied" in error["message"]
    assert "eve" not in upstreams.who["box"]


async def test_secrets_are_masked(fleet: Fleet) -> None:
    async with RawClient(f"{fleet.url}/mcp") as client:
        headers = {"Authorization": "Bearer the-admin-token"}
        async with client.session.get(f"{fleet.url}/admin/v1/servers/box", headers=headers) as response:
            text = await response.text()
    assert json.loads(text)["connection"]["auth"]["identityProvider"]["clientSecret"] == "***"
    assert "of the provider" not in text and "s3cret" not in text
