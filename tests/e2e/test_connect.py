"""An upstream to which each caller connects in a browser: two front ends, two workers, two people."""

from __future__ import annotations

import asyncio
import html
import json
import re
import time
from collections.abc import AsyncIterator
from secrets import token_hex
from typing import Any
from urllib.parse import parse_qs, urlsplit

import aiohttp
import jwt
import pytest
import pytest_asyncio
from click.testing import CliRunner
from cryptography.hazmat.primitives.asymmetric import ec

from gateway.access.dpop import encoded_digest, thumbprint_of
from gateway.cli import connect as connect_command
from gateway.cli.main import cli
from tests.clients import RawClient
from tests.fleet import Fleet, eventually
from tests.issuer import Issuer, jwk
from tests.token_server import ProtectedUpstreams, TokenServer

AUDIENCE = "https://mcp.example/mcp"
URL_META = {"io.modelcontextprotocol/clientCapabilities": {"elicitation": {"url": {}}}}
JSON = {"Accept": "application/json", "Content-Type": "application/json"}


@pytest_asyncio.fixture
async def server() -> AsyncIterator[TokenServer]:
    async with TokenServer() as server:
        yield server


@pytest_asyncio.fixture
async def upstreams(server: TokenServer) -> AsyncIterator[ProtectedUpstreams]:
    async with ProtectedUpstreams(server) as upstreams:
        upstreams.add("box")
        yield upstreams


@pytest_asyncio.fixture(scope="module")
async def fleet(redis_url: str, issuer: Issuer) -> AsyncIterator[Fleet]:
    rules = {
        "authentication": [{"type": "jwt", "issuer": issuer.url, "audience": AUDIENCE}],
        "roles": {
            "all": {"when": "!principal.id.endsWith('#outsider')", "allow": ["*"]},
            "other": {"when": "principal.id.endsWith('#outsider')", "allow": ["else/*"]},
        },
    }
    settings = {"admin_token": "the-admin-token", "access_rules": json.dumps(rules), "reconnect_max_s": 60.0}
    async with Fleet(redis_url, frontends=2, workers=2, **settings) as fleet:
        yield fleet


@pytest_asyncio.fixture
async def box(fleet: Fleet, upstreams: ProtectedUpstreams) -> AsyncIterator[str]:
    await fleet.register("box", {**upstreams.connection("box"), "auth": {"type": "user"}}, connected=False)
    await eventually(lambda: _error(fleet), 20.0, "it says that nobody has connected")
    yield "box"
    await fleet.store.unregister("box")


async def _error(fleet: Fleet) -> bool:
    record = await fleet.record("box")
    return record is not None and "nobody has connected to it yet" in (record.error or "")


class As(RawClient):
    def __init__(self, url: str, token: str) -> None:
        super().__init__(url)
        self.session.headers["Authorization"] = f"Bearer {token}"

    async def call_tool(self, meta: Any = None, **more: Any) -> Any:
        params = {"name": "box__who", "arguments": {}, **more}
        return (await self.modern("tools/call", params, meta=meta)).body


class Browser:
    """A person before a browser, which goes to a front end of the test whatever host a link names."""

    def __init__(self, fleet: Fleet, which: int = 0) -> None:
        self.base = fleet.urls[which].removesuffix("/mcp")
        self.session = aiohttp.ClientSession(cookie_jar=aiohttp.CookieJar(unsafe=True))

    async def __aenter__(self) -> Browser:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.session.close()

    def here(self, link: str) -> str:
        parts = urlsplit(link)
        return f"{self.base}{parts.path}?{parts.query}"

    async def read(self, link: str) -> tuple[int, str]:
        async with self.session.get(self.here(link)) as response:
            return response.status, await response.text()

    async def agree(self, link: str) -> str:
        """Read the page, press the button, sign in. Return where the browser is sent back to."""
        status, text = await self.read(link)
        assert status == 200, text
        ticket = html.unescape(re.findall(r'name="ticket" value="([^"]*)"', text)[0])
        path = urlsplit(link).path
        async with self.session.post(self.base + path, data={"ticket": ticket}, allow_redirects=False) as response:
            assert response.status == 303, await response.text()
            there = response.headers["Location"]
        async with self.session.get(there, allow_redirects=False) as response:
            assert response.status == 302, await response.text()
            return response.headers["Location"]

    async def connect(self, link: str) -> str:
        status, text = await self.read(await self.agree(link))
        assert status == 200, text
        return text


async def link_for(fleet: Fleet, token: str, upstream: str = "box") -> str:
    headers = {"Authorization": f"Bearer {token}", **JSON}
    async with (
        aiohttp.ClientSession(headers=headers) as session,
        session.post(f"{fleet.url}/connect/{upstream}", json={}) as response,
    ):
        body = await response.json()
        assert response.status == 200, body
        return str(body["url"])


async def first(fleet: Fleet, issuer: Issuer, server: TokenServer, who: str = "ann") -> None:
    """Somebody connects, and the upstream is listed."""
    server.person = f"{who}@box"
    async with Browser(fleet) as browser:
        await browser.connect(await link_for(fleet, issuer.token(sub=who)))
    await fleet.connected("box")


async def test_each_caller_connects_once_and_is_called_by_name(
    fleet: Fleet, issuer: Issuer, server: TokenServer, upstreams: ProtectedUpstreams, box: str
) -> None:
    await first(fleet, issuer, server)
    async with As(fleet.urls[0], issuer.token(sub="ann")) as ann, As(fleet.urls[1], issuer.token(sub="bob")) as bob:
        assert "result" in await ann.call_tool()
        # A modern client that can be sent to a URL is, and calls again.
        asked = (await bob.call_tool(URL_META))["result"]
        assert asked["resultType"] == "input_required", asked
        ((key, question),) = asked["inputRequests"].items()
        assert question["params"]["mode"] == "url" and "/connect/box?ticket=" in question["params"]["url"]
        server.person = "bob@box"
        async with Browser(fleet, 0) as browser:
            back = await browser.agree(question["params"]["url"])
            browser.base = fleet.urls[1].removesuffix("/mcp")  # another front end may finish it
            status, page = await browser.read(back)
        assert status == 200 and "Connected to box" in page
        again = {"inputResponses": {key: {"action": "accept"}}, "requestState": asked["requestState"]}
        assert "result" in await bob.call_tool(URL_META, **again)
        results = await asyncio.gather(*(one.call_tool() for one in (ann, bob) * 10))
        assert all("result" in one for one in results)
    assert set(upstreams.who["box"]) == {"ann@box", "bob@box"} and len(upstreams.who["box"]) == 22
    assert len(server.registered) == 1, "the gateway registers once"
    sealed = await fleet.store.redis.hgetall(fleet.store.keys.credentials("box"))
    assert not any(token in str(sealed) for token in (*server.tokens, *server.refreshes))


async def test_a_legacy_client_gets_the_error_that_carries_the_link(
    fleet: Fleet, issuer: Issuer, server: TokenServer, box: str
) -> None:
    await first(fleet, issuer, server)
    async with As(fleet.urls[0], issuer.token(sub="cee")) as client:
        await client.initialize(capabilities={"elicitation": {"url": {}}})
        message = {"jsonrpc": "2.0", "id": 7, "method": "tools/call", "params": {"name": "box__who", "arguments": {}}}
        error = (await client.post(message)).body["error"]
        assert error["code"] == -32042
        (one,) = error["data"]["elicitations"]
        assert one["mode"] == "url" and one["elicitationId"] and one["url"] in error["message"]
        server.person = "cee@box"
        async with Browser(fleet) as browser:
            await browser.connect(one["url"])
        assert "result" in (await client.post({**message, "id": 8})).body
    async with As(fleet.urls[0], issuer.token(sub="dan")) as client:  # modern, and cannot be sent to a URL
        assert "/connect/box?ticket=" in (await client.call_tool())["error"]["message"]


async def test_refresh_tokens_are_used_once_by_the_whole_fleet(
    fleet: Fleet, issuer: Issuer, server: TokenServer, upstreams: ProtectedUpstreams, box: str
) -> None:
    await first(fleet, issuer, server)
    async with As(fleet.urls[0], issuer.token(sub="ann")) as one, As(fleet.urls[1], issuer.token(sub="ann")) as two:
        assert "result" in await one.call_tool() and "result" in await two.call_tool()
        await asyncio.sleep(1.1)  # no token is renewed within a second of its making
        server.revoke_all()
        results = await asyncio.gather(*(client.call_tool() for client in (one, two) * 10))
        assert all("result" in result for result in results), results
    asked = [form for form in server.requests if form["grant_type"] == "refresh_token"]
    assert len(asked) == len({form["refresh_token"] for form in asked}) <= 2
    # The person takes the permission back: the next call says so, the one after leads to the page again.
    server.refreshes.clear()
    server.revoke_all()
    await asyncio.sleep(1.1)
    async with As(fleet.urls[0], issuer.token(sub="ann")) as client:

        async def sent_to_the_page() -> bool:
            error = (await client.call_tool()).get("error", {})
            return "/connect/box?ticket=" in error.get("message", "")

        await eventually(sent_to_the_page, 10.0, "the client is sent to the page")


async def test_answers_of_another_server_or_browser_are_not_taken(
    fleet: Fleet, issuer: Issuer, server: TokenServer, box: str
) -> None:
    token = issuer.token(sub="eve")
    for said, why in (({"iss": "https://evil.example"}, "another server"), ({"iss": ""}, "another server")):
        server.said = said
        async with Browser(fleet) as browser:
            status, text = await browser.read(await browser.agree(await link_for(fleet, token)))
        assert status == 403 and why in text
    server.said = {}
    async with Browser(fleet) as browser, Browser(fleet) as other:
        back = await browser.agree(await link_for(fleet, token))
        status, text = await other.read(back)
        assert status == 403 and "another browser" in text
        forged = back.replace("state=", "state=A")
        assert (await browser.read(forged))[0] == 403
        server.said = {"code": "", "error": "access_denied"}
        status, text = await browser.read(await browser.agree(await link_for(fleet, token)))
        assert status == 400 and "access_denied" in text
    assert not [form for form in server.requests if form["grant_type"] == "authorization_code"], "no code was redeemed"


async def test_a_link_is_for_one_person_and_one_upstream(
    fleet: Fleet, issuer: Issuer, server: TokenServer, box: str
) -> None:
    link = await link_for(fleet, issuer.token(sub="fay"))
    async with aiohttp.ClientSession() as session:
        base = fleet.url
        path = f"{base}/connect/box?{urlsplit(link).query}"
        async with session.get(path, headers={"Authorization": f"Bearer {issuer.token(sub='gus')}"}) as response:
            assert response.status == 403
        async with session.get(path) as response:
            text = await response.text()
            assert response.status == 200 and f"{issuer.url}#fay" in text
            assert response.headers["X-Frame-Options"] == "DENY" and response.headers["Cache-Control"] == "no-store"
        for wrong in ("/connect/box", "/connect/box?ticket=x", f"/connect/other?{urlsplit(link).query}"):
            async with session.get(base + wrong) as response:
                assert response.status in (401, 403, 404), await response.text()
        async with session.get(path, headers={"Host": "evil.example"}) as response:
            assert response.status == 403
        async with session.get(f"{base}/connect/client.json") as response:
            document = await response.json()
            assert document["client_id"] == f"{base}/connect/client.json"
            assert document["redirect_uris"] == [f"{base}/connect/callback"]


@pytest.mark.parametrize(
    ("said", "status"),
    [
        ({"Sec-Fetch-Site": "cross-site", "Origin": "https://evil.example"}, 403),
        ({"Sec-Fetch-Site": "same-site"}, 403),
        ({"Origin": "https://evil.example"}, 403),
        ({"Origin": "null"}, 403),
        ({"Sec-Fetch-Site": "same-origin", "Origin": "null"}, 303),
        ({"Origin": "{own}"}, 303),
        ({}, 303),
    ],
)
async def test_no_other_site_presses_the_button(
    fleet: Fleet, issuer: Issuer, box: str, said: dict[str, str], status: int
) -> None:
    """Whoever has a link could send it in somebody else's browser, whose account they would get."""
    link = await link_for(fleet, issuer.token(sub="eve"))
    form = {"ticket": parse_qs(urlsplit(link).query)["ticket"][0]}
    headers = {name: value.format(own=fleet.url) for name, value in said.items()}
    async with (
        aiohttp.ClientSession() as session,
        session.post(f"{fleet.url}/connect/box", data=form, headers=headers, allow_redirects=False) as answer,
    ):
        assert answer.status == status, await answer.text()
        assert (status == 303) == bool(answer.cookies)


async def test_a_request_asks_for_what_the_specification_wants(
    fleet: Fleet, issuer: Issuer, server: TokenServer, upstreams: ProtectedUpstreams, box: str
) -> None:
    await first(fleet, issuer, server)
    (asked,) = server.asked
    assert asked["code_challenge_method"] == "S256" and asked["resource"] == upstreams.url("box")
    assert parse_qs(urlsplit(asked["redirect_uri"]).query) == {}
    server.metadata = {"code_challenge_methods_supported": []}
    async with Browser(fleet) as browser:
        with pytest.raises(AssertionError, match="PKCE"):
            await browser.agree(await link_for(fleet, issuer.token(sub="ann")))


async def test_the_command_waits_until_somebody_has_signed_in(
    fleet: Fleet, issuer: Issuer, server: TokenServer, box: str
) -> None:
    connect_command.add_to(cli)
    token = issuer.token(sub="hal")
    server.person = "hal@box"

    def run(*arguments: str) -> Any:
        return CliRunner().invoke(cli, ["connect", "box", "--url", fleet.url, "--token", token, *arguments])

    running = asyncio.ensure_future(asyncio.to_thread(run, "--no-browser"))
    async with Browser(fleet) as browser:
        await browser.connect(await link_for(fleet, token))
    result = await running
    assert result.exit_code == 0 and "box is connected" in result.output, result.output
    assert (await asyncio.to_thread(run, "--forget")).exit_code == 0
    assert await fleet.store.redis.hlen(fleet.store.keys.credentials("box")) == 1, "the registration alone"


async def test_who_may_not_know_of_an_upstream_cannot_connect_to_it(fleet: Fleet, issuer: Issuer, box: str) -> None:
    async with As(fleet.urls[1], issuer.token(sub="outsider")) as outsider:
        base = fleet.urls[1].removesuffix("/mcp")

        async def seen(name: str) -> list[tuple[int, str]]:
            found = []
            for method in ("GET", "POST", "DELETE"):
                async with outsider.session.request(
                    method, f"{base}/connect/{name}", headers=JSON, data="{}"
                ) as answer:
                    found.append((answer.status, await answer.text()))
            async with outsider.session.get(f"{base}/connect/{name}") as answer:
                found.append((answer.status, await answer.text()))
            return found

        assert await seen(box) == await seen("never")
        assert {status for status, _ in await seen(box)} == {404}
    async with (
        As(fleet.urls[1], issuer.token(sub="ann")) as ann,
        ann.session.post(f"{base}/connect/{box}", headers=JSON, data="{}") as answer,
    ):
        assert answer.status == 200


async def test_a_token_that_is_bound_to_a_key_connects_with_a_proof(fleet: Fleet, issuer: Issuer, box: str) -> None:
    """RFC 9449: a proof names the request that it is made for."""
    url, key = f"{fleet.url}/connect/{box}", ec.generate_private_key(ec.SECP256R1())
    public = {name: value for name, value in jwk(key, "x").items() if name != "kid"}
    token = issuer.token(sub="ann", cnf={"jkt": thumbprint_of(public)})

    async def status(htu: str) -> int:
        made = {"jti": token_hex(8), "htm": "POST", "htu": htu, "iat": int(time.time()), "ath": encoded_digest(token)}
        proof = jwt.encode(made, key, "ES256", {"typ": "dpop+jwt", "jwk": public})
        headers = {"Authorization": f"DPoP {token}", "DPoP": proof, **JSON}
        async with aiohttp.ClientSession() as session, session.post(url, headers=headers, json={}) as answer:
            return answer.status

    assert await status(url) == 200
    assert await status(url + "/other") == 401


async def test_a_caller_is_not_told_where_a_server_is_that_cannot_be_asked(fleet: Fleet, issuer: Issuer) -> None:
    url = "http://127.0.0.1:9/inside/mcp"
    await fleet.register("gone", {"type": "http", "url": url, "auth": {"type": "user"}}, connected=False)
    token = issuer.token(aud=AUDIENCE)

    async def link() -> str | None:
        try:
            return await link_for(fleet, token, "gone")
        except AssertionError:
            return None

    found = await eventually(link, 10.0, "the upstream is known here")
    async with Browser(fleet) as browser:
        text = (await browser.read(found))[1]
        ticket = html.unescape(re.findall(r'name="ticket" value="([^"]*)"', text)[0])
        path = urlsplit(found).path
        async with browser.session.post(browser.base + path, data={"ticket": ticket}) as response:
            said = await response.text()
    assert response.status == 502 and "cannot be asked" in said
    assert "127.0.0.1" not in said and "inside" not in said
    await fleet.store.unregister("gone")
