"""``worker.upstreams.upstream`` before a real server: calls go where the facts say that the upstream is now."""

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
from worker.calls import NOBODY, OwnCall
from worker.upstreams.probe import Facts
from worker.upstreams.upstream import Upstream

FOUND = {"legacy": LATEST_LEGACY, "modern": LATEST_MODERN}


@dataclass
class Server:
    """Answers calls with the path that they came to; those for ``slow`` never. ``told``: (method, path) of all else."""

    url: str = ""
    taken: asyncio.Event = field(default_factory=asyncio.Event)
    told: list[tuple[str, str]] = field(default_factory=list)

    async def answer(self, request: web.Request) -> web.StreamResponse:
        if request.method != "POST":
            self.told.append((request.method, request.path))
            return web.Response(status=200 if request.method == "DELETE" else 405)
        message = await request.json()
        method, params = message["method"], message.get("params") or {}
        if method != "tools/call":
            self.told.append((method, request.path))
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
        response = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
        await response.prepare(request)
        honoured = {"notifications": params["notifications"]}
        method = "notifications/subscriptions/acknowledged"
        acknowledged = json.dumps({"jsonrpc": "2.0", "method": method, "params": honoured})
        await response.write(f"data: {acknowledged}\n\n".encode())
        await asyncio.Event().wait()
        return response


class Deaf:
    """Watches, and is told nothing that matters here."""

    def updated(self, upstream: str, uri: str, session: str, params: bytes) -> None:
        """What changed while the upstream was gone is not known."""


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
    made = Upstream(make_spec("up", {"type": "http", "url": server.url}), build(), "worker", lambda line: None)
    yield made
    await made.close()


def facts(server: Server, path: str, era: str) -> Facts:
    return Facts((era,), "http", server.url + path, False, FOUND[era])


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
    assert upstream.calls == 0


async def test_calls_follow_an_upstream_that_changes_its_era(server: Server, upstream: Upstream) -> None:
    for era in ("legacy", "modern", "legacy"):
        upstream.adopt(facts(server, "/same", era))
        for client in Era:
            assert b"/same" in await submit(upstream, client)
        assert {session.era.word for session in upstream._for_all if session} == {era}


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
    upstream.adopt(facts(server, "/here", "legacy"))
    session = upstream._make(Era.LEGACY, None)
    await session.open()
    asking = asyncio.ensure_future(session.request("tools/call", {"name": "slow"}))
    await asyncio.wait_for(server.taken.wait(), scaled(10))
    await cancel(asking)
    assert not session.correlation.calls
    await eventually(lambda: ("notifications/cancelled", "/here") in server.told)
    await session.close()


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
    assert not upstream._shared and upstream._pool is None
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
    assert upstream.subscriptions._listen is None
    await eventually(lambda: ("DELETE", "/legacy") in server.told)
    upstream.adopt(facts(server, "/again", "modern"))
    await eventually(lambda: ("subscriptions/listen", "/again") in server.told)
