"""HTTP upstreams as the field has them: how they meet an unknown method, and how they say that a session is over."""

from __future__ import annotations

import asyncio
import contextlib
import gzip
import json
import socket
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
from aiohttp import web

from shared.models import ServerStatus
from tests.clients import RawClient
from tests.fleet import Fleet, eventually

TOOL = {"name": "echo", "inputSchema": {"type": "object"}}
Say = Callable[["Upstream", web.BaseRequest, dict[str, Any]], Awaitable[web.StreamResponse | None]]


def answer(message: dict[str, Any]) -> dict[str, Any] | None:
    """What a small handshake-era server answers."""
    results = {
        "initialize": {
            "protocolVersion": "2025-06-18",
            "capabilities": {"tools": {}},
            "serverInfo": {"name": "field", "version": "1"},
        },
        "ping": {},
        "tools/list": {"tools": [TOOL]},
        "tools/call": {"content": [{"type": "text", "text": "called"}]},
    }
    if "id" not in message:
        return None
    reply = {"jsonrpc": "2.0", "id": message["id"]}
    if message["method"] in results:
        return {**reply, "result": results[message["method"]]}
    return {**reply, "error": {"code": -32601, "message": "Method not found"}}


def refusal(message: dict[str, Any], code: int, text: str, with_id: bool = False) -> dict[str, Any]:
    return {"jsonrpc": "2.0", "id": message["id"] if with_id else None, "error": {"code": code, "message": text}}


class Upstream:
    """A server whose odd answers ``say`` decides; it answers as usual where ``say`` returns ``None``."""

    def __init__(self, say: Say, sessions: bool = False) -> None:
        self.say = say
        self.sessions: set[str] | None = set() if sessions else None
        self.seen: list[dict[str, Any]] = []
        self.gets = 0
        self.streams = False
        self.port = 0

    async def __aenter__(self) -> Upstream:
        self._runner = web.ServerRunner(web.Server(self._handle), shutdown_timeout=0.1)
        await self._runner.setup()
        await web.TCPSite(self._runner, "127.0.0.1", self.port).start()
        self.port = self._runner.addresses[0][1]
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._runner.cleanup()

    @property
    def connection(self) -> dict[str, Any]:
        return {"url": f"http://127.0.0.1:{self.port}/mcp"}

    def count(self, method: str) -> int:
        return sum(one.get("method") == method for one in self.seen)

    def knows(self, request: web.BaseRequest) -> bool:
        """Whether the session of a request is one of this process's."""
        return self.sessions is None or request.headers.get("Mcp-Session-Id") in self.sessions

    async def _handle(self, request: web.BaseRequest) -> web.StreamResponse:
        if request.method != "POST":
            self.gets += 1
            if not self.streams or request.method != "GET":
                return web.Response(status=405)
            return web.Response(headers={"Content-Type": "text/event-stream"})
        message = json.loads(await request.read())
        self.seen.append(message)
        said = await self.say(self, request, message)
        if said is not None:
            return said
        reply = answer(message)
        if reply is None:
            return web.Response(status=202)
        headers = {}
        if self.sessions is not None and message["method"] == "initialize":
            headers["Mcp-Session-Id"] = uuid.uuid4().hex
            self.sessions.add(headers["Mcp-Session-Id"])
        return web.json_response(reply, headers=headers)


@pytest_asyncio.fixture(scope="module")
async def fleet(redis_url: str) -> AsyncIterator[Fleet]:
    async with Fleet(redis_url, reconnect_min_s=0.1, reconnect_max_s=1.0, probe_timeout_s=1.0) as fleet:
        yield fleet


@pytest_asyncio.fixture
async def raw(fleet: Fleet) -> AsyncIterator[RawClient]:
    async with RawClient(fleet.urls[0]) as client:
        yield client


# ---- an unknown method


async def _silent(upstream: Upstream, request: web.BaseRequest, message: dict[str, Any]) -> web.StreamResponse:
    response = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
    await response.prepare(request)
    await response.write(b": waiting\n\n")
    await asyncio.sleep(3600)
    return response


WAYS: dict[str, Callable[[dict[str, Any]], web.Response]] = {
    "500": lambda m: web.Response(status=500, text="Internal Server Error"),
    "501": lambda m: web.json_response({"error": "not implemented"}, status=501),
    "502": lambda m: web.Response(status=502, text="<html>", content_type="text/html"),
    "503": lambda m: web.Response(status=503),
    "429": lambda m: web.Response(status=429),
    "401": lambda m: web.Response(status=401),
    "403": lambda m: web.Response(status=403, text="method not allowed by policy"),
    "202": lambda m: web.Response(status=202),
    "204": lambda m: web.Response(status=204),
    "400-foreign": lambda m: web.json_response({"error": {"code": "invalid", "param": "$"}}, status=400),
    "404-html": lambda m: web.Response(status=404, text="<html>", content_type="text/html"),
    "200-error": lambda m: web.json_response(refusal(m, -32601, "no", with_id=True)),
    "200-no-json": lambda m: web.Response(text="OK"),
    "200-list": lambda m: web.json_response([]),
}


@pytest.mark.parametrize("way", [*WAYS, "silence"])
async def test_only_a_modern_answer_keeps_an_upstream_from_being_greeted(fleet: Fleet, way: str) -> None:
    async def say(up: Upstream, request: web.BaseRequest, message: dict[str, Any]) -> web.StreamResponse | None:
        if message["method"] != "server/discover":
            return None
        return await _silent(up, request, message) if way == "silence" else WAYS[way](message)

    async with Upstream(say) as upstream:
        await fleet.register(f"way-{way}", upstream.connection)
        record = await fleet.record(f"way-{way}")
        assert record is not None and record.eras == ("legacy",)
        await fleet.store.unregister(f"way-{way}")


async def test_an_upstream_that_cannot_serve_says_why(fleet: Fleet) -> None:
    async def say(up: Upstream, request: web.BaseRequest, message: dict[str, Any]) -> web.StreamResponse:
        return web.Response(status=503)

    async with Upstream(say) as upstream:
        await fleet.register("ill", upstream.connection, connected=False)
        assert "HTTP 503" in await fleet.failed("ill")
        await fleet.store.unregister("ill")


# ---- a session that is not known any more

FORGETS: dict[str, Callable[[dict[str, Any]], web.Response]] = {
    "404": lambda m: web.json_response(refusal(m, -32001, "Session not found"), status=404),
    "404-plain": lambda m: web.Response(status=404),
    "400-no-valid": lambda m: web.json_response(refusal(m, -32000, "No valid session ID provided"), status=400),
    "400-not-initialized": lambda m: web.json_response(refusal(m, -32000, "Server not initialized"), status=400),
    "400-foreign-words": lambda m: web.json_response(refusal(m, -32000, "Wer bist du?"), status=400),
    "400-plain": lambda m: web.Response(status=400, text="Bad Request"),
    "401": lambda m: web.Response(status=401),
    "403": lambda m: web.json_response({"detail": "no"}, status=403),
    "406": lambda m: web.json_response({"error": "no session"}, status=406),
    "409": lambda m: web.Response(status=409),
    "410": lambda m: web.Response(status=410),
    "200-session": lambda m: web.json_response(refusal(m, -32600, "Session terminated", with_id=True)),
    "200-before-init": lambda m: web.json_response(
        refusal(m, -32602, "Received request before initialization was complete", with_id=True)
    ),
    "200-foreign-words": lambda m: web.json_response(refusal(m, -32099, "Wer bist du?", with_id=True)),
}


@pytest.mark.parametrize("way", list(FORGETS))
async def test_a_forgotten_session_is_opened_again_and_costs_no_call(fleet: Fleet, raw: RawClient, way: str) -> None:
    async def say(up: Upstream, request: web.BaseRequest, message: dict[str, Any]) -> web.StreamResponse | None:
        if message["method"] == "initialize" or "id" not in message or up.knows(request):
            return None
        return FORGETS[way](message)

    async with Upstream(say, sessions=True) as upstream:
        id = f"forgets-{way}"
        await fleet.register(id, upstream.connection)
        await raw.initialize()
        for call in (raw.call, raw.legacy_call):
            assert (await call(f"{id}__echo")).content == "called"
        await upstream.__aexit__()
        assert upstream.sessions is not None
        upstream.sessions.clear()
        async with upstream:  # restarted, at the same address
            for call in (raw.legacy_call, raw.call, raw.legacy_call):
                assert (await call(f"{id}__echo")).content == "called"
        await fleet.store.unregister(id)


async def test_a_session_that_the_server_stumbles_over_is_opened_again_for_the_next_call(
    fleet: Fleet, raw: RawClient
) -> None:
    """A call that was answered by HTTP 500 may have run, so it is not sent again."""

    async def say(up: Upstream, request: web.BaseRequest, message: dict[str, Any]) -> web.StreamResponse | None:
        if message["method"] == "initialize" or "id" not in message or up.knows(request):
            return None
        return web.Response(status=500, text="KeyError")

    async with Upstream(say, sessions=True) as upstream:
        await fleet.register("stumbles", upstream.connection)
        await raw.initialize()
        assert (await raw.legacy_call("stumbles__echo")).content == "called"
        assert upstream.sessions is not None
        upstream.sessions.clear()
        assert "HTTP 500" in json.dumps((await raw.legacy_call("stumbles__echo")).body)
        assert (await raw.legacy_call("stumbles__echo")).content == "called"
        await fleet.store.unregister("stumbles")


@pytest.mark.parametrize(
    ("status", "text"),
    [(404, "Could not find session"), (400, "No transport found for sessionId")],
    ids=["404", "400"],
)
async def test_a_session_of_http_sse_whose_stream_outlives_it_is_opened_again(
    fleet: Fleet, raw: RawClient, status: int, text: str
) -> None:
    streams: dict[str, web.StreamResponse] = {}

    async def serve(request: web.BaseRequest) -> web.StreamResponse:
        if request.method == "GET":
            stream = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
            await stream.prepare(request)
            streams[id := uuid.uuid4().hex] = stream
            await stream.write(f"event: endpoint\ndata: /messages?s={id}\n\n".encode())
            await asyncio.Event().wait()
        known = streams.get(request.query["s"])
        if known is None:
            return web.Response(status=status, text=text)
        reply = answer(json.loads(await request.read()))
        if reply is not None:
            await known.write(b"data: " + json.dumps(reply).encode() + b"\n\n")
        return web.Response(status=202)

    runner = web.ServerRunner(web.Server(serve), shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    port = runner.addresses[0][1]
    try:
        await fleet.register("outlives", {"type": "sse", "url": f"http://127.0.0.1:{port}/sse"})
        await raw.initialize()
        assert (await raw.legacy_call("outlives__echo")).content == "called"
        streams.clear()  # they stay open, as a proxy holds them
        for call in (raw.legacy_call, raw.legacy_call, raw.call):
            assert (await call("outlives__echo")).content == "called"
        streams.clear()
        at_once = await asyncio.gather(*(raw.legacy_call("outlives__echo") for _ in range(8)))
        assert [one.content for one in at_once] == ["called"] * 8, "none has run that was refused"
    finally:
        await fleet.store.unregister("outlives")
        await runner.cleanup()


async def test_a_refusal_that_is_about_the_call_opens_no_session(fleet: Fleet, raw: RawClient) -> None:
    async def say(up: Upstream, request: web.BaseRequest, message: dict[str, Any]) -> web.StreamResponse | None:
        if message["method"] != "tools/call":
            return None
        kind = message["params"]["arguments"]["kind"]
        if kind == "http":
            return web.json_response(refusal(message, -32000, "Bad Request: session is a reserved word"), status=400)
        return web.json_response(refusal(message, -32602, "no such browser session", with_id=True))

    async with Upstream(say, sessions=True) as upstream:
        await fleet.register("refuses", upstream.connection)
        await raw.initialize()
        before = upstream.count("initialize")
        for kind, words in (("http", "reserved word"), ("error", "no such browser session")):
            for _ in range(3):
                reply = await raw.legacy_call("refuses__echo", {"kind": kind})
                assert words in json.dumps(reply.body)
        assert upstream.count("initialize") - before <= 1  # the client's own session was opened for its first call
        assert upstream.count("tools/call") == 6
        await fleet.store.unregister("refuses")


async def test_streams_that_end_at_once_are_opened_more_and_more_rarely(fleet: Fleet) -> None:
    async def nothing(up: Upstream, request: web.BaseRequest, message: dict[str, Any]) -> None:
        return None

    upstream = Upstream(nothing, sessions=True)
    upstream.streams = True
    async with upstream:
        await fleet.register("brief-streams", upstream.connection)
        await asyncio.sleep(8.0)
        assert 2 <= upstream.gets <= 5  # after 1, 2 and 4 s; it would be once a second
        await fleet.store.unregister("brief-streams")


# ---- what stands between


async def test_an_upstream_that_moved_by_a_slash_and_compresses_is_served(fleet: Fleet, raw: RawClient) -> None:
    async def say(up: Upstream, request: web.BaseRequest, message: dict[str, Any]) -> web.StreamResponse | None:
        if not request.path.endswith("/"):
            return web.Response(status=307, headers={"Location": f"http://{request.host}/mcp/"})
        reply = answer(message)
        if reply is None:
            return None
        body = gzip.compress(json.dumps(reply).encode())
        return web.Response(body=body, content_type="application/json", headers={"Content-Encoding": "gzip"})

    async with Upstream(say) as upstream:
        await fleet.register("moved", upstream.connection)
        record = await fleet.record("moved")
        assert record is not None and record.url_in_use.endswith("/mcp/")
        upstream.seen.clear()
        assert (await raw.call("moved__echo")).content == "called"
        assert upstream.count("tools/call") == 1
        await fleet.store.unregister("moved")


async def test_notes_say_what_of_an_entry_has_no_effect_and_what_of_its_lists_was_mended(
    fleet: Fleet, raw: RawClient
) -> None:
    async def say(up: Upstream, request: web.BaseRequest, message: dict[str, Any]) -> web.StreamResponse | None:
        if message["method"] != "tools/list":
            return None
        return web.json_response({"jsonrpc": "2.0", "id": message["id"], "result": {"tools": [TOOL, {"name": "bare"}]}})

    async with Upstream(say) as upstream:
        await fleet.register("noted", {**upstream.connection, "headers": {"Accept": "text/html"}})
        async with raw.session.get(f"{fleet.url}/admin/v1/servers/noted") as response:
            shown = await response.json()
        assert any("Accept" in one for one in shown["notes"])
        assert any("'bare' was mended" in one for one in shown["notes"])
        await fleet.store.unregister("noted")


async def test_an_entry_has_limits_of_its_own(fleet: Fleet, raw: RawClient) -> None:
    async def say(up: Upstream, request: web.BaseRequest, message: dict[str, Any]) -> web.StreamResponse | None:
        if message["method"] == "tools/call":
            await asyncio.sleep(3600)
        return None

    async with Upstream(say) as upstream:
        await fleet.register("brief", upstream.connection, settings={"requestTimeout": 300})
        reply = await raw.call("brief__echo")
        assert reply.error["data"]["code"] == "timeout" and "0.3 s" in reply.error["message"]
        await fleet.store.unregister("brief")


async def test_an_entry_has_a_time_to_connect_of_its_own(fleet: Fleet, raw: RawClient) -> None:
    """A host that drops what is sent to it, as firewalls do: a full queue of connections looks like that."""
    with socket.socket() as full, contextlib.ExitStack() as waiting:
        full.bind(("127.0.0.1", 0))
        full.listen(0)
        for _ in range(4):
            one = waiting.enter_context(socket.socket())
            one.setblocking(False)
            one.connect_ex(full.getsockname())
        entry = {"url": f"http://127.0.0.1:{full.getsockname()[1]}/mcp"}
        await fleet.register("firewalled", entry, connected=False, settings={"connectTimeout": 300})
        assert "0.3 s" in await fleet.failed("firewalled")
        await fleet.store.unregister("firewalled")


@pytest.mark.parametrize("sessions", [False, True], ids=["without sessions", "with sessions"])
@pytest.mark.parametrize("status", [400, 404, 405, 500])
async def test_a_server_that_refuses_ping_by_http_stays_connected(
    fleet: Fleet, raw: RawClient, status: int, sessions: bool
) -> None:
    async def say(up: Upstream, request: web.BaseRequest, message: dict[str, Any]) -> web.StreamResponse | None:
        return web.Response(status=status) if message.get("method") == "ping" else None

    id = f"pinged-{status}-{sessions}"
    async with Upstream(say, sessions) as upstream:
        own = {"healthCheckInterval": 100, "unhealthyAfter": 1}
        await fleet.register(id, upstream.connection, settings=own)
        try:
            lists = upstream.count("tools/list")
            await eventually(lambda: upstream.count("tools/list") >= lists + 2, what="asked in another way")
            seen = [one.get("method") for one in upstream.seen]
            await eventually(lambda: upstream.count("tools/list") >= lists + 6, what="asked so again")
            record = await fleet.record(id)
            assert record is not None and record.status is ServerStatus.CONNECTED
            later = {one.get("method") for one in upstream.seen[len(seen) :]}
            assert later == {"tools/list"}, "what it does not know is remembered, and its session is kept"
            async with RawClient(f"{fleet.url}/servers/{id}/mcp") as client:
                assert (await client.call("echo")).content == "called"
        finally:
            await fleet.store.unregister(id)


async def test_an_upstream_on_a_unix_socket_is_served(fleet: Fleet, raw: RawClient, tmp_path: Path) -> None:
    async def nothing(up: Upstream, request: web.BaseRequest, message: dict[str, Any]) -> None:
        return None

    upstream = Upstream(nothing)
    runner = web.ServerRunner(web.Server(upstream._handle))
    await runner.setup()
    await web.UnixSite(runner, str(tmp_path / "mcp.sock")).start()
    await fleet.register("socket", {"url": f"unix://{tmp_path}/mcp.sock#/mcp"})
    assert (await raw.call("socket__echo")).content == "called"
    await fleet.store.unregister("socket")
    await eventually(lambda: upstream.count("tools/call") == 1, what="called once")
    await runner.cleanup()
