"""What an operator does and asks while the gateway runs: take upstreams out of service, find what failed and who
called, over two front ends and two workers."""

from __future__ import annotations

import asyncio
import json
import os
from collections.abc import AsyncIterator
from typing import Any

import aiohttp
import pytest_asyncio

from shared.choices import Duty
from shared.models import ServerStatus
from tests.clients import RawClient
from tests.e2e.test_access import As
from tests.fleet import PYTHON, ROOT, Fleet, eventually, stdio_connection
from tests.machine import scaled
from tests.servers.raw import RawUpstreams

TOKEN = "the admin's"
RULES = {
    "authentication": [{"type": "apiKey"}],
    "roles": {"user": {"allow": ["pair/*"]}, "everything": {"allow": ["*"]}},
}
TRACE = "4bf92f3577b34da6a3ce929d0e0e4736"
CONTEXT = {"traceparent": f"00-{TRACE}-00f067aa0ba902b7-01"}


@pytest_asyncio.fixture(scope="module")
async def fleet(redis_url: str, upstreams: RawUpstreams) -> AsyncIterator[Fleet]:
    tools = [{"name": "who", "inputSchema": {"type": "object"}}]
    async with Fleet(redis_url, 2, 2, drain_timeout_s=scaled(20.0), refresh_interval_s=0.5) as fleet:
        for id in ("first", "second"):
            upstreams.add(id, tools)
            await fleet.register(id, upstreams.connection(id), name="pair")
        yield fleet


async def gateway(fleet: Fleet, *words: str, code: int | None = 0) -> str:
    """What a command prints."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("GATEWAY_")}
    environment["GATEWAY_ADMIN_TOKEN"] = TOKEN
    process = await asyncio.create_subprocess_exec(
        *(PYTHON, "-m", "gateway", *words, "--url", fleet.url),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
        env=environment,
        cwd=ROOT,
    )
    output, _ = await process.communicate()
    assert code in (None, process.returncode), output.decode()
    return output.decode()


async def ask(fleet: Fleet, path: str) -> Any:
    """What the admin API of the first front end answers. A command is as slow as a Python that starts."""
    headers = {"Authorization": f"Bearer {TOKEN}"}
    url = f"{fleet.url}/admin/v1/{path}"
    async with aiohttp.ClientSession(headers=headers) as session, session.get(url) as response:
        return await response.json()


async def is_(fleet: Fleet, id: str, duty: Duty, status: ServerStatus) -> None:
    async def found() -> bool:
        record = await fleet.record(id)
        return record is not None and (record.duty, record.status) == (duty, status)

    await eventually(found, 20.0, f"{id} is {duty} and {status}")


async def answers(fleet: Fleet, wanted: set[str]) -> None:
    """Wait until calls at every front end are answered by these replicas, and by no others."""

    async def alike() -> bool:
        for url in fleet.urls:
            async with RawClient(url) as client:
                found = [await client.call("who") for _ in range(6)]
            if {one.content if "result" in one.body else "refused" for one in found} != wanted:
                return False
        return True

    await eventually(alike, 15.0, f"calls are answered by {wanted}")


async def listed(url: str) -> list[str]:
    async with RawClient(url) as client:
        return [one["name"] for one in (await client.modern("tools/list")).body["result"]["tools"]]


async def test_a_replica_is_drained_disabled_and_enabled(fleet: Fleet) -> None:
    await answers(fleet, {"first", "second"})
    assert "takes no new calls" in await gateway(fleet, "servers", "drain", "first")
    await answers(fleet, {"second"})
    await is_(fleet, "first", Duty.DRAINING, ServerStatus.CONNECTED)
    explained = await ask(fleet, "explain?tool=who")
    assert {one["id"]: (one["available"], one["reason"]) for one in explained["candidates"]} == {
        "first": (False, "draining"),
        "second": (True, None),
    }
    assert all(one["lastHealthCheck"]["healthy"] and one["waiting"] == 0 for one in explained["candidates"])

    async def counted() -> bool:
        return all(one["calls"] > 0 for one in (await ask(fleet, "explain?tool=who"))["candidates"])

    await eventually(counted, 15.0, "the calls of both are counted")
    assert "first is draining" in await gateway(fleet, "doctor")
    await gateway(fleet, "servers", "disable", "first", "second")
    for id in ("first", "second"):
        await is_(fleet, id, Duty.DISABLED, ServerStatus.STOPPED)

    async def gone() -> bool:
        return ["who" in await listed(url) for url in fleet.urls] == [False, False]

    await eventually(gone, 15.0, "nothing of it is listed")
    why = (await ask(fleet, "explain?tool=who"))["error"]
    assert "upstream 'second' has it, and is disabled: 'gateway servers enable second'" in why
    async with RawClient(fleet.urls[1].replace("/mcp", "/servers/pair/mcp")) as client:
        assert "is disabled" in (await client.call("who")).error["message"]
    async with aiohttp.ClientSession() as session, session.get(f"{fleet.url}/metrics") as response:
        text = await response.text()
    assert 'gateway_upstream_duty{group="pair",upstream="first",duty="disabled"} 1' in text
    assert 'gateway_upstream_up{group="pair"' not in text, "nobody is woken by what was switched off"
    await gateway(fleet, "servers", "enable", "first", "second")
    await answers(fleet, {"first", "second"})
    told = {event["text"] for event in await ask(fleet, "events")}
    assert {"draining now", "disabled now", "active now"} <= told
    assert "no upstream 'nobody'" in await gateway(fleet, "servers", "drain", "nobody", code=1)


async def test_a_call_under_way_is_answered_before_a_child_is_stopped_and_it_begins_anew(fleet: Fleet) -> None:
    await fleet.register("child", stdio_connection("child"))
    async with RawClient(fleet.urls[0]) as client:
        long = asyncio.ensure_future(client.call("slow", {"seconds": 3.0}))

        async def under_way() -> bool:
            return any(one["load"] == "1" for one in (await fleet.worker_facts()).values())

        await eventually(under_way, 20.0, "the long call runs")
        await gateway(fleet, "servers", "disable", "child")
        assert "result" in (await long).body
        await is_(fleet, "child", Duty.DISABLED, ServerStatus.STOPPED)
        assert "enable it first" in await gateway(fleet, "servers", "restart", "child", code=1)
        await gateway(fleet, "servers", "enable", "child")
        await fleet.connected("child")
        await gateway(fleet, "servers", "restart", "child")

        async def anew() -> bool:
            told = await ask(fleet, "events")
            of_child = [one["text"] for one in told if one["id"] == "child" and one["kind"] != "upstream-lists"]
            return of_child[-1:] == ["connected"] and "somebody asked for it" in of_child

        await eventually(anew, 20.0, "it begins anew")
        assert (await client.call("echo", {"text": "x"})).content == "x"
    assert "child" in await gateway(fleet, "topology")
    await fleet.store.unregister("child")


async def test_what_is_held_back_is_listed_over_all_upstreams(fleet: Fleet, upstreams: RawUpstreams) -> None:
    assert "as it was approved" in await gateway(fleet, "tools", "quarantine")
    bank = upstreams.add("bank", [{"name": "pay", "description": "Pay.", "inputSchema": {"type": "object"}}])
    await fleet.register("bank", upstreams.connection("bank"), pin="block")
    await eventually(lambda: _has(fleet, "pay"), 15.0, "it is approved as it was first")
    bank.tools = [{"name": "pay", "description": "Pay me.", "inputSchema": {"type": "object"}}]

    async def held() -> bool:
        found = await ask(fleet, "quarantine")
        wanted = {"upstream": "bank", "group": "bank", "tool": "pay", "state": "changed", "heldBack": True}
        return bool(found == [wanted])

    await eventually(held, 20.0, "it is held back")
    assert "gateway tools diff" in await gateway(fleet, "tools", "quarantine")
    await fleet.store.unregister("bank")


async def test_names_of_several_groups_are_said(fleet: Fleet, upstreams: RawUpstreams) -> None:
    upstreams.add("other", [{"name": "who", "inputSchema": {"type": "object"}}])
    await fleet.register("other", upstreams.connection("other"))

    async def said() -> bool:
        found = await ask(fleet, "conflicts")
        return [(one["name"], set(one["listed"])) for one in found] == [("who", {"pair", "other"})]

    await eventually(said, 15.0, "both are named")
    assert "other__who" in await gateway(fleet, "tools", "conflicts")
    await fleet.store.unregister("other")


async def _has(fleet: Fleet, tool: str) -> bool:
    return tool in await listed(fleet.urls[0])


async def test_who_called_what_failed_and_who_may_are_said(redis_url: str, upstreams: RawUpstreams) -> None:
    upstreams.add("pair", [{"name": "who", "inputSchema": {"type": "object"}}])
    upstreams.add("late", [{"name": "late", "inputSchema": {"type": "object"}}])
    settings: dict[str, Any] = {"admin_token": TOKEN, "access_rules": json.dumps(RULES)}
    async with Fleet(redis_url, 2, 1, trace_url="https://traces.test/{trace}", **settings) as fleet:
        await fleet.register("pair", upstreams.connection("pair"))
        await fleet.register("late", upstreams.connection("late"))
        made = json.loads(
            await gateway(fleet, "keys", "create", "caller", "--role", "user", "--role", "everything", "--json")
        )
        async with As(fleet.urls[1], made["key"]) as client:
            assert (await client.call("who")).content == "pair"
            upstreams.endpoints["late"].behaviour = "503-always"
            assert "error" in (await client.call("late", headers=CONTEXT)).body

        async def told() -> Any:
            return await ask(fleet, "errors?principal=key:caller")

        (failed,) = await eventually(told, 15.0, "the other front end's failure is known here")
        assert (failed["name"], failed["request"], failed["link"]) == ("late", TRACE, f"https://traces.test/{TRACE}")
        assert failed["principal"] == "key:caller" and failed["upstream"] == "late" and failed["error"]
        assert await ask(fleet, f"errors?request={'0' * 32}") == []
        assert TRACE in await gateway(fleet, "errors")

        async def counted() -> bool:
            rows = (await ask(fleet, "traffic"))["principals"]
            return [(row["principal"], row["calls"], row["errors"]) for row in rows] == [("key:caller", 2, 1)]

        await eventually(counted, 20.0, "the caller is counted")
        assert "key:caller" in await gateway(fleet, "top", "--by", "principal", "--once")
        url, headers = f"{fleet.urls[1].removesuffix('mcp')}metrics", {"Authorization": f"Bearer {TOKEN}"}
        async with aiohttp.ClientSession(headers=headers) as session, session.get(url) as response:
            text = await response.text()
        assert 'tool="late"' in text and "key:caller" not in text, "who called is not for everyone who scrapes"
        allowed = await gateway(fleet, "explain", "who", "--as", "key:caller")
        assert "for key:caller, roles" in allowed and "allowed" in allowed and "-> pair" in allowed
        refused = await gateway(fleet, "explain", "late", "--as", "nobody#here")
        assert "hidden: no role allows it" in refused and "-> unknown tool" in refused
        diagnosis = await gateway(fleet, "doctor", code=None)
        assert "Redis keeps nothing on disk" in diagnosis, "as the tests' Redis is"
