"""Rules of access in a file that changes while the gateway runs, over two front ends of ``gateway up``."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import json
import os
import signal
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import aiohttp
import pytest
import pytest_asyncio

from tests.clients import RawClient
from tests.e2e.test_access import TOOLS, As, unknown_key
from tests.e2e.test_up import Command, gateway
from tests.fleet import eventually
from tests.issuer import Issuer
from tests.machine import scaled
from tests.servers.raw import RawUpstreams
from tests.streams import standing

_MANY = 12
"""So many connections reach both front ends all but certainly."""


class Up:
    """A running gateway, its file, and two keys of which the file has digests."""

    def __init__(self, folder: Path, upstream: str, issuer: Issuer) -> None:
        self.file = folder / "gateway.json"
        self.upstream = upstream
        self.issuer = issuer
        self.ann, self.ben = unknown_key(), unknown_key()
        self.command: Command | None = None
        self.url = ""

    def rules(self, allow: list[Any], **more: Any) -> dict[str, Any]:
        """Rules in which ``allow`` is what a user may do."""
        given = [
            {"name": name, "digest": hashlib.sha256(key.encode()).hexdigest(), "roles": ["user"]}
            for name, key in (("ann", self.ann), ("ben", self.ben))
        ]
        methods = [{"type": "apiKey", "keys": given}, {"type": "jwt", "issuer": self.issuer.url}]
        methods[1]["roles"] = ["user"]
        return {"authentication": methods, "roles": {"user": {"allow": allow}}, **more}

    def write(self, access: dict[str, Any]) -> None:
        document = {
            "gateway": {"frontends": 2, "logFormat": "console", "adminToken": "the-admin-token"},
            "access": access,
            "mcpServers": {"search": {"type": "http", "url": self.upstream}},
        }
        other = self.file.with_suffix(".new")
        other.write_text(json.dumps(document))
        other.replace(self.file)

    async def tools(self, credentials: str) -> list[str]:
        """What these credentials list, on a connection of its own."""
        async with As(self.url + "/mcp", credentials) as client:
            return await client.tools()

    async def everywhere(self, credentials: str, wanted: list[str]) -> bool:
        """Whether every front end lists exactly these tools."""
        found = await asyncio.gather(*(self.tools(credentials) for _ in range(_MANY)))
        return all(sorted(one) == sorted(wanted) for one in found)

    async def statuses(self, credentials: str) -> set[int]:
        async def one() -> int:
            async with As(self.url + "/mcp", credentials) as client:
                return (await client.modern("tools/list")).status

        return set(await asyncio.gather(*(one() for _ in range(_MANY))))


@pytest_asyncio.fixture(scope="module")
async def running(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Up]:
    async with RawUpstreams() as upstreams, Issuer() as issuer:
        upstreams.add("search", TOOLS)
        up = Up(tmp_path_factory.mktemp("live"), upstreams.url("search"), issuer)
        up.write(up.rules(["search/find"]))
        up.command = await gateway("up", "--config", str(up.file), "--port", "0", "--ephemeral")
        try:
            up.url = (await up.command.says(r"MCP endpoint\s+(\S+)/mcp")).rstrip("/")
            yield up
        finally:
            with contextlib.suppress(ProcessLookupError):
                up.command.process.send_signal(signal.SIGTERM)
            await up.command.ended()


@pytest_asyncio.fixture
async def up(running: Up) -> Up:
    """The gateway with the rules that every test begins with."""
    assert running.command is not None
    running.write(running.rules(["search/find"]))
    await eventually(lambda: running.everywhere(running.ann, ["find"]))
    running.command.output = ""
    return running


async def front_ends(up: Up) -> list[int]:
    headers = {"Authorization": "Bearer the-admin-token"}
    async with aiohttp.ClientSession(headers=headers) as session, session.get(f"{up.url}/admin/v1/frontends") as answer:
        return [int(one["pid"]) for one in await answer.json()]


async def test_roles_of_a_file_that_changes_count_everywhere_and_sessions_stay(up: Up) -> None:
    assert up.command is not None
    token = up.issuer.token(aud=up.url + "/mcp")
    assert await up.tools(token) == ["find"]
    async with As(up.url + "/mcp", up.ann) as client:
        await client.initialize()
        async with standing(client, up.url + "/mcp") as stream:
            await eventually(lambda: stream.ids or stream.messages)
            up.write(up.rules(["search/find", "search/read_file"]))
            began = asyncio.get_running_loop().time()
            await up.command.says("rules of access have changed, and front ends go by them now")
            applied = asyncio.get_running_loop().time()
            await eventually(lambda: up.everywhere(up.ann, ["find", "read_file"]))
            took_s = asyncio.get_running_loop().time() - applied
            assert took_s < scaled(1.5), (took_s, applied - began)
            # Whoever listens is told, and may open the stream again: the session is as it was.
            await eventually(lambda: "notifications/tools/list_changed" in stream.methods())
            await eventually(lambda: stream.closed)
        answer = await client.legacy("tools/list")
        assert [tool["name"] for tool in answer.body["result"]["tools"]] == ["find", "read_file"]
        async with standing(client, up.url + "/mcp") as stream:
            # A rule that says nothing about this caller disturbs nobody.
            wider = up.rules(["search/find", "search/read_file"])
            wider["roles"]["other"] = {"allow": ["*"]}
            up.write(wider)
            await eventually(lambda: up.command is not None and up.command.output.count("go by them now") == 2)
            assert not stream.closed
    assert await up.tools(token) == ["find", "read_file"]
    # What is taken away is unknown at once, in both.
    up.write(up.rules(["search/read_file"]))
    await eventually(lambda: up.everywhere(up.ann, ["read_file"]))
    await eventually(lambda: up.everywhere(token, ["read_file"]))
    assert "restart" not in up.command.output
    # A front end that is started later has the rules of now.
    before = await front_ends(up)
    os.kill(before[0], signal.SIGKILL)
    await eventually(lambda: _replaced(up, before), 20.0)
    assert await up.everywhere(up.ann, ["read_file"])


async def _replaced(up: Up, before: list[int]) -> bool:
    with contextlib.suppress(aiohttp.ClientError, ValueError):
        now = await front_ends(up)
        return len(now) >= 2 and before[0] not in now
    return False


async def test_what_is_wrong_or_needs_a_restart_changes_nothing_and_says_why(up: Up) -> None:
    assert up.command is not None
    up.write(up.rules(["search/find/"]))
    said = await up.command.says(r"was not applied, the old configuration stays: (.*)\n")
    assert "access.roles.user.allow[0]" in said
    up.write(up.rules(["search/read_file"], audit={}))
    said = await up.command.says(r"the rules of access have changed and are not applied.* because (.*)\n")
    assert "access.audit" in said
    assert "gateway restart" in said
    assert await up.everywhere(up.ann, ["find"])
    up.write(up.rules(["search/read_file"]))
    await eventually(lambda: up.everywhere(up.ann, ["read_file"]))


async def test_keys_issuers_and_limits_of_a_file_that_changes_count_everywhere(up: Up) -> None:
    token = up.issuer.token(aud=up.url + "/mcp")
    assert await up.statuses(token) == {200}
    less = up.rules(["search/find"], limits={"user": {"calls": "2/h"}})
    less["authentication"] = [{**less["authentication"][0], "keys": less["authentication"][0]["keys"][:1]}]
    up.write(less)
    await eventually(lambda: _is(up.statuses(up.ben), {401}))  # it has left the file
    await eventually(lambda: _is(up.statuses(token), {401}))  # nobody believes its issuer any more
    assert await up.statuses(up.ann) == {200}
    async with As(up.url + "/mcp", up.ann) as client:
        assert [(await client.call("find")).status for _ in range(3)] == [200, 200, 429]
        up.write({**less, "limits": {"user": {"calls": "1000/s"}}})
        await eventually(lambda: _served(client))
        assert [(await client.call("find")).status for _ in range(5)] == [200] * 5


async def _served(client: RawClient) -> bool:
    return (await client.call("find")).status == 200


async def _is(coroutine: Any, wanted: set[int]) -> bool:
    return bool(await coroutine == wanted)
