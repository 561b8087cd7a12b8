"""What a role does not show cannot be reached by any way round, over two front ends and workers.

A guest may use little of ``open`` and nothing of ``secret``. Whatever is hidden is answered as what never was.
"""

from __future__ import annotations

import base64
import json
from collections.abc import AsyncIterator
from typing import Any

import pytest
import pytest_asyncio

from tests.clients import RawClient
from tests.e2e.test_access import ADMIN, As, admin, make_key
from tests.fleet import Fleet, SdkServer, eventually
from tests.servers.raw import RawUpstreams
from tests.streams import listening, standing

TOOLS = [{"name": "look", "inputSchema": {"type": "object"}}, {"name": "drop", "inputSchema": {"type": "object"}}]
TRIED = ("search_tools", "call_tool", "ask", "secret__ask")
RULES = {
    "authentication": [{"type": "apiKey"}],
    "roles": {
        "guest": {
            "allow": ["tools:open/echo", "resources:open/memo://open/notes/1*", "plain/look"],
            "deny": ["methods:logging/*"],
        },
        "member": {"allow": ["open/*", "plain/*"], "deny": ["methods:example/forbidden", "methods:notifications/x"]},
        "all": {"allow": ["*"]},
        "auditor": {"allow": ["*"], "admin": "read"},
        "nearly": {"allow": ["*"], "deny": ["secret/*", "late/*"]},
    },
}


@pytest_asyncio.fixture(scope="module")
async def upstreams() -> AsyncIterator[RawUpstreams]:
    async with RawUpstreams() as upstreams:
        upstreams.add("plain", TOOLS)
        yield upstreams


@pytest_asyncio.fixture(scope="module")
async def fleet(redis_url: str, upstreams: RawUpstreams) -> AsyncIterator[Fleet]:
    settings = {"admin_token": "the-admin-token", "access_rules": json.dumps(RULES)}
    async with (
        SdkServer("http", "open") as opened,
        SdkServer("http", "secret") as secret,
        Fleet(redis_url, 2, 2, **settings) as fleet,
    ):
        await fleet.register("open", opened.connection)
        await fleet.register("secret", secret.connection)
        await fleet.register("plain", upstreams.connection("plain"))
        yield fleet


@pytest_asyncio.fixture(scope="module")
async def keys(fleet: Fleet) -> dict[str, str]:
    return {role: await make_key(fleet, f"key-{role}", role) for role in RULES["roles"]}


@pytest_asyncio.fixture
async def guest(fleet: Fleet, keys: dict[str, str]) -> AsyncIterator[As]:
    async with As(fleet.urls[0], keys["guest"]) as client:
        await client.initialize()
        yield client


async def test_a_guest_sees_what_the_role_allows(fleet: Fleet, guest: As) -> None:
    assert sorted(await guest.tools()) == ["echo", "look"]
    assert (await guest.call("echo", {"text": "hi"})).content == "hi"
    assert (await guest.call("open__echo", {"text": "hi"})).content == "hi"
    read = await guest.modern("resources/read", {"uri": "memo://open/notes/12"}, {"Mcp-Name": "memo://open/notes/12"})
    assert read.body["result"]["contents"][0]["text"] == "note 12 of open"
    offered = (await guest.modern("server/discover")).text
    assert "I am open" in offered and "secret" not in offered
    for method, member in (("prompts/list", "prompts"), ("resources/list", "resources")):
        assert (await guest.modern(method)).body["result"][member] == []


HIDDEN = [
    ("tools/call", "name", "secret__echo", "secret__ohce"),
    ("tools/call", "name", "open__add", "open__dda"),
    ("tools/call", "name", "plain__drop", "plain__pord"),
    ("prompts/get", "name", "secret__greet", "secret__teerg"),
    ("prompts/get", "name", "open__greet", "open__teerg"),
    ("resources/read", "uri", "memo://secret/fixed", "memo://secret/dexif"),
    ("resources/read", "uri", "memo://open/fixed", "memo://open/dexif"),
    ("resources/read", "uri", "memo://common", "memo://nommoc"),
    ("resources/read", "uri", "memo://secret/notes/1", "memo://terces/seton/1"),
    ("resources/read", "uri", "memo://open/notes/2", "memo://open/seton/2"),
    ("resources/read", "uri", "memo://open/notes/1/../2", "memo://open/seton/1/../2"),
    ("resources/read", "uri", "memo://open/notes/1/%2e%2e/2", "memo://open/seton/1/%2e%2e/2"),
    ("resources/read", "uri", "memo://open/notes/1%2f..%2f2", "memo://open/seton/1%2f..%2f2"),
    ("resources/subscribe", "uri", "memo://secret/fixed", "memo://secret/dexif"),
    ("resources/subscribe", "uri", "memo://open/fixed", "memo://open/dexif"),
]


@pytest.mark.parametrize("path", ["/mcp", "/servers/open/mcp", "/servers/secret/mcp"])
@pytest.mark.parametrize(("method", "member", "hidden", "never"), HIDDEN, ids=[f"{one[0]} {one[2]}" for one in HIDDEN])
async def test_what_is_hidden_is_as_what_never_was(
    fleet: Fleet, guest: As, method: str, member: str, hidden: str, never: str, path: str
) -> None:
    guest.url = fleet.frontends[1].url + path
    await guest.initialize()
    seen = []
    for name in (hidden, never):
        answer = await guest.legacy(method, {member: name})
        seen.append((answer.status, answer.text.replace(name, "X"), answer.error["code"]))
        if method != "resources/subscribe":
            modern = await guest.modern(method, {member: name}, {"Mcp-Name": name})
            seen.append((modern.status, modern.error["code"], modern.error["message"].replace(name, "X")))
    half = len(seen) // 2
    without_ids = [tuple(str(one).split('"error"')[-1] for one in entry) for entry in seen]
    assert without_ids[:half] == without_ids[half:]


async def test_a_hidden_group_is_as_one_that_never_was(fleet: Fleet, guest: As) -> None:
    for method in ("tools/list", "resources/list", "prompts/list", "resources/templates/list", "server/discover"):
        seen = []
        for group in ("secret", "never"):
            guest.url = f"{fleet.frontends[1].url}/servers/{group}/mcp"
            answer = await guest.modern(method)
            seen.append((answer.status, answer.body.get("result"), answer.body.get("error")))
        assert seen[0] == seen[1]


async def test_completion_says_nothing_of_what_is_hidden(guest: As) -> None:
    argument = {"name": "person", "value": "ann"}
    for name in ("open__greet", "secret__greet", "never"):
        ref = {"type": "ref/prompt", "name": name}
        answer = await guest.modern("completion/complete", {"ref": ref, "argument": argument})
        assert answer.body["result"]["completion"]["values"] == []


async def test_a_denied_method_is_as_one_that_never_was(fleet: Fleet, keys: dict[str, str], guest: As) -> None:
    denied = await guest.legacy("logging/setLevel", {"level": "debug"})
    never = await guest.legacy("logging/levelSet", {"level": "debug"})
    assert denied.error["code"] == never.error["code"] == -32601
    assert denied.error["message"].replace("setLevel", "levelSet") == never.error["message"]
    denied = await guest.post([{"jsonrpc": "2.0", "id": 1, "method": "logging/setLevel", "params": {"level": "debug"}}])
    assert "result" not in denied.text


async def test_methods_that_nobody_knows_are_for_those_who_may_use_the_whole_group(
    fleet: Fleet, upstreams: RawUpstreams, keys: dict[str, str]
) -> None:
    """Nobody knows what such a method does: it might use what the role hides."""
    url = f"{fleet.frontends[0].url}/servers/plain/mcp"
    calls = upstreams.endpoints["plain"].calls
    async with As(url, keys["guest"]) as guest, As(url, keys["member"]) as member:
        assert (await member.modern("example/anything", {"value": 5})).body["result"]["echo"] == 5
        assert (await member.modern("example/forbidden")).error["code"] == -32601
        before = len(calls)
        assert (await guest.modern("example/anything", {"value": 5})).error["code"] == -32601
        await guest.initialize()
        await guest.legacy_notice("notifications/y")
        await member.initialize()
        await member.legacy_notice("notifications/x")  # denied
        await member.legacy_notice("notifications/y")
        assert (await member.modern("example/last")).status == 200
        assert [one["method"] for one in calls[before:]][-1] == "example/last"
        assert "notifications/x" not in [one["method"] for one in calls]


async def test_changes_of_what_is_hidden_are_not_told(fleet: Fleet, keys: dict[str, str]) -> None:
    async with As(fleet.urls[1], keys["guest"]) as guest, As(fleet.urls[0], keys["all"]) as other:
        await guest.initialize()
        await other.initialize()
        async with (
            standing(guest, fleet.urls[1]) as quiet,
            listening(guest, fleet.urls[0], toolsListChanged=True) as quiet_too,
            standing(other, fleet.urls[1]) as told,
        ):
            await other.call("secret__grow", {"tool": "grown"})
            await eventually(lambda: "notifications/tools/list_changed" in told.methods(), 10.0, "told")
            await other.call("open__grow", {"tool": "grown"})
            await eventually(lambda: told.methods().count("notifications/tools/list_changed") > 1, 10.0, "told again")
            assert "notifications/tools/list_changed" not in quiet.methods() + quiet_too.methods()


async def test_a_denied_group_that_is_starting_is_not_named(fleet: Fleet, keys: dict[str, str]) -> None:
    await fleet.register("late", {"type": "http", "url": "http://127.0.0.1:9/mcp"}, connected=False)
    try:
        async with As(fleet.urls[0], keys["all"]) as everything, As(fleet.urls[0], keys["nearly"]) as nearly:

            async def named() -> bool:
                return "late" in (await everything.modern("tools/list")).text

            await eventually(named, 10.0, "who may use it hears of it")
            assert "late" not in (await nearly.modern("tools/list")).text
            assert "late" not in (await nearly.call("never")).text
            missing = await nearly.call("late__x")
            assert missing.error["data"]["code"] == "tool_unknown"
    finally:
        assert (await admin(fleet, "DELETE", "servers/late"))[0] == 204


async def test_pages_and_cursors_of_others_show_nothing_more(fleet: Fleet, keys: dict[str, str]) -> None:
    """Cursors are places in a list. One of somebody who sees more leads through one's own list."""
    async with As(fleet.urls[0], keys["guest"]) as guest:
        everything = set(await guest.tools())
        for place in ("0.0", "1.0", "2.5", "-1.-1", "99999.0"):
            cursor = base64.urlsafe_b64encode(place.encode()).rstrip(b"=").decode()
            answer = await guest.modern("tools/list", {"cursor": cursor})
            assert {tool["name"] for tool in answer.body["result"]["tools"]} <= everything


async def test_the_right_to_read_changes_nothing(fleet: Fleet, keys: dict[str, str]) -> None:
    headers = {**ADMIN, "Authorization": f"Bearer {keys['auditor']}"}
    assert (await admin(fleet, "GET", "servers", headers=headers))[0] == 200
    explained = await admin(fleet, "GET", "access/explain?as=key:key-guest&tool=secret__echo", headers=headers)
    assert explained[0] == 200 and explained[1]["shown"] is False
    body: Any = {"name": "own", "roles": ["all"]}
    for method, path in (
        ("POST", "keys"),
        ("DELETE", "keys/key-guest"),
        ("POST", "servers"),
        ("PUT", "servers/open"),
        ("PATCH", "servers/open"),
        ("DELETE", "servers/open"),
        ("POST", "servers/open/restart"),
        ("POST", "servers/open/drain"),
        ("DELETE", "sessions/x"),
    ):
        status, _ = await admin_status(fleet, method, path, body, headers)
        assert status in (401, 403, 404, 405), (method, path, status)
    assert "own" not in json.dumps((await admin(fleet, "GET", "keys"))[1])
    assert (await admin(fleet, "GET", "servers/open"))[0] == 200


async def admin_status(fleet: Fleet, method: str, path: str, body: Any, headers: Any) -> tuple[int, str]:
    async with RawClient(fleet.url) as raw:
        url = f"{fleet.url}/admin/v1/{path}"
        async with raw.session.request(method, url, json=body, headers=headers) as response:
            return response.status, await response.text()


@pytest.mark.parametrize("more", [{}, {"discovery": "search"}], ids=["listed", "searched"])
async def test_a_virtual_server_of_which_nothing_is_shown_is_as_one_that_never_was(
    fleet: Fleet, keys: dict[str, str], guest: As, more: dict[str, str]
) -> None:
    document = {"tools": ["secret/*"], "instructions": "how to open the vault", **more}
    status, _ = await admin(fleet, "PUT", "virtual-servers/vault", document)
    assert status in (200, 201)
    url = f"{fleet.frontends[1].url}/servers"
    async with As(f"{url}/vault/mcp", keys["all"]) as member:

        async def served() -> bool:
            return bool((await member.modern("tools/list")).body["result"]["tools"])

        await eventually(served)
    for method in ("server/discover", "tools/list", "resources/list", "prompts/list", "resources/templates/list"):
        seen = []
        for name in ("vault", "never"):
            guest.url = f"{url}/{name}/mcp"
            answer = await guest.modern(method)
            seen.append((answer.status, answer.body.get("result"), answer.body.get("error")))
        assert seen[0] == seen[1], method
    said = []
    for name in ("vault", "never"):
        guest.url, guest.sid = f"{url}/{name}/mcp", ""
        opened = await guest.initialize()
        called = [await guest.legacy("tools/call", {"name": one, "arguments": {"query": "x"}}) for one in TRIED]
        listed = await guest.legacy("tools/list")
        said.append((opened.body["result"], listed.body["result"], [(one.status, one.error) for one in called]))
    assert said[0] == said[1]
    assert (await admin(fleet, "DELETE", "virtual-servers/vault"))[0] in (200, 204)
