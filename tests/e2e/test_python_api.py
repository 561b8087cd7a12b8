"""``Gateway`` from Python, and the example in ``examples``."""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path

import pytest

from gateway import BalancerStrategy, Gateway, ServerEntry, ServerStatus
from shared.errors import ConfigError, EntryExists, EntryNotFound, StartError
from tests.clients import RawClient
from tests.fleet import SdkServer, eventually
from tests.machine import scaled
from tests.servers.raw import RawUpstreams

SOON = {"refreshInterval": 300}
ROOT = Path(__file__).resolve().parents[2]


async def test_register_start_list_call_unregister_stop() -> None:
    async with SdkServer("sse", "a") as one, SdkServer("http", "b") as two:
        gateway = Gateway(
            name="my-gateway",
            port=0,
            health_check_interval=15.0,
            balancer="round-robin",
            request_timeout=30.0,
        )
        gateway.register(
            id="search-1",
            name="search",
            transport="sse",
            connection={"type": "sse", "url": f"http://127.0.0.1:{one.port}"},
        )
        assert [entry.status for entry in gateway.list()] == [ServerStatus.REGISTERED]
        with pytest.raises(EntryExists):
            gateway.register(id="search-1", connection={"url": "http://localhost:1/mcp"})
        with pytest.raises(ConfigError):
            gateway.register(id="bad", connection={"type": "smoke"})
        with pytest.raises(EntryNotFound):
            gateway.unregister("never")
        await gateway.start()
        try:
            (entry,) = gateway.list()
            assert isinstance(entry, ServerEntry)
            assert (entry.id, entry.name, entry.status) == ("search-1", "search", "connected")
            assert "echo" in [tool.name for tool in entry.tools]
            await gateway.register(
                id="web", transport="http", connection=two.connection, balancer=BalancerStrategy.RANDOM
            )
            await eventually(lambda: len(gateway.list()) == 2 and gateway.list()[1].status == "connected")
            async with RawClient(gateway.endpoint) as client:
                await eventually(lambda: _answers(client), 5.0)
                assert (await client.call("echo", {"text": "x"})).content == "x"
                assert (await client.call("web__who")).content.startswith("b:")
            await gateway.unregister("search-1")
            await eventually(lambda: [entry.id for entry in gateway.list()] == ["web"])
        finally:
            await gateway.stop()


async def test_tools_that_are_held_back_are_not_listed() -> None:
    async with RawUpstreams() as upstreams:
        bank = upstreams.add("bank", [{"name": "pay", "inputSchema": {"type": "object"}}])
        gateway = Gateway(port=0)
        gateway.register(id="bank", connection=upstreams.connection("bank"), pin="block", settings=SOON)
        await gateway.start()
        try:

            def listed() -> tuple[list[str], dict[str, str]]:
                entry = gateway.get("bank")
                assert entry is not None
                return [tool.name for tool in entry.tools], entry.differing

            await eventually(lambda: listed() == (["pay"], {}), what="the first list is trusted")
            bank.tools = [*bank.tools, {"name": "steal", "inputSchema": {"type": "object"}}]
            await eventually(lambda: listed()[1], what="the new tool is seen")
            assert listed() == (["pay"], {"steal": "new"})
        finally:
            await gateway.stop()


async def _answers(client: RawClient) -> bool:
    return "result" in (await client.call("web__who")).body


async def test_a_files_settings_count_where_the_call_gives_none(tmp_path: Path) -> None:
    file = tmp_path / "gateway.json"
    file.write_text('{"gateway": {"port": 5555, "balancer": "weighted", "requestTimeout": 1000}, "mcpServers": {}}')
    settings = Gateway(config=file, balancer="random")._settings
    assert (settings.service.port, settings.calls.request_timeout_s) == (5555, 1.0)
    assert settings.routing.balancer == BalancerStrategy.RANDOM


async def test_it_starts_again_after_it_was_stopped_and_lists_what_was_registered_at_once() -> None:
    async with SdkServer("http", "again") as server:
        gateway = Gateway(port=0)
        for _ in range(2):
            await gateway.start()
            try:
                await gateway.register(id="again", connection=server.connection)
                assert [entry.id for entry in gateway.list()] == ["again"]
                await gateway.unregister("again")
            finally:
                await gateway.stop()


async def test_a_second_gateway_on_the_same_redis_sees_the_same_registry(redis_url: str) -> None:
    async with SdkServer("http", "shared") as server, Gateway(port=0, redis_url=redis_url) as first:
        await first.register(id="fromfirst", connection=server.connection)
        async with Gateway(port=0, redis_url=redis_url) as second:
            await eventually(lambda: (entry := second.get("fromfirst")) and entry.status == "connected", 15.0)
            with pytest.raises(EntryExists):
                second.register(id="fromfirst", connection=server.connection)
            async with RawClient(second.endpoint) as client:
                assert (await client.call("fromfirst__echo", {"text": "x"})).content == "x"
            await second.unregister("fromfirst")
        await eventually(lambda: first.list() == [], 5.0)


async def test_what_cannot_start_raises_and_cleans_up() -> None:
    with pytest.raises(StartError, match="cannot reach Redis"):
        await Gateway(port=0, redis_url="redis://127.0.0.1:1").start()


async def test_the_example_runs() -> None:
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        str(ROOT / "docs/example.py"),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    output, _ = await asyncio.wait_for(process.communicate(), scaled(60))
    assert process.returncode == 0, output.decode()
    assert "forecast for Oslo: snow" in output.decode() and "7 × 6 = 42" in output.decode()
