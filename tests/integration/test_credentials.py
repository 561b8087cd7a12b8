"""An upstream that wants tokens: its calls get them, and nobody else does. One worker's side, a real server."""

from __future__ import annotations

import asyncio
import json
import logging
import stat
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from shared.errors import NotDelivered
from shared.mcp.versions import Era
from shared.models import make_spec
from shared.settings import build
from tests.machine import scaled
from tests.token_server import ProtectedUpstreams, TokenServer
from tests.unit.worker.worker_harness import NoLeader, NoWayToClients
from worker.calls.client_facts import ClientFacts
from worker.calls.own_call import OwnCall
from worker.ownership.make_upstream import make_upstream
from worker.transports import DRIVERS


@pytest_asyncio.fixture
async def server() -> AsyncIterator[TokenServer]:
    async with TokenServer() as server:
        yield server


@pytest_asyncio.fixture
async def upstreams(server: TokenServer) -> AsyncIterator[ProtectedUpstreams]:
    async with ProtectedUpstreams(server) as upstreams:
        yield upstreams


class Reached:
    """An upstream that a worker has reached."""

    def __init__(self, url: str, auth: dict[str, Any], **settings: Any) -> None:
        spec = make_spec("up", {"url": url, "auth": {"type": "clientCredentials", **auth}})
        self.settings = build(overrides=settings)
        self.upstream = make_upstream(
            spec, self.settings, "w", NoLeader(), NoWayToClients(), lambda line: None, None, None
        )

    async def reach(self) -> Reached:
        """Probe it, as its leader does."""
        reached = await DRIVERS["http"].reach(self.upstream.context)
        await reached.session.close()
        self.upstream.adopt(reached.facts)
        return self

    async def call(self, tool: str = "who", principal: str = "", token: str = "") -> dict[str, Any]:
        """Call a tool as a modern client does. Raises ``CallError``."""
        params = {
            "name": tool,
            "arguments": {},
            "_meta": {"io.modelcontextprotocol/protocolVersion": "2026-07-28"},
        }
        call = OwnCall("tools/call", json.dumps(params).encode(), Era.MODERN, 10.0)
        call.name, call.client, call.subject_token = tool, ClientFacts(principal), token
        self.upstream.submit(call)
        async with asyncio.timeout(scaled(10)):
            found: dict[str, Any] = json.loads(await call.future)
        return found

    async def __aenter__(self) -> Reached:
        return await self.reach()

    async def __aexit__(self, *_: object) -> None:
        await self.upstream.close()


GW = {"clientId": "gw", "clientSecret": "s3cret:/%"}


@pytest.mark.parametrize("era", ["modern", "legacy"])
async def test_every_request_carries_a_token_that_is_found_through_the_upstream(
    server: TokenServer, upstreams: ProtectedUpstreams, era: str
) -> None:
    endpoint = upstreams.add("a", era=era)
    async with Reached(upstreams.url("a"), {**GW, "issuer": server.url}) as up:
        for _ in range(3):
            assert (await up.call())["content"]
        assert len(endpoint.tool_calls) == 3
    assert len(server.requests) == 1
    asked = server.requests[0]
    assert asked["grant_type"] == "client_credentials"
    assert asked["resource"] == upstreams.url("a")
    assert upstreams.who["a"] == ["gw"] * 3


async def test_a_given_token_url_needs_no_metadata(server: TokenServer, upstreams: ProtectedUpstreams) -> None:
    upstreams.add("a")
    upstreams.documents.clear()
    auth = {**GW, "tokenUrl": f"{server.url}/token", "scopes": ["x", "y"], "resource": "https://up.example/"}
    async with Reached(upstreams.url("a"), auth) as up:
        await up.call()
    assert server.requests[0]["scope"] == "x y"
    assert server.requests[0]["resource"] == "https://up.example/"


async def test_a_client_may_prove_itself_by_its_key(
    server: TokenServer, upstreams: ProtectedUpstreams, tmp_path: Path
) -> None:
    key = ec.generate_private_key(ec.SECP256R1())
    file = tmp_path / "key.pem"
    file.touch(stat.S_IRUSR | stat.S_IWUSR)
    file.write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    server.keys["svc"] = key.public_key()
    upstreams.add("a")
    auth = {"clientId": "svc", "privateKeyFile": str(file), "keyId": "k1", "issuer": server.url}
    async with Reached(upstreams.url("a"), auth) as up:
        await up.call()
    assert upstreams.who["a"] == ["svc"]


async def test_a_token_that_ended_early_is_renewed_and_the_call_sent_again(
    server: TokenServer, upstreams: ProtectedUpstreams
) -> None:
    endpoint = upstreams.add("a")
    async with Reached(upstreams.url("a"), {**GW, "issuer": server.url}) as up:
        await up.call()
        await asyncio.sleep(1.1)  # no token is renewed within a second of its making
        server.revoke_all()
        answers = await asyncio.gather(*(up.call() for _ in range(20)))
        assert all(answer["content"] for answer in answers)
    assert len(server.requests) == 2, "one renewal, however many calls found out"
    assert len(endpoint.tool_calls) == 21


async def test_a_token_is_renewed_before_it_ends(server: TokenServer, upstreams: ProtectedUpstreams) -> None:
    server.life_s = 1.0
    upstreams.add("a")
    async with Reached(upstreams.url("a"), {**GW, "issuer": server.url}) as up:
        until = asyncio.get_running_loop().time() + 3.0
        while asyncio.get_running_loop().time() < until:
            await up.call()
            await asyncio.sleep(0.02)
    assert upstreams.refused == 0
    assert 3 <= len(server.requests) <= 8


async def test_a_scope_that_a_call_needs_is_got_unless_the_entry_limits_them(
    server: TokenServer, upstreams: ProtectedUpstreams
) -> None:
    upstreams.add("a")
    upstreams.needed["a"] = "write"
    async with Reached(upstreams.url("a"), {**GW, "issuer": server.url}) as up:
        await asyncio.sleep(1.1)
        await up.call()
    assert server.requests[-1]["scope"] == "write"
    async with Reached(upstreams.url("a"), {**GW, "issuer": server.url, "scopes": ["read"]}) as up:
        await asyncio.sleep(1.1)
        with pytest.raises(NotDelivered, match="HTTP 403"):
            await up.call()
    assert server.requests[-1]["scope"] == "read"


async def test_a_wrong_secret_is_said_and_not_tried_at_every_call(
    server: TokenServer, upstreams: ProtectedUpstreams, caplog: pytest.LogCaptureFixture
) -> None:
    upstreams.add("a")
    auth = {"clientId": "gw", "clientSecret": "wrong-Secret-9", "issuer": server.url}
    up = Reached(upstreams.url("a"), auth)
    with caplog.at_level(logging.DEBUG), pytest.raises(NotDelivered, match="invalid_client"):
        await up.reach()
    asked = len(server.requests)
    assert asked <= 2
    assert "wrong-Secret-9" not in caplog.text
    assert "wrong-Secret-9" not in repr(up.upstream.spec)
    await up.upstream.close()


# ---- attacks


async def test_a_secret_goes_only_to_a_server_that_the_operator_named(
    server: TokenServer, upstreams: ProtectedUpstreams
) -> None:
    upstreams.add("a")
    with pytest.raises(NotDelivered, match=r'write "issuer"'):
        await Reached(upstreams.url("a"), GW).reach()
    upstreams.documents["a"]["authorization_servers"] = ["https://evil.example"]
    with pytest.raises(NotDelivered, match="does not name the authorization server"):
        await Reached(upstreams.url("a"), {**GW, "issuer": server.url}).reach()
    assert server.requests == []


async def test_metadata_that_is_about_somebody_else_is_refused(
    server: TokenServer, upstreams: ProtectedUpstreams
) -> None:
    upstreams.add("a")
    good = dict(upstreams.documents["a"])
    upstreams.documents["a"] = {**good, "resource": "https://other.example/a"}
    with pytest.raises(NotDelivered, match="another resource"):
        await Reached(upstreams.url("a"), {**GW, "issuer": server.url}).reach()
    upstreams.documents["a"] = good
    server.metadata = {"issuer": "https://other.example"}
    with pytest.raises(NotDelivered, match="another issuer"):
        await Reached(upstreams.url("a"), {**GW, "issuer": server.url}).reach()
    server.metadata = {"token_endpoint": "http://169.254.169.254/token"}
    with pytest.raises(NotDelivered, match="link-local"):
        await Reached(upstreams.url("a"), {**GW, "issuer": server.url}).reach()
    assert server.requests == []


async def test_metadata_at_another_origin_is_not_read(server: TokenServer, upstreams: ProtectedUpstreams) -> None:
    upstreams.add("a")
    upstreams.place = "/somewhere"  # the challenge names it
    async with Reached(upstreams.url("a"), {**GW, "issuer": server.url}) as up:
        await up.call()
    upstreams.named = f"{server.url}/.well-known/oauth-authorization-server"
    with pytest.raises(NotDelivered, match="another origin"):
        await Reached(upstreams.url("a"), {**GW, "issuer": server.url}).reach()


async def test_a_token_endpoint_is_not_followed_elsewhere(server: TokenServer, upstreams: ProtectedUpstreams) -> None:
    upstreams.add("a")
    async with TokenServer() as thief:
        server.behaviour, server.elsewhere = "redirect", f"{thief.url}/token"
        with pytest.raises(NotDelivered, match="redirects"):
            await Reached(upstreams.url("a"), {**GW, "issuer": server.url}).reach()
        assert thief.requests == []


async def test_a_token_that_would_break_a_header_is_none(server: TokenServer, upstreams: ProtectedUpstreams) -> None:
    endpoint = upstreams.add("a")
    server.behaviour = "nonsense"
    with pytest.raises(NotDelivered, match="no bearer token"):
        await Reached(upstreams.url("a"), {**GW, "issuer": server.url}).reach()
    assert endpoint.calls == []


async def test_a_server_that_is_away_costs_the_calls_only_while_it_is(
    server: TokenServer, upstreams: ProtectedUpstreams
) -> None:
    upstreams.add("a")
    server.behaviour = "down"
    up = Reached(upstreams.url("a"), {**GW, "issuer": server.url})
    with pytest.raises(NotDelivered, match="HTTP 500"):
        await up.reach()
    server.behaviour = "ok"
    await asyncio.sleep(1.1)
    async with up:
        await up.call()
