"""Callers by client certificates: who is let in, in both lanes and everywhere, and who is not."""

from __future__ import annotations

import asyncio
import contextlib
import datetime
import json
import ssl
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import aiohttp
import httpx2
import pytest
import pytest_asyncio
from cryptography import x509
from cryptography.x509.oid import ExtendedKeyUsageOID
from mcp import Client
from mcp.client.streamable_http import streamable_http_client

from tests.certificates import Authority, Pair
from tests.clients import RawClient
from tests.e2e.test_access import TOOLS
from tests.e2e.test_up import run
from tests.fleet import Fleet, eventually
from tests.machine import scaled
from tests.servers.raw import RawUpstreams

RULES = {
    "authentication": [{"type": "clientCertificate"}, {"type": "apiKey"}],
    "roles": {
        "reader": {"when": "'readers' in claims.units", "allow": ["search/find"]},
        "ops": {"when": "claims.uris.exists(u, u == 'spiffe://x/ops')", "allow": ["*"], "admin": "write"},
        "keys": {"allow": ["search/read_file"]},
    },
}


class Place:
    """A fleet with a certificate, and the authority of its clients."""

    def __init__(self, folder: Path) -> None:
        self.servers, self.clients = Authority(folder, "servers"), Authority(folder, "clients")
        self.server = self.servers.server("gateway")
        self.ca = folder / "client-ca.pem"
        self.ca.write_bytes(self.clients.file.read_bytes())
        self.reader = self.clients.client("ann", "readers")
        self.other = self.clients.client("bob", "readers")
        self.ops = self.clients.client("ops", sans=[x509.UniformResourceIdentifier("spiffe://x/ops")])

    @property
    def settings(self) -> dict[str, Any]:
        """For ``Fleet``."""
        return {
            "admin_token": "the-admin-token",
            "access_rules": json.dumps(RULES),
            "tls_cert_file": str(self.server.cert),
            "tls_key_file": str(self.server.key),
            "tls_client_ca": str(self.ca),
        }

    def context(self, pair: Pair | None, most: ssl.TLSVersion = ssl.TLSVersion.TLSv1_3) -> ssl.SSLContext:
        """A client's context that shows a certificate."""
        context = ssl.create_default_context(cafile=str(self.servers.file))
        context.maximum_version = most
        if pair is not None:
            context.load_cert_chain(pair.cert, pair.key)
        return context

    def client(self, fleet: Fleet, pair: Pair | None, number: int = 0) -> RawClient:
        """A client of a front end."""
        return RawClient(fleet.urls[number], self.context(pair))


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Place:
    return Place(tmp_path_factory.mktemp("mtls"))


@pytest_asyncio.fixture(scope="module")
async def fleet(redis_url: str, place: Place) -> AsyncIterator[Fleet]:
    async with RawUpstreams() as upstreams, Fleet(redis_url, 2, 1, **place.settings) as fleet:
        upstreams.add("search", TOOLS)
        await fleet.register("search", upstreams.connection("search"))
        yield fleet


async def tools(client: RawClient) -> list[str]:
    answer = await client.modern("tools/list")
    assert answer.status == 200, answer.text
    return [tool["name"] for tool in answer.body["result"]["tools"]]


async def test_the_certificate_is_the_caller_in_every_lane(fleet: Fleet, place: Place) -> None:
    for number in (0, 1):
        async with place.client(fleet, place.reader, number) as client:
            for _ in range(2):  # the second time the head is known
                assert await tools(client) == ["find"]
            client.url = f"{fleet.frontends[number].url}/servers/search/mcp"
            assert await tools(client) == ["find"]
            assert (await client.call("delete_all")).error["data"]["code"] == "tool_unknown"
        async with place.client(fleet, place.ops, number) as client:  # the same bytes of head
            assert len(await tools(client)) == 3
    async with (
        httpx2.AsyncClient(verify=place.context(place.reader), timeout=30.0, trust_env=False) as http,
        Client(streamable_http_client(fleet.urls[0], http_client=http)) as sdk,
    ):
        assert [tool.name for tool in (await sdk.list_tools()).tools] == ["find"]


async def test_without_one_every_way_in_is_refused_in_words_and_health_is_told(fleet: Fleet, place: Place) -> None:
    async with place.client(fleet, None) as client:
        answer = await client.modern("tools/list")
        assert answer.status == 401
        assert answer.error["message"] == (
            "authentication is needed: connect with a client certificate that is accepted here, "
            "or send 'Authorization: Bearer …' with an API key"
        )
        assert answer.headers["WWW-Authenticate"].startswith("Bearer")
        for path in ("/sse", "/mcp", "/servers/search/sse"):
            async with client.session.get(fleet.url + path, headers={"Accept": "text/event-stream"}) as response:
                assert response.status == 401, path
        async with client.session.get(f"{fleet.url}/admin/v1/servers") as response:
            assert response.status == 401
        async with client.session.get(f"{fleet.url}/readyz") as response:
            assert response.status == 200


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
async def test_a_certificate_that_does_not_verify_ends_the_handshake(
    fleet: Fleet, place: Place, version: ssl.TLSVersion, tmp_path: Path
) -> None:
    yesterday = datetime.datetime.now(datetime.UTC) - datetime.timedelta(days=1)
    foreign = Authority(tmp_path, "clients").client("ann", "readers")  # an authority of the same name
    for pair in (
        foreign,
        place.clients.client("ended", "readers", ends=yesterday),
        place.clients.client("server", "readers", usage=ExtendedKeyUsageOID.SERVER_AUTH),
    ):
        async with RawClient(fleet.urls[0], place.context(pair, version)) as client:
            with pytest.raises(aiohttp.ClientError):
                await client.modern("tools/list")


async def test_credentials_of_a_request_come_before_the_connections(fleet: Fleet, place: Place) -> None:
    async with place.client(fleet, place.ops) as ops:
        body = {"name": "ci", "roles": ["keys"]}
        async with ops.session.post(f"{fleet.url}/admin/v1/keys", json=body) as response:  # a role's admin rights
            assert response.status == 201
            key = (await response.json())["key"]
        bearer = {"Authorization": f"Bearer {key}"}
        answer = await ops.modern("tools/list", headers=bearer)
        assert [tool["name"] for tool in answer.body["result"]["tools"]] == ["read_file"]
        assert (await ops.modern("tools/list", headers={"Authorization": "Bearer gwk_wrong"})).status == 401
        assert len(await tools(ops)) == 3
    async with (
        place.client(fleet, place.reader) as reader,
        reader.session.get(f"{fleet.url}/admin/v1/servers") as response,
    ):
        assert response.status == 401, "no admin rights"


async def test_anothers_session_is_unknown(fleet: Fleet, place: Place) -> None:
    async with place.client(fleet, place.reader) as ann, place.client(fleet, place.other, 1) as bob:
        await ann.initialize()
        assert (await ann.legacy("tools/list", url=fleet.urls[1])).status == 200
        bob.sid = ann.sid
        answer = await bob.legacy("tools/list")
        assert answer.status == 404 and answer.error["data"]["code"] == "session_unknown"


async def test_commands_show_a_certificate(fleet: Fleet, place: Place) -> None:
    variables = {
        "GATEWAY_CA_FILE": str(place.servers.file),
        "GATEWAY_CLIENT_CERT_FILE": str(place.ops.cert),
        "GATEWAY_CLIENT_KEY_FILE": str(place.ops.key),
    }
    for words in (["status"], ["tools"]):
        code, text = await run(*words, "--url", fleet.url, **variables)
        assert code == 0, text
    code, text = await run("tools", "--url", fleet.url, GATEWAY_CA_FILE=str(place.servers.file))
    assert code == 1 and "client certificate" in text


async def test_a_revoked_certificate_is_out_also_on_open_connections(redis_url: str, tmp_path: Path) -> None:
    place = Place(tmp_path)
    async with (
        RawUpstreams() as upstreams,
        Fleet(redis_url, 1, 1, **place.settings) as fleet,
        place.client(fleet, place.reader) as ann,
        place.client(fleet, place.other) as bob,
    ):
        upstreams.add("search", TOOLS)
        await fleet.register("search", upstreams.connection("search"))
        await ann.initialize()
        stream = await ann.session.get(fleet.urls[0], headers={**ann.legacy_headers(), "Accept": "text/event-stream"})
        assert stream.status == 200
        assert await tools(ann) == await tools(bob) == ["find"]
        place.ca.write_bytes(place.clients.file.read_bytes() + place.clients.revoked(place.reader))
        await eventually(lambda: _is_out(ann), 20.0, "ann is out")
        with contextlib.suppress(aiohttp.ClientError):
            async with asyncio.timeout(scaled(20)):
                await stream.content.read()  # to its end
        assert await tools(bob) == ["find"], "whoever is still trusted connects again"
        place.ca.write_bytes(b"no authority")  # cannot be used: what was read before stays
        await asyncio.sleep(3.5)
        assert await tools(bob) == ["find"]
        assert await _is_out(ann)


async def _is_out(client: RawClient) -> bool:
    try:
        answer = await client.modern("tools/list")
    except aiohttp.ClientError:
        return True
    return answer.status == 401 and "connect again" in answer.text


async def test_authorities_that_cannot_be_used_stop_the_start(tmp_path: Path) -> None:
    place = Place(tmp_path)
    variables = {"GATEWAY_TLS_CERT_FILE": str(place.server.cert), "GATEWAY_TLS_KEY_FILE": str(place.server.key)}
    for ca, expected in (
        ("/nowhere.pem", "tls.clientCa: cannot read /nowhere.pem"),
        (str(place.server.key), "has no certificates of authorities"),
        (str(place.reader.cert), "has no certificate of an authority"),
    ):
        code, text = await run("up", "--port", "0", "--ephemeral", GATEWAY_TLS_CLIENT_CA=ca, **variables)
        assert code == 2 and expected in text, text
    code, text = await run("up", "--port", "0", "--ephemeral", GATEWAY_TLS_CLIENT_CA=str(place.ca))
    assert code == 2 and "tls.clientCa: needs tls.certFile" in text, text
