"""The express lane: ``POST /mcp`` of programs, without a task, a future or a parsed header for each call.

aiohttp's request handler costs more than everything we do for a call. So a protocol of our own (``connection``)
stands before it on every connection and looks at each request as it arrives. One that is whole, plain (no ``Origin``,
no transfer coding, HTTP/1.1) and can be answered without waiting for anything but its upstream is carried by
callbacks. Everything else is fed to an aiohttp handler on the same connection, as the bytes that came. Both lanes ask
the same functions (``protocol.serving``), so nothing is decided differently, and a call that was begun here and
turned out to need more (an event stream, another replica) goes on there with the caller and the call that it has.
"""

from __future__ import annotations

import asyncio
from typing import Any

from aiohttp import web

from gateway.admission.dns_rebinding import RebindingGuard
from gateway.listener.connection import Connection
from gateway.listener.heads import Heads
from gateway.protocol.serving import Exchange, Serving


class Lane:
    """What all connections of a front end share; itself the protocol factory that sites listen with."""

    def __init__(self, server: web.Server, guard: RebindingGuard, serving: Serving, keepalive_s: float) -> None:
        self._server = server
        self._keepalive_s = keepalive_s
        self.heads = Heads(guard)
        self.serving = serving
        self.loop = asyncio.get_running_loop()
        self.connections: set[Connection] = set()
        self.begun: dict[Any, Exchange] = {}
        """Requests that were begun here and take the ordinary lane, by aiohttp's handler."""

    def __call__(self) -> Connection:
        return Connection(self)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._server, name)  # to runners and gunicorn this is aiohttp's server

    def ordinary(self) -> Any:
        """Return a handler of aiohttp."""
        return self._server()

    def sweep(self) -> None:
        """Close connections that were idle for too long (called about once a second)."""
        now = self.loop.time()
        for connection in [one for one in self.connections if one.idle_for(now) > self._keepalive_s]:
            connection.end()

    def close(self) -> None:
        """Close the connections that aiohttp does not know; it ends the others."""
        for connection in [one for one in self.connections if not one.known]:
            connection.end()
