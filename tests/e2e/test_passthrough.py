"""Headers of clients that go up: those that an entry names, to that upstream alone."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import pytest
import pytest_asyncio

from shared.errors import ConfigError
from shared.models import make_spec
from tests.clients import RawClient
from tests.fleet import Fleet
from tests.servers.raw import RawUpstreams

SENT = {"X-Tenant": "acme", "X-Other": "o", "Authorization": "Bearer client-secret", "Cookie": "c=1"}


@pytest_asyncio.fixture(scope="module")
async def upstreams() -> AsyncIterator[RawUpstreams]:
    async with RawUpstreams() as upstreams:
        for name, era in (("modern", "modern"), ("legacy", "legacy"), ("plain", "modern"), ("trusted", "modern")):
            upstreams.add(name, era=era)
        yield upstreams


@pytest_asyncio.fixture(scope="module")
async def fleet(redis_url: str, upstreams: RawUpstreams) -> AsyncIterator[Fleet]:
    async with Fleet(redis_url) as fleet:
        for name in ("modern", "legacy"):
            await fleet.register(name, {**upstreams.connection(name), "passthrough": ["X-Tenant", "x-missing"]})
        await fleet.register("plain", upstreams.connection("plain"))
        more = {"passthrough": ["Authorization"], "dangerouslyForwardAuthorization": True}
        await fleet.register("trusted", {**upstreams.connection("trusted"), **more})
        yield fleet


async def headers_at(fleet: Fleet, upstreams: RawUpstreams, name: str) -> dict[str, str]:
    """Return what an upstream gets with a call."""
    endpoint = upstreams.endpoints[name]
    endpoint.calls.clear()
    endpoint.headers.clear()
    async with RawClient(fleet.urls[0]) as client:
        params = {"name": f"{name}__who", "arguments": {}}
        assert "result" in (await client.modern("tools/call", params, headers=SENT)).body
    (found,) = (sent for call, sent in zip(endpoint.calls, endpoint.headers, strict=True) if "call" in call["method"])
    return {key.lower(): value for key, value in found.items()}


@pytest.mark.parametrize("name", ["modern", "legacy"])
async def test_named_headers_go_up_and_no_others(fleet: Fleet, upstreams: RawUpstreams, name: str) -> None:
    found = await headers_at(fleet, upstreams, name)
    assert found["x-tenant"] == "acme"
    assert not {"x-other", "authorization", "cookie", "x-missing"} & set(found)


async def test_nothing_goes_up_unless_it_is_named(fleet: Fleet, upstreams: RawUpstreams) -> None:
    found = await headers_at(fleet, upstreams, "plain")
    assert not {"x-tenant", "x-other", "authorization", "cookie"} & set(found)


async def test_authorization_goes_up_only_where_that_is_said_in_as_many_words(
    fleet: Fleet, upstreams: RawUpstreams
) -> None:
    assert (await headers_at(fleet, upstreams, "trusted"))["authorization"] == "Bearer client-secret"
    record = await fleet.record("trusted")
    assert record is not None and any("authenticate" in note for note in record.entry().notes)


@pytest.mark.parametrize(
    ("entry", "why"),
    [
        ({"passthrough": ["Authorization"]}, "dangerouslyForwardAuthorization"),
        ({"passthrough": ["Authorization"], "dangerouslyForwardAuthorization": "yes"}, "dangerously"),
        ({"passthrough": ["X-Api-Key"]}, "keys for the gateway"),
        ({"passthrough": ["Host"]}, "cannot be set"),
        ({"passthrough": ["Mcp-Session-Id"]}, "the client's connection"),
        ({"passthrough": ["Proxy-Authorization"]}, "the client's connection"),
        ({"passthrough": ["X-A"], "headers": {"x-a": "1"}}, "keep one"),
        ({"passthrough": "X-A"}, "must be a list"),
        ({"passthrough": ["X A"]}, "not a valid HTTP header"),
    ],
)
def test_what_may_not_be_passed_is_refused(entry: dict[str, Any], why: str) -> None:
    with pytest.raises(ConfigError) as raised:
        make_spec("x", {"url": "https://h/", **entry})
    assert why in str(raised.value)
