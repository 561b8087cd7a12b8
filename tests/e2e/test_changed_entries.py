"""An entry that is changed while it runs: what was found at its old address is not true at the new one."""

from __future__ import annotations

import itertools
import os
from collections.abc import AsyncIterator
from typing import Any

import aiohttp
import pytest_asyncio

from shared.models import make_spec
from shared.registry.store import RegistryStore
from shared.settings import build
from tests.clients import RawClient
from tests.fleet import Fleet, eventually, script_connection, stdio_connection
from tests.servers.scripted import Exchange, Scripted, said


@pytest_asyncio.fixture(scope="module")
async def fleet(redis_url: str) -> AsyncIterator[Fleet]:
    settings = {"health_check_interval_s": 0.3, "reconnect_min_s": 0.1, "reconnect_max_s": 5.0}
    async with Fleet(redis_url, 1, 2, **settings) as fleet:
        yield fleet


async def says(client: RawClient, tool: str, wanted: str) -> bool:
    answer = await client.call(tool)
    return "result" in answer.body and answer.content.startswith(wanted)


async def test_another_address_never_gets_the_old_ones_calls_nor_the_old_one_new_headers(fleet: Fleet) -> None:
    async with Scripted("moved", "modern") as old, Scripted("moved", "modern") as new:
        sent: list[str | None] = []

        async def look(exchange: Exchange) -> dict[str, Any]:
            sent.append(exchange.request.headers.get("X-Key"))
            return said("old")

        async def fresh(exchange: Exchange) -> dict[str, Any]:
            return said("new")

        old.on["tools/call"], new.on["tools/call"] = look, fresh
        await fleet.register("moved", old.connection)
        async with RawClient(fleet.urls[0]) as client:
            assert await says(client, "moved", "old")
            changed = make_spec("moved", {**new.connection, "headers": {"X-Key": "secret"}})
            await fleet.store.register(changed, mode="replace")
            await eventually(lambda: says(client, "moved", "new"), 10.0, "calls go to the new address")
        assert "secret" not in sent
        await fleet.store.unregister("moved")


async def test_what_was_found_at_the_old_address_is_forgotten_with_it(redis_url: str) -> None:
    """In the same step, so that no worker and no front end ever sees the new entry with the old one's facts."""
    store = RegistryStore(build(overrides={"redis_url": redis_url, "key_prefix": f"changed{os.getpid()}:"}).registry)
    found = {"eras": "modern", "transport_in_use": "http", "url_in_use": "http://old/mcp", "status": "connected"}
    for address, known in (("http://old/mcp", True), ("http://new/mcp", False)):
        await store.register(make_spec("moved", {"type": "http", "url": "http://old/mcp"}), mode="replace")
        await store.redis.hset(store.keys.server("moved"), mapping=found)
        await store.register(make_spec("moved", {"type": "http", "url": address}, weight=2), mode="replace")
        record = (await store.load(["moved"]))["moved"]
        assert record is not None and record.spec.weight == 2
        assert (bool(record.eras), bool(record.url_in_use), record.status == "connected") == (known,) * 3
    await store.unregister("moved")
    await store.close()


async def test_an_http_entry_may_become_a_command_and_its_neighbours_go_on(fleet: Fleet) -> None:
    async with Scripted("beside", "modern") as other, Scripted("turned", "modern") as web:
        await fleet.register("turned", web.connection)
        await fleet.register("beside", other.connection)
        await fleet.store.register(make_spec("turned", stdio_connection("turned")), mode="replace")
        async with RawClient(fleet.urls[0]) as client:
            await eventually(lambda: says(client, "turned__who", "turned:"), 20.0, "the child answers")
            assert await says(client, "beside", "beside")
        record = await fleet.record("turned")
        assert record is not None and [slot for slot, _ in record.owners] == [0], "a child runs once"
        await fleet.store.unregister("turned")
        await fleet.store.unregister("beside")


async def test_the_health_that_is_shown_is_that_of_now(fleet: Fleet) -> None:
    upstream = Scripted("ill", "modern")
    async with aiohttp.ClientSession() as session:

        async def shown(healthy: bool) -> bool:
            async with session.get(f"{fleet.url}/admin/v1/servers/ill") as response:
                health = (await response.json())["lastHealthCheck"]
            return health is not None and health["healthy"] is healthy and (health["latencyMs"] is not None) is healthy

        async with upstream:
            await fleet.register("ill", upstream.connection)
            await eventually(lambda: shown(True), 5.0, "well")
        await eventually(lambda: shown(False), 10.0, "ill")
        async with upstream:
            await eventually(lambda: shown(True), 15.0, "well again")
    await fleet.store.unregister("ill")


async def test_a_child_that_ends_after_every_handshake_is_started_less_and_less_often(fleet: Fleet) -> None:
    """Connecting alone is no sign of health: the pauses grow."""
    code = """
import json, sys
for line in sys.stdin:
    message = json.loads(line)
    if message["method"] == "initialize":
        result = {"protocolVersion": "2025-11-25", "capabilities": {}, "serverInfo": {"name": "x", "version": "1"}}
    elif message["method"] == "tools/list":
        result = {"tools": []}
    elif "id" not in message:
        continue
    else:
        error = {"code": -32601, "message": "?"}
        print(json.dumps({"jsonrpc": "2.0", "id": message["id"], "error": error}), flush=True)
        if message["method"] == "ping":
            sys.exit(1)
        continue
    print(json.dumps({"jsonrpc": "2.0", "id": message["id"], "result": result}), flush=True)
"""
    await fleet.store.register(make_spec("faint", script_connection(code), era="legacy"))
    seen: list[float] = []

    async def failures() -> bool:
        record = await fleet.record("faint")
        assert record is not None
        if record.status == "error" and record.status_since not in seen:
            seen.append(record.status_since)
        return len(seen) >= 7

    await eventually(failures, 30.0, "it failed seven times")
    pauses = [later - earlier for earlier, later in itertools.pairwise(seen)]
    assert pauses[-1] > 3 * pauses[0], pauses  # 0.1 and 3.2 s, to which a slow machine adds the same
    await fleet.store.unregister("faint")
