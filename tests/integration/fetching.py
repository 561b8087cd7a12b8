"""Requests by the worker's HTTP client to servers of a test's own."""

from __future__ import annotations

import asyncio
import contextlib
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

from aiohttp import web

from shared.connections import HttpConnection
from shared.errors import CallError
from shared.settings import UpstreamSettings
from tests.machine import scaled
from worker.transports.http_client import HttpPool
from worker.transports.http_endpoint import HttpEndpoint

Handler = Callable[[web.BaseRequest], Awaitable[web.StreamResponse]]


class Fetched:
    """One request and all of its response."""

    def __init__(self, request: bytes | tuple[bytes, ...], most: int = 10_000_000) -> None:
        self.request: bytes | tuple[bytes, ...] = request
        self.status = 0
        self.body = b""
        self.most = most
        self.largest = 0
        self.pool: HttpPool | None = None
        self.done: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def on_headers(self, status: int, headers: dict[bytes, bytes]) -> None:
        self.status = status

    def on_body(self, data: bytes) -> None:
        self.body += data
        self.largest = max(self.largest, len(data))
        if len(self.body) > self.most and self.pool is not None:
            self.pool.cancel(self)
            self.done.set_exception(CallError("too_large", "larger than allowed"))

    def on_complete(self) -> None:
        self.done.set_result(None)

    def on_failed(self, error: CallError) -> None:
        self.done.set_exception(error)


async def fetch(pool: HttpPool, method: str = "POST", most: int = 10_000_000, parts: bool = False) -> Fetched:
    head = pool.endpoint.head(method, {})
    request: bytes | tuple[bytes, ...] = head + b"Content-Length: 2\r\n\r\n{}" if method == "POST" else head + b"\r\n"
    if parts:
        request = (head + b"Content-Length: 2\r\n\r\n", b"{}")
    fetched = Fetched(request, most)
    fetched.pool = pool
    pool.submit(fetched)
    await asyncio.wait_for(fetched.done, scaled(10.0))
    return fetched


def pool_to(url: str, **options: Any) -> HttpPool:
    return HttpPool(HttpEndpoint(url, HttpConnection(url, **options)), UpstreamSettings())


@contextlib.asynccontextmanager
async def serving(handler: Handler, tls: ssl.SSLContext | None = None, path: str = "") -> AsyncIterator[int]:
    runner = web.ServerRunner(web.Server(handler))
    await runner.setup()
    site: Any = web.UnixSite(runner, path) if path else web.TCPSite(runner, "127.0.0.1", 0, ssl_context=tls)
    await site.start()
    try:
        yield 0 if path else runner.addresses[0][1]
    finally:
        await runner.cleanup()


async def echo(request: web.BaseRequest) -> web.StreamResponse:
    """Answer with what arrived."""
    body = await request.read()
    found = {"path": request.path_qs, "method": request.method, "body": body.decode(), **dict(request.headers)}
    return web.json_response(found)
