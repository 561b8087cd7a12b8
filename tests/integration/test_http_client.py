"""``worker.upstreams.http_client`` against a real server: connections are kept, and what that costs is nothing."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest_asyncio
from aiohttp import web

from shared.settings import UpstreamSettings
from worker.upstreams.http_client import HttpEndpoint, HttpPool, Notice


class Server:
    """Counts the connections that requests came on."""

    def __init__(self) -> None:
        self.connections: set[int] = set()
        self.answers = 0

    async def handle(self, request: web.BaseRequest) -> web.StreamResponse:
        await request.read()
        assert request.transport is not None
        self.connections.add(request.transport.get_extra_info("peername")[1])
        self.answers += 1
        response = web.Response(text="{}", content_type="application/json")
        if request.path == "/close":
            response.force_close()
        return response


@pytest_asyncio.fixture
async def server() -> AsyncIterator[tuple[Server, int]]:
    counting = Server()
    runner = web.ServerRunner(web.Server(counting.handle))
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    yield counting, runner.addresses[0][1]
    await runner.cleanup()


async def post(pool: HttpPool, count: int) -> None:
    for _ in range(count):
        notice = Notice(pool.endpoint.head("POST", {}) + b"Content-Length: 2\r\n\r\n{}")
        pool.submit(notice)
        await asyncio.wait_for(notice.done, 5.0)
        assert notice.status == 200


async def test_one_connection_serves_calls_one_after_another(server: tuple[Server, int]) -> None:
    counting, port = server
    pool = HttpPool(HttpEndpoint(f"http://127.0.0.1:{port}/", {}), UpstreamSettings())
    await post(pool, 20)
    assert (counting.answers, len(counting.connections)) == (20, 1)
    pool.close()


async def test_a_connection_that_the_server_closes_is_not_used_again(server: tuple[Server, int]) -> None:
    counting, port = server
    pool = HttpPool(HttpEndpoint(f"http://127.0.0.1:{port}/close", {}), UpstreamSettings())
    await post(pool, 3)
    assert (counting.answers, len(counting.connections)) == (3, 3)
    pool.close()


async def test_concurrent_calls_get_a_connection_each_and_keep_them(server: tuple[Server, int]) -> None:
    counting, port = server
    pool = HttpPool(HttpEndpoint(f"http://127.0.0.1:{port}/", {}), UpstreamSettings())
    for _ in range(3):
        await asyncio.gather(*(post(pool, 5) for _ in range(4)))
    assert counting.answers == 60 and len(counting.connections) <= 4
    pool.close()
