"""What a feature is played on: the fleet's ports, the cell, and names as the upstream's are listed at the gateway."""

from __future__ import annotations

import itertools
from collections.abc import Awaitable
from typing import Any

from tests.matrix.cells import Cell, is_own
from tests.matrix.player import Player, Refused

LIMIT_S = 40.0
PAGE = 11
"""Entries on one page of the gateway's lists, in the fleet that plays."""
OWN_GROUP = "stdio-own"
"""A legacy stdio upstream with a process for each client."""
_numbers = itertools.count(1)


RENAMED = {"tools": ("echo", "weather", "progress", "ask", "touch", "panel", "job"), "prompts": ("greet",)}
"""What the virtual server of a group shows, as ``v_echo`` and so on."""
REDESCRIBED = {"fixed": "A note that stays.", "notes/{number}": "A note by its number."}
"""What it says of a resource and a template, which are known by their URIs and keep them."""


def virtual_name(group: str) -> str:
    """The name of a group's virtual server."""
    return f"only-{group}"


def virtual_document(group: str) -> dict[str, Any]:
    """A group's virtual server, for ``PUT /admin/v1/virtual-servers``."""
    names = {f"{kind}:{group}/{one}": {"name": f"v_{one}"} for kind, ones in RENAMED.items() for one in ones}
    shown = {kind: [f"{group}/{one}" for one in ones] for kind, ones in RENAMED.items()}
    names[f"tools:{group}/echo"]["description"] = "Say it again."
    for path, text in REDESCRIBED.items():
        names[f"resources:{group}/memo://{group}/{path}"] = {"description": text}
    return {**shown, "resources": [f"{group}/*"], "override": names}


class Stage:
    """What a feature plays on."""

    def __init__(self, cell: Cell, ports: list[int], first: str, player: Player | None, virtual: bool = False) -> None:
        """``virtual``: everything is played at the virtual server of the group, which gives other names."""
        self.virtual = virtual
        self._connected = False
        self.cell = cell
        self.ports = ports
        self.first = first
        self._player = player
        self.key = f"k{next(_numbers)}"

    @property
    def player(self) -> Player:
        assert self._player is not None
        return self._player

    @property
    def group(self) -> str:
        return OWN_GROUP if is_own(self.cell.feature, self.cell.upstream) else self.cell.upstream.id

    def name(self, bare: str) -> str:
        """As it is listed: bare for the group that was registered first."""
        if self.virtual:
            return f"v_{bare}"
        return bare if self.group == self.first else f"{self.group}__{bare}"

    def uri(self, path: str) -> str:
        return f"memo://{self.group}/{path}"

    async def connect(self, log_level: str | None = None) -> Player:
        if self.virtual and self._connected:  # many features one after another, by one client
            self.player.events.clear()
            return self.player
        self._connected = True
        server = virtual_name(self.group) if self.virtual else ""
        await self.player.connect(self.ports, self.cell.kind, log_level, server=server)
        return self.player


async def refused(awaited: Awaitable[Any]) -> Refused:
    """The error that this must end in."""
    try:
        result = await awaited
    except Refused as error:
        return error
    raise AssertionError(f"no error: {result}")
