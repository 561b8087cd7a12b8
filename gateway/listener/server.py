"""aiohttp's server behind the express lane, and the order in which a front end drains.

A ``POST`` to an MCP endpoint that takes the ordinary lane bypasses aiohttp's application, whose routing and middleware
cost 14-17 µs a request. Everything else goes through the application (``routes``), and so do browsers, which send
``Origin`` and need CORS headers.
"""

from __future__ import annotations

import asyncio
import logging
import socket
from collections.abc import Sequence
from typing import Any

from aiohttp import web, web_response
from aiohttp.http import HttpProcessingError, RawRequestMessage
from aiohttp.streams import StreamReader
from aiohttp.web_protocol import RequestPayloadError

from gateway.front_end.front_end import FrontEnd
from gateway.listener.accepting import Accepting
from gateway.listener.heads import endpoint_at, framing_fault, target_fault
from gateway.listener.lane import Lane
from gateway.listener.routes import head_of, routes
from gateway.listener.tls import ListenerTls
from gateway.listener.wary import Wariness
from gateway.protocol import answers
from shared.errors import Refused
from shared.tasks import cancel, spawn, tick

_NEVER_S = 1e9
_SWEEP_S = 1.0
_GOODBYE_S = 10.0
"""How long, at most, the idle connections of a front end that is replaced stay open. Clients that are at work use
theirs within this time, and are told with an answer that it ends; a request may cross the end of an idle one."""
_IDLE_S = 5.0
"""After that time, connections that are idle for so long are closed while calls on others go on."""
_LINGER_S = 5.0
"""How long the rest of a request that was refused is read and dropped, before its connection ends."""


def _is_ours(record: logging.LogRecord) -> bool:
    """Return false for what a client did wrong: whoever sends junk would fill the log with tracebacks."""
    error = record.exc_info[1] if record.exc_info is not None else None
    return not isinstance(error, HttpProcessingError | RequestPayloadError)


vars(web_response)["SERVER_SOFTWARE"] = "mcp-gateway"  # in place of the versions of Python and aiohttp


class McpRunner(web.AppRunner):
    """aiohttp's runner with the express lane in front. Raises ``ConfigError`` where TLS has no usable files.

    aiohttp's ``pre_shutdown`` would close idle connections at once and discard a request that is just arriving. This
    runner stops accepting, lets running calls finish with ``ClientConnection: close``, and only then runs aiohttp's
    shutdown.
    """

    def __init__(self, front: FrontEnd) -> None:
        super().__init__(
            routes(front),
            access_log=None,
            handler_cancellation=True,
            keepalive_timeout=_NEVER_S,  # the lane looks after idle connections, aiohttp's included
            shutdown_timeout=2.0,
            lingering_time=_LINGER_S,
            max_line_size=16 * 1024,
            max_field_size=32 * 1024,
        )
        logging.getLogger("aiohttp.server").addFilter(_is_ours)
        self._front = front
        self._lane: Lane | None = None
        self._sockets: Sequence[socket.socket] = ()
        self._accepting: Accepting | None = None
        self._tls = ListenerTls(front.settings.tls, front.access.peers.certificates) if front.settings.tls.on else None
        self._tasks: list[asyncio.Task[None]] = []

    def listen(self, sockets: Sequence[socket.socket]) -> None:
        """Accept from these sockets once the server is there."""
        self._sockets = sockets

    async def setup(self) -> None:
        await super().setup()
        if self._lane is not None:
            self._accepting = Accepting(self._sockets, self._lane, self._lane.relieve)

    async def _make_server(self) -> Any:
        server = await super()._make_server()
        front, ordinary, handle_ordinary = self._front, server.request_factory, server.request_handler
        access, protocol, loop = front.access, front.protocol, asyncio.get_running_loop()
        max_body_bytes = front.settings.calls.max_body_bytes
        limit = max_body_bytes + 1
        ordinary_headers = access.peers.headers | {"dpop"}
        wariness = Wariness(access.suspects, access.authentication) if access.authentication is not None else None
        lane = Lane(
            server,
            access.guard,
            protocol.serving,
            protocol.bodies,
            front.settings,
            ordinary_headers,
            self._tls,
            wariness,
        )
        self._lane = lane
        front.tell_of_dropped_sessions(lane.heads.forget_session)

        def make(message: RawRequestMessage, payload: StreamReader, protocol: Any, writer: Any, task: Any) -> Any:
            if message.method == "POST" and endpoint_at(message.path) is not None and "Origin" not in message.headers:
                return web.BaseRequest(message, payload, protocol, writer, task, loop, client_max_size=limit)
            return ordinary(message, payload, protocol, writer, task)

        async def handle(request: web.BaseRequest) -> web.StreamResponse:
            begun = lane.begun.pop(request.protocol, None)
            fault = framing_fault(request.version, request.headers)
            fault = fault or target_fault(request.raw_path, request.headers.getall("Host", ()))
            if fault is not None:
                return answers.failure(Refused("invalid_request", fault), b"null").to_response().close()
            try:
                if type(request) is web.BaseRequest:
                    head = head_of(request, access.guard, endpoint_at(request.path) or "", peers=access.peers)
                    response = await protocol.posts.post(request, head, begun)
                else:
                    response = await handle_ordinary(request)
                if request.content.exception() is not None:
                    response.force_close()  # where the body ends that cannot be decoded is not known
                elif "Content-Encoding" in request.headers and not request.content.is_eof():
                    request.protocol._lingering_time = 0.0  # the rest would be decoded before it is dropped
                    response.force_close()
                return response
            except ConnectionError:
                if request.transport is None or request.transport.is_closing():
                    raise asyncio.CancelledError("the client is gone") from None  # so that aiohttp logs no error
                raise
            finally:
                if begun is not None:
                    protocol.serving.carrier.discard(begun.in_flight)

        server.request_factory = make
        server.request_handler = handle
        self._tasks.append(spawn(self._sweep(lane), "idle-connections"))
        if self._tls is not None:
            self._tasks.append(spawn(self._tls.follow(lane.sweep), "certificates"))
        return lane

    async def _sweep(self, lane: Lane) -> None:
        while True:
            await tick(_SWEEP_S)
            lane.sweep()

    async def cleanup(self) -> None:
        """Stop accepting connections, drain, end the connections that are left, and leave the fleet."""
        await self._front.say_goodbye()
        loop = asyncio.get_running_loop()
        goodbye_s = min(self._front.settings.fleet.drain_timeout_s / 2, _GOODBYE_S)
        said_at = loop.time()
        if self._lane is not None and self._front.replaced:
            loop.call_later(goodbye_s, self._lane.hurry, _IDLE_S)  # what would come later has too little time left
        if self._accepting is not None:
            self._accepting.stop()
        for site in list(self._sites):  # those of a gunicorn that has aiohttp's own worker class
            await site.stop()
        await self._front.drain()
        if self._lane is not None and self._front.replaced:
            await self._lane.emptied(said_at + goodbye_s)
        await cancel(*self._tasks)
        if self._lane is not None:
            self._lane.close()
        await super().cleanup()
        await self._front.close()
