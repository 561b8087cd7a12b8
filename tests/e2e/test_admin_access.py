"""Who may use the admin API: holders of its token, whatever stands between, and no web page that is not configured."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Any

import aiohttp
import pytest
import pytest_asyncio

from tests.fleet import Fleet
from tests.machine import scaled
from tests.servers.raw import RawUpstreams

TOKEN = "a-token-of-some-length"
HTTP = {"Content-Type": "application/json"}


@pytest_asyncio.fixture(scope="module")
async def upstreams() -> AsyncIterator[RawUpstreams]:
    async with RawUpstreams() as upstreams:
        upstreams.add("a")
        yield upstreams


@pytest_asyncio.fixture(scope="module")
async def open_fleet(redis_url: str, upstreams: RawUpstreams) -> AsyncIterator[Fleet]:
    async with Fleet(redis_url, allowed_origins=("*",), admin_origins=("http://admin.example",)) as fleet:
        await fleet.register("a", upstreams.connection("a"))
        yield fleet


@pytest_asyncio.fixture(scope="module")
async def closed_fleet(redis_url: str) -> AsyncIterator[Fleet]:
    async with Fleet(redis_url, admin_token=TOKEN) as fleet:
        yield fleet


async def _send(
    url: str, method: str = "GET", headers: dict[str, str] | None = None, body: Any = None
) -> tuple[int, str]:
    data = None if body is None else body if isinstance(body, str) else json.dumps(body)
    async with (
        aiohttp.ClientSession(skip_auto_headers=["Content-Type"]) as session,
        session.request(method, url, headers=headers, data=data) as response,
    ):
        return response.status, await response.text()


async def test_where_there_is_a_token_every_request_needs_it_also_from_this_machine(closed_fleet: Fleet) -> None:
    for path in ("/admin/v1/servers", "/admin/v1/health", "/admin/v1/openapi.json", "/metrics"):
        for headers in ({}, {"Authorization": "Bearer wrong"}, {"Authorization": f"Basic {TOKEN}"}):
            assert (await _send(closed_fleet.url + path, headers=headers))[0] == 401, path
        assert (await _send(closed_fleet.url + path, headers={"Authorization": f"Bearer {TOKEN}"}))[0] == 200, path
    for method, path, body in (
        ("POST", "servers", {"id": "x", "connection": {"url": "http://127.0.0.1:1/"}}),
        ("PATCH", "servers/x", {"weight": 2}),
        ("DELETE", "servers/x", None),
        ("DELETE", "sessions/x", None),
        ("POST", "restart", None),
    ):
        assert (await _send(f"{closed_fleet.url}/admin/v1/{path}", method, HTTP, body))[0] == 401
    assert (await _send(f"{closed_fleet.url}/healthz"))[0] == 200


async def test_wrong_tokens_are_answered_slowly_and_the_right_one_at_once(closed_fleet: Fleet) -> None:
    url, loop = f"{closed_fleet.url}/admin/v1/servers", asyncio.get_running_loop()
    wrong = [asyncio.ensure_future(_send(url, headers={"Authorization": f"Bearer {n}"})) for n in range(20)]
    began = loop.time()
    assert (await _send(url, headers={"Authorization": f"Bearer {TOKEN}"}))[0] == 200
    right_s = loop.time() - began
    assert {status for status, _ in await asyncio.gather(*wrong)} == {401}
    assert loop.time() - began >= 0.5 and right_s < scaled(0.5)


@pytest.mark.parametrize("kind", ["text/plain", "application/x-www-form-urlencoded", "multipart/form-data", None])
async def test_a_body_that_a_page_can_send_without_asking_is_refused(open_fleet: Fleet, kind: str | None) -> None:
    headers = {"Content-Type": kind} if kind else {}
    call = {"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": {"name": "who", "arguments": {}}}
    for path in ("/mcp", "/servers/a/mcp"):
        status, said = await _send(open_fleet.url + path, "POST", headers, call)
        assert status == 415 and "Content-Type: application/json" in said
        assert "result" in (await _send(open_fleet.url + path, "POST", HTTP, call))[1]
    registration = {"id": "evil", "connection": {"url": "http://127.0.0.1:1/"}}
    status, said = await _send(f"{open_fleet.url}/admin/v1/servers", "POST", headers, registration)
    assert status == 415 and "Content-Type: application/json" in said


@pytest.mark.parametrize(
    ("headers", "accepted"),
    [
        ({"Origin": "http://admin.example"}, True),
        ({"Origin": "OWN"}, True),
        ({"Origin": "OWN", "Sec-Fetch-Site": "same-origin"}, True),
        ({"Sec-Fetch-Site": "none"}, True),
        ({"Origin": "http://evil.example"}, False),
        ({"Origin": "http://localhost:6274"}, False),
        ({"Origin": "null"}, False),
        ({"Sec-Fetch-Site": "cross-site"}, False),
        ({"Sec-Fetch-Site": "same-site"}, False),
    ],
)
async def test_pages_use_the_admin_api_only_if_they_are_configured(
    open_fleet: Fleet, headers: dict[str, str], accepted: bool
) -> None:
    sent = {name: value.replace("OWN", open_fleet.url) for name, value in headers.items()}
    async with (
        aiohttp.ClientSession() as session,
        session.get(f"{open_fleet.url}/admin/v1/servers", headers=sent) as response,
    ):
        assert (response.status == 200) is accepted
        readable = response.headers.get("Access-Control-Allow-Origin")
        assert readable == (sent.get("Origin") if sent.get("Origin") == "http://admin.example" else None)
