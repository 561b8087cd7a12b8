"""What the gateway is compared with: ``python -m loadtest.bench.reference forward URL`` or ``… memory FILE``.

``forward`` is R: a bare single-process aiohttp reverse proxy on uvloop that sends every body on to one URL with
``ClientSession`` and understands nothing. ``memory`` answers every request with the bytes of a file.
"""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path

import aiohttp
import uvloop
from aiohttp import web

_LARGEST = 64 * 1024 * 1024
_OF_THE_HOP = frozenset({"host", "content-length", "connection", "keep-alive", "transfer-encoding", "accept-encoding"})


def forwarding(session: aiohttp.ClientSession, url: str) -> web.Application:
    """R."""

    async def forward(request: web.Request) -> web.Response:
        body = await request.read()
        headers = {name: value for name, value in request.headers.items() if name.lower() not in _OF_THE_HOP}
        async with session.request(request.method, url, data=body, headers=headers) as answer:
            return web.Response(body=await answer.read(), status=answer.status, content_type=answer.content_type)

    app = web.Application(client_max_size=_LARGEST)
    app.router.add_route("*", "/{path:.*}", forward)
    return app


def from_memory(body: bytes) -> web.Application:
    """Always the same JSON."""

    async def give(request: web.Request) -> web.Response:
        await request.read()
        return web.Response(body=body, content_type="application/json")

    app = web.Application()
    app.router.add_route("*", "/{path:.*}", give)
    return app


async def main(kind: str, target: str) -> None:
    """Listen on a free port, say so, serve until killed."""
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0)) as session:
        app = forwarding(session, target) if kind == "forward" else from_memory(Path(target).read_bytes())
        runner = web.AppRunner(app, access_log=None)
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        print(f"port {runner.addresses[0][1]}", flush=True)
        await asyncio.Event().wait()


if __name__ == "__main__":
    uvloop.run(main(sys.argv[1], sys.argv[2]))
