"""``gateway top``, ``events``, ``doctor`` and ``status``: what somebody on call types."""

from __future__ import annotations

import asyncio
import json
import os

from shared.models import make_spec
from tests.clients import RawClient
from tests.fleet import PYTHON, ROOT, Fleet, eventually
from tests.machine import scaled
from tests.servers.scripted import Scripted
from tests.terminal import on_terminal

EVIL = "\x1b[2Jevil"


async def _start(fleet: Fleet, *words: str) -> asyncio.subprocess.Process:
    environment = {name: value for name, value in os.environ.items() if not name.startswith("GATEWAY_")}
    return await asyncio.create_subprocess_exec(
        *(PYTHON, "-m", "gateway", *words, "--url", fleet.url),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
        env=environment,
        cwd=ROOT,
    )


async def _said(fleet: Fleet, *words: str, code: int = 0) -> str:
    process = await _start(fleet, *words)
    async with asyncio.timeout(scaled(30.0)):
        out, _ = await process.communicate()
    assert process.returncode == code, out.decode()
    return out.decode()


async def test_someone_on_call_sees_what_the_gateway_does(redis_url: str) -> None:
    async with Fleet(redis_url) as fleet, Scripted("busy", "modern") as upstream:
        assert "no upstream is registered" in await _said(fleet, "doctor")
        following = await _start(fleet, "events", "--follow")
        assert following.stdout is not None
        await fleet.register("busy", upstream.connection)
        async with asyncio.timeout(scaled(20.0)):
            while b"upstream-status" not in (line := await following.stdout.readline()) or b"connected" not in line:
                assert line, "the stream of events goes on"
        following.terminate()
        await following.wait()
        assert json.loads((await _said(fleet, "events", "--json")).splitlines()[0])["kind"] == "upstream-added"

        over = asyncio.Event()

        async def calls() -> None:
            async with RawClient(f"{fleet.url}/mcp") as client:
                while not over.is_set():
                    await client.call("busy")

        calling = asyncio.ensure_future(calls())

        async def counted() -> bool:
            rows = json.loads(await _said(fleet, "top", "--once", "--json"))
            return any(row["tool"] == "busy" and row["callsPerSecond"] > 1 and row["meanMs"] > 0 for row in rows)

        await eventually(counted, 20.0, "calls a second of the tool")
        over.set()
        await calling
        assert "busy" in await _said(fleet, "top", "--once")
        assert "P99" in await _said(fleet, "status")

        await fleet.store.register(make_spec("down", {"type": "http", "url": "http://127.0.0.1:1/mcp"}))
        await fleet.failed("down")
        found = await _said(fleet, "doctor", code=1)
        assert "upstream down: cannot connect" in found and "start the server" in found and "Traceback" not in found


async def test_the_watched_screen_is_walked_with_keys(redis_url: str) -> None:
    async with Fleet(redis_url) as fleet, Scripted("well", "modern") as upstream:
        await fleet.register("well", upstream.connection)
        await fleet.store.register(make_spec("down", {"type": "http", "url": "http://127.0.0.1:1/mcp"}))
        await fleet.failed("down")
        async with on_terminal("status", "--watch", "--url", fleet.url, COLUMNS="80") as terminal:
            await terminal.says(r"> down .*error")
            terminal.types("\x1b[B")
            await terminal.says(r"> well .*connected")
            terminal.types("k\r")
            await terminal.says(r"what helps +start the server")
            terminal.types("\x1b")
            await eventually(
                lambda: terminal.output.rpartition("q end")[0].endswith("only what fails   "), 20.0, "back"
            )
            terminal.types("q")
            assert await terminal.ended() == 0


async def test_what_an_upstream_says_steers_no_terminal(redis_url: str) -> None:
    async def refuse(exchange: object) -> dict[str, object]:
        return {"error": {"code": -32000, "message": EVIL}}

    async with Fleet(redis_url) as fleet, Scripted("evil", "legacy") as upstream:
        upstream.on["initialize"] = refuse
        await fleet.store.register(make_spec("evil", upstream.connection))
        await fleet.failed("evil")
        for words, code in ((("status",), 0), (("events",), 0), (("doctor",), 1), (("servers", "list"), 0)):
            said = await _said(fleet, *words, code=code)
            assert "evil" in said and "\x1b" not in said, words
