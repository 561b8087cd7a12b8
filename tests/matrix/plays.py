"""The table of features, and how a cell is played."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

from tests.machine import scaled
from tests.matrix import extensions, features
from tests.matrix.cells import FEATURES, ON_THE_WIRE, Cell
from tests.matrix.player import Player
from tests.matrix.stage import LIMIT_S, Stage

PLAYS: dict[str, Callable[[Stage], Awaitable[None]]] = {
    name: getattr(extensions if name in ("tasks", "task_handles", "apps", "virtual") else features, name)
    for name in FEATURES
}


async def play(cell: Cell, ports: list[int], first: str, player: Player | None) -> None:
    """Play one cell. Raises ``AssertionError`` (or what its client raised) where the feature does not cross."""
    stage = Stage(cell, ports, first, player)
    async with asyncio.timeout(scaled(LIMIT_S)):
        try:
            await PLAYS[cell.feature](stage)
        finally:
            if cell.feature not in ON_THE_WIRE:
                await stage.player.do("close")
