"""``worker.upstreams.upstream`` before a real server: calls go where the facts say that the upstream is now."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass, field

import pytest
import pytest_asyncio
from aiohttp import web

from shared.errors import OutcomeUnknown
from shared.mcp.versions import LATEST_LEGACY, LATEST_MODERN, Era
from shared.models import make_spec
from shared.settings import build
from shared.tasks import cancel
from tests.fleet import eventually
from worker.calls import OwnCall
from worker.upstreams.probe import Facts
from worker.upstreams.upstream import Upstream

FOUND = {"legacy": LATEST_LEGACY, "modern": LATEST_MODERN}


@dataclass
class Server:
    """Answers calls with the path that they came to; those for ``slow`` never."""

    url: str = ""
    taken: asyncio.Event = field(default_factory=asyncio.Event)
    told: list[str] = field(default_factory=list)

    async def answer(self, request: web.Request) -> web.Response:
        if request.method != "POST":
            return web.Response(status=405)
        message = await request.json()
        if "id" not in message:
            self.told.append(message["method"])
            return web.Response(status=202)
        if (message.get("params") or {}).get("name") == "slow":
            self.taken.set()
            await asyncio.Event().wait()
        result = {"protocolVersion": LATEST_LEGACY, "capabilities": {}, "serverInfo": {"name": "s", "version": "1"}}
        if message["method"] != "initialize":
            result = {"content": [{"type": "text", "text": request.path}], "resultType": "complete"}
        return web.json_response({"jsonrpc": "2.0", "id": message["id"], "result": result})


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
    await asyncio.wait_for(server.taken.wait(), 10)
    upstream.adopt(facts(server, "/after", era))
    with pytest.raises(OutcomeUnknown):
        await asyncio.wait_for(under_way, 10)
    assert b"/after" in await submit(upstream, Era.MODERN)


async def test_a_request_of_ours_that_is_not_waited_for_any_more_is_taken_back(
    server: Server, upstream: Upstream
) -> None:
    upstream.adopt(facts(server, "/here", "legacy"))
    session = upstream._make(Era.LEGACY, None)
    await session.open()
    asking = asyncio.ensure_future(session.request("tools/call", {"name": "slow"}))
    await asyncio.wait_for(server.taken.wait(), 10)
    await cancel(asking)
    assert not session.correlation.calls
    await eventually(lambda: "notifications/cancelled" in server.told)
    await session.close()
