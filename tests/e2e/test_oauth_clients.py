"""The official SDKs' own OAuth clients go through the whole dance, against an authorization server of the test.

401 → the endpoint's metadata → the server's metadata → registration → consent with PKCE → token → call → a call that
needs more (403 ``insufficient_scope``) → consent again → the call. Requests take turns between two front ends that have
one public URL, as behind a load balancer.
"""

from __future__ import annotations

import asyncio
import itertools
import json
import os
import shutil
from collections.abc import AsyncIterator
from typing import Any
from urllib.parse import parse_qs, urlsplit

import httpx2
import pytest
import pytest_asyncio
from aiohttp import ClientSession, web
from mcp import Client
from mcp.client.auth import OAuthClientProvider
from mcp.client.streamable_http import streamable_http_client
from mcp.shared.auth import AuthorizationCodeResult, OAuthClientInformationFull, OAuthClientMetadata, OAuthToken

from tests.authorization_server import AuthorizationServer
from tests.e2e.test_typescript import NODE
from tests.fleet import Fleet
from tests.machine import scaled
from tests.servers.raw import RawUpstreams

CALLBACK = "http://127.0.0.1:1/callback"
CLIENT_URL = "https://client.example/metadata.json"
REGISTRATION = {
    "redirect_uris": [CALLBACK],
    "client_name": "test",
    "grant_types": ["authorization_code", "refresh_token"],
}
SCHEMA = {"type": "object"}
TOOLS = [{"name": "read", "inputSchema": SCHEMA}, {"name": "write", "inputSchema": SCHEMA}]


class Balancer:
    """One address for several front ends: it sends each request to the next one."""

    def __init__(self) -> None:
        self.urls: list[str] = []
        self.url = ""
        self._turn = itertools.count()

    async def __aenter__(self) -> Balancer:
        self._client = ClientSession(auto_decompress=False)
        self._runner = web.ServerRunner(web.Server(self._pass), shutdown_timeout=0.1)
        await self._runner.setup()
        await web.TCPSite(self._runner, "127.0.0.1", 0).start()
        self.url = f"http://127.0.0.1:{self._runner.addresses[0][1]}"
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._runner.cleanup()
        await self._client.close()

    async def _pass(self, request: web.BaseRequest) -> web.StreamResponse:
        base = self.urls[next(self._turn) % len(self.urls)]
        sent = {name: value for name, value in request.headers.items() if name.lower() not in ("host", "connection")}
        async with self._client.request(
            request.method, base + request.path_qs, headers=sent, data=await request.read(), allow_redirects=False
        ) as got:
            skipped = ("transfer-encoding", "content-length", "connection", "date")
            headers = {name: value for name, value in got.headers.items() if name.lower() not in skipped}
            answer = web.StreamResponse(status=got.status, headers=headers)
            await answer.prepare(request)
            async for chunk in got.content.iter_any():
                await answer.write(chunk)
            return answer


@pytest_asyncio.fixture(scope="module")
async def server() -> AsyncIterator[AuthorizationServer]:
    async with AuthorizationServer() as server:
        yield server


@pytest_asyncio.fixture(scope="module")
async def url(redis_url: str, server: AuthorizationServer) -> AsyncIterator[str]:
    """The address of a fleet of two front ends and two workers."""
    rules = {
        "authentication": [{"type": "jwt", "issuer": server.url, "requiredScopes": ["notes:read"]}],
        "roles": {
            "reader": {"scopes": ["notes:read"], "allow": ["notes/read"]},
            "writer": {"scopes": ["notes:write"], "stepUp": True, "allow": ["notes/write"]},
        },
    }
    async with Balancer() as balancer, RawUpstreams() as upstreams:
        upstreams.add("notes", TOOLS)
        settings = {"admin_token": "t", "access_rules": json.dumps(rules), "public_url": balancer.url}
        async with Fleet(redis_url, frontends=2, workers=2, **settings) as fleet:
            balancer.urls = [frontend.url for frontend in fleet.frontends]
            await fleet.register("notes", upstreams.connection("notes"))
            yield balancer.url


@pytest.fixture(autouse=True)
def fresh(server: AuthorizationServer) -> None:
    """Each test begins with a server that has seen nothing."""
    server.__dict__.update(log=[], clients={}, documents={})


async def visit(url: str) -> dict[str, str]:
    """Do what a browser and its user do: open the page, agree, and return what comes to the client's redirect URI."""
    async with ClientSession() as session, session.get(url, allow_redirects=False) as response:
        assert response.status == 302, await response.text()
        location = response.headers["Location"]
    assert location.startswith(CALLBACK)
    return {name: values[0] for name, values in parse_qs(urlsplit(location).query).items()}


class Memory:
    """Where a client of the Python SDK keeps what it got."""

    def __init__(self) -> None:
        self.tokens: OAuthToken | None = None
        self.client: OAuthClientInformationFull | None = None

    async def get_tokens(self) -> OAuthToken | None:
        return self.tokens

    async def set_tokens(self, tokens: OAuthToken) -> None:
        self.tokens = tokens

    async def get_client_info(self) -> OAuthClientInformationFull | None:
        return self.client

    async def set_client_info(self, client_info: OAuthClientInformationFull) -> None:
        self.client = client_info


def provider(endpoint: str, **options: Any) -> OAuthClientProvider:
    """Return the SDK's OAuth client for an endpoint."""
    came: list[dict[str, str]] = []

    async def redirect(url: str) -> None:
        came.append(await visit(url))

    async def callback() -> AuthorizationCodeResult:
        answer = came.pop()
        return AuthorizationCodeResult(code=answer["code"], state=answer.get("state"), iss=answer.get("iss"))

    wanted = OAuthClientMetadata.model_validate({**REGISTRATION, "token_endpoint_auth_method": "none"})
    return OAuthClientProvider(endpoint, wanted, options.pop("storage", Memory()), redirect, callback, **options)


async def use_with_python(endpoint: str, mode: str, auth: OAuthClientProvider, *names: str) -> list[str]:
    """List and call tools with the Python SDK, and return the names that it saw."""
    async with httpx2.AsyncClient(auth=auth, timeout=scaled(30)) as http:
        transport = streamable_http_client(endpoint, http_client=http)
        async with Client(transport, mode=mode, read_timeout_seconds=scaled(30)) as client:
            listed = [tool.name for tool in (await client.list_tools()).tools]
            for name in names:
                result = await client.call_tool(name, {})
                assert result.content[0].text == "notes"
    return listed


def check_the_dance(server: AuthorizationServer, endpoint: str) -> None:
    """Check what the server was asked in a dance with one step up."""
    first, second = server.requests("authorize")
    assert set(first["scope"].split()) - {"offline_access"} == {"notes:read"}
    assert set(second["scope"].split()) - {"offline_access"} == {"notes:read", "notes:write"}
    assert first["resource"] == second["resource"] == endpoint
    assert all(one["resource"] == endpoint for one in server.requests("token"))


@pytest.mark.parametrize("path", ["/mcp", "/servers/notes/mcp"])
@pytest.mark.parametrize("mode", ["2026-07-28", "legacy"])
async def test_the_python_sdk(url: str, server: AuthorizationServer, mode: str, path: str) -> None:
    endpoint = url + path
    listed = await use_with_python(endpoint, mode, provider(endpoint), "read", "write", "read")
    assert sorted(listed) == ["read", "write"]
    check_the_dance(server, endpoint)
    assert len(server.requests("register")) == 1


async def test_the_python_sdk_with_a_metadata_document(url: str, server: AuthorizationServer) -> None:
    server.documents[CLIENT_URL] = {**REGISTRATION, "client_id": CLIENT_URL}
    auth = provider(f"{url}/mcp", client_metadata_url=CLIENT_URL)
    await use_with_python(f"{url}/mcp", "2026-07-28", auth, "read", "write")
    assert not server.requests("register")
    assert {one["client_id"] for one in server.requests("token")} == {CLIENT_URL}


async def test_the_python_sdk_refreshes_what_has_expired(url: str, server: AuthorizationServer) -> None:
    auth = provider(f"{url}/mcp")
    await use_with_python(f"{url}/mcp", "2026-07-28", auth, "read")
    auth.context.token_expiry_time = 1.0
    await use_with_python(f"{url}/mcp", "2026-07-28", auth, "read")
    assert [one["grant_type"] for one in server.requests("token")] == ["authorization_code", "refresh_token"]
    assert len(server.requests("authorize")) == 1


@pytest.fixture(scope="module")
def node() -> None:
    """What ``make node`` installs. Without npm these tests cannot run; in CI that is a failure."""
    if not (NODE / "node_modules").exists() or not shutil.which("node"):
        if os.environ.get("CI") or shutil.which("npm"):
            pytest.fail("tests/node is not installed: run 'make node'")
        pytest.skip("npm is not on this machine")


async def use_with_typescript(sdk: str, endpoint: str, mode: str, *options: str) -> dict[str, Any]:
    """List and call tools with an SDK for TypeScript, and return what it saw."""
    process = await asyncio.create_subprocess_exec(
        "node", "oauth.mjs", sdk, endpoint, mode, *options,
        cwd=NODE, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
    )  # fmt: skip
    output, errors = await asyncio.wait_for(process.communicate(), scaled(60))
    assert process.returncode == 0, errors.decode()
    return dict(json.loads(output))


@pytest.mark.usefixtures("node")
@pytest.mark.parametrize("path", ["/mcp", "/servers/notes/mcp"])
@pytest.mark.parametrize("mode", ["legacy", "sse", "2026-07-28"])
@pytest.mark.parametrize("sdk", ["1", "2"])
async def test_the_typescript_sdks(url: str, server: AuthorizationServer, sdk: str, mode: str, path: str) -> None:
    if sdk == "1" and mode == "2026-07-28":
        pytest.skip("this SDK is of the handshake era")
    endpoint = url + (path.replace("/mcp", "/sse") if mode == "sse" else path)
    saw = await use_with_typescript(sdk, endpoint, mode)
    assert sorted(saw["tools"]) == ["read", "write"]
    assert saw["called"]["read"] == "notes"
    assert len(server.requests("register")) == 1
    if mode == "sse":  # the answer comes on the stream: there is no status to step up with
        assert "notes:write" in saw["called"]["write"]
    else:
        assert saw["called"]["write"] == "notes"
        check_the_dance(server, endpoint)


@pytest.mark.usefixtures("node")
@pytest.mark.parametrize("mode", ["legacy", "2026-07-28", "sse"])
async def test_the_typescript_sdk_proves_that_it_has_the_tokens_key(url: str, mode: str) -> None:
    """RFC 9449: both front ends are asked in turn, each request with a proof of its own."""
    saw = await use_with_typescript("2", f"{url}/{'sse' if mode == 'sse' else 'mcp'}", mode, "dpop")
    assert saw["tokenType"] == "DPoP"
    assert sorted(saw["tools"]) == ["read", "write"]
    assert saw["called"]["read"] == "notes"
    if mode != "sse":
        assert saw["called"]["write"] == "notes"


@pytest.mark.usefixtures("node")
async def test_the_typescript_sdk_with_a_metadata_document(url: str, server: AuthorizationServer) -> None:
    server.documents[CLIENT_URL] = {**REGISTRATION, "client_id": CLIENT_URL}
    saw = await use_with_typescript("2", f"{url}/mcp", "2026-07-28", CLIENT_URL)
    assert saw["called"] == {"read": "notes", "write": "notes"}
    assert not server.requests("register")
