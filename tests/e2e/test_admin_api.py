"""The admin API over HTTP: who may, and what it changes."""

from __future__ import annotations

import asyncio
import http.client
import json
from collections.abc import AsyncIterator
from typing import Any
from urllib.parse import urlsplit

import aiohttp
import pytest
import pytest_asyncio

from shared.models import ServerStatus
from tests.clients import RawClient
from tests.fleet import Fleet, eventually, stdio_connection
from tests.machine import scaled
from tests.servers.scripted import Exchange, Scripted, said

TOKEN = {"Authorization": "Bearer the admin's"}


class Admin:
    """``/admin/v1`` of one front end."""

    def __init__(self, url: str, session: aiohttp.ClientSession, headers: dict[str, str] | None = None) -> None:
        self._url = url
        self._session = session
        self._headers = headers or {}

    async def __call__(
        self, method: str, path: str, body: Any = None, headers: dict[str, str] | None = None
    ) -> tuple[int, Any]:
        """Status and JSON."""
        sent = self._headers if headers is None else headers
        url = f"{self._url}{path}" if path.startswith("/") else f"{self._url}/admin/v1/{path}"
        async with self._session.request(method, url, json=body, headers=sent) as response:
            return response.status, await response.json() if response.content_length else None


@pytest_asyncio.fixture
async def session() -> AsyncIterator[aiohttp.ClientSession]:
    async with aiohttp.ClientSession() as session:
        yield session


@pytest_asyncio.fixture(scope="module")
async def fleet(redis_url: str) -> AsyncIterator[Fleet]:
    async with Fleet(redis_url, frontends=2) as fleet:
        yield fleet


@pytest.fixture
def admin(fleet: Fleet, session: aiohttp.ClientSession) -> Admin:
    return Admin(fleet.url, session)


async def test_with_a_token_on_loopback_who_is_forwarded_needs_it(
    redis_url: str, session: aiohttp.ClientSession
) -> None:
    async with Fleet(redis_url, admin_token="the admin's") as fleet:
        admin = Admin(fleet.url, session)
        forwarded = {"X-Forwarded-For": "127.0.0.1"}
        for headers, status in (
            (forwarded, 401),
            ({**forwarded, "Authorization": "Bearer wrong"}, 401),
            ({**forwarded, "Authorization": "Bearer "}, 401),
            ({**forwarded, **TOKEN}, 200),
        ):
            answered, body = await admin("GET", "servers", headers=headers)
            assert answered == status
            assert status == 200 or (body["code"] == "forbidden" and "the admin's" not in str(body))
        assert await asyncio.to_thread(_status, fleet.url, b"Bearer \xff") == 401
        for path in ("/metrics", "servers/x", "sessions", "openapi.json"):
            assert (await admin("GET", path, headers=forwarded))[0] == 401, path
        for path in ("/healthz", "/readyz"):  # probes of an orchestrator have no token
            assert (await admin("GET", path, headers=forwarded))[0] == 200, path


def _status(url: str, authorization: bytes) -> int:
    """With a header that aiohttp would not send."""
    connection = http.client.HTTPConnection(urlsplit(url).netloc, timeout=10)
    try:
        connection.putrequest("GET", "/admin/v1/servers")
        connection.putheader("X-Forwarded-For", "127.0.0.1")
        connection.putheader("Authorization", authorization)
        connection.endheaders()
        return connection.getresponse().status
    finally:
        connection.close()


@pytest.mark.parametrize(("allowed", "sends", "status"), [(True, True, 201), (True, False, 401), (False, True, 403)])
async def test_a_command_is_registered_only_by_who_may_run_one(
    redis_url: str, session: aiohttp.ClientSession, allowed: bool, sends: bool, status: int
) -> None:
    async with Fleet(redis_url, admin_token="the admin's", allow_stdio_registration=allowed) as fleet:
        admin = Admin(fleet.url, session, TOKEN if sends else None)
        body = {"id": "local", "connection": stdio_connection("local")}
        answered, said_why = await admin("POST", "servers", body)
        assert answered == status, said_why
        if status == 201:
            await fleet.connected("local")
        else:
            assert ("allowStdioRegistration" if sends else "GATEWAY_ADMIN_TOKEN") in said_why["error"]
            assert await fleet.store.load_all() == {}


async def test_an_entry_that_is_changed_keeps_what_was_not_shown(fleet: Fleet, admin: Admin) -> None:
    seen: list[dict[str, str]] = []

    async def note(exchange: Exchange) -> dict[str, Any]:
        seen.append({name.lower(): value for name, value in exchange.request.headers.items()})
        return said("noted")

    async with Scripted("secret", "modern") as upstream, RawClient(fleet.urls[1]) as client:
        upstream.on["tools/call"] = note
        url = upstream.connection["url"].replace("//", "//me:hush@")
        connection = {"type": "http", "url": url, "headers": {"X-Key": "top secret", "X-Plain": "1"}}
        status, shown = await admin("POST", "servers", {"id": "secret", "connection": connection, "weight": 2})
        assert status == 201 and "top secret" not in str(shown) and "hush" not in str(shown)
        await fleet.connected("secret")

        status, shown = await admin("PATCH", "servers/secret", {"weight": 5})
        assert (status, shown["weight"]) == (200, 5)
        changed = {**shown["connection"], "headers": {**shown["connection"]["headers"], "X-Plain": "2"}}
        assert (await admin("PATCH", "servers/secret", {"connection": changed}))[0] == 200

        async def noted() -> bool:
            await client.call("secret")
            return bool(seen) and seen[-1].get("x-plain") == "2"

        await eventually(noted, 10.0, "the changed header arrives")
        assert seen[-1]["x-key"] == "top secret", "a mask is not a value"
        assert seen[-1]["authorization"].startswith("Basic ")

        for wrong in (
            {**changed, "headers": {"X-New": "***"}},
            {**changed, "url": changed["url"].replace("***@", "you:***@")},
            {**changed, "url": "http://127.0.0.1:1/mcp"},  # a secret stays with its server
        ):
            status, why = await admin("PATCH", "servers/secret", {"connection": wrong})
            assert status == 400 and "stands for a secret" in why["error"]
        status, why = await admin("POST", "servers", {"id": "copy", "connection": changed})
        assert status == 400 and "stands for a secret" in why["error"]
        assert (await admin("PATCH", "servers/nobody", {"weight": 1}))[0] == 404
        assert (await admin("DELETE", "servers/secret"))[0] == 204


async def test_a_session_that_is_ended_is_over_at_every_front_end(fleet: Fleet, admin: Admin) -> None:
    async with RawClient(fleet.urls[1]) as mine, RawClient(fleet.urls[1]) as other:
        await mine.initialize()
        _, before = await admin("GET", "sessions")
        await other.initialize()
        _, sessions = await admin("GET", "sessions")
        (listed,) = (one for one in sessions if one not in before)
        assert listed["version"] == "2025-11-25" and other.sid not in str(listed), "who is shown it is not the client"
        assert (await admin("DELETE", f"sessions/{listed['id']}"))[0] == 204
        for url in fleet.urls:
            assert (await other.legacy("ping", url=url)).status == 404
            assert (await mine.legacy("ping", url=url)).status == 200
        assert (await admin("DELETE", f"sessions/{listed['id']}"))[0] == 404


async def test_without_workers_upstreams_are_stopped_and_the_front_end_is_not_ready(
    redis_url: str, session: aiohttp.ClientSession
) -> None:
    async with Fleet(redis_url) as fleet, Scripted("s", "modern") as upstream, RawClient(fleet.urls[0]) as client:
        admin = Admin(fleet.url, session)
        await fleet.register("s", upstream.connection)
        assert (await admin("GET", "/readyz"))[0] == 200
        await fleet.workers[0].stop(scaled(20.0))

        async def stopped() -> bool:
            _, shown = await admin("GET", "servers/s")
            return (shown["status"], shown["error"]) == (ServerStatus.STOPPED, "no worker is running")

        await eventually(stopped, 10.0, "the last worker says that nobody serves it")
        status, body = await admin("GET", "/readyz")
        assert (status, body["ready"], body["redis"]) == (503, False, True)
        assert (await admin("GET", "/healthz"))[0] == 200
        answer = await client.call("s")
        assert "no worker is running" in answer.error["message"]
        await fleet.add_worker()
        await fleet.connected("s")
        await eventually(lambda: _ready(admin), 10.0, "ready again")
        assert (await client.call("s")).content == "s"


async def _ready(admin: Admin) -> bool:
    return (await admin("GET", "/readyz"))[0] == 200


async def test_the_api_says_what_transports_are(admin: Admin) -> None:
    """The dashboard offers those that need only a URL, and shows error output of those that are processes."""
    status, rows = await admin("GET", "transports")
    assert status == 200 and {row["name"]: (row["key"], row["runsProcess"]) for row in rows} == {
        "stdio": ("command", True),
        "http": ("url", False),
        "sse": ("url", False),
        "openapi": ("spec", False),
    }
    assert all(row["title"] for row in rows)


async def test_lists_are_searched_and_paged(fleet: Fleet, admin: Admin, session: aiohttp.ClientSession) -> None:
    async with Scripted("paged", "modern", "alpha", "beta", "gamma") as upstream:
        await fleet.register("paged", upstream.connection)
        for query, names in (
            ("server=paged", ["alpha", "beta", "gamma"]),
            ("server=paged&limit=2", ["alpha", "beta"]),
            ("server=paged&limit=2&offset=2", ["gamma"]),
            ("server=paged&search=ET", ["beta"]),
            ("server=paged&limit=0", []),
        ):
            async with session.get(f"{fleet.url}/admin/v1/tools?{query}") as response:
                assert [one["upstreamName"] for one in await response.json()] == names
                total = 1 if "search" in query else 3
                assert response.headers["X-Total-Count"] == str(total)
        _, tools = await admin("GET", "tools?server=paged&schemas=false")
        assert all(one["inputSchema"] == {} for one in tools)
        status, found = await admin("GET", "servers?search=PAGE&status=connected&limit=5")
        assert (status, [one["id"] for one in found]) == (200, ["paged"])
        assert (await admin("GET", "servers?status=error&search=paged"))[1] == []
        assert (await admin("GET", "tools?limit=many"))[0] == 400
        assert (await admin("DELETE", "servers/paged"))[0] == 204


async def test_the_overview_and_traffic_say_what_the_whole_fleet_does(fleet: Fleet, admin: Admin) -> None:
    async with Scripted("busy", "modern") as upstream:
        await fleet.register("busy", upstream.connection)
        for url, calls in zip(fleet.urls, (3, 4), strict=False):
            async with RawClient(url) as client:
                for _ in range(calls):
                    assert (await client.call("busy")).content == "busy"

        async def counted() -> bool:
            _, traffic = await admin("GET", "traffic")
            (tool,) = (
                (one for one in traffic["tools"] if one["tool"] == "busy") if traffic["tools"] else ({"calls": 0},)
            )
            return bool(tool["calls"] == 7 and tool["errors"] == 0 and tool["seconds"] >= 0)

        await eventually(counted, 10.0, "the calls of all front ends")
        _, traffic = await admin("GET", "traffic")
        (group,) = (one for one in traffic["groups"] if one["group"] == "busy")
        assert group["calls"] == sum(group["buckets"]) == 7
        status, overview = await admin("GET", "overview")
        assert status == 200 and overview["redis"] and overview["upstreams"]["connected"] >= 1
        assert len(overview["frontends"]) == 2 and overview["tools"] >= 1
        assert (await admin("DELETE", "servers/busy"))[0] == 204


async def test_events_are_told_to_who_follows_and_kept_for_who_asks(
    fleet: Fleet, admin: Admin, session: aiohttp.ClientSession
) -> None:
    async with (
        Scripted("eventful", "modern") as upstream,
        session.get(f"{fleet.url}/admin/v1/events", headers={"Accept": "text/event-stream"}) as stream,
    ):
        assert stream.content_type == "text/event-stream"
        await fleet.register("eventful", upstream.connection)
        assert (await admin("DELETE", "servers/eventful"))[0] == 204
        told: list[dict[str, Any]] = []
        async with asyncio.timeout(scaled(10.0)):
            async for line in stream.content:
                if line.startswith(b"data:"):
                    event = json.loads(line[5:])
                    told += [event] if event["id"] == "eventful" else []
                    if event["kind"] == "upstream-removed" and event["id"] == "eventful":
                        break
        kinds = [one["kind"] for one in told]
        assert kinds[0] == "upstream-added" and kinds[-1] == "upstream-removed"
        assert any(one["kind"] == "upstream-status" and one["text"] == "connected" for one in told)
        _, kept = await admin("GET", "events")
        assert [one for one in kept if one["id"] == "eventful"] == told
        _, later = await admin("GET", f"events?after={told[0]['sequence']}")
        assert [one for one in later if one["id"] == "eventful"] == told[1:]
        assert len((await admin("GET", "events?after=999999999"))[1]) == len(kept), "a number of another front end"


async def test_processes_that_come_and_go_are_events(redis_url: str, session: aiohttp.ClientSession) -> None:
    async with Fleet(redis_url) as fleet:
        admin = Admin(fleet.url, session)

        async def kinds() -> set[str]:
            return {one["kind"] for one in (await admin("GET", "events"))[1]}

        worker = await fleet.add_worker()

        async def joined() -> bool:
            return "worker-joined" in await kinds()

        await eventually(joined, 10.0, "a worker joined")
        await worker.stop(scaled(10.0))

        async def left() -> bool:
            return "worker-left" in await kinds()

        await eventually(left, 10.0, "a worker left")


async def test_upstreams_are_listed_by_pages(fleet: Fleet, admin: Admin, session: aiohttp.ClientSession) -> None:
    ids = [f"page{number}" for number in range(5)]
    for id in ids:
        body = {"id": id, "connection": {"url": "http://127.0.0.1:1/mcp"}}
        assert (await admin("POST", "servers", body))[0] == 201
    _, everything = await admin("GET", "servers")
    shown = [one["id"] for one in everything]
    assert shown[-5:] == ids
    pages: list[str] = []
    url = f"{fleet.url}/admin/v1/servers?limit=2"
    for _ in range(len(shown)):
        async with session.get(url) as response:
            page = [one["id"] for one in await response.json()]
            assert 1 <= len(page) <= 2
            pages += page
            if "next" not in response.links:
                break
            url = str(response.links["next"]["url"])
    assert pages == shown
    status, error = await admin("GET", "servers?limit=two")
    assert (status, error["code"]) == (400, "config")
    assert (await admin("GET", "servers?after=nobody"))[0] == 404
    for id in ids:
        await admin("DELETE", f"servers/{id}")
