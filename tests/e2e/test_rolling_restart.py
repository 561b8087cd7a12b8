"""``gateway restart``: every process is replaced while calls of all kinds run, and none of them fails."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import json
import signal
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from shared.tasks import cancel
from tests.clients import RawClient
from tests.e2e.test_up import run, running, write
from tests.fleet import SdkServer, eventually, stdio_connection
from tests.machine import scaled

ASKABLE = {"io.modelcontextprotocol/clientCapabilities": {"elicitation": {"form": {}}}}
BLUE = {"action": "accept", "content": {"colour": "blue"}}


async def _facts(url: str, kind: str) -> list[dict[str, Any]]:
    async with aiohttp.ClientSession() as session, session.get(f"{url}/admin/v1/{kind}") as response:
        found: list[dict[str, Any]] = await response.json()
        return found


async def _pids(url: str) -> dict[str, set[int]]:
    return {kind: {one["pid"] for one in await _facts(url, kind)} for kind in ("workers", "frontends")}


class _Traffic:
    """Calls that go on until it is left; ``failed`` has what was no result."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.failed: list[str] = []
        self.done = 0
        self.over = False

    async def again(
        self, client: RawClient, legacy: bool, tool: str, arguments: dict[str, Any], pause_s: float
    ) -> None:
        """Call a tool again and again."""
        while not self.over:
            try:
                answer = await (client.legacy_call if legacy else client.call)(tool, arguments)
                if "result" not in (answer.body or {}):
                    self.failed.append(f"{tool}: HTTP {answer.status} {answer.text[:300]}")
            except (aiohttp.ClientError, TimeoutError) as error:
                self.failed.append(f"{tool}: {type(error).__name__} {error}")
            self.done += 1
            await asyncio.sleep(pause_s)

    async def stream(self, client: RawClient) -> None:
        """Keep the standing stream of a session open as a client does: a stream that ends is opened again."""
        headers = {**client.legacy_headers(), "Accept": "text/event-stream"}
        while not self.over:
            async with client.session.get(self.url, headers=headers) as response:
                if response.status == 503 and "Retry-After" in response.headers:
                    continue
                if response.status != 200:
                    self.failed.append(f"stream: HTTP {response.status} {(await response.text())[:300]}")
                    return
                with contextlib.suppress(aiohttp.ClientPayloadError):
                    async for _ in response.content:
                        pass


def _expect_all_replaced(roll: dict[str, Any], before: dict[str, set[int]], after: dict[str, set[int]]) -> None:
    """A restart says that it replaced two workers and two front ends, for a changed setting, and these are gone."""
    assert [step["state"] for step in roll["steps"]] == ["replaced"] * 4
    assert roll["changed"] == ["requestTimeout"] and not roll["notApplied"]
    assert {kind: len(pids) for kind, pids in after.items()} == {"workers": 2, "frontends": 2}
    assert not any(before[kind] & after[kind] for kind in before)
    assert {step["pid"] for step in roll["steps"]} == after["workers"] | after["frontends"]


async def test_nothing_fails_while_every_process_is_replaced(tmp_path: Path) -> None:
    async with contextlib.AsyncExitStack() as stack:
        web = await stack.enter_async_context(SdkServer("http", "web"))
        events = await stack.enter_async_context(SdkServer("sse", "events"))
        asks = await stack.enter_async_context(SdkServer("http", "asks"))
        settings = {"frontends": 2, "workers": 2, "drainTimeout": scaled(20.0) * 1000, "naming": "prefix"}
        servers = {
            "web": web.connection,
            "events": events.connection,
            "asks": {**asks.connection, "era": "legacy"},
            "local": stdio_connection("local"),
        }
        file = write(tmp_path / "gateway.json", servers, **settings)
        command, url = await stack.enter_async_context(running("--config", file))
        for name in servers:
            await command.says(rf"{name} \({name}, \w+\): connected", 40.0)
        traffic = _Traffic(f"{url}/mcp")
        before = await _pids(url)

        async def client(legacy: bool = False) -> RawClient:
            made: RawClient = await stack.enter_async_context(RawClient(traffic.url))
            if legacy:
                await made.initialize()
            return made

        tasks, streams = [], []
        for name, legacy in itertools.product(("web", "events", "local"), (False, True)):
            short, long = await client(legacy), await client(legacy)
            tasks += [
                asyncio.ensure_future(traffic.again(short, legacy, f"{name}__echo", {"text": "x"}, 0.05)),
                asyncio.ensure_future(traffic.again(long, legacy, f"{name}__slow", {"seconds": 2.0}, 1.0)),
            ]
            if legacy:
                streams.append(asyncio.ensure_future(traffic.stream(short)))
        parked = await client()
        params = {"name": "asks__ask", "arguments": {}}
        asked = (await parked.modern("tools/call", params, meta=ASKABLE)).body["result"]
        ((key, _),) = asked["inputRequests"].items()

        write(file, servers, **settings, requestTimeout=29_000)
        restart = asyncio.ensure_future(run("restart", "--url", url, "--json"))

        async def draining() -> bool:
            return any(one["draining"] and one["parked"] for one in await _facts(url, "workers"))

        await eventually(draining, 30.0, "the worker with the parked call drains")
        retry = {**params, "inputResponses": {key: BLUE}, "requestState": asked["requestState"]}
        assert (await parked.modern("tools/call", retry, meta=ASKABLE)).content == "accept: blue"

        code, output = await restart
        traffic.over = True
        await asyncio.wait_for(asyncio.gather(*tasks), scaled(15.0))
        assert not any(stream.done() for stream in streams)
        await cancel(*streams)
        assert code == 0, output
        _expect_all_replaced(json.loads(output), before, await _pids(url))
        assert traffic.failed == [] and traffic.done > 50
        restarts = await _facts(url, "restarts")
        assert not restarts, "what is replaced on purpose did not die"


async def test_if_a_new_process_cannot_start_the_old_ones_stay(tmp_path: Path) -> None:
    file = write(tmp_path / "gateway.json", {}, frontends=1, workers=1)
    async with running("--config", file) as (_, url):
        before = await _pids(url)
        write(file, {}, frontends=1, workers=1, stdioUser="nobody-has-this-name")
        code, output = await run("restart", "--url", url)
        assert code == 1
        assert "worker 1 was not replaced" in output and "nobody-has-this-name" in output
        assert await _pids(url) == before
        write(file, {}, frontends=1, workers=1, port="many")
        code, output = await run("restart", "--url", url)
        assert code == 1 and "gateway.port" in output
        assert await _pids(url) == before


async def test_sigusr2_restarts_and_more_or_fewer_processes_may_come(tmp_path: Path) -> None:
    file = write(tmp_path / "gateway.json", {}, frontends=1, workers=2)
    async with running("--config", file) as (command, url):
        before = await _pids(url)
        write(file, {}, frontends=2, workers=1, keyPrefix="other:")
        await command.says("frontends, workers changed, which needs a restart")
        await command.says("keyPrefix changed, which needs a stop and a start")
        command.process.send_signal(signal.SIGUSR2)

        async def replaced() -> bool:
            with contextlib.suppress(aiohttp.ClientError):
                now = await _pids(url)
                return not any(now[kind] & before[kind] for kind in now) and {
                    kind: len(pids) for kind, pids in now.items()
                } == {"workers": 1, "frontends": 2}
            return False

        await eventually(replaced, 40.0, "all are replaced")
        roll: Any = await _facts(url, "restart")
        assert roll["notApplied"] == ["keyPrefix"] and roll["changed"] == ["frontends", "workers"]


async def test_serve_replaces_its_front_ends(redis_url: str) -> None:
    prefix = {"GATEWAY_KEY_PREFIX": "roll-serve:"}
    async with running("--redis-url", redis_url, name="serve", **prefix) as (_, url):
        before = await _pids(url)
        code, output = await run("restart", "--url", url)
        assert code == 0 and "front end 1 replaced" in output
        assert not before["frontends"] & (await _pids(url))["frontends"]


@pytest.mark.parametrize("headers", [{"Origin": "https://evil.example"}, {"Sec-Fetch-Site": "cross-site"}])
async def test_a_web_page_cannot_restart(tmp_path: Path, headers: dict[str, str]) -> None:
    async with running() as (_, url), aiohttp.ClientSession() as session:
        async with session.post(f"{url}/admin/v1/restart", headers=headers) as response:
            assert response.status == 403
        async with session.get(f"{url}/admin/v1/restart") as response:
            assert response.status == 404
