"""The addresses of hosts. What was found last is used on while the name service does not answer.

A name service that hangs holds each look-up for some ten seconds, and the threads that look up are few. So a host is
looked up once at a time, whoever asks; and who asks for a host that has been found before waits a moment for the new
answer, then takes the one before. An answer that there is no such host counts as one.
"""

from __future__ import annotations

import asyncio
import socket
from collections import OrderedDict
from typing import Any

from shared.tasks import spawn

_PATIENCE_S = 0.5
"""How long who could use an earlier answer waits for a new one."""
_KEPT_S = 3600.0
"""How old an answer may be that is used instead."""
_MOST = 1024
"""The hosts whose addresses are kept."""
Addresses = list[Any]
"""As ``getaddrinfo`` returns them."""


class Names:
    """The hosts that this process has looked up."""

    def __init__(self) -> None:
        self._found: OrderedDict[tuple[str, int], tuple[float, Addresses]] = OrderedDict()
        self._under_way: dict[tuple[str, int], asyncio.Task[Addresses | OSError]] = {}

    @property
    def kept(self) -> int:
        """How many hosts' addresses are kept."""
        return len(self._found)

    async def resolve(self, host: str, port: int) -> Addresses:
        """Return the addresses of a host. Raises ``OSError`` if it has none."""
        loop = asyncio.get_running_loop()
        if _is_address(host):
            return await loop.getaddrinfo(host, port, type=socket.SOCK_STREAM)
        place = host, port
        lookup = self._under_way.get(place)
        waits = lookup is None
        if lookup is None:
            lookup = self._under_way[place] = spawn(self._look_up(place), f"look up {host}")
            lookup.add_done_callback(lambda _: self._under_way.pop(place, None))
        known = self._found.get(place)
        if known is not None and loop.time() - known[0] <= _KEPT_S:
            if waits:
                await asyncio.wait((lookup,), timeout=_PATIENCE_S)
            if not lookup.done():
                return known[1]
        found = await asyncio.shield(lookup)
        if isinstance(found, OSError):
            raise found
        return found

    async def _look_up(self, place: tuple[str, int]) -> Addresses | OSError:
        loop = asyncio.get_running_loop()
        try:
            found: Addresses = await loop.getaddrinfo(*place, type=socket.SOCK_STREAM)
        except socket.gaierror as error:
            known = self._found.get(place)
            if error.errno == socket.EAI_AGAIN and known is not None and loop.time() - known[0] <= _KEPT_S:
                return known[1]  # it did not answer at last
            self._found.pop(place, None)
            return error
        except OSError as error:
            return error
        self._found[place] = loop.time(), found
        self._found.move_to_end(place)
        while len(self._found) > _MOST:
            self._found.popitem(last=False)
        return found


def _is_address(host: str) -> bool:
    return ":" in host or host.replace(".", "").isdigit()


NAMES = Names()
"""Those of this process."""
