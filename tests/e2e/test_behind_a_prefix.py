"""A proxy in front serves the gateway below a path: URLs that clients are told have that path."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from typing import Any

import aiohttp
import pytest_asyncio

from tests.fleet import Fleet
from tests.issuer import Issuer
from tests.streams import sse_data

WELL_KNOWN = "/.well-known/oauth-protected-resource"
PING = {"jsonrpc": "2.0", "id": 1, "method": "ping"}
BELOW = {"X-Forwarded-Prefix": "/gw"}


@pytest_asyncio.fixture(scope="module")
async def fleet(redis_url: str, issuer: Issuer) -> AsyncIterator[Fleet]:
    """A gateway that believes a proxy at 127.0.0.1, and nobody else."""
    rules = json.dumps({"authentication": [{"type": "jwt", "issuer": issuer.url}]})
    async with Fleet(redis_url, trusted_proxies=("127.0.0.1",), admin_token="t", access_rules=rules) as fleet:
        yield fleet


def _from(address: str) -> aiohttp.ClientSession:
    return aiohttp.ClientSession(connector=aiohttp.TCPConnector(local_addr=(address, 0)))


async def _asked(session: aiohttp.ClientSession, url: str, token: str = "", **headers: str) -> tuple[int, str]:
    """The status of a ping, and the challenge."""
    if token:
        headers["Authorization"] = f"Bearer {token}"
    async with session.post(url, json=PING, headers=headers) as response:
        return response.status, response.headers.get("WWW-Authenticate", "")


async def _metadata(session: aiohttp.ClientSession, url: str, **headers: str) -> dict[str, Any]:
    async with session.get(url, headers=headers) as response:
        return dict(await response.json()) if response.status == 200 else {"status": response.status}


async def test_urls_for_oauth_follow_the_prefix_of_a_trusted_proxy(fleet: Fleet, issuer: Issuer) -> None:
    base = fleet.frontends[0].url
    async with _from("127.0.0.1") as proxy:
        for path in ("/mcp", "/servers/web/mcp"):
            status, challenge = await _asked(proxy, base + path, **BELOW)
            assert status == 401
            assert f'resource_metadata="{base}{WELL_KNOWN}/gw{path}"' in challenge
            for passed in (f"{WELL_KNOWN}{path}", f"{WELL_KNOWN}/gw{path}"):  # without the prefix, or as it is
                assert (await _metadata(proxy, base + passed, **BELOW))["resource"] == f"{base}/gw{path}"
            assert (await _metadata(proxy, f"{base}{WELL_KNOWN}/gw{path}"))["resource"] == f"{base}/gw{path}"
            assert (await _metadata(proxy, f"{base}{WELL_KNOWN}{path}"))["resource"] == base + path
        below, beside = (issuer.token(aud=f"{base}{prefix}/mcp") for prefix in ("/gw", ""))
        assert (await _asked(proxy, f"{base}/mcp", below, **BELOW))[0] == 200
        assert (await _asked(proxy, f"{base}/mcp", beside, **BELOW))[0] == 401
        assert (await _asked(proxy, f"{base}/mcp", beside))[0] == 200


async def test_nobody_else_says_for_which_resource_a_token_is(fleet: Fleet, issuer: Issuer) -> None:
    base = fleet.frontends[0].url
    async with _from("127.0.0.2") as stranger:
        for_another = issuer.token(aud=f"{base}/other/mcp")
        status, challenge = await _asked(stranger, f"{base}/mcp", for_another, **{"X-Forwarded-Prefix": "/other"})
        assert status == 401 and f'resource_metadata="{base}{WELL_KNOWN}/mcp"' in challenge
        document = await _metadata(stranger, f"{base}{WELL_KNOWN}/mcp", **BELOW)
        assert document["resource"] == f"{base}/mcp"
        assert await _metadata(stranger, f"{base}{WELL_KNOWN}/gw/mcp", **BELOW) == {"status": 404}


async def test_all_urls_follow_the_path_of_the_public_url(redis_url: str, issuer: Issuer) -> None:
    rules = json.dumps({"authentication": [{"type": "apiKey"}, {"type": "jwt", "issuer": issuer.url}]})
    settings = {"public_url": "https://mcp.example/gw", "admin_token": "t", "access_rules": rules}
    async with Fleet(redis_url, **settings) as fleet, aiohttp.ClientSession() as client:
        base, resource = fleet.frontends[0].url, "https://mcp.example/gw/mcp"
        _, challenge = await _asked(client, f"{base}/mcp", **{"X-Forwarded-Prefix": "/other"})
        assert f'resource_metadata="https://mcp.example{WELL_KNOWN}/gw/mcp"' in challenge
        for passed in ("/mcp", "/gw/mcp"):
            assert (await _metadata(client, base + WELL_KNOWN + passed))["resource"] == resource
        assert await _metadata(client, f"{base}{WELL_KNOWN}/other/mcp") == {"status": 404}
        sent = {"Accept": "text/event-stream", "Authorization": f"Bearer {issuer.token(aud=resource)}"}
        for path, endpoint in (("/sse", "/gw/messages?"), ("/servers/web/sse", "/gw/servers/web/messages?")):
            sent["Authorization"] = f"Bearer {issuer.token(aud=f'https://mcp.example/gw{path}')}"
            async with client.get(base + path, headers=sent) as stream:
                assert stream.status == 200
                assert (await sse_data(stream)).startswith(endpoint)
