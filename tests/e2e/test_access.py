"""Who may use the gateway: API keys, tokens of an issuer, and what their roles allow, over two front ends."""

from __future__ import annotations

import asyncio
import json
import secrets
import zlib
from collections.abc import AsyncIterator
from typing import Any

import aiohttp
import pytest
import pytest_asyncio

from tests.clients import RawClient
from tests.fleet import Fleet, eventually
from tests.issuer import ED, Issuer
from tests.servers.raw import RawUpstreams

ADMIN = {"Authorization": "Bearer the-admin-token", "Content-Type": "application/json"}
AUDIENCE = "https://mcp.example/mcp"
SCHEMA = {"type": "object"}
TOOLS = [
    {"name": "find", "inputSchema": SCHEMA, "annotations": {"readOnlyHint": True}},
    {"name": "delete_all", "inputSchema": SCHEMA},
    {"name": "read_file", "inputSchema": SCHEMA},
]


def rules(issuer: Issuer) -> str:
    return json.dumps(
        {
            "authentication": [
                {"type": "apiKey"},
                {"type": "jwt", "issuer": issuer.url, "audience": AUDIENCE},
                {
                    "type": "introspection",
                    "url": f"{issuer.url}/introspect",
                    "clientId": "gw",
                    "clientSecret": "password",
                },
            ],
            "roles": {
                "support": {
                    "when": "'support' in claims.groups",
                    "allow": [
                        "search/*",
                        {"match": "files/read_file", "args": "args.path.startsWith('/public/')"},
                    ],
                    "deny": ["*/delete_*"],
                },
                "reader": {"allow": [{"match": "*", "tool": "tool.readOnlyHint"}]},
                "writer": {"scopes": ["files:write"], "stepUp": True, "allow": ["files/*"]},
                "ops": {"allow": ["*"], "admin": "write"},
                "auditor": {"allow": ["search/find"], "admin": "read"},
            },
        }
    )


@pytest_asyncio.fixture(scope="module")
async def fleet(redis_url: str, issuer: Issuer) -> AsyncIterator[Fleet]:
    async with RawUpstreams() as upstreams:
        for name in ("search", "files"):
            upstreams.add(name, TOOLS, era="modern" if name == "search" else "legacy")
        settings = {"admin_token": "the-admin-token", "access_rules": rules(issuer)}
        async with Fleet(redis_url, frontends=2, workers=2, **settings) as fleet:
            for name in ("search", "files"):
                await fleet.register(name, upstreams.connection(name))
            yield fleet


class As(RawClient):
    """A client with credentials."""

    def __init__(self, url: str, credentials: str | None) -> None:
        super().__init__(url)
        if credentials:
            self.session.headers["Authorization"] = f"Bearer {credentials}"

    async def tools(self) -> list[str]:
        answer = await self.modern("tools/list")
        assert answer.status == 200, answer.text
        return [tool["name"] for tool in answer.body["result"]["tools"]]


async def admin(fleet: Fleet, method: str, path: str, body: Any = None, headers: Any = ADMIN) -> tuple[int, Any]:
    async with (
        aiohttp.ClientSession() as session,
        session.request(method, f"{fleet.url}/admin/v1/{path}", json=body, headers=headers) as response,
    ):
        text = await response.text()
        return response.status, json.loads(text) if text else None


def unknown_key() -> str:
    """A key of the right form that nobody made."""
    text = "gwk_" + secrets.token_urlsafe(32)
    return f"{text}{zlib.crc32(text.encode()):08x}"


async def make_key(fleet: Fleet, name: str, *roles: str) -> str:
    status, made = await admin(fleet, "POST", "keys", {"name": name, "roles": list(roles)})
    assert status == 201, made
    return str(made["key"])


async def test_nobody_comes_in_without_credentials_in_any_way(fleet: Fleet) -> None:
    for credentials in (None, "wrong", "gwk_" + "A" * 43 + "00000000", "a.b.c"):
        async with As(fleet.urls[0], credentials) as client:
            ping = {"jsonrpc": "2.0", "id": 1, "method": "ping"}
            for answer in (
                await client.modern("tools/list"),
                await client.post({**ping, "method": "initialize", "params": {}}),
                await client.post([ping]),
                await client.post(ping, url=f"{fleet.url}/servers/search/mcp"),
                await client.post(ping, url=f"{fleet.url}/messages?session_id=x"),
            ):
                assert answer.status == 401, answer.text
                challenge = answer.headers["WWW-Authenticate"]
                assert challenge.startswith("Bearer ") and "resource_metadata=" in challenge
                assert ('error="invalid_token"' in challenge) == (credentials is not None)
            for method, path in (("GET", "/mcp"), ("DELETE", "/mcp"), ("GET", "/sse"), ("GET", "/servers/search/sse")):
                headers = {"Accept": "text/event-stream"}
                async with client.session.request(method, fleet.url + path, headers=headers) as response:
                    assert response.status == 401, path


async def test_the_metadata_of_each_endpoint_names_the_issuer(fleet: Fleet, issuer: Issuer) -> None:
    async with aiohttp.ClientSession() as session:
        for path in ("/mcp", "/sse", "/servers/search/mcp", ""):
            async with session.get(f"{fleet.url}/.well-known/oauth-protected-resource{path}") as response:
                found = await response.json()
            assert found["resource"] == fleet.url + path
            assert found["authorization_servers"] == [issuer.url]
            assert "scopes_supported" not in found  # those of step-up come when a call needs them


async def test_the_events_of_the_fleet_end_with_the_key_of_who_follows_them(fleet: Fleet) -> None:
    key = await make_key(fleet, "watcher", "auditor")
    headers = {"Authorization": f"Bearer {key}", "Accept": "text/event-stream"}
    async with (
        aiohttp.ClientSession() as session,
        session.get(f"{fleet.url}/admin/v1/events", headers=headers) as stream,
    ):
        assert stream.status == 200
        assert (await admin(fleet, "DELETE", "keys/watcher"))[0] == 204

        async def ended() -> bool:
            return not await stream.content.read(65536)

        await eventually(ended, 5.0, "the events end")


async def test_a_key_works_at_every_front_end_at_once_until_it_is_revoked(fleet: Fleet) -> None:
    key = await make_key(fleet, "ci", "ops")
    for url in fleet.urls:
        async with As(url, key) as client:
            assert len(await client.tools()) == 6
            assert (await client.call("search__find")).content == "search"
    status, listed = await admin(fleet, "GET", "keys")
    shown = next(one for one in listed if one["name"] == "ci")
    assert status == 200 and shown["roles"] == ["ops"] and key not in json.dumps(listed) and "digest" not in shown
    async with As(fleet.urls[1], key) as client:
        await client.initialize()
        headers = {**client.legacy_headers(), "Accept": "text/event-stream"}
        async with client.session.get(fleet.urls[1], headers=headers) as stream:
            assert stream.status == 200
            assert (await admin(fleet, "DELETE", "keys/ci"))[0] == 204

            async def ended() -> bool:
                return not await stream.content.read(65536)

            await eventually(ended, 5.0, "the stream of a revoked key ends")

        async def refused() -> bool:
            return (await client.legacy("ping")).status == 401

        await eventually(refused, 5.0, "a revoked key is refused")
    assert (await admin(fleet, "DELETE", "keys/ci"))[0] == 404


async def test_a_key_by_the_header_that_many_clients_have_for_it(fleet: Fleet) -> None:
    key = await make_key(fleet, "header", "ops")
    async with As(fleet.urls[0], None) as client:
        assert (await client.modern("tools/list", headers={"X-API-Key": key})).status == 200


async def test_a_key_that_expires_ends(fleet: Fleet) -> None:
    status, made = await admin(fleet, "POST", "keys", {"name": "brief", "roles": ["ops"], "expires": "2s"})
    assert status == 201
    async with As(fleet.urls[0], made["key"]) as client:
        assert await client.tools()

        async def refused() -> bool:
            return (await client.modern("tools/list")).status == 401

        await eventually(refused, 10.0, "an expired key is refused")


@pytest.mark.parametrize(
    "body", [{"name": "x y"}, {"name": "a", "roles": ["nope"]}, {"name": "a", "expires": "soon"}, {"nam": "a"}]
)
async def test_wrong_keys_are_refused_with_the_cure(fleet: Fleet, body: dict[str, Any]) -> None:
    status, answer = await admin(fleet, "POST", "keys", body)
    assert status == 400 and answer["error"]


async def test_roles_of_a_token_say_what_is_seen_and_the_rest_is_unknown(fleet: Fleet, issuer: Issuer) -> None:
    token = issuer.token(groups=["support"])
    async with As(fleet.urls[0], token) as client:
        names = await client.tools()
        assert sorted(names) == ["files__find", "files__read_file", "find", "read_file"]
        assert not any("delete" in name for name in names)
        hidden = await client.call("search__delete_all")
        never = await client.call("search__never_was")
        assert hidden.status == never.status == 400
        assert hidden.error["code"] == never.error["code"]
        assert hidden.error["message"].replace("delete_all", "") == never.error["message"].replace("never_was", "")


async def test_a_condition_on_arguments_lets_only_those_calls_through(fleet: Fleet, issuer: Issuer) -> None:
    async with As(fleet.urls[1], issuer.token(groups=["support"])) as client:
        names = await client.tools()
        name = next(one for one in names if one.endswith("read_file") and one.startswith("files"))
        assert (await client.call(name, {"path": "/public/a"})).content == "files"
        for arguments in ({"path": "/etc/passwd"}, {}, {"path": 1}, {"path": None}):
            refused = await client.call(name, arguments)
            assert refused.status == 403 and refused.error["data"]["code"] == "arguments_denied"
        twice = b'{"path":"/public/a","path":"/etc/passwd"}'
        body = json.dumps(
            {"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": {"name": name, "arguments": {}}}
        ).encode()
        await client.initialize()
        answer = await client.post(body.replace(b'"arguments": {}', b'"arguments": ' + twice), client.legacy_headers())
        assert "twice" in answer.error["message"]


async def test_a_condition_on_annotations(fleet: Fleet) -> None:
    key = await make_key(fleet, "reader", "reader")
    async with As(fleet.urls[0], key) as client:
        names = await client.tools()
        assert names and all(name.endswith("find") for name in names)


async def test_a_call_that_needs_more_scopes_says_which(fleet: Fleet, issuer: Issuer) -> None:
    async with As(fleet.urls[0], issuer.token()) as client:
        names = await client.tools()
        assert sorted(names) == ["files__delete_all", "files__find", "files__read_file"]
        refused = await client.call(names[0])
        assert refused.status == 403
        challenge = refused.headers["WWW-Authenticate"]
        assert 'error="insufficient_scope"' in challenge and 'scope="files:write"' in challenge
        assert "resource_metadata=" in challenge
        await client.initialize()
        assert (await client.legacy_call(names[0])).status == 403
    async with As(fleet.urls[0], issuer.token(scope="files:write other")) as client:
        assert (await client.call((await client.tools())[0])).content == "files"


async def test_every_kind_of_key_and_audience_of_an_issuer(fleet: Fleet, issuer: Issuer) -> None:
    async with As(fleet.urls[0], issuer.token(ED, "EdDSA", "ed-1", aud=["x", AUDIENCE], scp=["files:write"])) as client:
        assert await client.tools()


@pytest.mark.parametrize(
    "changed",
    [
        {"aud": "https://other.example/mcp"},
        {"aud": None},
        {"iss": "https://evil.example"},
        {"exp": 1},
        {"exp": None},
        {"nbf": 4_000_000_000},
        {"sub": None},
        {"cnf": {"jkt": "x"}},
        {"cnf": {"x5t#S256": "x"}},
    ],
    ids=str,
)
async def test_wrong_tokens(fleet: Fleet, issuer: Issuer, changed: dict[str, Any]) -> None:
    async with As(fleet.urls[0], issuer.token(**changed)) as client:
        assert (await client.modern("tools/list")).status == 401


async def test_an_opaque_token_is_asked_about(fleet: Fleet, issuer: Issuer) -> None:
    issuer.active["opaque-1"] = {"active": True, "sub": "bob", "groups": ["support"]}
    async with As(fleet.urls[0], "opaque-1") as client:
        assert await client.tools()
        asked = issuer.asked
        assert await client.tools() and issuer.asked == asked  # the answer is remembered
    async with As(fleet.urls[0], "opaque-2") as client:
        assert (await client.modern("tools/list")).status == 401


async def test_a_session_of_another_principal_is_unknown(fleet: Fleet, issuer: Issuer) -> None:
    ann, eve = issuer.token(sub="ann", scope="files:write"), issuer.token(sub="eve", scope="files:write")
    async with As(fleet.urls[0], ann) as mine, As(fleet.urls[1], eve) as hers:
        await mine.initialize()
        assert (await mine.legacy("ping", url=fleet.urls[1])).status == 200
        hers.sid = mine.sid
        stolen = await hers.legacy("ping")
        hers.sid = mine.sid[:-8] + "AAAAAAAA"
        never = await hers.legacy("ping")
        assert stolen.status == never.status == 404
        assert stolen.error == never.error
        headers = {"Mcp-Session-Id": mine.sid, "Accept": "text/event-stream"}
        async with hers.session.get(fleet.urls[0], headers=headers) as response:
            assert response.status == 404
        async with hers.session.delete(fleet.urls[0], headers=headers) as response:
            assert response.status == 404
        assert (await mine.legacy("ping")).status == 200


async def test_admin_rights_come_with_roles(fleet: Fleet) -> None:
    ops, auditor, none = [
        await make_key(fleet, name, *roles)
        for name, roles in (("a-ops", ["ops"]), ("a-audit", ["auditor"]), ("a-none", ["reader"]))
    ]
    body = {"id": "x", "connection": {"url": "http://127.0.0.1:9/mcp"}}
    for key, read, write in ((ops, 200, 201), (auditor, 200, 401), (none, 401, 401), ("wrong", 401, 401)):
        headers = {"Authorization": f"Bearer {key}", "Content-Type": "application/json"}
        assert (await admin(fleet, "GET", "servers", headers=headers))[0] == read
        assert (await admin(fleet, "POST", "servers", body, headers))[0] == write
    assert (await admin(fleet, "DELETE", "servers/x"))[0] == 204


async def test_explain_says_which_rule_decides(fleet: Fleet) -> None:
    await make_key(fleet, "explained", "reader")
    _, allowed = await admin(fleet, "GET", "access/explain?as=key:explained&tool=search__find")
    assert (
        allowed["shown"] and allowed["roles"] == ["reader"] and allowed["rules"] == ["access.roles.reader.allow[0]: *"]
    )
    claims = json.dumps({"groups": ["support"]})
    _, denied = await admin(fleet, "GET", f"access/explain?as=x%23ann&tool=search__delete_all&claims={claims}")
    assert not denied["shown"] and denied["rules"] == ["access.roles.support.deny[0]: */delete_*"]
    assert (await admin(fleet, "GET", "access/explain?as=key:nobody&tool=search__find"))[0] == 404


async def test_limits_hold_over_front_ends(redis_url: str) -> None:
    async with RawUpstreams() as upstreams:
        slow = upstreams.add("slow", TOOLS, era="legacy")
        rules = {
            "authentication": [{"type": "apiKey"}],
            "roles": {"r": {"allow": ["*"]}, "few": {"allow": ["*"]}},
            "limits": {"r": {"calls": "20/h"}, "few": {"concurrent": 3}},
        }
        settings = {"admin_token": "the-admin-token", "access_rules": json.dumps(rules)}
        async with Fleet(redis_url, frontends=2, workers=1, **settings) as fleet:
            await fleet.register("slow", upstreams.connection("slow"))
            key, few = await make_key(fleet, "r", "r"), await make_key(fleet, "few", "few")
            for name, limit in (("r", "r.calls: 20 calls in 3600 s"), ("few", "few.concurrent: 3 calls at once")):
                explained = (await admin(fleet, "GET", f"access/explain?as=key:{name}&tool=find"))[1]
                assert explained["limits"] == [limit]
            async with As(fleet.urls[0], key) as one, As(fleet.urls[1], key) as two:
                answers = await asyncio.gather(*(client.call("find") for client in (one, two) for _ in range(15)))
                assert [answer.status for answer in answers].count(200) == 20
                refused = next(answer for answer in answers if answer.status == 429)
                assert refused.error["data"]["limit"] == "r.calls" and int(refused.headers["Retry-After"]) > 0
                assert (await one.modern("tools/list")).status == 200, "lists cost the upstream nothing"
            slow.behaviour = "hang"
            async with As(fleet.urls[0], few) as one, As(fleet.urls[1], few) as two:
                hanging = [asyncio.ensure_future(client.call("find")) for client in (one, two, one)]
                await eventually(lambda: len(slow.tool_calls) >= 23, 10.0, "three calls are under way")
                for client in (one, two):
                    refused = await client.call("find")
                    assert refused.status == 429 and refused.error["data"]["limit"] == "few.concurrent"
                slow.behaviour = "ok"
                slow.release.set()
                for task in hanging:
                    task.cancel()
                await asyncio.gather(*hanging, return_exceptions=True)

                async def again() -> bool:
                    return (await two.call("find")).status == 200

                await eventually(again, 10.0, "slots come back")
