"""The kinds of requests by which web pages, proxies and guessers get at what is not theirs, one by one."""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from tests.fleet import Fleet
from tests.machine import scaled
from tests.servers.raw import RawUpstreams

TOKEN = "a-token-of-some-length"
JSON = "Content-Type: application/json"
PING = '{"jsonrpc":"2.0","id":1,"method":"ping"}'


@pytest_asyncio.fixture(scope="module")
async def upstreams() -> AsyncIterator[RawUpstreams]:
    async with RawUpstreams() as upstreams:
        upstreams.add("a")
        yield upstreams


@pytest_asyncio.fixture(scope="module")
async def fleet(redis_url: str, upstreams: RawUpstreams) -> AsyncIterator[Fleet]:
    async with Fleet(redis_url) as fleet:
        await fleet.register("a", upstreams.connection("a"))
        yield fleet


@pytest_asyncio.fixture(scope="module")
async def closed(redis_url: str) -> AsyncIterator[Fleet]:
    async with Fleet(redis_url, admin_token=TOKEN) as fleet:
        yield fleet


def _port(fleet: Fleet) -> int:
    return int(fleet.url.rpartition(":")[2])


async def _send(fleet: Fleet, line: str, *headers: str, body: str = "", host: str = "localhost") -> str:
    """Send one request with exactly these headers; the answer."""
    reader, writer = await asyncio.open_connection("127.0.0.1", _port(fleet))
    lines = [f"{line} HTTP/1.1", f"Host: {host}", f"Content-Length: {len(body)}", "Connection: close", *headers]
    writer.write(("\r\n".join(lines) + "\r\n\r\n" + body).encode())
    try:
        async with asyncio.timeout(scaled(20.0)):
            return (await reader.read()).decode("utf-8", "replace")
    finally:
        writer.close()


async def _status(fleet: Fleet, line: str, *headers: str, body: str = "", host: str = "localhost") -> int:
    return int((await _send(fleet, line, *headers, body=body, host=host)).split(" ", 2)[1])


@pytest.mark.parametrize(
    "header",
    [
        "Via: 1.1 front", "Forwarded: for=10.0.0.1", "X-Forwarded-For: 10.0.0.1", "X-Forwarded-Host: h",
        "X-Forwarded-Proto: https", "X-Real-IP: 10.0.0.1", "CF-Connecting-IP: 10.0.0.1", "True-Client-IP: 10.0.0.1",
        "X-Cluster-Client-IP: 10.0.0.1", "X-Envoy-External-Address: 10.0.0.1", "X-Original-Forwarded-For: 10.0.0.1",
        "CDN-Loop: a", "CF-Ray: 1", "Fly-Region: a", "Fastly-SSL: 1", "X-Amzn-Trace-Id: a", "X-Scheme: https",
        "X-Varnish: 1", "Front-End-Https: on", "X-ARR-SSL: a", "SSL-Client-Verify: NONE", "Tailscale-User-Login: a",
    ],
)  # fmt: skip
async def test_without_a_token_nobody_who_comes_through_a_proxy_is_an_admin(fleet: Fleet, header: str) -> None:
    assert await _status(fleet, "GET /admin/v1/servers") == 200
    assert await _status(fleet, "GET /admin/v1/servers", header) == 401


@pytest.mark.parametrize(
    "sent", [TOKEN, f"Basic {TOKEN}", f"Bearer  {TOKEN}", f"Bearer {TOKEN},x", "Bearer", "Bearer "]
)
async def test_the_token_counts_as_a_bearer_token_only(closed: Fleet, sent: str) -> None:
    assert await _status(closed, "GET /admin/v1/servers", f"Authorization: {sent}") == 401
    assert await _status(closed, "GET /admin/v1/servers", f"Authorization: bearer {TOKEN}") == 200


@pytest.mark.parametrize("path", ["/", "/ui/", "/ui/main.js", "/mcp", "/sse", "/metrics", "/admin/v1/servers"])
async def test_a_name_that_is_not_the_gateways_is_refused_everywhere(fleet: Fleet, path: str) -> None:
    assert await _status(fleet, f"GET {path}", host="rebound.example") == 403
    for host in ("127.0.0.1.rebound.example", "localhost@rebound.example", "2130706433", "localhost."):
        assert await _status(fleet, f"GET {path}", host=host) in (400, 403)


@pytest.mark.parametrize(
    "path",
    ["/%61dmin/v1/servers", "/admin%2Fv1/servers", "//admin/v1/servers", "/ADMIN/v1/servers", "/./admin/v1/servers",
     "/mcp/../admin/v1/servers", "/%6detrics"],
)  # fmt: skip
async def test_the_admin_api_is_at_its_path_as_proxies_know_it(fleet: Fleet, path: str) -> None:
    assert await _status(fleet, f"GET {path}") == 404
    assert await _status(fleet, f"GET http://localhost{path}") in (400, 404)


@pytest.mark.parametrize("path", ["/ui/", "/admin/v1/servers", "/nothing", "/healthz", "/mcp"])
async def test_answers_do_not_say_what_serves_them(fleet: Fleet, path: str) -> None:
    said = await _send(fleet, f"GET {path}")
    assert "aiohttp" not in said.lower() and "python/" not in said.lower()


@pytest.mark.parametrize(
    "target", ["http://[::1/mcp", "http://localhost:99999999/mcp", "localhost:80", "http:///mcp", "*"]
)
async def test_a_target_that_is_no_url_is_refused(fleet: Fleet, target: str) -> None:
    assert await _status(fleet, f"POST {target}", JSON, body=PING) in (400, 404, 405)


@pytest.mark.parametrize("target", ["http://rebound.example/mcp", "https://rebound.example:1/mcp"])
async def test_a_target_that_names_another_host_is_refused(fleet: Fleet, target: str) -> None:
    assert await _status(fleet, f"POST {target}", JSON, body=PING) == 400
    assert await _status(fleet, f"GET {target.replace('/mcp', '/admin/v1/servers')}") == 400
    assert await _status(fleet, "POST http://localhost/mcp", JSON, body=PING) == 200


async def test_two_content_types_are_none(fleet: Fleet) -> None:
    for pair in ((JSON, "Content-Type: text/plain"), ("Content-Type: text/plain", JSON)):
        for path in ("/mcp", "/servers/a/mcp", "/admin/v1/servers"):
            assert await _status(fleet, f"POST {path}", *pair, body=PING) in (400, 415)
    assert await _status(fleet, "POST /admin/v1/restart") == 415


async def test_of_several_sites_that_a_browser_names_the_foreign_one_counts(fleet: Fleet) -> None:
    sites = ("Sec-Fetch-Site: none", "Sec-Fetch-Site: cross-site")
    assert await _status(fleet, "POST /mcp", JSON, *sites, body=PING) == 403
    assert await _status(fleet, "GET /admin/v1/servers", *sites) == 403


async def test_messages_of_http_sse_are_json_too_and_have_each_member_once(fleet: Fleet) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", _port(fleet))
    try:
        writer.write(b"GET /servers/a/sse HTTP/1.1\r\nHost: localhost\r\n\r\n")
        async with asyncio.timeout(scaled(20.0)):
            place = b""
            while not (found := re.search(rb"data: (\S+)\r?\n", place)):
                place += await reader.read(65536)
        path = found[1].decode()
        for kind in ("text/plain", "application/x-www-form-urlencoded"):
            assert await _status(fleet, f"POST {path}", f"Content-Type: {kind}", body=PING) == 415
        for body in (
            '{"jsonrpc":"2.0","method":"notifications/x","params":{"a":1,"a":2}}',
            '{"jsonrpc":"2.0","id":"q","result":{"action":"accept","action":"decline"}}',
            '{"jsonrpc":"2.0","method":"notifications/cancelled","params":{"requestId":1,"RequestId":2}}',
        ):
            for one in (body, f"[{body}]"):
                said = await _send(fleet, f"POST {path}", JSON, body=one)
                assert said.startswith("HTTP/1.1 400") and '"code":-32600' in said, said
        assert await _status(fleet, f"POST {path}", JSON, body=PING) == 202
    finally:
        writer.close()


async def test_notifications_and_responses_in_batches_have_each_member_once(fleet: Fleet) -> None:
    for params in ('{"a":1,"a":2}', '{"a":1,"A":2}'):
        notification = f'{{"jsonrpc":"2.0","method":"notifications/x","params":{params}}}'
        said = await _send(
            fleet, "POST /mcp", JSON, "MCP-Protocol-Version: 2025-03-26", body=f"[{PING},{notification}]"
        )
        assert json.loads(said.rpartition("\r\n\r\n")[2])["error"]["code"] == -32600


async def test_a_body_of_the_admin_api_that_is_not_text_is_the_senders_fault(fleet: Fleet) -> None:
    for body in (b'{"\xff":1}', b'{"id":"\xff"}', b"[" * 100_000):
        reader, writer = await asyncio.open_connection("127.0.0.1", _port(fleet))
        lines = ["POST /admin/v1/servers HTTP/1.1", "Host: localhost", "Connection: close", JSON]
        head = "\r\n".join([*lines, f"Content-Length: {len(body)}", "", ""])
        writer.write(head.encode() + body)
        async with asyncio.timeout(scaled(20.0)):
            assert (await reader.read()).startswith(b"HTTP/1.1 400"), body[:20]
        writer.close()
