"""The express lane: calls of programs at ``/mcp`` and ``/servers/{name}/mcp``, without a task, a future or a parsed
header for each call.

aiohttp's request handler costs more than all other work on a call. So an asyncio protocol (``connection``) stands
before aiohttp on every connection and looks at each request as it arrives. A request is carried by callbacks if
it is whole and plain (no ``Origin``, no transfer coding, HTTP/1.1) and needs to wait for nothing but its upstream. All
other requests take the *ordinary lane*: their bytes are fed to an aiohttp handler on the same connection.

Both lanes call the same functions (``protocol.serving``), so both decide alike. A call that was begun on the express
lane and then needs more (an event stream, another replica) goes on in the ordinary lane, with the same caller.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from functools import partial
from typing import Any

from aiohttp import web

from gateway.admission.dns_rebinding import RebindingGuard
from gateway.http.bodies import Bodies
from gateway.listener.connection import ClientConnection
from gateway.listener.heads import Heads
from gateway.listener.room import Room
from gateway.listener.tls import ListenerTls, doors
from gateway.listener.wary import Wariness
from gateway.protocol.serving import BegunRequest, Serving
from shared.settings import Settings

_LOOK_S = 0.05


class Lane:
    """What all connections of a front end share. Calling the object makes a connection: it is the protocol factory."""

    def __init__(
        self,
        server: web.Server,
        guard: RebindingGuard,
        serving: Serving,
        bodies: Bodies,
        settings: Settings,
        ordinary_headers: frozenset[str] = frozenset(),
        tls: ListenerTls | None = None,
        wariness: Wariness | None = None,
    ) -> None:
        """A request with one of ``ordinary_headers`` takes the ordinary lane, which knows who sent it. ``wariness`` is
        about wrong credentials, where there are any."""
        self.wariness = wariness
        self._server = server
        self._keepalive_s = settings.service.keepalive_s
        self.limits = settings.clients
        self.bodies = bodies
        self.room = Room(settings.clients)
        self.heads = Heads(guard, settings.calls.max_body_bytes, ordinary_headers)
        self.serving = serving
        self.loop = asyncio.get_running_loop()
        self.begun: dict[Any, BegunRequest] = {}
        """Requests that were begun on the express lane and go on in the ordinary one, by aiohttp's handler."""
        self._make: Callable[[], asyncio.BaseProtocol] = (
            partial(ClientConnection, self) if tls is None else doors(self, tls, settings.clients.head_timeout_s)
        )

    def __call__(self) -> asyncio.BaseProtocol:
        return self._make()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._server, name)  # runners and gunicorn use this object as aiohttp's server

    def ordinary(self) -> Any:
        """Return a new connection handler of aiohttp."""
        return self._server()

    def sweep(self) -> None:
        """Close connections that were idle for too long, or whose requests come too slowly (called about once a
        second)."""
        now = self.loop.time()
        for connection in self._connections():
            since = connection.idle_since()
            if since is not None and (now - since > self._keepalive_s or connection.stale):
                connection.end()
            else:
                connection.check(now)

    def relieve(self) -> None:
        """Close connections that are idle, because no descriptor is free for a new one."""
        self.room.relieve(self.loop.time())

    def hurry(self, idle_s: float) -> None:
        """From now on, let ``sweep`` close connections that are idle for longer than ``idle_s``."""
        self._keepalive_s = min(self._keepalive_s, idle_s)

    async def emptied(self, until: float) -> None:
        """Wait until no connection is left, but no longer than until ``until`` (loop time).

        Whoever closes an idle connection may cross a request on it, of which the client cannot know whether it ran.
        """
        while self._connections() and self.loop.time() < until:
            await asyncio.sleep(_LOOK_S)

    def close(self) -> None:
        """Close the connections without an aiohttp handler; aiohttp closes the others."""
        for connection in self._connections():
            if not connection.known:
                connection.end()

    def _connections(self) -> list[ClientConnection]:
        return [one for one in self.room if isinstance(one, ClientConnection)]
