"""The express lane: ``POST /mcp`` of programs, without a task, a future or a parsed header for each call.

aiohttp's request handler costs more than everything we do for a call. This protocol stands before it on every
connection and looks at each request as it arrives. One that is whole, plain (no ``Origin``, no transfer coding,
HTTP/1.1) and can be answered without waiting for anything but its upstream is carried by callbacks. Everything else is
fed to an aiohttp handler on the same connection, as the bytes that came: it decides nothing differently, it only costs
more. So does a call that was begun here and turned out to need more (an event stream, another replica, an error to be
worded): its request goes the ordinary way, with the call that is under way.

A request's head is parsed by llhttp once for each distinct run of bytes; clients send the same heads again and again.
"""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Callable
from typing import Any, cast

import httptools
from aiohttp import web
from msgspec import Struct

from gateway.admission.dns_rebinding import RebindingGuard
from gateway.admission.routing_headers import RoutingHeaders
from gateway.calls.in_flight import Answered, InFlight
from gateway.http.responses import Process, json_head
from gateway.protocol.legacy import SESSION_HEADER, LegacyDoor
from gateway.protocol.methods import Ready, Requests
from gateway.protocol.modern import ModernDoor
from gateway.sessions.table import ClientSession
from shared.errors import CallError
from shared.mcp import jsonrpc
from shared.mcp.versions import LEGACY_VERSIONS
from shared.rpc.connection import BodyStream
from shared.rpc.framing import COPIED
from shared.tasks import spawn

_MAX_HEAD = 8 * 1024
_MAX_HEADS = 20_000
_KEPT_HEAD = 1024
"""Heads are remembered up to so many, and up to so many bytes each; each session's are its own."""
_MAX_WAITING = 256 * 1024
"""Bytes kept for a request that is not whole yet, or sent before the one before it was answered."""
_WRITE_AHEAD = 512 * 1024
"""Bytes of a large answer that wait for a client before the worker is told to wait: the window of its link."""
_UNFRAMED = ("transfer-encoding", "upgrade", "expect", "content-encoding")


class Head(Struct, gc=False):
    """One request head: its own ``size`` and the body's ``length`` in bytes, and what the lane asks of it.

    ``headers`` are shared by heads that say the same: with ten thousand sessions a call costs what memory it touches.
    """

    size: int
    length: int
    keep_alive: bool
    express: bool
    headers: RoutingHeaders
    session: str = ""
    found: ClientSession | None = None
    """The session, as it was known when this head was last seen."""


class _HeadReader:
    """Callbacks of the HTTP parser."""

    def __init__(self) -> None:
        self.target = b""
        self.headers: list[tuple[str, str]] = []
        self.complete = False

    def on_url(self, url: bytes) -> None:
        self.target += url

    def on_header(self, name: bytes, value: bytes) -> None:
        self.headers.append((name.decode("latin-1").lower(), value.decode("utf-8", "surrogateescape")))

    def on_headers_complete(self) -> None:
        self.complete = True


def read_head(raw: bytes, guard: RebindingGuard) -> Head | None:
    """What ``raw``, up to and with the empty line, says; ``None`` when only an HTTP server should deal with it."""
    reader = _HeadReader()
    parser = httptools.HttpRequestParser(reader)
    try:
        parser.feed_data(raw)
    except (httptools.HttpParserError, httptools.HttpParserUpgrade):
        return None
    named: dict[str, list[str]] = {}
    for name, value in reader.headers:
        named.setdefault(name, []).append(value)
    lengths = named.get("content-length", [])
    if not reader.complete or parser.get_http_version() != "1.1" or any(name in named for name in _UNFRAMED):
        return None
    if len(lengths) > 1 or any(not one.isdecimal() or not one.isascii() for one in lengths):
        return None
    connection = ",".join(named.get("connection", [])).lower()
    plain = parser.get_method() == b"POST" and reader.target == b"/mcp" and "origin" not in named and bool(lengths)
    hosts, sessions = named.get("host", []), named.get(SESSION_HEADER.lower(), [])
    return Head(
        len(raw),
        int(lengths[0]) if lengths else 0,
        "close" not in connection,
        plain and len(hosts) == 1 and len(sessions) < 2 and guard.refusal(hosts[0], None) is None,
        RoutingHeaders.read(lambda name: named.get(name.lower(), [])),
        sessions[0] if sessions else "",
    )


class Lane:
    """What all connections of a front end share; itself the protocol factory that sites listen with."""

    def __init__(
        self,
        server: web.Server,
        guard: RebindingGuard,
        requests: Requests,
        modern: ModernDoor,
        legacy: LegacyDoor,
        keepalive_s: float,
    ) -> None:
        self._server = server
        self._guard = guard
        self._keepalive_s = keepalive_s
        self._heads: dict[bytes, Head | None] = {}
        self._headers: dict[RoutingHeaders, RoutingHeaders] = {}
        self.requests = requests
        self.modern = modern
        self.legacy = legacy
        self.loop = asyncio.get_running_loop()
        self.connections: set[Connection] = set()
        self.begun: dict[Any, InFlight] = {}
        """Calls under way whose requests take the ordinary path, by aiohttp's handler."""

    def __call__(self) -> Connection:
        return Connection(self)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._server, name)  # to runners and gunicorn this is aiohttp's server

    def ordinary(self) -> Any:
        """A handler of aiohttp."""
        return self._server()

    def head(self, raw: bytes) -> Head | None:
        """``read_head``, remembered."""
        try:
            return self._heads[raw]
        except KeyError:
            head = read_head(raw, self._guard)
            if len(raw) <= _KEPT_HEAD:
                self._keep(raw, head)
            return head

    def _keep(self, raw: bytes, head: Head | None) -> None:
        if len(self._heads) >= _MAX_HEADS:
            for old in list(itertools.islice(self._heads, _MAX_HEADS // 8)):
                del self._heads[old]
        self._heads[raw] = head
        if len(self._headers) >= _MAX_HEADS:
            self._headers.clear()
        if head is not None:
            head.headers = self._headers.setdefault(head.headers, head.headers)

    def sweep(self) -> None:
        """Close connections that were idle for too long (called about once a second)."""
        now = self.loop.time()
        for connection in [one for one in self.connections if one.idle_for(now) > self._keepalive_s]:
            connection.end()

    def close(self) -> None:
        """The process ends: aiohttp ends the connections it knows, we end the others."""
        for connection in [one for one in self.connections if not one.known]:
            connection.end()

    def begin(self, head: Head, request: bytes) -> tuple[bytes, Ready | InFlight, Callable[[Ready], int]] | None:
        """Begin a request: its id, its answer or the call under way, and the HTTP status of an answer.

        ``None``: it takes the ordinary path, which also words every refusal.
        """
        try:
            if len(request) > COPIED:
                message, params = jsonrpc.decode_request(request, head.size)
            else:
                message = jsonrpc.decode(request[head.size :])
                params = jsonrpc.params_of(message.params)
            if not message.id or not message.method:
                return None
            version = head.headers.version
            meta = params.meta
            if (meta is not None and meta.version) or (version is not None and version not in LEGACY_VERSIONS):
                caller, status = self.modern.admit(head.headers, message, params), self.modern.status
            else:
                legacy_caller = self.legacy.admit(head.session, version, head.found)
                if legacy_caller is None:
                    return None
                head.found = legacy_caller.session
                caller, status = legacy_caller, self.legacy.status
            begun = self.requests.begin(message, params, caller)
        except CallError:
            return None
        return None if begun is None else (bytes(message.id), begun, status)


class Connection(asyncio.Protocol):
    """One client connection; ``_inner`` is aiohttp's handler of it, once there was a request for that."""

    __slots__ = (
        "_blocked",
        "_call",
        "_drained",
        "_head",
        "_id",
        "_inner",
        "_lane",
        "_last",
        "_passing",
        "_paused",
        "_request",
        "_status",
        "_streaming",
        "_through",
        "_touched_at",
        "_transport",
        "_waiting",
    )

    def __init__(self, lane: Lane) -> None:
        self._lane = lane
        self._transport: asyncio.Transport | None = None
        self._inner: Any = None
        self._through = False  # everything goes to aiohttp from now on: where its request ends is not known
        self._passing = 0  # bytes of a request that is being fed to aiohttp
        self._waiting = b""
        self._blocked = False
        self._drained: asyncio.Future[None] | None = None
        self._paused = False
        self._last = False  # the connection ends with the answer that is being written
        self._streaming: asyncio.Task[None] | None = None
        self._touched_at = lane.loop.time()
        self._call: InFlight | None = None
        self._id = b""
        self._request = b""
        self._head: Head | None = None
        self._status: Callable[[Ready], int] = lambda ready: 200

    # ---- asyncio.Protocol

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        self._transport.set_write_buffer_limits(high=_WRITE_AHEAD)
        self._lane.connections.add(self)

    def data_received(self, data: bytes) -> None:
        if self._through or self._passing:
            self._touched_at = self._lane.loop.time()
        if self._through:
            self._inner.data_received(data)
            return
        if self._passing:
            part, data = data[: self._passing], data[self._passing :]
            self._passing -= len(part)
            self._inner.data_received(part)
            if not data:
                return
        if self._waiting:
            data, self._waiting = self._waiting + data, b""
        if self._busy:
            self._keep(data)
        else:
            self._take(data)

    @property
    def _busy(self) -> bool:
        """The next request has to wait for the answer to the last one."""
        return self._call is not None or self._streaming is not None or self._blocked or self._last

    def _keep(self, data: bytes) -> None:
        self._waiting = data
        if len(data) > _MAX_WAITING and not self._paused and self._transport is not None:
            self._paused = True
            self._transport.pause_reading()

    def eof_received(self) -> bool | None:
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
        self._lane.connections.discard(self)
        if self._streaming is not None:
            self._streaming.cancel()
        call, self._call = self._call, None
        if call is not None:
            call.listener = None
            self._abandon(call)
        begun = self._lane.begun.pop(self._inner, None)
        if begun is not None:
            self._abandon(begun)
        if self._inner is not None:
            self._inner.connection_lost(exc)

    def _abandon(self, call: InFlight) -> None:
        """The client is gone before its answer: what that means is its era's business."""
        self._lane.requests.abandon(call)
        if call.modern:
            call.cancel("the client closed the request")
        else:
            call.leave()

    # ---- requests

    def _take(self, data: bytes) -> None:
        """Deal with the requests in ``data`` until one has to be waited for."""
        while data:
            if self._inner is not None and (self._inner._waiter is None or self._inner._messages):
                self._hand_over(data)  # pipelined behind a request that aiohttp is still at
                return
            end = data.find(b"\r\n\r\n", 0, _MAX_HEAD)
            if end < 0:
                if len(data) >= _MAX_HEAD:
                    self._hand_over(data)
                else:
                    self._waiting = data
                return
            head = self._lane.head(data[: end + 4])
            if head is None:
                self._hand_over(data)
                return
            whole = head.size + head.length
            if len(data) < whole:
                if whole <= _MAX_WAITING:
                    self._waiting = data
                else:
                    self._passing = whole - len(data)
                    self._feed(data)
                return
            request, data = data[:whole], data[whole:]
            if not (head.express and self._express(head, request)):
                self._feed(request)
            elif self._busy:
                if data:
                    self._keep(data)
                return

    def _express(self, head: Head, request: bytes) -> bool:
        begun = self._lane.begin(head, request)
        if begun is None:
            return False
        self._touched_at = self._lane.loop.time()
        self._id, what, self._status = begun
        self._head = head
        if isinstance(what, Ready):
            self._answer(what)
        else:
            self._request = request
            self._call = what
            what.listener = self._on_event
        return True

    def _on_event(self) -> None:
        """The first event of the call: mostly its answer."""
        call = self._call
        assert call is not None
        self._call, call.listener = None, None
        request, self._request = self._request, b""
        event = call.first
        if type(event) is not Answered or (event.stream is not None and event.is_error):
            self._feed(request, call)
        elif event.stream is not None:
            call.drop_first()
            self._streaming = spawn(self._answer_large(call, event.stream), "large-answer")
        else:
            call.drop_first()
            if len(event.body) > COPIED and not event.is_error:
                self._lane.requests.release(self._id, call)
                before, after = jsonrpc.around(self._id)
                self._write(200, before, event.body, after)
            else:
                self._answer(self._lane.requests.finish(self._id, call, event))
        self._go_on()

    def _answer(self, ready: Ready) -> None:
        self._write(self._status(ready), ready.body)

    def _write(self, status: int, *body: bytes) -> None:
        """Head and body of an answer, the latter in parts."""
        transport = self._transport
        if transport is None:
            return
        start = self._start(status, sum(map(len, body)), body[0])
        if len(body) == 1:
            transport.write(start)
        else:
            transport.writelines([start, *body[1:]])
        if self._last:
            transport.close()

    def _start(self, status: int, size: int, body: bytes) -> bytes:
        """The head of an answer of ``size`` bytes, and the first part of its body."""
        self._last = self._head is None or not self._head.keep_alive or Process.draining
        return b"%b\r\n%b" % (json_head(status, size, not self._last), body)

    async def _answer_large(self, call: InFlight, body: BodyStream) -> None:
        """An answer that comes in chunks, at the pace at which the client reads."""
        transport = self._transport
        self._lane.requests.release(self._id, call)
        try:
            if transport is None:
                raise ConnectionResetError("the client is gone")
            before, after = jsonrpc.around(self._id)
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
            call.client.refuse_body(call)
            if transport is not None:
                transport.abort()
            if isinstance(error, asyncio.CancelledError):
                raise
        finally:
            self._streaming = None
            self._touched_at = self._lane.loop.time()
        self._go_on()

    def _go_on(self) -> None:
        """What came meanwhile."""
        if self._paused and self._transport is not None:
            self._paused = False
            self._transport.resume_reading()
        if self._waiting and not (self._busy or self._through or self._passing):
            waiting, self._waiting = self._waiting, b""
            self._take(waiting)

    # ---- the ordinary path

    def _feed(self, data: bytes, begun: InFlight | None = None) -> None:
        """Let aiohttp deal with a request (or its beginning; ``_passing`` says how much is to come)."""
        if self._transport is None or self._transport.is_closing():
            if begun is not None:
                self._abandon(begun)
            return
        if self._inner is None:
            self._inner = self._lane.ordinary()
            self._inner.connection_made(self._transport)
        if begun is not None:
            self._lane.begun[self._inner] = begun
        self._touched_at = self._lane.loop.time()
        self._inner.data_received(data)

    def _hand_over(self, data: bytes) -> None:
        """Let aiohttp have this connection for good."""
        self._through = True
        self._feed(data)

    def idle_for(self, now: float) -> float:
        """Seconds since anything happened here; a request or a stream that aiohttp is at counts as now."""
        inner = self._inner
        if self._busy or (inner is not None and not self._passing and inner._waiter is None):
            self._touched_at = now
        return now - self._touched_at

    @property
    def known(self) -> bool:
        """aiohttp has a handler for it."""
        return self._inner is not None

    def end(self) -> None:
        """Close it after what is written."""
        if self._transport is not None:
            self._transport.close()
