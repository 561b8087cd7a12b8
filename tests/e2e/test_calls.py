"""``gateway call`` and ``gateway tools``, which use a gateway through the SDK's client as any client does."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import pty
import re
import signal
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
import pytest
import pytest_asyncio
from aiohttp import web

from tests.e2e.test_up import ROOT, _family, environment, gateway, run, running, write
from tests.fleet import PYTHON, eventually, stdio_connection
from tests.servers.scripted import Exchange, Scripted, said

REGION = {"type": "object", "properties": {"region": {"type": "string", "x-mcp-header": "Region"}}}
Answers = Callable[[web.BaseRequest], Awaitable[web.StreamResponse]]


class Served:
    """A gateway with two groups: ``local``, an SDK server, and ``web``, a scripted one that has a ``who`` as well; on
    each page of a list are two tools."""

    def __init__(self, url: str, web: Scripted, pid: int) -> None:
        self.url = url
        self.web = web
        self.pid = pid
        self.calls: list[Exchange] = []


@pytest_asyncio.fixture(scope="module")
async def served(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Served]:
    async with Scripted("web", "modern") as scripted:
        servers = {"local": stdio_connection("local"), "web": scripted.connection}
        config = write(tmp_path_factory.mktemp("calls") / "gateway.json", servers, pageSize=2)

        async def listed(exchange: Exchange) -> dict[str, Any]:
            tools = [
                {"name": "who", "inputSchema": {"type": "object"}, "x-vendor": 1},
                {"name": "region", "description": "Where.\nMore.", "inputSchema": REGION},
                {"name": "busy", "inputSchema": {"type": "object"}},
                {"name": "form", "inputSchema": {"type": "object"}},
            ]
            return {"tools": tools, "resultType": "complete", "ttlMs": 0, "cacheScope": "private"}

        async def called(exchange: Exchange) -> dict[str, Any]:
            served.calls.append(exchange)
            name = exchange.message["params"]["name"]
            needs: dict[str, Any] = {"resultType": "input_required", "requestState": "soon"}
            if name == "busy" and "requestState" not in exchange.message["params"]:
                return needs
            if name == "form":
                ask = {"mode": "form", "message": "?", "requestedSchema": {"type": "object", "properties": {}}}
                return {**needs, "inputRequests": {"a": {"method": "elicitation/create", "params": ask}}}
            return {**said(f"web {name}"), "x-vendor": 10**30}

        scripted.on.update({"tools/list": listed, "tools/call": called})
        async with running("--config", config) as (command, url):
            await command.says(r"local \(local, stdio\): connected")
            await command.says(r"web \(web, http\): connected")
            served = Served(url, scripted, command.process.pid)
            yield served


@asynccontextmanager
async def answering(answers: Answers) -> AsyncIterator[str]:
    """Something on a free port that is no gateway; its URL."""
    runner = web.ServerRunner(web.Server(answers), shutdown_timeout=0.1)
    await runner.setup()
    try:
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        yield f"http://127.0.0.1:{runner.addresses[0][1]}"
    finally:
        await runner.cleanup()


async def fails(*arguments: str, code: int = 1) -> str:
    """What a command says that fails as commands do: in one line."""
    status, text = await run(*arguments)
    assert status == code and "Traceback" not in text, text
    (line,) = [line for line in text.splitlines() if line.startswith("error: ")]
    assert text.endswith(f"{line}\n"), text
    return line


async def on_terminal(*arguments: str) -> tuple[asyncio.subprocess.Process, int]:
    """A command whose stderr is a terminal; that terminal's other end."""
    terminal, stderr = pty.openpty()
    process = await asyncio.create_subprocess_exec(
        PYTHON, "-m", "gateway", *arguments,
        cwd=ROOT, env=environment(), stdout=asyncio.subprocess.PIPE, stderr=stderr,
    )  # fmt: skip
    os.close(stderr)
    return process, terminal


def told(terminal: int) -> str:
    """All that a command that has ended said on its terminal."""
    said = b""
    with contextlib.suppress(OSError):  # EIO: nobody is left to write
        while chunk := os.read(terminal, 65536):
            said += chunk
    os.close(terminal)
    return said.decode()


# ---- what they do


async def test_tools_are_shown_with_their_group_and_replicas(served: Served) -> None:
    code, text = await run("tools", "--url", served.url)
    assert code == 0 and re.match(r"TOOL\s+GROUP\s+REPLICAS\s+DESCRIPTION", text), text
    assert re.search(r"^who\s+local\s+local\s+Name and pid\.", text, re.MULTILINE)
    assert re.search(r"^web__who\s+web\s+web\s*$", text, re.MULTILINE)
    assert re.search(r"^region\s+web\s+web\s+Where\.\s*$", text, re.MULTILINE)

    code, text = await run("tools", "--json", "--url", served.url)
    tools = {tool["name"]: tool for tool in json.loads(text)}
    place = {"group": "web", "upstreamName": "who", "replicas": ["web"]}
    assert tools["web__who"] == {
        "name": "web__who", "description": None, "inputSchema": {"type": "object"}, "x-vendor": 1, **place,
    }  # fmt: skip


async def test_a_group_has_an_endpoint_with_its_own_names(served: Served) -> None:
    for where in (["--url", served.url, "--server", "web"], ["--url", f"{served.url}/servers/web/mcp"]):
        code, text = await run("tools", "--json", *where)
        places = {tool["name"]: (tool["group"], tool["replicas"]) for tool in json.loads(text)}
        assert code == 0 and places == dict.fromkeys(("who", "region", "busy", "form"), ("web", ["web"]))
        assert await run("call", "who", *where) == (0, "web who\n")
    code, text = await run("call", "who", "--url", f"{served.url}/servers/web/mcp", "--server", "local")
    assert code == 0 and text.startswith("local:")
    assert "unknown tool 'whom' (close: who)" in await fails("call", "whom", "--url", served.url, "--server", "web")


@pytest.mark.parametrize("command", [["servers"], ["tools"], ["call", "echo", '{"text": "x"}']])
async def test_a_url_that_was_copied_from_a_client_works(served: Served, command: list[str]) -> None:
    code, text = await run(*command, "--url", f"{served.url}/mcp")
    assert code == 0, text


async def test_an_answer_is_shown_whole(served: Served) -> None:
    code, text = await run("call", "web__who", '{"none": null}', "--json", "--url", served.url)
    answer = json.loads(text)
    assert code == 0 and (answer["jsonrpc"], answer["id"]) == ("2.0", 1)
    assert answer["result"]["content"] == [{"type": "text", "text": "web who"}]
    assert answer["result"]["x-vendor"] == 10**30
    assert served.calls[-1].arguments == {"none": None}

    code, text = await run("call", "fail", '{"message": "no ink"}', "--url", served.url)
    assert (code, text) == (1, "Error executing tool fail\n")  # the tool's own words, on stdout


async def test_arguments_go_into_the_headers_that_a_tool_asks_for(served: Served) -> None:
    assert await run("call", "region", '{"region": "europe"}', "--url", served.url) == (0, "web region\n")
    assert served.calls[-1].request.headers["Mcp-Param-Region"] == "europe"


async def test_a_tool_that_wants_to_be_called_again_is(served: Served) -> None:
    assert await run("call", "busy", "--url", served.url) == (0, "web busy\n")


async def test_a_server_of_the_handshake_era_is_called_as_well() -> None:
    async with Scripted("old", "legacy") as server:
        url = f"http://127.0.0.1:{server.port}"
        code, text = await run("tools", "--url", url)
        assert code == 0 and re.match(r"TOOL\s+DESCRIPTION\s+old\s*$", text), text
        assert await run("call", "old", "--url", url) == (0, "old\n")


async def test_progress_is_told_to_a_terminal(served: Served) -> None:
    process, terminal = await on_terminal("call", "progress", '{"steps": 3}', "--url", served.url)
    out, _ = await process.communicate()
    assert (process.returncode, out) == (0, b"finished\n")
    assert told(terminal).splitlines() == ["1/3 step 1", "2/3 step 2", "3/3 step 3"]


async def test_behind_a_proxy_the_admin_api_s_columns_are_left_out(served: Served) -> None:
    async def forward(request: web.BaseRequest) -> web.StreamResponse:
        kept = {name: value for name, value in request.headers.items() if name not in ("Host", "Content-Length")}
        async with aiohttp.ClientSession() as session, session.request(
            request.method, served.url + request.path_qs, data=await request.read(),
            headers={**kept, "X-Forwarded-For": "192.0.2.1"},
        ) as answer:  # fmt: skip
            return web.Response(body=await answer.read(), status=answer.status, content_type=answer.content_type)

    async with answering(forward) as url:
        code, text = await run("tools", "--url", url)
        assert code == 0 and re.match(r"TOOL\s+DESCRIPTION", text) and re.search(r"^who\s+Name and pid", text, re.M)
        code, text = await run("tools", "--json", "--url", url)
        assert code == 0 and "group" not in json.loads(text)[0]
        assert "the admin API needs 'Authorization: Bearer" in await fails("servers", "--url", url)


@pytest.mark.skipif(os.geteuid() != 0, reason="what a process of the gateway has loaded is shown to root alone")
async def test_no_process_of_the_gateway_has_the_sdk(served: Served) -> None:
    maps = {pid: Path(f"/proc/{pid}/maps").read_text() for pid in _family(served.pid)}
    programs = [text for text in maps.values() if "orjson" in text]
    assert len(programs) >= 3  # supervisor, front end, worker
    assert not [text for text in programs if "pydantic_core" in text]


# ---- how they fail


async def test_what_the_gateway_refuses_is_said_in_its_words(served: Served) -> None:
    assert "unknown tool 'ecko' (close: echo)" in await fails("call", "ecko", "--url", served.url)
    code, text = await run("call", "ecko", "--json", "--url", served.url)
    answer = json.loads(text.partition("error: ")[0])
    assert code == 1 and answer["error"]["code"] == -32602 and answer["error"]["data"]["closeMatches"] == ["echo"]
    assert "needs elicitation" in await fails("call", "form", "--url", served.url)
    # A name that the gateway does not know itself by: HTTP 403.
    line = await fails("call", "echo", "--url", served.url.replace("127.0.0.1", "127.1"))
    assert "is not allowed; add it to allowedHosts" in line


@pytest.mark.parametrize("command", [["tools"], ["servers"]])
async def test_where_nothing_listens_it_says_how_to_start_a_gateway(command: list[str]) -> None:
    line = await fails(*command, "--url", "http://127.0.0.1:9/mcp")
    assert "no gateway answers at http://127.0.0.1:9: start one with 'gateway up'" in line


@pytest.mark.parametrize("command", [["tools"], ["servers"]])
async def test_a_wrong_url_is_said(served: Served, command: list[str]) -> None:
    line = await fails(*command, "--url", f"{served.url}/elsewhere")
    assert "/elsewhere/" in line and "HTTP 404" in line and "--url" in line
    assert "give it as http://HOST:PORT" in await fails(*command, "--url", "localhost:4000", code=2)


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
        for pid in family:
            with contextlib.suppress(ProcessLookupError):  # it has gone with its parent
                os.kill(pid, signal.SIGKILL)
        assert await plain.ended() == 1
        line = r"error: the gateway at http://\S+ went away before it answered; .*"
        assert re.fullmatch(f"{line}\n", plain.output), plain.output
        assert await streamed.wait() == 1
        assert re.fullmatch(line, told(terminal).splitlines()[-1])
    finally:
        if up.process.returncode is None:
            up.process.kill()
        await up.ended()
