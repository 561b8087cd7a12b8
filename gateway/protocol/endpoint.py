"""``POST`` to an MCP endpoint in the ordinary lane: one message of either era, or a batch of the handshake era.

A request is modern if its ``_meta`` names a protocol version, or its version header names no version of the handshake
era (``admission.admit``). What happens to a call whose client closes the response depends on the era
(``InFlight.client_left``).
"""

from __future__ import annotations

import asyncio

from aiohttp import web

from gateway.admission.caller import Caller
from gateway.admission.request_head import SESSION_HEADER, RequestHead
from gateway.fleet.dispatch import Abandoned
from gateway.http.bodies import BodyReader
from gateway.http.responses import accepted
from gateway.protocol import answers
from gateway.protocol.answers import Answer
from gateway.protocol.batches import Batches
from gateway.protocol.call_stream import Resumable, show
from gateway.protocol.carrying import Started
from gateway.protocol.client_messages import ClientMessages, check
from gateway.protocol.large_bodies import LargeBodies
from gateway.protocol.plans import Listen
from gateway.protocol.serving import BegunRequest, Serving
from gateway.streams.standing_streams import StandingStreams
from shared.errors import CallError, Refused
from shared.mcp import jsonrpc
from shared.mcp.jsonrpc import Message, Params
from shared.mcp.methods import wants_warnings
from shared.mcp.versions import Era


class PostEndpoint:
    """Serves ``POST /mcp`` and ``POST /servers/{name}/mcp``."""

    def __init__(
        self,
        serving: Serving,
        messages: ClientMessages,
        batches: Batches,
        streams: StandingStreams,
        bodies: BodyReader,
        large: LargeBodies,
        retry_ms: int,
    ) -> None:
        self._serving = serving
        self._messages = messages
        self._batches = batches
        self._streams = streams
        self._bodies = bodies
        self._large = large
        self._retry_ms = retry_ms

    async def post(
        self, request: web.BaseRequest, head: RequestHead, exchange: BegunRequest | None = None
    ) -> web.StreamResponse:
        """Take one message or a batch, and return its answer.

        ``exchange`` is the request if the express lane began it.
        """
        try:
            await self._serving.check_head(head)  # before the body is read
            body = await self._bodies.read(request)
            if exchange is not None:
                return await self._show(request, exchange.message, exchange.params, exchange.caller, exchange=exchange)
            if body[:1] != b"{" and body.lstrip()[:1] == b"[":
                return await self._batches.post(request, head, await self._large.decode_batch(body))
            message = await self._large.decode(body)
        except CallError as error:
            return answers.failure(error, b"null").to_response()
        try:
            params = await self._large.decode_params(message)
            if not message.method:
                check(message)
            caller = await self._serving.admitted(head, message, params)
        except CallError as error:
            return answers.failure(error, bytes(message.id) or b"null").to_response()
        if message.is_request:
            return await self._show(request, message, params, caller, head)
        return await self._take(message, caller)

    async def _take(self, message: Message, caller: Caller) -> web.StreamResponse:
        """Take a notification or a response. The modern era has neither over this transport.

        A modern client's notification is dropped, and its response refused.
        """
        if caller.era is Era.LEGACY:
            await self._messages.take(caller, message)
        elif not message.method:
            error = Refused("invalid_request", "a modern client posts requests, never responses")
            return answers.failure(error, bytes(message.id) or b"null").to_response()
        return accepted()

    async def _show(
        self,
        request: web.BaseRequest,
        message: Message,
        params: Params,
        caller: Caller,
        head: RequestHead | None = None,
        exchange: BegunRequest | None = None,
    ) -> web.StreamResponse:
        """Serve a request, or go on with one that was begun, and return the answer."""
        try:
            reply: Answer | Started | Listen
            if exchange is not None:
                reply = await self._serving.go_on(exchange)
            else:
                assert head is not None
                reply = await self._serving.serve(head, message, params, caller)
            if isinstance(reply, Listen):
                return await self._streams.listen(request, message, caller)
        except Abandoned as gone:
            self._serving.carrier.leave(gone.in_flight)
            raise
        except CallError as error:
            return answers.failure(error, bytes(message.id), caller.era).to_response()
        if isinstance(reply, Answer):
            return reply.to_response(SESSION_HEADER)
        try:
            return await show(
                request,
                self._serving.carrier,
                reply,
                self._resumable(reply, caller),
                _hears_warnings(params, caller),
            )
        except (asyncio.CancelledError, ConnectionError):
            self._serving.carrier.leave(reply.in_flight)
            raise

    def _resumable(self, started: Started, caller: Caller) -> Resumable | None:
        """Return the event ids of a call, or ``None`` without a session: only a session's call can be resumed."""
        if caller.session is None:
            return None
        return Resumable(started.in_flight, caller.session.version, self._retry_ms)


def _hears_warnings(params: Params, caller: Caller) -> bool:
    """Whether the client wants log messages of level warning."""
    if caller.era is Era.LEGACY:
        return caller.session is not None and caller.session.wants_warnings
    level = params.meta.log_level if params.meta is not None else jsonrpc.ABSENT
    return bool(level) and wants_warnings(jsonrpc.text(level, "logLevel"))
