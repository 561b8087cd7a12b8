"""One client connection: where requests begin and end, which lane each takes, and writing the express lane's answers.

What a request means is decided in ``protocol.serving``. This module knows bytes, heads and HTTP status codes only.
"""

from __future__ import annotations

import asyncio
from typing import Any, Protocol, cast

from gateway.calls.events import Answered, Failure
from gateway.calls.in_flight import InFlight
from gateway.http.bodies import Bodies, peer_of
from gateway.http.heads import Process, json_head
from gateway.listener.heads import MAX_HEAD_BYTES, FramedHead, Heads, KnownHeads
from gateway.listener.pouring import PIECE, Pouring
from gateway.listener.room import Room
from gateway.listener.unfinished import Unfinished
from gateway.listener.wary import Wariness
from gateway.protocol import answers
from gateway.protocol.answers import Answer
from gateway.protocol.serving import BegunRequest, Serving
from shared.errors import Refused
from shared.mcp import jsonrpc
from shared.rpc.connection import BodyStream
from shared.settings import ClientSettings
from shared.tasks import spawn

_MAX_WAITING = 256 * 1024
"""Bytes kept of a request that is not whole yet, or that came before the previous request was answered."""
_UNCOUNTED = 16 * 1024
"""Bytes of pipelined requests that are not counted as held, so that small calls pay nothing."""
_LINGER_S = 2.0
"""How long a connection stays after a refusal: a client that is still sending would not read it if it were reset."""
_WRITE_AHEAD = 512 * 1024
"""Bytes of a large answer that may wait for a slow client before this front end stops reading from the worker: as many
as the window of a link."""


class SharedLane(Protocol):
    """What all connections share; ``listener.lane`` implements it."""

    heads: Heads
    serving: Serving
    loop: asyncio.AbstractEventLoop
    room: Room
    bodies: Bodies
    limits: ClientSettings
    begun: dict[Any, BegunRequest]
    wariness: Wariness | None

    def ordinary(self) -> Any:
        """Return a new connection handler of aiohttp."""


class ClientConnection(asyncio.Protocol):
    """One client connection. ``_inner`` is aiohttp's handler of this connection, once a request needed aiohttp."""

    __slots__ = (
        "_blocked",
        "_drained",
        "_exchange",
        "_head",
        "_heads",
        "_inner",
        "_lane",
        "_large",
        "_last",
        "_passing",
        "_paused",
        "_pouring",
        "_refused",
        "_request",
        "_streaming",
        "_touched_at",
        "_transport",
        "_unfinished",
        "_waiting",
        "peer",
    )

    def __init__(self, lane: SharedLane) -> None:
        self._lane = lane
        self._heads: KnownHeads = lane.heads
        self._transport: asyncio.Transport | None = None
        self._inner: Any = None
        self._pouring: Pouring | None = None  # gives aiohttp all that comes: where its request ends is not known
        self._passing = 0  # bytes of a request that is being fed to aiohttp
        self._waiting = b""
        self._unfinished: Unfinished | None = None  # what is known of the request that ``_waiting`` begins
        self._refused = False  # nothing is read any more, and the connection ends soon
        self.peer = ""
        self._blocked = False
        self._drained: asyncio.Future[None] | None = None
        self._paused = False
        self._last = False  # the connection ends with the answer that is being written
        self._streaming: asyncio.Task[None] | None = None
        self._large: InFlight | None = None  # the call whose large answer is being written
        self._touched_at = lane.loop.time()
        self._exchange: BegunRequest | None = None
        self._request = b""
        self._head: FramedHead | None = None

    # ---- asyncio.Protocol

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        self._transport.set_write_buffer_limits(high=_WRITE_AHEAD)
        self.peer = peer_of(transport)
        self._beware()
        try:
            self._lane.room.enter(self, self._touched_at)
        except Refused as error:
            self._refuse(error)
            self._lane.room.see_off(self)

    def data_received(self, data: bytes) -> None:
        if self._refused:
            return
        if self._pouring is not None or self._passing:
            self._touched_at = self._lane.loop.time()
        if self._pouring is not None:
            self._pouring.take(data)
            return
        if self._passing:
            part, data = data[: self._passing], data[self._passing :]
            self._passing -= len(part)
            self._inner.data_received(part)
            if not data:
                return
        if self._waiting:
            data, self._waiting = self._waiting + data, b""
        if self._exchange is not None or self._busy:
            self._keep(data)
        else:
            self._take(data)
        if self._unfinished is not None and not self._waiting and self._pouring is None:
            self._finished()

    @property
    def _busy(self) -> bool:
        """Whether the next request has to wait for the answer to the last one."""
        return self._exchange is not None or self._streaming is not None or self._blocked or self._last

    def _keep(self, data: bytes) -> None:
        self._waiting = data
        if len(data) > _UNCOUNTED:
            try:
                self._begun().body(len(data), self._lane.loop.time())
            except Refused:
                if self._transport is not None:
                    self._transport.abort()  # a refusal would stand in the middle of an answer
        if len(data) > _MAX_WAITING and not self._paused and self._transport is not None:
            self._paused = True
            self._transport.pause_reading()

    def eof_received(self) -> bool | None:
        if self._pouring is not None:
            self._pouring.end()
        return self._inner.eof_received() if self._inner is not None else None

    def pause_writing(self) -> None:
        self._blocked = True
        if self._inner is not None:
            self._inner.pause_writing()

    def resume_writing(self) -> None:
        self._blocked = False
        if self._drained is not None and not self._drained.done():
            self._drained.set_result(None)
        if self._inner is not None:
            self._inner.resume_writing()
        self._go_on()

    def connection_lost(self, exc: Exception | None) -> None:
        self._transport = None
        self._drop()
        self._lane.room.leave(self)
        self._finished()
        if self._streaming is not None:
            self._streaming.cancel()
            self._refuse_large()  # also where the task had not begun
        exchange, self._exchange = self._exchange, None
        if exchange is not None:
            exchange.in_flight.listener = None
            self._leave(exchange)
        begun = self._lane.begun.pop(self._inner, None)
        if begun is not None:
            self._leave(begun)
        if self._inner is not None:
            self._inner.connection_lost(exc)

    def _leave(self, exchange: BegunRequest) -> None:
        """End a request whose client left before the answer."""
        self._lane.serving.carrier.leave(exchange.in_flight)

    # ---- requests

    def _take(self, data: bytes) -> None:
        """Take the requests in ``data``, until one of them has to be waited for."""
        took = False
        while data:
            if self._inner is not None and (self._inner._waiter is None or self._inner._messages):
                self._hand_over(data)  # pipelined behind a request that aiohttp has not answered yet
                return
            end = data.find(b"\r\n\r\n", 0, MAX_HEAD_BYTES)
            if end < 0:
                self._wait_for_head(data, took)
                return
            head = self._heads.read(data[: end + 4])
            if head is None:
                self._hand_over(data)
                return
            whole = head.size + head.length
            if len(data) < whole:
                if whole <= _MAX_WAITING:
                    self._wait_for_body(data, took)
                else:
                    self._passing = whole - len(data)
                    self._feed(data)
                return
            request, data = data[:whole], data[whole:]
            took = True
            if not (head.plain and self._express(head, request)) and not (head.refused and self._turn_away(head)):
                self._feed(request)
            elif self._exchange is not None or self._busy:
                if data:
                    self._keep(data)
                return

    # ---- requests that are not whole

    def _begun(self, anew: bool = False) -> Unfinished:
        """Return what is known of the request that arrives; ``anew``: it began with these bytes."""
        if anew:
            self._finished()
        if self._unfinished is None:
            lane = self._lane
            self._unfinished = Unfinished(lane.limits, lane.bodies, self.peer, lane.loop.time())
        return self._unfinished

    def _finished(self) -> None:
        unfinished, self._unfinished = self._unfinished, None
        if unfinished is not None:
            unfinished.end()

    def _wait_for_body(self, data: bytes, anew: bool) -> None:
        self._waiting = data
        try:
            self._begun(anew).body(len(data), self._lane.loop.time())
        except Refused as error:
            self._refuse(error)

    def _wait_for_head(self, data: bytes, anew: bool) -> None:
        """Keep the beginning of a head, or have aiohttp read it if it is long."""
        unfinished = self._begun(anew)
        try:
            if len(data) < MAX_HEAD_BYTES:
                self._waiting = data
                unfinished.note_head(len(data))
                return
            end = data.find(b"\r\n\r\n")
            unfinished.note_head(len(data) if end < 0 else end + 4)
        except Refused as error:
            self._refuse(error)
            return
        self._hand_over(data)
        if end >= 0:
            self._finished()

    def _watch_head(self, size: int) -> None:
        """Count the bytes that came for aiohttp, if they are part of a head."""
        inner = self._inner
        if inner._waiter is None or inner._waiter.done() or inner._messages:
            self._finished()
            return
        try:
            self._begun().head(size)
        except Refused as error:
            self._refuse(error)

    def check(self, now: float) -> None:
        """End the request that arrives if it comes too slowly, and the connection some time after a refusal."""
        if self._refused:
            if now - self._touched_at > _LINGER_S:
                self.end()
        elif self._unfinished is not None and not self._busy:
            try:
                self._unfinished.check(now)
            except Refused as error:
                self._refuse(error)

    def _refuse(self, error: Refused) -> None:
        """Answer with an error and read nothing any more."""
        self._finished()
        self._waiting = b""
        self._drop()
        self._refused = True
        self._touched_at = self._lane.loop.time()
        transport = self._transport
        if transport is None or transport.is_closing():
            return
        answer = answers.failure(error, b"null")
        head = json_head(answer.status, len(answer.whole), keep_alive=False)
        transport.write(b"%b%b\r\n%b" % (head, answer.lines, answer.whole))
        if transport.can_write_eof():
            transport.write_eof()

    def _express(self, head: FramedHead, request: bytes) -> bool:
        """Begin a request on the express lane; return False if it has to take the ordinary lane."""
        begun = self._lane.serving.begin(head.head, request, head.size)
        if begun is None:
            return False
        self._touched_at = self._lane.loop.time()
        self._head = head
        if type(begun) is BegunRequest:
            self._request = request
            self._exchange = begun
            begun.in_flight.listener = self._on_event
        else:
            self._answer(begun)  # type: ignore[arg-type]
            if begun.status == 401 and head.head.authorization is not None:  # type: ignore[union-attr]
                self._beware(failed=True)
        return True

    def _beware(self, failed: bool = False) -> None:
        """Read heads with care from now on, if the peer's credentials were wrong lately; ``failed``: just now."""
        wariness = self._lane.wariness
        if wariness is not None:
            if failed:
                wariness.suspects.wrong(self.peer, granted=True)
            self._heads = wariness.heads_for(self._heads, self.peer)

    def _turn_away(self, head: FramedHead) -> bool:
        """Answer a request that is not looked at."""
        assert self._lane.wariness is not None
        self._touched_at = self._lane.loop.time()
        self._head = head
        self._answer(self._lane.wariness.answer)
        return True

    def _on_event(self) -> None:
        """Take the first event of the call, which is mostly its answer."""
        exchange = self._exchange
        assert exchange is not None
        call = exchange.in_flight
        self._exchange, call.listener = None, None
        request, self._request = self._request, b""
        event = call.first
        if self._transport is None or self._transport.is_closing():
            self._leave(exchange)
            return
        refused: Answer | None = None
        if type(event) is Failure:
            refused = self._lane.serving.carrier.refused(exchange.id, exchange.caller.era, call, event)
        if refused is not None:
            self._answer(refused)
        elif type(event) is not Answered or (event.stream is not None and (event.is_error or call.call.listed_name)):
            self._feed(request, exchange)
        elif event.stream is not None:
            call.drop_first()
            self._lane.serving.carrier.answer_in_chunks(call, event)
            self._large = call
            self._streaming = spawn(self._answer_large(exchange.id, event.stream), "large-answer")
        else:
            call.drop_first()
            self._answer(self._lane.serving.carrier.answer(exchange.id, exchange.caller.era, call, event))
        self._go_on()

    def _answer(self, answer: Answer) -> None:
        """Write the head and the body of an answer; the body may come in parts."""
        transport = self._transport
        if transport is None:
            return
        body = answer.body
        extra = answer.lines if answer.challenge or answer.retry_after_s else b""
        if len(body) == 1:
            transport.write(self._start(answer.status, len(body[0]), body[0], extra))
        else:
            transport.writelines([self._start(answer.status, sum(map(len, body)), body[0], extra), *body[1:]])
        if self._last:
            transport.close()

    def _start(self, status: int, size: int, body: bytes, extra: bytes = b"") -> bytes:
        """Return the head of an answer with ``size`` bytes of body, followed by the first part of the body.

        ``extra`` are the lines of further headers.
        """
        self._last = self._head is None or not self._head.keep_alive or Process.draining
        return b"%b%b\r\n%b" % (json_head(status, size, not self._last), extra, body)

    def _refuse_large(self) -> None:
        """Have the worker drop the rest of a large answer, because nobody reads it."""
        large, self._large = self._large, None
        if large is not None:
            large.refuse_body()

    async def _answer_large(self, id: bytes, body: BodyStream) -> None:
        """Write an answer that comes in chunks, at the pace at which the client reads."""
        transport = self._transport
        try:
            if transport is None:
                raise ConnectionResetError("the client is gone")
            before, after = jsonrpc.around(id)
            parts = [self._start(200, len(before) + body.size + len(after), before)]
            while not body.finished:
                parts += await body.next()
                if body.finished:
                    parts.append(after)
                transport.writelines(parts)
                parts = []
                if self._blocked:
                    self._drained = self._lane.loop.create_future()
                    await self._drained
            if self._last:
                transport.close()
        except (asyncio.CancelledError, ConnectionError) as error:
            self._refuse_large()
            if transport is not None:
                transport.abort()
            if isinstance(error, asyncio.CancelledError):
                raise
        finally:
            self._streaming = self._large = None
            self._touched_at = self._lane.loop.time()
        self._go_on()

    def _go_on(self) -> None:
        """Go on with the bytes that came during the last request."""
        if self._paused and self._transport is not None:
            self._paused = False
            self._transport.resume_reading()
        if self._waiting and self._pouring is None and not (self._busy or self._passing):
            waiting, self._waiting = self._waiting, b""
            self._finished()  # what was kept has its time from now on
            self._take(waiting)

    # ---- the ordinary lane

    def _feed(self, data: bytes, begun: BegunRequest | None = None) -> None:
        """Pass a request to aiohttp, or its beginning: ``_passing`` then says how many bytes are to come."""
        if self._transport is None or self._transport.is_closing():
            if begun is not None:
                self._leave(begun)
            return
        if self._inner is None:
            self._inner = self._lane.ordinary()
            self._inner.connection_made(self._transport)
        if begun is not None:
            self._lane.begun[self._inner] = begun
        self._beware()
        self._touched_at = self._lane.loop.time()
        self._inner.data_received(data)

    def _hand_over(self, data: bytes) -> None:
        """Pass ``data`` and everything that follows on this connection to aiohttp."""
        self._feed(data[:PIECE])
        self._pouring = Pouring(self._lane.loop, self._inner, self._transport, self._watch_head)
        self._pouring.take(data[PIECE:])

    def _drop(self) -> None:
        if self._pouring is not None:
            self._pouring.drop()

    def idle_since(self) -> float | None:
        """Return when anything happened last on this connection, or ``None`` while a request or a stream is under
        way."""
        inner = self._inner
        if self._busy or (inner is not None and not self._passing and inner._waiter is None):
            self._touched_at = self._lane.loop.time()
            return None
        return self._touched_at

    @property
    def stale(self) -> bool:
        """Whether the connection should end when no request is under way."""
        return False

    @property
    def known(self) -> bool:
        """Whether aiohttp has a handler for this connection."""
        return self._inner is not None

    def end(self) -> None:
        """Close the connection once everything queued is written."""
        if self._transport is not None:
            self._transport.close()

    def make_way(self) -> None:
        """Close the connection at once, because another one needs its place."""
        if self._transport is not None and self._transport.get_write_buffer_size():
            self._transport.abort()  # it would stay until its client reads
        else:
            self.end()
