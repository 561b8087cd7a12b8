"""``gateway call`` and ``gateway tools``, which use a gateway through the SDK's client as any client does."""

from __future__ import annotations

import asyncio
import base64
import json
import os
import re
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import aiohttp
import pytest
import pytest_asyncio
from aiohttp import web

from tests.e2e.commands import answering, fails, on_terminal, told
from tests.e2e.test_up import ROOT, _family, environment, run, running, write
from tests.fleet import PYTHON, stdio_connection
from tests.servers.scripted import Exchange, Scripted, said
from tests.terminal import CTRL_C
from tests.terminal import on_terminal as sitting_at

REGION = {"type": "object", "properties": {"region": {"type": "string", "x-mcp-header": "Region"}}}
TYPED = {
    "type": "object",
    "additionalProperties": False,
    "properties": {
        "text": {"type": "string"},
        "count": {"type": "integer"},
        "deep": {"type": "object"},
        "on": {"type": "boolean"},
    },
}
FORM = {
    "mode": "form",
    "message": "Who \x1b[2Jare you?",
    "requestedSchema": {
        "type": "object",
        "properties": {
            "name": {"type": "string", "minLength": 2},
            "age": {"type": "integer", "description": "in years", "maximum": 150},
            "colour": {"type": "string", "enum": ["red", "green"]},
            "news": {"type": "boolean", "default": False},
        },
        "required": ["name", "colour"],
    },
}
PICTURE = [
    {"type": "image", "data": base64.b64encode(b"picture").decode(), "mimeType": "image/png"},
    {"type": "audio", "data": base64.b64encode(b"sound").decode(), "mimeType": "audio/wav"},
    {"type": "resource", "resource": {"uri": "file:///a.txt", "text": "inside"}},
    {"type": "resource_link", "uri": "file:///b.txt", "name": "b"},
]
WEB_TOOLS = ("who", "region", "busy", "form", "typed", "picture")


class Served:
    """A gateway with three groups: ``local``, an SDK server, ``web``, a scripted one that has a ``who`` as well, and
    ``older``, of whose tools ``ask`` is shown; on each page of a list are two tools."""

    def __init__(self, url: str, web: Scripted, pid: int) -> None:
        self.url = url
        self.web = web
        self.pid = pid
        self.calls: list[Exchange] = []


@pytest_asyncio.fixture(scope="module")
async def served(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Served]:
    async with Scripted("web", "modern") as scripted:
        older = {**stdio_connection("older"), "era": "legacy", "includeTools": ["ask"]}
        servers = {"local": stdio_connection("local"), "web": scripted.connection, "older": older}
        config = write(tmp_path_factory.mktemp("calls") / "gateway.json", servers, pageSize=2)

        async def listed(exchange: Exchange) -> dict[str, Any]:
            tools = [
                {"name": "who", "inputSchema": {"type": "object"}, "x-vendor": 1},
                {"name": "region", "description": "Where.\nMore.", "inputSchema": REGION},
                {"name": "busy", "inputSchema": {"type": "object"}},
                {"name": "form", "inputSchema": {"type": "object"}},
                {"name": "typed", "inputSchema": TYPED},
                {"name": "picture", "inputSchema": {"type": "object"}},
            ]
            return {"tools": tools, "resultType": "complete", "ttlMs": 0, "cacheScope": "private"}

        async def called(exchange: Exchange) -> dict[str, Any]:
            served.calls.append(exchange)
            name = exchange.message["params"]["name"]
            needs: dict[str, Any] = {"resultType": "input_required", "requestState": "soon"}
            if name == "busy" and "requestState" not in exchange.message["params"]:
                return needs
            if name == "form" and "inputResponses" in exchange.message["params"]:
                return said(json.dumps(exchange.message["params"]["inputResponses"]))
            if name == "form":
                asked = {"form": FORM, "page": {"mode": "url", "message": "Sign in", "url": "https://x.test/in"}}
                wanted = exchange.arguments.get("wanted", ["form"])
                asks = {key: {"method": "elicitation/create", "params": asked[key]} for key in wanted}
                return {**needs, "inputRequests": asks}
            if name == "picture":
                return {**said("here"), "content": PICTURE}
            return {**said(f"web {name}"), "x-vendor": 10**30}

        scripted.on.update({"tools/list": listed, "tools/call": called})
        async with running("--config", config) as (command, url):
            await command.says(r"local \(local, stdio\): connected")
            await command.says(r"web \(web, http\): connected")
            await command.says(r"older \(older, stdio\): connected")
            served = Served(url, scripted, command.process.pid)
            yield served


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
        assert code == 0 and places == dict.fromkeys(WEB_TOOLS, ("web", ["web"]))
        assert await run("call", "who", *where) == (0, "web who\n")
    code, text = await run("call", "who", "--url", f"{served.url}/servers/web/mcp", "--server", "local")
    assert code == 0 and text.startswith("local:")
    assert "unknown tool 'whom' (close: who)" in await fails("call", "whom", "--url", served.url, "--server", "web")


@pytest.mark.parametrize("command", [["tools"], ["call", "who"], ["read", "x://y"], ["prompt", "p"]])
async def test_a_server_that_is_not_there_is_named(served: Served, command: list[str]) -> None:
    said = await fails(*command, "--url", served.url, "--server", "wbe")
    assert "no server 'wbe' (did you mean 'web'?); see 'gateway servers list --url " in said


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


async def test_progress_goes_to_stderr_without_a_terminal_too(served: Served) -> None:
    process = await asyncio.create_subprocess_exec(
        PYTHON, "-m", "gateway", "call", "progress", "--arg", "steps=2", "--url", served.url,
        cwd=ROOT, env=environment(), stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
    )  # fmt: skip
    assert await process.communicate() == (b"finished\n", b"1/2 step 1\n2/2 step 2\n")


async def test_arguments_have_the_types_that_the_tool_wants(served: Served) -> None:
    given = ["text=12", "count=3", 'deep={"a": [1]}', "on=yes"]
    options = [part for one in given for part in ("--arg", one)]
    code, text = await run("call", "typed", '{"text": "over", "count": 1}', *options, "--url", served.url)
    assert (code, text) == (0, "web typed\n")
    assert served.calls[-1].arguments == {"text": "12", "count": 3, "deep": {"a": [1]}, "on": True}
    assert await run("call", "add", "--arg", "a=1", "--arg", "b=2", "--url", served.url) == (0, "3\n")
    line = await fails("call", "typed", "--arg", "count=three", "--url", served.url, code=2)
    assert "--arg count: 'three' is no integer" in line
    line = await fails("call", "typed", "--arg", "txt=x", "--url", served.url, code=2)
    assert "the tool takes no 'txt' (did you mean 'text'?)" in line
    assert "needs a '='" in await fails("call", "typed", "--arg", "text", "--url", served.url, code=2)


async def test_what_is_no_text_is_described_or_saved(served: Served, tmp_path: Path) -> None:
    code, text = await run("call", "picture", "--url", served.url)
    assert code == 0 and text.splitlines() == [
        "image image/png, 7 bytes; --save DIR writes it to a file",
        "audio audio/wav, 5 bytes; --save DIR writes it to a file",
        "inside",
        "file:///b.txt  (b)",
    ]
    folder = tmp_path / "new" / "folder"
    for number in (1, 2):
        code, text = await run("call", "picture", "--save", str(folder), "--url", served.url)
        assert code == 0 and text.splitlines()[:2] == [
            f"{folder}/picture-{number}.png",
            f"{folder}/picture-{number}.wav",
        ]
    assert (folder / "picture-2.png").read_bytes() == b"picture"
    (tmp_path / "file").touch()
    line = await fails("call", "picture", "--save", f"{tmp_path}/file/x", "--url", served.url)
    assert "--save: cannot write to" in line


async def test_resources_are_read_and_prompts_got(served: Served) -> None:
    assert await run("read", "memo://local/fixed", "--url", served.url) == (0, "fixed of local\n")
    assert "nothing" in await fails("read", "memo://nothing", "--url", served.url)
    code, text = await run("prompt", "greet", "--arg", "person=Ada", "--url", served.url)
    assert (code, text) == (0, "user:\nHello Ada, from local\n")
    code, text = await run("prompt", "greet", "--arg", "person=Ada", "--json", "--url", served.url)
    assert json.loads(text)["result"]["messages"][0]["role"] == "user"
    assert "unknown prompt 'greeet' (close: greet)" in await fails("prompt", "greeet", "--url", served.url)


async def test_tools_are_chosen(served: Served) -> None:
    code, text = await run("tools", "WEB__*", "--json", "--url", served.url)
    assert code == 0 and [tool["name"] for tool in json.loads(text)] == ["web__who"]
    code, text = await run("tools", "two numbers", "--json", "--url", served.url)
    assert code == 0 and [tool["name"] for tool in json.loads(text)] == ["add"]
    code, text = await run("tools", "--limit", "3", "--url", served.url)
    assert code == 0 and len(text.splitlines()) == 5 and re.search(r"^\d+ more; choose", text, re.MULTILINE)
    line = await fails("tools", "nothing like it", "--url", served.url)
    assert f"'gateway tools --url {served.url}' lists them all" in line


async def test_a_long_list_is_paged_on_a_terminal(served: Served, tmp_path: Path) -> None:
    pager = tmp_path / "pager"
    pager.write_text("#!/bin/sh\ncat\necho the pager has ended\n")
    pager.chmod(0o755)
    async with Scripted("many", "modern") as many:
        tools = [{"name": f"tool-{number}", "inputSchema": {"type": "object"}} for number in range(1000)]

        async def listed(exchange: Exchange) -> dict[str, Any]:
            at = int((exchange.message["params"].get("cursor")) or 0)
            more = {"nextCursor": str(at + 100)} if at + 100 < len(tools) else {}
            cached = {"resultType": "complete", "ttlMs": 0, "cacheScope": "private"}
            return {"tools": tools[at : at + 100], **cached, **more}

        many.on["tools/list"] = listed
        url = f"http://127.0.0.1:{many.port}"
        code, text = await run("tools", "--json", "--url", url)
        assert code == 0 and len(json.loads(text)) == 1000
        async with sitting_at("tools", "--url", url, PAGER=str(pager)) as terminal:
            assert await terminal.ended() == 0
            await terminal.says("the pager has ended")
            assert "tool-999" in terminal.output
        async with sitting_at("tools", "*-99?", "--url", url, PAGER=str(pager)) as terminal:
            assert await terminal.ended() == 0
            await terminal.says("tool-999")
            assert "pager" not in terminal.output


# ---- what servers ask


async def test_a_person_at_a_terminal_is_asked(served: Served) -> None:
    async with sitting_at("call", "form", '{"wanted": ["form", "page"]}', "--url", served.url) as terminal:
        await terminal.says("The server asks: Who \N{REPLACEMENT CHARACTER}\\[2Jare you\\?")
        for question, typed in (
            ("name: $", "A"), ("must have at least 2 characters\n  name: $", "Ada"), ("in years\n  age.*: $", "old"),
            ("'old' is no integer\n.*: $", "200"), ("at most 150\n.*: $", ""),
            ("1\\) red\n  2\\) green\n  colour: $", ""),
            ("it is needed\n.*: $", "blue"), ("'blue' is none of them\n.*: $", "2"), (r"news.*\[False\]: $", ""),
            ("Sign in\n  https://x.test/in\nOpen it.*: $", ""),
        ):  # fmt: skip
            await terminal.says(question)
            terminal.types(typed + "\n")
        assert await terminal.ended() == 0
        answers = json.loads(await terminal.says(r"\n(\{.*\})\n$"))
        content = {"name": "Ada", "colour": "green", "news": False}
        assert answers == {"form": {"action": "accept", "content": content}, "page": {"action": "accept"}}


async def test_a_person_may_decline_and_leave(served: Served) -> None:
    async with sitting_at("call", "form", '{"wanted": ["page", "form"]}', "--url", served.url) as terminal:
        await terminal.says("n declines")
        terminal.types("n\n")
        await terminal.says("name: $")
        terminal.types("\x04")
        assert await terminal.ended() == 0
        declined = {"action": "decline"}
        assert json.loads(await terminal.says(r"\n(\{.*\})\n$")) == {"page": declined, "form": declined}
    async with sitting_at("call", "form", "--url", served.url) as terminal:
        await terminal.says("name: $")
        terminal.types(CTRL_C)
        assert await terminal.ended() == 130
        assert "Traceback" not in terminal.output and "rror" not in terminal.output


async def test_without_a_terminal_it_is_declined_with_a_line(served: Served) -> None:
    process = await asyncio.create_subprocess_exec(
        PYTHON, "-m", "gateway", "call", "form", "--url", served.url, cwd=ROOT, env=environment(),
        stdin=asyncio.subprocess.DEVNULL, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
    )  # fmt: skip
    out, error = await process.communicate()
    assert process.returncode == 0 and json.loads(out) == {"form": {"action": "decline"}}
    assert error.decode().startswith("declined: the server asks a person, and stdin is no terminal: Who")


async def test_a_server_of_the_handshake_era_asks_too(served: Served) -> None:
    async with sitting_at("call", "ask", "--url", f"{served.url}/servers/older/mcp") as terminal:
        await terminal.says("Which colour\\?[\\s\\S]*colour: $")
        terminal.types("blue\n")
        assert await terminal.ended() == 0
        await terminal.says("accept: blue")


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
    # A name that the gateway does not know itself by: HTTP 403.
    line = await fails("call", "echo", "--url", served.url.replace("127.0.0.1", "127.1"))
    assert "is not allowed; add it to allowedHosts" in line


@pytest.mark.parametrize("command", [["tools", "--json"], ["servers", "--json"]])
async def test_a_reader_that_goes_away_is_no_error(served: Served, command: list[str]) -> None:
    line = f"{PYTHON} -m gateway {' '.join(command)} --url {served.url} | head -c 1 >/dev/null"
    process = await asyncio.create_subprocess_shell(
        line, cwd=ROOT, env=environment(), stderr=asyncio.subprocess.PIPE,
    )  # fmt: skip
    assert (await process.communicate())[1] == b""


@pytest.mark.parametrize("columns", ["80", "200"])
async def test_ctrl_c_ends_what_watches(served: Served, columns: str) -> None:
    """No id and no heading is folded, also on the narrowest terminal that people use."""
    async with sitting_at("status", "--watch", "--url", served.url, COLUMNS=columns) as terminal:
        await terminal.says("1 front end[\\s\\S]*1 worker[\\s\\S]*UPSTREAM[\\s\\S]*older")
        terminal.types(CTRL_C)
        assert await terminal.ended() == 130
        assert "Traceback" not in terminal.output and "rror: " not in terminal.output


async def test_unknown_servers_have_close_ones(served: Served) -> None:
    for words in (["servers", "show", "lokal"], ["servers", "remove", "lokal"], ["servers", "logs", "lokal"]):
        line = await fails(*words, "--url", served.url)
        assert f"no upstream 'lokal' (did you mean 'local'?); see 'gateway servers list --url {served.url}'" in line
    line = await fails("servers", "logs", "web", "--url", f"{served.url}/mcp")
    assert (
        f"'web' is reached over http, so its log is where it runs; 'gateway servers show web --url {served.url}'"
        in line
    )


@pytest.mark.parametrize("command", [["tools"], ["servers"]])
async def test_a_wrong_url_is_said(served: Served, command: list[str]) -> None:
    line = await fails(*command, "--url", f"{served.url}/elsewhere")
    assert "/elsewhere/" in line and "HTTP 404" in line and "--url" in line
    assert "give it as http://HOST:PORT" in await fails(*command, "--url", "localhost:4000", code=2)
