"""Bad requests get a clear error and harm nobody."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import pytest
import pytest_asyncio

from tests.clients import MODERN_META, RawClient
from tests.fleet import Fleet
from tests.servers.raw import RawUpstreams


@pytest_asyncio.fixture(scope="module")
async def fleet(redis_url: str, upstreams: RawUpstreams) -> AsyncIterator[Fleet]:
    async with Fleet(redis_url, frontends=1, workers=1) as fleet:
        annotated = {"type": "object", "properties": {"region": {"type": "string", "x-mcp-header": "Region"}}}
        upstreams.add(
            "up",
            [
                {"name": "who", "inputSchema": {"type": "object"}},
                {"name": "regional", "inputSchema": annotated},
            ],
        )
        await fleet.register("up", upstreams.connection("up"))
        yield fleet


@pytest_asyncio.fixture
async def client(fleet: Fleet) -> AsyncIterator[RawClient]:
    async with RawClient(fleet.urls[0]) as client:
        yield client
        assert (await client.call("who")).content == "up", "the gateway still serves"


@pytest.mark.parametrize(
    ("body", "status", "code"),
    [
        (b"", 400, -32700),
        (b"{", 400, -32700),
        (b"hello", 400, -32700),
        (b'{"jsonrpc":"2.0","id":1,"method":"\xff\xfe"}', 400, -32700),
        (b'{"a":' * 100_000, 400, -32700),
        (b"42", 400, -32600),
        (b"{}", 400, -32600),
        (b'{"jsonrpc":"1.0","id":1,"method":"ping"}', 400, -32600),
        (b'{"jsonrpc":"2.0","id":1.5,"method":"ping"}', 400, -32600),
        (b'{"jsonrpc":"2.0","id":null,"method":"ping"}', 400, -32600),
        (b'{"jsonrpc":"2.0","id":1,"method":7}', 400, -32600),
        (b'{"jsonrpc":"2.0","id":1,"method":"tools/call","params":[1]}', 400, -32602),
        (b"[]", 400, -32600),
    ],
)
async def test_what_is_no_json_rpc_message_is_named(client: RawClient, body: bytes, status: int, code: int) -> None:
    answer = await client.post(body)
    assert (answer.status, answer.error["code"]) == (status, code), answer.text


async def test_a_body_over_the_limit_is_413(client: RawClient) -> None:
    answer = await client.post(b'{"x":"' + b"a" * 11_000_000 + b'"}')
    assert answer.status == 413 and "maxBodyBytes" in answer.error["message"]


async def test_a_large_body_under_the_limit_passes(client: RawClient, upstreams: RawUpstreams) -> None:
    answer = await client.call("who", {"blob": "x" * 900_000})
    assert answer.content == "up"
    assert len(upstreams.endpoints["up"].tool_calls[-1]["params"]["arguments"]["blob"]) == 900_000


async def test_an_unknown_tool_is_named_with_close_matches(client: RawClient) -> None:
    answer = await client.call("whoo")
    assert answer.status == 400 and answer.error["code"] == -32602
    assert "whoo" in answer.error["message"] and answer.error["data"]["closeMatches"] == ["who"]
    legacy = await client.legacy_call("whoo")
    assert legacy.status == 200 and legacy.error["code"] == -32602


async def test_arguments_of_any_type_are_the_upstreams_business(client: RawClient, upstreams: RawUpstreams) -> None:
    arguments = b'[12345678901234567890123,1.10,"\\u00e9"]'
    params = b'{"name":"who","arguments":%b,"odd":{"b":1,"a":2}}' % arguments
    message = b'{"jsonrpc":"2.0","id":1,"method":"tools/call","params":%b}' % params
    assert (await client.post(message)).content == "up"
    seen = upstreams.endpoints["up"].tool_calls[-1]["params"]
    assert seen["arguments"] == [12345678901234567890123, 1.1, "é"] and list(seen["odd"]) == ["b", "a"]


def _modern(params: dict[str, Any], method: str = "tools/call") -> dict[str, Any]:
    return {"jsonrpc": "2.0", "id": 9, "method": method, "params": params}


@pytest.mark.parametrize(
    ("meta", "headers", "code"),
    [
        ({"io.modelcontextprotocol/protocolVersion": "2026-07-28"}, {}, -32602),
        (MODERN_META, {"MCP-Protocol-Version": "2025-11-25"}, -32020),
        (MODERN_META, {"MCP-Protocol-Version": ""}, -32020),
        (MODERN_META, {"Mcp-Method": "tools/list"}, -32020),
        (MODERN_META, {"Mcp-Name": "other"}, -32020),
        (MODERN_META, {"Mcp-Name": "=?base64?!!!?="}, -32020),
        (
            {**MODERN_META, "io.modelcontextprotocol/protocolVersion": "2099-01-01"},
            {"MCP-Protocol-Version": "2099-01-01"},
            -32022,
        ),
        ({**MODERN_META, "io.modelcontextprotocol/clientCapabilities": 5}, {}, -32602),
    ],
)
async def test_modern_requests_are_validated(
    client: RawClient, meta: dict[str, Any], headers: dict[str, str], code: int
) -> None:
    base = {"MCP-Protocol-Version": "2026-07-28", "Mcp-Method": "tools/call", "Mcp-Name": "who"}
    answer = await client.post(_modern({"name": "who", "_meta": meta}), {**base, **headers})
    assert (answer.status, answer.error["code"]) == (400, code)
    if code == -32022:
        assert answer.error["data"]["supported"] == ["2026-07-28"]


async def test_a_base64_name_header_is_understood(client: RawClient) -> None:
    headers = {
        "MCP-Protocol-Version": "2026-07-28",
        "Mcp-Method": "tools/call",
        "Mcp-Name": "=?base64?d2hv?=",
    }
    assert (await client.post(_modern({"name": "who", "_meta": MODERN_META}), headers)).content == "up"


async def test_an_unknown_method_is_404_for_modern_and_200_for_legacy_clients(client: RawClient) -> None:
    modern = await client.modern("no/such")
    assert (modern.status, modern.error["code"]) == (404, -32601)
    legacy = await client.legacy("no/such")
    assert (legacy.status, legacy.error["code"]) == (200, -32601)
    initialize = await client.modern("initialize")
    assert (initialize.status, initialize.error["code"]) == (404, -32601)


async def test_annotated_parameters_are_checked_and_passed_on(client: RawClient, upstreams: RawUpstreams) -> None:
    good = await client.call("regional", {"region": "eu"}, headers={"Mcp-Param-Region": "eu"})
    assert good.content == "up"
    assert upstreams.endpoints["up"].headers[-1]["Mcp-Param-Region"] == "eu"
    for headers in ({}, {"Mcp-Param-Region": "us"}):
        bad = await client.call("regional", {"region": "eu"}, headers=headers)
        assert (bad.status, bad.error["code"]) == (400, -32020)
    await client.legacy_call("regional", {"region": "eu"})
    assert upstreams.endpoints["up"].headers[-1]["Mcp-Param-Region"] == "eu"


@pytest.mark.parametrize(("name", "value"), [("Host", "evil.example"), ("Origin", "http://evil.example")])
async def test_foreign_host_and_origin_are_refused_everywhere(
    client: RawClient, fleet: Fleet, name: str, value: str
) -> None:
    answer = await client.call("who", headers={name: value})
    assert answer.status == 403 and value in answer.error["message"]
    for path in ("/mcp", "/sse", "/admin/v1/servers"):
        async with client.session.get(
            fleet.url + path, headers={name: value, "Accept": "text/event-stream"}
        ) as response:
            assert response.status == 403, path


async def test_a_loopback_origin_gets_cors(client: RawClient, fleet: Fleet) -> None:
    headers = {"Origin": "http://localhost:6274", "Access-Control-Request-Method": "POST"}
    async with client.session.options(fleet.urls[0], headers=headers) as response:
        assert response.status == 204
        assert response.headers["Access-Control-Allow-Origin"] == "http://localhost:6274"
        assert "Mcp-Session-Id" in response.headers["Access-Control-Expose-Headers"]
    answer = await client.call("who", headers={"Origin": "http://localhost:6274"})
    assert answer.headers["Access-Control-Allow-Origin"] == "http://localhost:6274"


@pytest.mark.parametrize(
    ("body", "status", "words"),
    [
        (
            {"id": "up", "connection": {"type": "http", "url": "http://127.0.0.1:1/mcp"}},
            409,
            "registered already",
        ),
        ({"id": "x", "connection": {"type": "carrier-pigeon"}}, 400, "unknown transport"),
        ({"id": "x", "connection": {"url": "ftp://x"}}, 400, "http://"),
        ({"id": "x"}, 400, "connection"),
        ({"id": "a\nb", "connection": {"url": "http://x/mcp"}}, 400, "id"),
        ({"id": "x", "connection": {"command": "sh", "args": ["-c", "true"]}}, 403, "runs a command"),
    ],
)
async def test_a_bad_registration_is_refused(
    client: RawClient, fleet: Fleet, body: dict[str, Any], status: int, words: str
) -> None:
    async with client.session.post(f"{fleet.url}/admin/v1/servers", json=body) as response:
        assert response.status == status
        assert words in (await response.json())["error"]


async def test_secrets_do_not_come_back(client: RawClient, fleet: Fleet) -> None:
    connection = {
        "type": "http",
        "url": "http://user:pass5@127.0.0.1:9/mcp",
        "headers": {"Authorization": "Bearer hunter2"},
    }
    async with client.session.post(
        f"{fleet.url}/admin/v1/servers", json={"id": "hush", "connection": connection}
    ) as response:
        text = await response.text()
    async with client.session.get(f"{fleet.url}/admin/v1/servers/hush") as response:
        text += await response.text()
    assert "hunter2" not in text and "pass5" not in text and "Authorization" in text
    await fleet.store.unregister("hush")


PATHS = ["/mcp/", "//mcp", "/mcp//", "/servers/up/mcp/", "/servers/up//mcp", "//servers/up/mcp"]


@pytest.mark.parametrize("path", PATHS)
async def test_a_slash_too_many_in_the_path_of_an_endpoint_does_no_harm(
    client: RawClient, fleet: Fleet, path: str
) -> None:
    message = {"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": {"name": "who"}}
    assert (await client.post(message, url=f"{fleet.url}{path}")).content == "up"


@pytest.mark.parametrize(("path", "endpoint"), [("/", "/mcp"), ("/servers/up", "/servers/up/mcp")])
async def test_a_message_for_a_path_that_lacks_its_end_is_told_where_to_go(
    client: RawClient, fleet: Fleet, path: str, endpoint: str
) -> None:
    answer = await client.post({"jsonrpc": "2.0", "id": 1, "method": "ping"}, url=f"{fleet.url}{path}")
    assert answer.status == 400
    assert answer.error["message"] == f"MCP is served at {endpoint}: add /mcp to the URL"


@pytest.mark.parametrize(
    "params",
    [
        {"protocolVersion": "2025-06-18", "capabilities": [], "clientInfo": {"name": "php", "version": "1"}},
        {"protocolVersion": "2025-06-18", "capabilities": None, "clientInfo": None},
        {"capabilities": {}},
        {"protocolVersion": None},
    ],
)
async def test_a_client_that_says_little_of_itself_gets_a_session(client: RawClient, params: dict[str, Any]) -> None:
    answer = await client.post({"jsonrpc": "2.0", "id": 1, "method": "initialize", "params": params})
    assert answer.body["result"]["protocolVersion"] == (params.get("protocolVersion") or "2025-11-25")
    client.sid, client.version = answer.headers["Mcp-Session-Id"], answer.body["result"]["protocolVersion"]
    notice = {"jsonrpc": "2.0", "id": None, "method": "notifications/initialized", "params": []}
    assert (await client.post(notice, client.legacy_headers())).status == 202
    for one in ({"name": "who", "arguments": []}, {"name": "who", "arguments": None}):
        assert (await client.legacy("tools/call", one)).content == "up"
    twice = {**client.legacy_headers(), "MCP-Protocol-Version": f"{client.version}, {client.version}"}
    listed = await client.post({"jsonrpc": "2.0", "id": 2, "method": "tools/list", "params": []}, twice)
    assert len(listed.body["result"]["tools"]) == 2


async def test_the_content_type_of_other_json_rpc_is_accepted(client: RawClient) -> None:
    message = {"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": {"name": "who"}}
    assert (await client.post(message, {"Content-Type": "application/json-rpc"})).content == "up"
