"""Tokens that are bound to a client certificate (RFC 8705) are worth nothing without it, also behind a proxy."""

from __future__ import annotations

import hashlib
import json
import ssl
import time
from pathlib import Path
from typing import Any
from urllib.parse import quote

import aiohttp
import jwt
import pytest

from gateway.access.client_certificate import encoded
from tests.certificates import Authority, Pair
from tests.clients import RawClient
from tests.e2e.test_access import TOOLS
from tests.fleet import Fleet
from tests.issuer import RSA, jwk
from tests.servers.raw import RawUpstreams

AUDIENCE = "https://mcp.example/mcp"


def token(pair: Pair | None) -> str:
    now = int(time.time())
    claims: dict[str, Any] = {"iss": "https://idp.test", "sub": "ann", "aud": AUDIENCE, "iat": now, "exp": now + 600}
    if pair is not None:
        claims["cnf"] = {"x5t#S256": thumbprint(pair)}
    return jwt.encode(claims, RSA, "RS256", {"kid": "rsa-1"})


def thumbprint(pair: Pair) -> str:
    return encoded(hashlib.sha256(ssl.PEM_cert_to_DER_cert(pair.cert.read_text())).digest())


def rules(folder: Path, *methods: dict[str, Any]) -> dict[str, Any]:
    keys = folder / "keys.json"
    keys.write_text(json.dumps({"keys": [jwk(RSA, "rsa-1")]}))
    issuer = {"type": "jwt", "issuer": "https://idp.test", "audience": AUDIENCE, "jwksFile": str(keys)}
    return {
        "authentication": [*methods, issuer],
        "roles": {"all": {"when": "principal.id == 'https://idp.test#ann' || 'build' in claims.units", "allow": ["*"]}},
    }


async def status(client: RawClient, headers: dict[str, str]) -> int:
    return (await client.modern("tools/list", headers=headers)).status


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("bound")


async def test_on_our_own_tls(redis_url: str, folder: Path) -> None:
    servers, clients = Authority(folder, "servers"), Authority(folder, "clients")
    server, ann, bob = servers.server("gateway"), clients.client("ann"), clients.client("bob")
    settings = {
        "admin_token": "the-admin-token",
        "access_rules": json.dumps(rules(folder)),
        "tls_cert_file": str(server.cert),
        "tls_key_file": str(server.key),
        "tls_client_ca": str(clients.file),
    }

    def client(pair: Pair | None) -> RawClient:
        context = ssl.create_default_context(cafile=str(servers.file))
        if pair is not None:
            context.load_cert_chain(pair.cert, pair.key)
        return RawClient(fleet.urls[0], context)

    async with RawUpstreams() as upstreams, Fleet(redis_url, 1, 1, **settings) as fleet:
        upstreams.add("search", TOOLS)
        await fleet.register("search", upstreams.connection("search"))
        bound, free = ({"Authorization": f"Bearer {token(one)}"} for one in (ann, None))
        async with client(ann) as anns, client(bob) as bobs, client(None) as nobodys:
            for _ in range(2):  # the second time the head and the token are known
                assert await status(anns, bound) == 200
                assert await status(bobs, bound) == 401
                assert await status(nobodys, bound) == 401
                assert {await status(one, free) for one in (anns, bobs, nobodys)} == {200}
            url = f"{fleet.frontends[0].url}/.well-known/oauth-protected-resource/mcp"
            async with anns.session.get(url) as answer:
                assert (await answer.json())["tls_client_certificate_bound_access_tokens"] is True


async def test_behind_a_proxy_that_names_the_certificate(redis_url: str, folder: Path) -> None:
    clients = Authority(folder, "proxied")
    ann, bob = clients.client("ann", "build"), clients.client("bob")
    header = "X-Forwarded-Client-Cert"
    proxy = {"type": "trustedProxy", "addresses": ["127.0.0.1"], "certificateHeader": header}
    settings = {"admin_token": "the-admin-token", "access_rules": json.dumps(rules(folder, proxy))}

    def shown(pair: Pair) -> dict[str, str]:
        return {header: f'By=x;Cert="{quote(pair.cert.read_text(), safe="")}"'}

    async with RawUpstreams() as upstreams, Fleet(redis_url, 1, 1, **settings) as fleet:
        upstreams.add("search", TOOLS)
        await fleet.register("search", upstreams.connection("search"))
        bound = {"Authorization": f"Bearer {token(ann)}"}
        async with RawClient(fleet.urls[0]) as client:
            for _ in range(2):
                assert await status(client, {**bound, **shown(ann)}) == 200
                assert await status(client, {**bound, **shown(bob)}) == 401
                assert await status(client, bound) == 401
                assert await status(client, {**bound, header: f"{shown(bob)[header]},{shown(ann)[header]}"}) == 401
            answer = await client.modern("tools/list", headers=shown(ann))  # and alone it names the caller
            assert answer.status == 200 and answer.body["result"]["tools"]
            assert (await client.modern("tools/list", headers=shown(bob))).body["result"]["tools"] == []
        connector = aiohttp.TCPConnector(local_addr=("127.0.0.2", 0))  # the same headers, and not the proxy
        async with aiohttp.ClientSession(connector=connector) as stranger:
            body = {"jsonrpc": "2.0", "id": 1, "method": "ping"}
            for headers in (shown(ann), {**bound, **shown(ann)}):
                async with stranger.post(fleet.urls[0], json=body, headers=headers) as answer:
                    assert answer.status == 401
