"""A link to connect by can be used again and again, and under any ``Host``: what that makes the gateway do is
bounded."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace
from typing import Any

import pytest
from msgspec import Struct

from gateway.connect import clients, dance
from gateway.connect.dance import Dance
from shared.connections import HttpConnection
from shared.oauth.consent import new_ticket
from shared.oauth.metadata import Resource, Server
from shared.settings import build
from shared.upstream_auth import UserAuth

SERVER = Server("https://as.test", "https://as.test/token", registration_url="https://as.test/register")


class Store:
    """Implements what ``connect`` uses of ``CredentialStore``."""

    def __init__(self) -> None:
        self.records: dict[str, Struct] = {}

    async def read(self, upstream: str, place: str, kind: type) -> Any:
        return self.records.get(place)

    async def write(self, upstream: str, place: str, record: Struct) -> None:
        self.records[place] = record

    async def remove(self, upstream: str, place: str) -> None:
        del self.records[place]

    async def places(self, upstream: str) -> list[str]:
        return sorted(self.records)


class Http:
    """An authorization server that registers everybody."""

    registered = 0

    async def post_json(self, url: str, document: dict[str, Any]) -> tuple[int, Any]:
        self.registered += 1
        return 201, {"client_id": f"c{self.registered}"}


async def test_few_registrations_of_one_upstream_are_kept() -> None:
    store: Any = Store()
    http: Any = Http()
    store.records["user.ann"] = consent = Resource("", ())
    auth = UserAuth()
    for number in range(60):
        base = f"http://10.0.0.{number}:4000"
        made = await clients.client_for("up", auth, SERVER, http, store, base, "gateway")
        assert await clients.client_for("up", auth, SERVER, http, store, base, "gateway") == made
        assert len(store.records) == min(number + 1, 20) + 1, "none is removed before there are so many"
    assert http.registered == 60
    assert store.records["user.ann"] is consent


async def test_few_flows_of_one_upstream_begin_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    connection = HttpConnection("https://up.test/mcp", auth=UserAuth())
    spec = SimpleNamespace(connection=connection, name="up")
    registry: Any = SimpleNamespace(records={"slow": SimpleNamespace(spec=spec), "other": SimpleNamespace(spec=spec)})
    store: Any = Store()
    under_way: list[str] = []
    answer = asyncio.Event()

    async def resource_of(http: Any, url: str) -> Resource:
        under_way.append(url)
        await answer.wait()
        raise dance.ConnectError(502, "it says nothing")

    monkeypatch.setattr(dance, "resource_of", resource_of)
    connecting = Dance(build(), registry, store)
    flows = [asyncio.ensure_future(connecting.begin(new_ticket("slow", f"p{n}"), "http://x")) for n in range(50)]
    for _ in range(5):
        await asyncio.sleep(0)
    slow = len(under_way)
    flows.append(asyncio.ensure_future(connecting.begin(new_ticket("other", "p"), "http://x")))
    for _ in range(5):
        await asyncio.sleep(0)
    assert 0 < slow < 10 and len(under_way) == slow + 1, "another upstream does not wait for this one"
    answer.set()
    results = await asyncio.gather(*flows, return_exceptions=True)
    assert all(isinstance(one, dance.ConnectError) for one in results) and len(under_way) == 51
