"""A collector of traces that throws away what it gets: ``python -m loadtest.bench.collector``. ``GET`` tells how
many bytes came."""

from __future__ import annotations

import asyncio

import uvloop
from aiohttp import web

_taken = 0


async def _take(request: web.BaseRequest) -> web.StreamResponse:
    global _taken
    if request.method == "GET":
        return web.json_response({"bytes": _taken})
    _taken += len(await request.read())
    return web.Response(content_type="application/x-protobuf")


async def main() -> None:
    """Listen on a free port, say so, serve until killed."""
    runner = web.ServerRunner(web.Server(_take, access_log=None))
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    print(f"port {runner.addresses[0][1]}", flush=True)
    await asyncio.Event().wait()


if __name__ == "__main__":
    uvloop.run(main())
