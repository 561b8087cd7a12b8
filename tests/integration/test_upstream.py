"""``worker.ownership.upstream`` before a real server: calls go where the facts say that the upstream is now."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from typing import Any

import pytest
import pytest_asyncio
from aiohttp import web

from shared.errors import CallError, OutcomeUnknown
from shared.mcp.versions import LATEST_LEGACY, LATEST_MODERN, Era
from shared.models import make_spec
from shared.settings import build
from shared.tasks import cancel
from tests.fleet import eventually
from tests.machine import scaled
from tests.unit.worker.worker_harness import NoWayToClients, make_context
from worker.calls.client_facts import NOBODY
from worker.calls.own_call import OwnCall
from worker.ownership.upstream import Upstream
from worker.transports import DRIVERS
from worker.transports.transport import UpstreamFacts

FOUND = {"legacy": LATEST_LEGACY, "modern": LATEST_MODERN}


@dataclass
class Server:
    """Answers calls with the path that they came to; those for ``slow`` never. ``told``: (method, path) of all else;
    ``eras``: by which protocol version calls came; ``streams``: listen streams that were opened."""

    url: str = ""
    taken: asyncio.Event = field(default_factory=asyncio.Event)
    told: list[tuple[str, str]] = field(default_factory=list)
    eras: set[str] = field(default_factory=set)
    streams: list[web.Request] = field(default_factory=list)
    connections: set[asyncio.BaseTransport] = field(default_factory=set)

    @property
    def listening(self) -> int:
        """Listen streams that are open."""
        return sum(one.transport is not None for one in self.streams)

    @property
    def connected(self) -> int:
        """Connections that are open."""
        return sum(not one.is_closing() for one in self.connections)

    async def answer(self, request: web.Request) -> web.StreamResponse:
        assert request.transport is not None
        self.connections.add(request.transport)
        if request.method != "POST":
            self.told.append((request.method, request.path))
            return web.Response(status=200 if request.method == "DELETE" else 405)
        message = await request.json()
        method, params = message["method"], message.get("params") or {}
        if method != "tools/call":
            self.told.append((method, request.path))
        else:
            self.eras.add(request.headers["MCP-Protocol-Version"])
        if "id" not in message:
            return web.Response(status=202)
        if method == "subscriptions/listen":
            return await self._listen(request, params)
        if params.get("name") == "slow":
            self.taken.set()
            await asyncio.Event().wait()
        result: dict[str, Any] = {"content": [{"type": "text", "text": request.path}], "resultType": "complete"}
        if method != "initialize":
            return web.json_response({"jsonrpc": "2.0", "id": message["id"], "result": result})
        result = {"protocolVersion": LATEST_LEGACY, "capabilities": {}, "serverInfo": {"name": "s", "version": "1"}}
        answer = {"jsonrpc": "2.0", "id": message["id"], "result": result}
        return web.json_response(answer, headers={"Mcp-Session-Id": f"s{len(self.told)}"})

    async def _listen(self, request: web.Request, params: dict[str, Any]) -> web.StreamResponse:
        self.streams.append(request)
        response = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
        await response.prepare(request)
        honoured = {"notifications": params["notifications"]}
        method = "notifications/subscriptions/acknowledged"
        acknowledged = json.dumps({"jsonrpc": "2.0", "method": method, "params": honoured})
        await response.write(f"data: {acknowledged}\n\n".encode())
        await asyncio.Event().wait()
        return response


class Deaf:
    """``sessions.resource_subscriptions.Watcher``: watches, and is told nothing that matters here."""

    def updated(self, upstream: str, uri: str, session: str, params: bytes) -> None:
        """What changed while the upstream was gone is not known."""


class Ignored:
    """``ownership.upstream.UpstreamEvents``: nobody leads the upstream here."""

    def announced(self, method: str) -> None:
        """Its lists are not read."""

    def trouble(self, error: CallError) -> None:
        """Its health is not looked after."""


@pytest_asyncio.fixture
async def server() -> AsyncIterator[Server]:
    made = Server()
    app = web.Application()
    app.router.add_route("*", "/{path}", made.answer)
    runner = web.AppRunner(app, shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    made.url = f"http://127.0.0.1:{runner.addresses[0][1]}"
    yield made
    await runner.cleanup()


@pytest_asyncio.fixture
async def upstream(server: Server) -> AsyncIterator[Upstream]:
    spec = make_spec("up", {"type": "http", "url": server.url})
    made = Upstream(spec, build(), "worker", Ignored(), NoWayToClients(), lambda line: None)
    yield made
    await made.close()


def facts(server: Server, path: str, era: str) -> UpstreamFacts:
    return UpstreamFacts((era,), "http", server.url + path, False, FOUND[era])


def submit(upstream: Upstream, era: Era, tool: str = "any") -> asyncio.Future[bytes]:
    call = OwnCall("tools/call", b'{"name":"%b"}' % tool.encode(), era)
    upstream.submit(call)
    return call.future


@pytest.mark.parametrize("client", Era)
@pytest.mark.parametrize("era", FOUND)
async def test_calls_follow_an_upstream_that_is_found_elsewhere(
    server: Server, upstream: Upstream, era: str, client: Era
) -> None:
    for path in ("/before", "/before", "/after"):
        upstream.adopt(facts(server, path, era))
        for _ in range(2):
            assert path.encode() in await submit(upstream, client)
    assert upstream.traffic.in_flight == 0


async def test_calls_follow_an_upstream_that_changes_its_era(server: Server, upstream: Upstream) -> None:
    for era in ("legacy", "modern", "legacy"):
        upstream.adopt(facts(server, "/same", era))
        for client in Era:
            assert b"/same" in await submit(upstream, client)
        assert server.eras == {FOUND[era]}
        server.eras.clear()


@pytest.mark.parametrize("era", FOUND)
async def test_what_is_under_way_where_the_upstream_was_fails_at_once(
    server: Server, upstream: Upstream, era: str
) -> None:
    upstream.adopt(facts(server, "/before", era))
    under_way = submit(upstream, Era.MODERN, "slow")
    await asyncio.wait_for(server.taken.wait(), scaled(10))
    upstream.adopt(facts(server, "/after", era))
    with pytest.raises(OutcomeUnknown):
        await asyncio.wait_for(under_way, scaled(10))
    assert b"/after" in await submit(upstream, Era.MODERN)


async def test_a_request_of_ours_that_is_not_waited_for_any_more_is_taken_back(
    server: Server, upstream: Upstream
) -> None:
    found, transport = facts(server, "/here", "legacy"), DRIVERS["http"]
    pool = transport.make_pool(upstream.context, found)
    session = transport.make_session(make_context(), Era.LEGACY, pool)
    await session.open()
    asking = asyncio.ensure_future(session.request("tools/call", {"name": "slow"}))
    await asyncio.wait_for(server.taken.wait(), scaled(10))
    await cancel(asking)
    assert not session.correlation.calls
    await eventually(lambda: ("notifications/cancelled", "/here") in server.told)
    await session.close()
    session.release()


@pytest.mark.parametrize("era", FOUND)
@pytest.mark.parametrize("turns", range(8))
async def test_a_call_while_everything_is_closed_leaves_nothing_behind(
    server: Server, upstream: Upstream, era: str, turns: int
) -> None:
    upstream.adopt(facts(server, "/here", era))
    await submit(upstream, Era.MODERN)
    closing = asyncio.ensure_future(upstream.close_sessions())
    for _ in range(turns):
        await asyncio.sleep(0)
    meanwhile = submit(upstream, Era.MODERN)
    await closing
    with pytest.raises(CallError):
        await meanwhile
    await eventually(lambda: not server.connected, what="a connection is left behind")
    assert sum(method == "initialize" for method, _ in server.told) == (era == "legacy"), "a session was opened"
    upstream.adopt(facts(server, "/here", era))
    assert b"/here" in await submit(upstream, Era.MODERN)


async def test_subscriptions_follow_an_upstream_and_sessions_that_were_left_are_ended(
    server: Server, upstream: Upstream
) -> None:
    upstream.adopt(facts(server, "/modern", "modern"))
    await upstream.subscriptions.watch(Deaf(), "memo://one", "", NOBODY)
    assert ("subscriptions/listen", "/modern") in server.told
    for path in ("/legacy", "/other"):
        upstream.adopt(facts(server, path, "legacy"))
        await eventually(lambda path=path: ("resources/subscribe", path) in server.told)
    await eventually(lambda: not server.listening, what="the stream of the modern era is left behind")
    await eventually(lambda: ("DELETE", "/legacy") in server.told)
    upstream.adopt(facts(server, "/again", "modern"))
    await eventually(lambda: ("subscriptions/listen", "/again") in server.told)


@pytest.mark.parametrize(("transport", "usual"), [("http", "/mcp"), ("sse", "/sse")])
async def test_an_origin_alone_is_reached_at_the_usual_path_of_its_transport(
    server: Server, upstream: Upstream, transport: str, usual: str
) -> None:
    """The server answers nothing at ``/``, and speaks Streamable HTTP only."""
    if transport == "http":
        reached = await DRIVERS[transport].reach(upstream.context)
        assert reached.facts.url == server.url + usual
        await reached.session.close()
        reached.session.release()
    else:
        with pytest.raises(CallError, match=r"GET .*/sse answered HTTP 405"):
            await DRIVERS[transport].reach(upstream.context)
        assert server.told == [("GET", usual)]
