"""What upstreams get to see: headers, environment, sessions, cancellations."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Any

import aiohttp
import pytest
import pytest_asyncio
from aiohttp import web

from tests.clients import RawClient
from tests.fleet import Fleet, eventually, script_connection
from tests.servers.raw import RawUpstreams
from tests.servers.scripted import Exchange, Scripted, echo


@pytest_asyncio.fixture(scope="module")
async def fleet(redis_url: str) -> AsyncIterator[Fleet]:
    with pytest.MonkeyPatch.context() as patch:
        for name in ("AWS_SECRET_ACCESS_KEY", "NAMED_ONE", "LC_TIME"):  # what workers get, and children only in part
            patch.setenv(name, "given")
        async with Fleet(redis_url, reconnect_min_s=0.1, stdio_environment=("NAMED_*",)) as fleet:
            yield fleet


async def test_configured_headers_are_sent_with_every_request(fleet: Fleet, client: RawClient) -> None:
    async with RawUpstreams() as upstreams:
        endpoint = upstreams.add("h", [{"name": "h_who", "inputSchema": {"type": "object"}}])
        await fleet.register(
            "h", {**upstreams.connection("h"), "headers": {"Authorization": "Bearer t0ken", "X-Team": "a"}}
        )
        await client.call("h_who", headers={"Authorization": "Bearer of-the-client"})
        assert len(endpoint.headers) > 2
        assert {(one["Authorization"], one["X-Team"]) for one in endpoint.headers} == {("Bearer t0ken", "a")}
        await fleet.store.unregister("h")


SHOWS_ENVIRONMENT = """
import sys, json, os
for line in sys.stdin:
    m = json.loads(line)
    if 'id' not in m: continue
    me = {'name': 'g', 'version': '1'}
    r = {'initialize': {'protocolVersion': '2025-03-26', 'capabilities': {'tools': {}}, 'serverInfo': me},
         'tools/list': {'tools': [{'name': 'env', 'inputSchema': {'type': 'object'}}]}, 'ping': {},
         'tools/call': {'content': [{'type': 'text', 'text': json.dumps(dict(os.environ))}]}}.get(m['method'])
    out = {'jsonrpc': '2.0', 'id': m['id']}
    out.update({'result': r} if r is not None else {'error': {'code': -32601, 'message': 'no'}})
    print(json.dumps(out), flush=True)
"""


async def test_a_stdio_child_gets_its_environment_and_none_of_ours(fleet: Fleet, client: RawClient) -> None:
    await fleet.register("env", {**script_connection(SHOWS_ENVIRONMENT), "env": {"TEAM": "a"}})
    seen = json.loads((await client.call("env")).content)
    assert seen["TEAM"] == "a" and "PATH" in seen
    assert seen["NAMED_ONE"] == seen["LC_TIME"] == "given" and "AWS_SECRET_ACCESS_KEY" not in seen
    ours = {name for name in seen if name.startswith("GATEWAY_")}
    assert ours == {"GATEWAY_UPSTREAM_OWNER", "GATEWAY_UPSTREAM_CHILD"}
    await fleet.store.unregister("env")


class ForgetfulServer:
    """A legacy server with sessions that it forgets on demand."""

    def __init__(self, **capabilities: Any) -> None:
        self.capabilities = {"tools": {}, **capabilities}
        self.sessions: list[str] = []
        self.initialized = 0
        self.ended: list[str] = []
        self.calls = 0
        self.port = 0

    async def __aenter__(self) -> ForgetfulServer:
        self.runner = web.ServerRunner(web.Server(self.handle), shutdown_timeout=0.1)
        await self.runner.setup()
        await web.TCPSite(self.runner, "127.0.0.1", 0).start()
        self.port = self.runner.addresses[0][1]
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.runner.cleanup()

    async def handle(self, request: web.BaseRequest) -> web.StreamResponse:
        sid = request.headers.get("Mcp-Session-Id", "")
        if request.method == "DELETE":
            self.ended.append(sid)
            return web.Response()
        if request.method == "GET":
            return web.Response(status=405)
        message = json.loads(await request.read())
        method = message["method"]
        if method == "initialize":
            self.initialized += 1
            sid = f"s{self.initialized}"
            self.sessions.append(sid)
            info = {"name": "f", "version": "1"}
            result = {"protocolVersion": "2025-06-18", "capabilities": self.capabilities, "serverInfo": info}
            body = {"jsonrpc": "2.0", "id": message["id"], "result": result}
            return web.json_response(body, headers={"Mcp-Session-Id": sid})
        if sid not in self.sessions:
            return web.Response(status=404 if sid else 400)
        if "id" not in message:
            return web.Response(status=202)
        results = {
            "ping": {},
            "logging/setLevel": {},
            "tools/list": {"tools": [{"name": "f_who", "inputSchema": {"type": "object"}}]},
            "tools/call": {"content": [{"type": "text", "text": sid}]},
        }
        self.calls += method == "tools/call"
        return web.json_response({"jsonrpc": "2.0", "id": message["id"], "result": results[method]})


async def test_an_expired_upstream_session_is_opened_again_and_nobody_notices(fleet: Fleet, client: RawClient) -> None:
    async with ForgetfulServer() as server:
        await fleet.register("f", {"type": "http", "url": f"http://127.0.0.1:{server.port}/mcp"})
        await client.initialize()
        first = (await client.legacy_call("f_who")).content
        assert (await client.legacy_call("f_who")).content == first
        server.sessions.clear()
        answers = await asyncio.gather(*(client.legacy_call("f_who") for _ in range(5)))
        after = {answer.content for answer in answers}
        assert len(after) == 1 and first not in after
        assert server.calls == 7, "no call ran twice"

        async with client.session.delete(client.url, headers=client.legacy_headers()) as response:
            assert response.status == 200
        await eventually(lambda: after <= set(server.ended), 5.0, "the upstream session ended with the client's")
        await fleet.store.unregister("f")


async def test_a_client_is_told_that_an_upstream_forgot_its_session(fleet: Fleet, client: RawClient) -> None:
    async with ForgetfulServer(logging={}) as server:
        await fleet.register("g", {"type": "http", "url": f"http://127.0.0.1:{server.port}/mcp"})
        await client.initialize()
        assert len((await client.legacy_call("f_who")).messages) == 1
        server.sessions.clear()
        told, answer = (await client.legacy_call("f_who")).messages
        assert told["method"] == "notifications/message" and "state is lost" in told["params"]["data"]
        assert "result" in answer
        await fleet.store.unregister("g")


async def test_a_modern_client_that_leaves_cancels_its_call_upstream(fleet: Fleet, client: RawClient) -> None:
    async with RawUpstreams() as upstreams:
        endpoint = upstreams.add("h", [{"name": "c_who", "inputSchema": {"type": "object"}}])
        await fleet.register("c", upstreams.connection("h"))
        endpoint.behaviour = "hang"
        call = asyncio.ensure_future(client.call("c_who"))
        await eventually(lambda: endpoint.tool_calls, 5.0, "the call arrived")
        call.cancel()

        async def idle() -> bool:
            async with aiohttp.ClientSession() as session, session.get(f"{fleet.url}/admin/v1/workers") as response:
                return all(worker["load"] == 0 for worker in await response.json())

        await eventually(idle, 5.0, "the worker dropped the call")
        endpoint.release.set()
        await fleet.store.unregister("c")


async def test_a_legacy_client_that_leaves_does_not_cancel_its_call(fleet: Fleet, client: RawClient) -> None:
    async with RawUpstreams() as upstreams:
        endpoint = upstreams.add("h", [{"name": "l_who", "inputSchema": {"type": "object"}}])
        await fleet.register("l", upstreams.connection("h"))
        endpoint.behaviour = "hang"
        await client.initialize()
        call = asyncio.ensure_future(client.legacy_call("l_who"))
        await eventually(lambda: endpoint.tool_calls, 5.0, "the call arrived")
        call.cancel()

        async def load() -> bool:
            facts = await fleet.worker_facts()
            return any(int(one["load"]) == 1 for one in facts.values())

        await eventually(load, 5.0, "the worker reports the call")
        await asyncio.sleep(1.2)  # a heartbeat later it is still there
        assert await load()
        endpoint.release.set()
        await fleet.store.unregister("l")


async def test_every_result_is_passed_as_it_was_sent(fleet: Fleet, client: RawClient) -> None:
    odd = (
        '{"content":[],"big":12345678901234567890123,"float":1.10,"z":1,"a":{"nested":[null,true]},"é":"\\u00e9",'
        '"resultType":"complete"}'
    )

    async def handle(request: web.BaseRequest) -> web.StreamResponse:
        message = json.loads(await request.read())
        cached = {"resultType": "complete", "ttlMs": 0, "cacheScope": "private"}
        results = {
            "server/discover": {"supportedVersions": ["2026-07-28"], "capabilities": {"tools": {}}, **cached},
            "tools/list": {"tools": [{"name": "odd", "inputSchema": {"type": "object"}}], **cached},
        }
        text = json.dumps(results[message["method"]]) if message["method"] in results else odd
        if message["method"] == "initialize":
            return web.Response(status=404)
        body = f'{{"jsonrpc":"2.0","id":{json.dumps(message["id"])},"result":{text}}}'
        return web.Response(text=body, content_type="application/json")

    runner = web.ServerRunner(web.Server(handle), shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    try:
        await fleet.register("odd", {"type": "http", "url": f"http://127.0.0.1:{runner.addresses[0][1]}/mcp"})
        assert odd in (await client.call("odd")).text
        legacy = (await client.legacy_call("odd")).text
        assert odd.replace(',"resultType":"complete"', "") in legacy
    finally:
        await runner.cleanup()
        await fleet.store.unregister("odd")


async def test_a_large_result_comes_whole_and_a_slow_reader_harms_nobody(fleet: Fleet, client: RawClient) -> None:
    text = "x" * 20_000_000

    async def handle(request: web.BaseRequest) -> web.StreamResponse:
        message = json.loads(await request.read())
        cached = {"resultType": "complete", "ttlMs": 0, "cacheScope": "private"}
        tools = [{"name": name, "inputSchema": {"type": "object"}} for name in ("large", "small")]
        results = {
            "server/discover": {"supportedVersions": ["2026-07-28"], "capabilities": {"tools": {}}, **cached},
            "tools/list": {"tools": tools, **cached},
        }
        result = results.get(message["method"])
        if result is None and message["method"] == "tools/call":
            long = text if message["params"]["name"] == "large" else "s"
            result = {"content": [{"type": "text", "text": long}], "resultType": "complete"}
        if result is None:
            return web.Response(status=404)
        return web.json_response({"jsonrpc": "2.0", "id": message["id"], "result": result})

    runner = web.ServerRunner(web.Server(handle), shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    try:
        await fleet.register("large", {"type": "http", "url": f"http://127.0.0.1:{runner.addresses[0][1]}/mcp"})
        assert (await client.call("large")).content == text
        assert (await client.legacy_call("large")).content == text
        host, port = fleet.url.removeprefix("http://").split(":")
        reader, writer = await asyncio.open_connection(host, int(port), limit=1024)
        params = '{"name":"large","arguments":{}}'
        body = f'{{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{params}}}'
        head = f"POST /mcp HTTP/1.1\r\nHost: {host}:{port}\r\nContent-Length: {len(body)}\r\n\r\n"
        writer.write((head + body).encode())
        await reader.read(1024)  # and then no more
        for _ in range(20):
            assert (await client.call("small")).content == "s"
        writer.close()
        assert (await client.call("small")).content == "s"
    finally:
        await runner.cleanup()
        await fleet.store.unregister("large")


async def test_a_standing_stream_that_is_refused_for_a_while_is_asked_for_again(fleet: Fleet) -> None:
    async with Scripted("starting") as upstream:

        async def starting(exchange: Exchange) -> dict[str, Any] | None:
            if upstream.seen["GET"] < 3:
                return {"status": 503}
            await exchange.send({"method": "notifications/tools/list_changed"})
            await asyncio.sleep(600)
            return None

        upstream.on["GET"] = starting
        await fleet.register("starting", upstream.connection)
        before = upstream.seen["tools/list"]
        await eventually(lambda: upstream.seen["tools/list"] > before, 15.0, "what it says there is heard")
        await fleet.store.unregister("starting")


async def test_an_upstream_that_forgot_its_session_is_listed_again(fleet: Fleet, client: RawClient) -> None:
    """It was restarted, probably: with what it offers now."""
    async with Scripted("anew") as upstream:
        await fleet.register("anew", upstream.connection)

        async def forgotten(exchange: Exchange) -> None:
            del upstream.on["tools/call"]
            upstream.tools = ("anew", "newer")
            exchange.response = web.StreamResponse(status=404)
            await exchange.response.prepare(exchange.request)

        upstream.on["tools/call"] = forgotten
        await client.initialize()
        assert (await client.legacy_call("anew")).content == "anew"

        async def listed() -> bool:
            tools = (await client.legacy("tools/list")).body["result"]["tools"]
            return "newer" in [tool["name"] for tool in tools]

        await eventually(listed, 5.0, "its new tool")
        await fleet.store.unregister("anew")


async def test_several_hundred_calls_at_a_time_share_one_upstream(fleet: Fleet) -> None:
    async with Scripted("many", "modern") as upstream, RawClient(fleet.urls[0]) as client:
        upstream.on["tools/call"] = echo
        await fleet.register("many", upstream.connection)
        await client.session.close()
        client.session = aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0))
        answers = await asyncio.gather(*(client.call("many", {"text": str(n)}) for n in range(400)))
        assert [answer.content for answer in answers] == [str(n) for n in range(400)]
        await fleet.store.unregister("many")
