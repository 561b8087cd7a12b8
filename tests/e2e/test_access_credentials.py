"""Odd, bent and foreign credentials at real front ends: they are nobody's and break nothing."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator
from secrets import token_hex
from typing import Any

import jwt
import pytest
import pytest_asyncio
from cryptography.hazmat.primitives.asymmetric import ec

from gateway.access.dpop import encoded_digest, thumbprint_of
from tests.clients import RawClient
from tests.e2e.test_access import AUDIENCE, TOOLS, As, admin, make_key
from tests.fleet import Fleet
from tests.issuer import EC, Issuer, jwk
from tests.machine import scaled
from tests.servers.raw import RawUpstreams
from tests.unit.gateway.access.test_jwt import GOOD, HEADERS, signed

AWAY = "http://127.0.0.1:9"
"""An issuer that answers nobody."""


@pytest_asyncio.fixture(scope="module")
async def upstreams() -> AsyncIterator[RawUpstreams]:
    async with RawUpstreams() as upstreams:
        upstreams.add("search", TOOLS)
        yield upstreams


@pytest_asyncio.fixture(scope="module")
async def fleet(redis_url: str, issuer: Issuer, upstreams: RawUpstreams) -> AsyncIterator[Fleet]:
    rules = {
        "authentication": [
            {"type": "apiKey"},
            {"type": "jwt", "issuer": issuer.url},
            {"type": "jwt", "issuer": AWAY, "audience": AUDIENCE},
            {"type": "trustedProxy", "addresses": ["10.9.9.9"], "roles": ["all"]},
        ],
        "roles": {"all": {"when": "principal.kind != 'anonymous'", "allow": ["*"], "admin": "write"}},
    }
    settings = {"admin_token": "the-admin-token", "access_rules": json.dumps(rules)}
    async with Fleet(redis_url, 2, 2, **settings) as fleet:
        await fleet.register("search", upstreams.connection("search"))
        yield fleet


async def statuses(fleet: Fleet, headers: list[tuple[str, str]], query: str = "") -> set[int]:
    """Return how every way in answers a request with these headers."""
    found = set()
    base = [("Content-Type", "application/json"), ("Accept", "application/json, text/event-stream"), *headers]
    ping = json.dumps({"jsonrpc": "2.0", "id": 1, "method": "tools/list"})
    async with RawClient("") as raw:
        for frontend in fleet.frontends:
            for path in ("/mcp", "/servers/search/mcp", "/messages"):
                async with raw.session.post(f"{frontend.url}{path}{query}", data=ping, headers=base) as response:
                    found.add(response.status)
                    assert "Traceback" not in await response.text()
            for path in ("/mcp", "/sse", "/admin/v1/servers"):
                async with raw.session.get(f"{frontend.url}{path}{query}", headers=base) as response:
                    found.add(response.status)
    return found


async def test_a_key_counts_only_as_it_is_and_where_it_belongs(fleet: Fleet) -> None:
    key = await make_key(fleet, "exact", "all")
    for url in fleet.urls:
        async with As(url, key) as client:
            assert await client.tools()
    good = [("Authorization", f"Bearer {key}")]
    assert 401 not in await statuses(fleet, [("Authorization", f"bearer  {key} ")])  # the scheme is of any case
    for headers in (
        [("Authorization", f"Bearer {key.upper()}")],
        [("Authorization", f"Bearer {key.swapcase()}")],
        [("Authorization", f"Bearer {key[:-1]}")],
        [("Authorization", f"Bearer {key}0")],
        [("Authorization", f"Bearer {key} {key}")],
        [("Authorization", f"Basic {key}")],
        [("Authorization", key)],
        [("Authorization", "Bearer")],
        [("Authorization", "")],
        [("Cookie", f"Authorization=Bearer {key}; key={key}")],
        [("Proxy-Authorization", f"Bearer {key}")],
    ):
        assert await statuses(fleet, headers) == {401}, headers
    for query in (f"?access_token={key}", f"?api_key={key}", f"?token={key}", f"?Authorization=Bearer%20{key}"):
        assert await statuses(fleet, [], query) == {401}
    for other in ("Bearer x", f"Bearer {key}"):
        assert await statuses(fleet, [*good, ("Authorization", other)]) <= {400, 401}


@pytest.mark.parametrize(
    "changed", [{"exp": 10**400}, {"nbf": 10**400}, {"aud": 5}, {"aud": {}}, {"iss": [], "exp": {}}], ids=str
)
async def test_claims_of_odd_types_are_refused_in_every_lane(fleet: Fleet, issuer: Issuer, changed: Any) -> None:
    token = signed(GOOD, issuer.claims(aud=fleet.url + "/mcp") | changed)
    assert await statuses(fleet, [("Authorization", f"Bearer {token}")]) == {401}


async def test_bent_headers_are_refused_in_every_lane(fleet: Fleet, issuer: Issuer) -> None:
    for what, sign in HEADERS.values():
        if sign is None or callable(sign):
            token = signed(what, issuer.claims(aud=fleet.url + "/mcp"), sign)
            refused = await statuses(fleet, [("Authorization", f"Bearer {token}")])
            assert refused <= {400, 401, 431}, what  # 431: a deep header is a long one


async def test_a_token_that_has_just_expired_does_not_keep_the_gateway_busy(fleet: Fleet, issuer: Issuer) -> None:
    """It is accepted for the leeway, and so must what was verified: else it is verified again and again, for ever."""
    now = int(time.time())
    async with As(fleet.urls[0], issuer.token(aud=fleet.url + "/mcp", exp=now - 5)) as client:
        async with asyncio.timeout(scaled(10)):
            assert await client.tools()
    async with As(fleet.urls[0], issuer.token(aud=fleet.url + "/mcp", exp=now - 60)) as client:
        assert (await client.modern("tools/list")).status == 401


async def test_a_token_for_another_server_does_not_work_under_that_servers_name(fleet: Fleet, issuer: Issuer) -> None:
    """Where nothing says what the gateway is called, only the names of this machine are believed."""
    for host in ("203.0.113.5", "203.0.113.5:80", "[2001:db8::1]"):
        async with As(fleet.urls[0], issuer.token(aud=f"http://{host}/mcp")) as client:
            assert (await client.modern("tools/list", headers={"Host": host})).status == 401
    async with As(fleet.urls[0], issuer.token(aud=AUDIENCE)) as client:
        assert (await client.modern("tools/list", headers={"Host": "mcp.example"})).status in (401, 403)


PATHS = [
    '/servers/a",resource_metadata="x/mcp',
    '/servers/a"b/mcp',
    "/servers/a\\b/mcp",
    "/servers/a%0d%0aX-Evil:1/mcp",
    "/servers/a%22%0aX/mcp",
    "/servers/ä/mcp",
]


@pytest.mark.parametrize("path", PATHS)
async def test_a_path_puts_nothing_into_the_challenge(fleet: Fleet, path: str) -> None:
    host, _, port = fleet.url.removeprefix("http://").partition(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    for method in ("POST", "GET"):
        length = "Content-Length: 2\r\n" if method == "POST" else ""
        kinds = "Content-Type: application/json\r\nAccept: text/event-stream, application/json\r\n"
        head = f"{method} {path} HTTP/1.1\r\nHost: {host}:{port}\r\n{kinds}{length}\r\n"
        writer.write(head.encode() + (b"{}" if length else b""))
        raw = await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), scaled(10))
        lines = raw.decode("latin-1").split("\r\n")
        names = [line.partition(":")[0] for line in lines[1:] if line]
        assert "X-Evil" not in names and raw.count(b"\n") == raw.count(b"\r\n")
        for line in lines:
            if line.lower().startswith("www-authenticate:"):
                assert line.count('"') == 2 and line.startswith("WWW-Authenticate: Bearer resource_metadata="), line
                assert line.isascii() and "\\" not in line
        if b" 400 " in raw[:20]:
            break
        size = next(int(line.partition(":")[2]) for line in lines if line.lower().startswith("content-length"))
        await reader.readexactly(size)
    writer.close()


async def test_credentials_of_a_client_never_go_to_an_upstream(fleet: Fleet, upstreams: RawUpstreams) -> None:
    key = await make_key(fleet, "kept", "all")
    cookie = {"Cookie": "mine=1", "X-API-Key": key, "DPoP": "x", "X-Forwarded-User": "root"}
    async with As(fleet.urls[0], key) as client:
        assert (await client.call("find", headers=cookie)).content == "search"
        await client.initialize()
        assert (await client.legacy_call("find")).content == "search"
    for headers in upstreams.endpoints["search"].headers:
        names = {name.lower() for name in headers}
        assert not names & {"authorization", "cookie", "x-api-key", "dpop", "x-forwarded-user", "proxy-authorization"}
        assert key not in str(headers)


async def test_whom_a_stranger_names_in_the_proxys_header_is_nobody(fleet: Fleet) -> None:
    for name in ("X-Forwarded-User", "x-forwarded-user", "X-FORWARDED-USER"):
        headers = [(name, "root"), ("X-Forwarded-Groups", "admins"), ("X-Forwarded-For", "10.9.9.9")]
        assert await statuses(fleet, [*headers, ("Forwarded", "for=10.9.9.9"), ("X-Real-Ip", "10.9.9.9")]) == {401}
    key = await make_key(fleet, "with-header", "all")
    async with As(fleet.urls[0], key) as client:
        client.session.headers["X-Forwarded-User"] = "root"
        await client.initialize()
        sid = client.sid
    async with As(fleet.urls[1], key) as client:  # the session is the key's, and not of who is named
        client.sid = sid
        assert (await client.legacy("ping")).status == 200


async def test_a_revoked_key_ends_wherever_it_is_held(fleet: Fleet) -> None:
    """The memory of verified credentials is bounded: what was pushed out of it must still hear of the end."""
    key = await make_key(fleet, "pushed", "all")
    async with As(fleet.urls[0], key) as client:
        assert await client.tools()
        for number in range(50):
            assert (await client.modern("tools/list", headers={"X-Number": str(number)})).status == 200
        assert (await admin(fleet, "DELETE", "keys/pushed"))[0] == 204
        deadline = time.monotonic() + scaled(1.0)
        while (await client.modern("tools/list")).status == 200:
            assert time.monotonic() < deadline
        for number in range(50):
            assert (await client.modern("tools/list", headers={"X-Number": str(number)})).status == 401


async def test_a_bound_token_works_only_with_a_proof_of_its_key(fleet: Fleet, issuer: Issuer) -> None:
    def prove(key: Any = EC, **changed: Any) -> str:
        made = {"jti": token_hex(8), "htm": "POST", "htu": url, "iat": int(time.time()), "ath": encoded_digest(token)}
        public = {name: value for name, value in jwk(key, "x").items() if name != "kid"}
        return jwt.encode({**made, **changed}, key, "ES256", {"typ": "dpop+jwt", "jwk": public})

    async def status(headers: dict[str, str]) -> tuple[int, str]:
        answer = await client.modern("tools/list", headers=headers)
        return answer.status, answer.headers.get("WWW-Authenticate", "")

    url = fleet.url + "/mcp"
    token = issuer.token(aud=url, cnf={"jkt": thumbprint_of(jwk(EC, "x"))})
    unbound = issuer.token(aud=url)
    async with RawClient(url) as client:
        bound = {"Authorization": f"DPoP {token}"}
        once = prove()
        assert (await status({**bound, "DPoP": once}))[0] == 200
        for headers in (
            {**bound, "DPoP": once},
            bound,
            {**bound, "DPoP": ""},
            {**bound, "DPoP": prove(ec.generate_private_key(ec.SECP256R1()))},
            {**bound, "DPoP": prove(htm="GET")},
            {**bound, "DPoP": prove(htu=fleet.url + "/servers/search/mcp")},
            {**bound, "DPoP": prove(ath=encoded_digest(unbound))},
            {**bound, "DPoP": prove(iat=int(time.time()) - 100)},
            {"Authorization": f"Bearer {token}"},
            {"Authorization": f"Bearer {token}", "DPoP": prove()},
        ):
            refused = await status(headers)
            assert refused[0] == 401 and refused[1].startswith('DPoP error="invalid_dpop_proof"'), headers
        for headers in ({"Authorization": f"DPoP {unbound}", "DPoP": prove()}, {"Authorization": "DPoP x"}):
            assert (await status(headers))[0] == 401
        assert (await status({"Authorization": f"Bearer {unbound}", "DPoP": "x"}))[0] == 200  # of no concern
        for _ in range(3):
            assert (await status({**bound, "DPoP": prove()}))[0] == 200


async def test_the_metadata_names_no_host_that_is_not_ours(fleet: Fleet) -> None:
    async with RawClient("") as raw:
        url = f"{fleet.url}/.well-known/oauth-protected-resource/mcp"
        async with raw.session.get(url, headers={"Host": "evil.example"}) as response:
            assert response.status == 403


async def test_an_issuer_that_is_away_is_said_to_those_who_look_after_the_gateway(fleet: Fleet, issuer: Issuer) -> None:
    async with As(fleet.urls[0], issuer.token(iss=AWAY)) as client:
        assert (await client.modern("tools/list")).status == 401
    _, found = await admin(fleet, "GET", "diagnosis")
    assert list(found["authorizationServers"]) == [AWAY]
    assert "127.0.0.1:9" in found["authorizationServers"][AWAY]
