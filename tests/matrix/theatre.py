"""Where the matrix is played: two front ends, two workers, one upstream of every kind, one puppet of every SDK."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any
from urllib.parse import urlsplit

from shared.registry.virtual_servers import Declared, VirtualServerStore
from shared.virtual_servers import read
from tests.fleet import ROOT, Fleet
from tests.matrix import plays, stage
from tests.matrix.cells import PLAYERS, UPSTREAMS, Cell, Upstream
from tests.matrix.player import Player, missing


@asynccontextmanager
async def upstream(kind: Upstream) -> AsyncIterator[dict[str, Any]]:
    """What to register for this kind of upstream; its process, unless a worker starts it."""
    arguments = ["-m", "tests.matrix.upstream", kind.transport, kind.id]
    if kind.transport == "stdio":
        yield {"type": "stdio", "command": sys.executable, "args": arguments, "cwd": str(ROOT)}
        return
    process = await asyncio.create_subprocess_exec(
        sys.executable, *arguments, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.DEVNULL, cwd=ROOT
    )
    assert process.stdout is not None
    port = int(await process.stdout.readline())
    try:
        path = "/mcp" if kind.transport == "http" else ""
        yield {"type": kind.transport, "url": f"http://127.0.0.1:{port}{path}"}
    finally:
        process.kill()
        await process.wait()


class Theatre:
    """Plays cells, one after another."""

    def __init__(self, fleet: Fleet) -> None:
        self.fleet = fleet
        self.players: dict[str, Player] = {}

    async def play(self, cell: Cell) -> None:
        """Play one cell. Raises what went wrong."""
        ports = [urlsplit(url).port or 0 for url in self.fleet.urls]
        player = await self._player(cell.player) if cell.player in PLAYERS else None
        try:
            await plays.play(cell, ports, UPSTREAMS[0].id, player)
        except TimeoutError:
            if player is not None:  # it may hang: the next cell gets a new one
                await self.players.pop(cell.player).stop()
            raise AssertionError(f"not within {stage.LIMIT_S:g} s") from None

    async def _player(self, name: str) -> Player:
        if name not in self.players:
            assert not missing(name), missing(name)
            self.players[name] = Player(name)
            await self.players[name].start()
        return self.players[name]


@asynccontextmanager
async def theatre(redis_url: str) -> AsyncIterator[Theatre]:
    """Everything started and connected; all of it ended."""
    async with AsyncExitStack() as stack:
        connections = [await stack.enter_async_context(upstream(kind)) for kind in UPSTREAMS]
        fleet = await stack.enter_async_context(Fleet(redis_url, 2, 2, page_size=stage.PAGE))
        for kind, connection in zip(UPSTREAMS, connections, strict=True):
            await fleet.register(kind.id, connection, era=kind.era, connected=False)
            if kind.id == "stdio-legacy":
                own = {"era": kind.era, "isolation": "client", "connected": False}
                await fleet.register(stage.OWN_GROUP, connection, **own)
        await fleet.connected(*(kind.id for kind in UPSTREAMS), stage.OWN_GROUP)
        store = VirtualServerStore(fleet.store)
        for kind in UPSTREAMS:
            name = stage.virtual_name(kind.id)
            await store.put(Declared("api", read(name, stage.virtual_document(kind.id))))
        house = Theatre(fleet)
        try:
            yield house
        finally:
            await asyncio.gather(*(player.stop() for player in house.players.values()))
