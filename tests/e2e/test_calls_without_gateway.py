"""Commands that find no gateway where they look for one say so, and how to reach one."""

from __future__ import annotations

import asyncio
import contextlib
import os
import re
import signal
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from aiohttp import web

from tests.e2e.commands import Answers, answering, fails, on_terminal, told
from tests.e2e.test_up import _family, gateway, write
from tests.fleet import eventually, stdio_connection


@pytest.mark.parametrize("command", [["tools"], ["servers"]])
async def test_where_nothing_listens_it_says_how_to_start_a_gateway(command: list[str]) -> None:
    line = await fails(*command, "--url", "http://127.0.0.1:9/mcp")
    assert "no gateway answers at http://127.0.0.1:9: start one with 'gateway up --port 9'" in line


@pytest.mark.parametrize(
    "command",
    [["servers"], ["servers", "show", "x"], ["servers", "add", "x", "http://y"], ["servers", "remove", "x"],
     ["servers", "logs", "x"], ["tools"], ["call", "x"], ["read", "x:y"], ["prompt", "x"], ["status"], ["health"],
     ["explain", "x"]],
)  # fmt: skip
async def test_every_command_says_how_to_reach_a_gateway(command: list[str]) -> None:
    line = await fails(*command, "--url", "http://127.0.0.1:9")
    assert (
        "no gateway answers at http://127.0.0.1:9: start one with 'gateway up --port 9', or name it with --url" in line
    )


async def _page(request: web.BaseRequest) -> web.StreamResponse:
    return web.Response(text="<html>hello</html>", content_type="text/html")


async def _json(request: web.BaseRequest) -> web.StreamResponse:
    return web.json_response({"hello": "world"})


async def _login(request: web.BaseRequest) -> web.StreamResponse:
    return web.json_response({"error": "who are you?"}, status=401)


async def _broken(request: web.BaseRequest) -> web.StreamResponse:
    message = await request.json()
    result: dict[str, Any] = {"tools": [{"name": "one"}], "content": "text"}
    if message["method"] == "server/discover":
        result = {"supportedVersions": ["2026-07-28"], "capabilities": {}}
    cached = {"resultType": "complete", "ttlMs": 0, "cacheScope": "private"}
    return web.json_response({"jsonrpc": "2.0", "id": message["id"], "result": {**result, **cached}})


async def _dropped(request: web.BaseRequest) -> web.StreamResponse:
    assert request.transport is not None
    request.transport.abort()
    return web.Response()


@pytest.mark.parametrize(
    ("command", "answers", "words"),
    [
        (["tools"], _page, "/mcp, which answers with text/html; check --url"),
        (["tools"], _json, "/mcp, which answers with JSON that is no JSON-RPC message; check --url"),
        (["tools"], _login, "/mcp says HTTP 401: who are you?; "),
        (["tools"], _broken, "/mcp gave a result that breaks the protocol: tools.0.inputSchema: Field required"),
        (["call", "echo"], _broken, "/mcp gave a result that breaks the protocol: content is no list"),
        (["tools"], _dropped, "went away before it answered"),
        (["servers"], _page, "/admin/v1/servers, which answers with text/html; check --url"),
        (["servers"], _dropped, "went away before it answered"),
    ],
)
async def test_what_is_no_gateway_is_said(command: list[str], answers: Answers, words: str) -> None:
    async with answering(answers) as url:
        assert words in await fails(*command, "--url", url)


@pytest.mark.parametrize("command", [["tools"], ["servers"]])
async def test_what_speaks_no_http_is_said(command: list[str]) -> None:
    async def greet(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"220 mail.test ESMTP\r\n\r\n")
        await writer.drain()
        await reader.read(1)
        writer.close()

    async with await asyncio.start_server(greet, "127.0.0.1", 0) as server:
        url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
        assert "which answers with no HTTP; check --url" in await fails(*command, "--url", url)


async def test_a_gateway_that_dies_during_a_call_is_said(tmp_path: Path) -> None:
    config = write(tmp_path / "gateway.json", {"local": stdio_connection("dying")})
    up = await gateway("up", "--config", str(config), "--port", "0")
    try:
        await up.says(r"local \(local, stdio\): connected")
        url = await up.says(r"MCP endpoint\s+(http://\S+)/mcp")
        family = _family(up.process.pid)
        plain = await gateway("call", "slow", '{"seconds": 60}', "--url", url)
        streamed, terminal = await on_terminal("call", "progress", '{"steps": 2000}', "--url", url)

        async def under_way() -> bool:
            async with aiohttp.ClientSession() as session, session.get(f"{url}/admin/v1/frontends") as response:
                return sum(int(one["inFlight"]) for one in await response.json()) == 2

        await eventually(under_way, 20.0, "the calls are under way")
        for which in (signal.SIGSTOP, signal.SIGKILL):  # all at once: no front end can tell of a worker that has gone
            for pid in family:
                with contextlib.suppress(ProcessLookupError):  # it has gone with its parent
                    os.kill(pid, which)
        assert await plain.ended() == 1
        line = r"error: the gateway at http://\S+ went away before it answered; .*"
        assert re.fullmatch(f"{line}\n", plain.output), plain.output
        assert await streamed.wait() == 1
        assert re.fullmatch(line, told(terminal).splitlines()[-1])
    finally:
        if up.process.returncode is None:
            up.process.kill()
        await up.ended()
