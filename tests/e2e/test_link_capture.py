"""Real front ends and workers linked over TCP: what a capture on the wire between them has of a call."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from gateway.supervisor.lifecycle import Child
from tests.clients import RawClient
from tests.e2e.test_up import environment
from tests.fleet import PYTHON, ROOT, Fleet
from tests.servers.raw import RawUpstreams

ELSEWHERE = (
    "import socket, sys; socket.gethostname = lambda: 'elsewhere'; from worker.main import main; sys.exit(main())"
)
"""A worker that seems to be on another host, so that front ends here dial its TCP port."""
MARKER = "x-marker-of-this-call-x"
TOOLS = [{"name": "echo", "inputSchema": {"type": "object"}}]


class FarFleet(Fleet):
    """A fleet whose workers are on another host, as far as its front ends know."""

    async def add_worker(self) -> Child:
        worker = Child("worker", [PYTHON, "-c", ELSEWHERE], environment(), settings=self.settings)
        await worker.start()
        self.workers.append(worker)
        return worker


class Wire:
    """The way to a worker, at another loopback address with the same port; ``seen`` is everything that went over it."""

    def __init__(self, port: int) -> None:
        self._port = port
        self.seen = b""

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        there, back = await asyncio.open_connection("127.0.0.1", self._port)
        await asyncio.gather(self._copy(reader, back), self._copy(there, writer))

    async def _copy(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError):
            while chunk := await reader.read(1 << 20):
                self.seen += chunk
                writer.write(chunk)
                await writer.drain()
        writer.close()


@asynccontextmanager
async def wire() -> AsyncIterator[Wire]:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    way = Wire(port)
    server = await asyncio.start_server(way._serve, "127.0.0.2", port)
    try:
        yield way
    finally:
        server.close()


@pytest.mark.parametrize("given", [{"link_tls": "off"}, {}, {"link_tls": "required"}], ids=["off", "auto", "required"])
async def test_a_capture_shows_nothing_of_a_call(redis_url: str, given: dict[str, Any]) -> None:
    async with wire() as way, RawUpstreams() as upstreams:
        upstreams.add("up", TOOLS)
        where = {"rpc_bind": f"127.0.0.1:{way._port}", "rpc_advertise": "127.0.0.2"}
        async with FarFleet(redis_url, 2, 1, **where, **given) as fleet:
            await fleet.register("up", upstreams.connection("up"))
            for url in fleet.urls:
                async with RawClient(url) as client:
                    large = {"text": MARKER, "filler": "y" * 900_000}
                    for arguments in ({"text": MARKER}, large):
                        answer = await client.call("echo", arguments)
                        assert answer.status == 200 and "result" in answer.body, answer.text[:500]
            assert len(way.seen) > 1_800_000
            variables = {"GATEWAY_RPC_BIND": where["rpc_bind"], "GATEWAY_LINK_TLS": given.get("link_tls", "auto")}
            probe = await asyncio.create_subprocess_exec(
                PYTHON, "-m", "gateway.probe", "link", env=environment(**variables), cwd=ROOT
            )
            assert await probe.wait() == 0, "health checks of containers"
            readable = [word for word in (MARKER, "tools/call", "echo") if word.encode() in way.seen]
            assert bool(readable) is (given.get("link_tls") == "off"), readable
