"""A lean HTTP/1.1 client: httptools on kept-alive connections, callbacks instead of tasks.

aiohttp's client costs about 100 µs a request more, which is most of what a call may cost here. This client has what
upstreams need: keep-alive, chunked, TLS, proxies, streaming and compressed bodies, redirects on the same origin. It
does not pipeline, and leaves cookies to sessions (``worker.transports.cookies``).

Idle connections are reused last-in first-out, dropped after ``connection_idle_s`` (servers commonly close at 5 s), and
never reused once the peer has closed. The type of an error says whether a failed request may have reached the upstream:
``NotDelivered`` or ``OutcomeUnknown``.
"""

from __future__ import annotations

import asyncio
from collections import deque
from typing import Any, cast

import httptools

from shared.egress import Egress
from shared.errors import CallError, NotDelivered, OutcomeUnknown
from shared.settings import UpstreamSettings
from shared.tasks import spawn
from worker.transports.content_coding import Decoder, decoder_for
from worker.transports.cookies import SET_COOKIE, cookie_in
from worker.transports.exhausted import exhausted
from worker.transports.http_dial import dial
from worker.transports.http_endpoint import HttpEndpoint
from worker.transports.http_exchange import Exchange
from worker.transports.http_heads import END, LENIENT, KnownHead, ResponseHeads
from worker.transports.http_redirects import redirected

_READ = frozenset(
    (
        b"content-type",
        b"content-length",
        b"content-encoding",
        b"transfer-encoding",
        b"connection",
        b"location",
        b"mcp-session-id",
        b"retry-after",
        SET_COOKIE,
        b"www-authenticate",
        b"etag",
    )
)
"""The headers that are passed to exchanges."""
_REDIRECTS = frozenset((301, 302, 303, 307, 308))
_PAST_PARSER = 64 * 1024
"""The size in bytes from which on a body of known length is passed around the parser, which would copy it."""
_MAX_HEADERS = 200
_MAX_HEAD_BYTES = 64 * 1024
"""How much an upstream may send in a row that is no body: heads, interim responses, chunk extensions, trailers. Servers
of the field send heads of 8 to 32 KiB at most. What comes in one read (256 KiB at most) is looked at together."""
_ONCE, _AT_ONCE_S, _ONCE_S = 2, 0.5, 60.0
"""After how many connections that the upstream closed at once after one answer, without a word, none is used again for
a minute: what is sent while it closes has an unknown outcome."""
_TURN = 256 * 1024
"""The bytes that are read from a connection in one turn of the loop. libuv would read up to 8 MB, while no other call
is served."""
_FULL = 64 * 1024


class _Connection(asyncio.Protocol):
    def __init__(self, pool: HttpPool) -> None:
        self.pool = pool
        self.transport: asyncio.Transport | None = None
        self.exchange: Exchange | None = None
        self.parser: Any = None
        self.headers: dict[bytes, bytes] = {}
        self.idle_since = 0.0
        self.carried = 0  # how many exchanges
        self.to_eof = False
        self.got_headers = False
        self.finished = False
        self.keep = False
        self.ends = False  # whether the connection is closed after this response, whatever its head says
        self.header_count = 0
        self.bodiless = 0  # bytes since the request or the last part of a body
        self.to_come = 0  # bytes to come of a body that is passed around the parser
        self.decoder: Decoder | None = None
        self.turn = 0  # bytes of large reads since the last pause

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)

    def start(self, exchange: Exchange) -> None:
        self.exchange = exchange
        self.carried += 1
        self.got_headers = self.finished = False
        self.to_come = self.bodiless = 0
        self.ends = False
        self.decoder = None
        self.parser = None
        assert self.transport is not None
        request = exchange.request
        if isinstance(request, tuple):
            self.transport.writelines(request)
        else:
            self.transport.write(request)

    def usable(self) -> bool:
        return self.transport is not None and not self.transport.is_closing()

    # ---- httptools callbacks

    def on_message_begin(self) -> None:
        if self.finished:
            raise ValueError("a second response to one request")
        self.headers = {}
        self.header_count = 0

    def on_header(self, name: bytes, value: bytes) -> None:
        name = name.lower()
        if name in _READ:
            before = self.headers.get(name)
            if name == SET_COOKIE:
                value = cookie_in(value)
            self.headers[name] = value if before is None else before + b", " + value
        self.header_count += 1
        if self.header_count > _MAX_HEADERS:
            raise ValueError("too many headers")

    def on_headers_complete(self) -> None:
        status = self.parser.get_status_code()
        if status < 200:
            return  # an informational response; the real one follows (RFC 9110 section 15.2)
        self.got_headers = True
        self.to_eof = (
            b"content-length" not in self.headers
            and b"chunked" not in self.headers.get(b"transfer-encoding", b"").lower()
            and status not in (204, 304)
        )
        length = self.headers.get(b"content-length", b"")
        both = bool(length) and b"transfer-encoding" in self.headers
        self.ends = self.ends or both  # RFC 9112 section 6.3: chunks count, and the connection is not used again
        if length.isdigit() and int(length) >= _PAST_PARSER and status not in (204, 304) and not both:
            self.to_come = int(length)
            persistent = b"close" not in self.headers.get(b"connection", b"").lower()  # RFC 9112 section 9.3
            self.keep = persistent and self.parser.get_http_version() == "1.1"
        exchange = self.exchange
        if exchange is None:
            return
        if status in _REDIRECTS and b"location" in self.headers:
            self.exchange = None  # the rest of this response is of no interest
            self.pool.discard(self)
            self.pool.redirected(exchange, status, self.headers[b"location"])
            return
        if b"content-encoding" in self.headers:
            try:
                self.decoder = decoder_for(self.headers[b"content-encoding"])
            except ValueError:
                if status < 400:  # an error says what it says by its status, too
                    raise
        exchange.on_headers(status, self.headers)

    def on_body(self, body: bytes) -> None:
        self.bodiless = 0
        if self.to_come:
            self.to_come -= len(body)
            self.finished = not self.to_come
        if self.decoder is not None:
            for part in self.decoder.feed(body):
                if self.exchange is None:  # it has refused more
                    return
                self.exchange.on_body(part)
        elif self.exchange is not None:
            self.exchange.on_body(body)

    def on_message_complete(self) -> None:
        if self.parser.get_status_code() >= 200 and not self.finished:
            self.finished = True  # the parser may hold more bytes, so the rest is done after it returns
            self.keep = self.parser.should_keep_alive()  # known only here: llhttp forgets it at the end of the message

    # ---- asyncio.Protocol

    def data_received(self, data: bytes) -> None:
        if self.exchange is None:
            self.pool.discard(self)  # bytes without a request: the connection is out of sync
            return
        size = len(data)
        first = self.parser is None
        if first:
            end = data.find(END) + len(END)
            known = self.pool.heads.get(data[:end])
            if known is not None and known.length == size - end:
                self._whole(known, data[end:])
                return
            self.parser = httptools.HttpResponseParser(self)
            if self.pool.lenient:
                self.parser.set_dangerous_leniencies(**LENIENT)
        if size >= _FULL:
            self.turn += size
            if self.turn >= _TURN:
                self._let_others()
        broken: Exception | None = None
        try:
            if not self.to_come:
                self.bodiless += size
                self.parser.feed_data(data)
                if self.bodiless > _MAX_HEAD_BYTES and not self.finished:
                    raise ValueError(f"more than {_MAX_HEAD_BYTES} bytes that are no body")
            else:
                self.keep = self.keep and size <= self.to_come  # more than announced: out of sync from here on
                self.on_body(data[: self.to_come])
        except Exception as error:
            broken = error
            if isinstance(error, httptools.HttpParserCallbackError) and isinstance(error.__context__, Exception):
                broken = error.__context__  # what one of the callbacks above raised
            elif isinstance(error, httptools.HttpParserError):
                broken = self._parsed_again(data, first, error)
        if self.finished:
            exchange = self.exchange
            if exchange is not None:
                self.pool.released(exchange)
            self.exchange = None
            if broken is None and self.keep and not self.ends and not self.to_eof and self.usable():
                if first and size < _FULL and exchange is not None:
                    self.pool.heads.learn(data, self.parser.get_status_code(), self.headers)
                self.pool.put_back(self)
            else:
                self.pool.discard(self)
            if exchange is not None:
                self._complete(exchange, broken)
        elif broken is not None:
            exchange, self.exchange = self.exchange, None
            self.pool.discard(self)
            if exchange is not None:
                exchange.on_failed(_broken(broken))

    def _parsed_again(self, data: bytes, first: bool, error: Exception) -> Exception | None:
        """Parse a response by lenient rules that broke the strict ones, and so all later ones of the upstream. Return
        what is still wrong, ``error`` if something of the response was passed on already."""
        before, self.pool.lenient = self.pool.lenient, True
        if before or not first or self.got_headers:
            return error
        self.parser = httptools.HttpResponseParser(self)
        self.parser.set_dangerous_leniencies(**LENIENT)
        try:
            self.parser.feed_data(data)
        except Exception as again:
            return again
        return None

    def _whole(self, head: KnownHead, body: bytes) -> None:
        """Take a response that arrived in one piece and whose head is known."""
        exchange = self.exchange
        assert exchange is not None
        try:
            exchange.on_headers(head.status, head.headers)
            if body:
                exchange.on_body(body)
        except Exception as error:
            self.exchange = None
            self.pool.discard(self)
            exchange.on_failed(_broken(error))
            return
        if self.exchange is not exchange:
            return  # it has refused the body, and the connection is closed
        self.pool.released(exchange)
        self.exchange = None
        if self.usable():
            self.pool.put_back(self)
        else:
            self.pool.discard(self)
        exchange.on_complete()

    def _complete(self, exchange: Exchange, broken: Exception | None) -> None:
        """End an exchange whose response is complete, unless its compressed body is damaged."""
        decoder, self.decoder = self.decoder, None
        if decoder is None:
            exchange.on_complete()
        elif broken is not None or not decoder.finished:
            exchange.on_failed(_broken(broken or "its compressed body ends early"))
        else:
            exchange.on_complete()

    def _let_others(self) -> None:
        """Continue to read in the next turn of the loop."""
        self.turn = 0
        # Over TLS, data that is not decrypted yet would be lost if the upstream closed during the pause.
        if self.transport is not None and self.usable() and self.transport.get_extra_info("ssl_object") is None:
            self.transport.pause_reading()
            asyncio.get_running_loop().call_soon(self._read_on)

    def _read_on(self) -> None:
        if self.transport is not None and self.usable():
            self.transport.resume_reading()

    def eof_received(self) -> bool:
        return False

    def connection_lost(self, exc: Exception | None) -> None:
        exchange = self.exchange
        if self.carried == 1 if exchange is None else self.carried == 2 and self.parser is None:
            self.pool.closed_early(self)
        self.pool.discard(self)
        self.exchange = None
        self.parser = None  # it refers to this connection
        if exchange is None:
            return
        if self.got_headers and self.to_eof and exc is None:
            self._complete(exchange, None)
        else:
            detail = f": {exc}" if exc else ""
            exchange.on_failed(
                OutcomeUnknown(
                    "outcome_unknown",
                    f"the upstream closed the connection before its answer was whole{detail}; it may have run",
                )
            )


def _broken(why: object) -> OutcomeUnknown:
    return OutcomeUnknown("upstream_protocol", f"the upstream's HTTP answer is broken ({why}); it may have run")


class HttpPool:
    """The connections to one endpoint. ``endpoint`` gets another path if the upstream has moved there for good."""

    refused_code = "upstream_unavailable"
    """The code of the error for calls whose credentials the upstream refuses."""

    def __init__(self, endpoint: HttpEndpoint, settings: UpstreamSettings) -> None:
        self.endpoint = endpoint
        self._settings = settings
        self._egress = Egress(settings.egress_allow, settings.egress_deny)
        self._loop = asyncio.get_running_loop()
        self.idle: list[_Connection] = []
        self.once = 0
        self._once_at = 0.0
        self._open: set[_Connection] = set()
        self._opening = 0
        self.opened = 0  # the connections that were ever opened; another number shows that the upstream may be another
        self._queue: deque[Exchange] = deque()
        self._standing: set[Exchange] = set()
        self._redirects: dict[Exchange, int] = {}
        self.heads = ResponseHeads()
        self.lenient = False  # whether a response broke rules of HTTP that clients do not insist on
        self._closed = False

    def submit(self, exchange: Exchange, standing: bool = False) -> None:
        """Send ``exchange`` now, or as soon as a connection is free.

        ``standing``: the exchange holds its connection for long, and does not count towards the limit for calls.
        """
        if standing:
            self._standing.add(exchange)
        now = self._loop.time()
        while self.idle:
            connection = self.idle.pop()
            if connection.usable() and now - connection.idle_since < self._settings.connection_idle_s:
                connection.start(exchange)
                return
            self.discard(connection)
        if self._closed:
            self._fail(exchange, NotDelivered("upstream_unavailable", "the upstream was removed"))
        elif len(self._queue) >= self._settings.max_pending:
            text = f"{len(self._queue)} calls wait for a connection already"
            self._fail(exchange, NotDelivered("overloaded", text))
        else:
            self._queue.append(exchange)
            self._grow()

    def _grow(self) -> None:
        busy = len(self._open) + self._opening - len(self._standing)
        if self._opening < len(self._queue) and busy < self._settings.max_connections:
            self._opening += 1
            spawn(self._connect(), "upstream-connect")

    async def _connect(self) -> None:
        where = self.endpoint
        try:
            async with asyncio.timeout(self._settings.connect_timeout_s):
                connection = await dial(where, lambda: _Connection(self), self._egress)
        except (TimeoutError, OSError, ValueError) as error:  # ValueError: the host is not a valid name
            self._opening -= 1
            reason = str(error) or f"no connection in {self._settings.connect_timeout_s:g} s"
            failure = exhausted(error) or NotDelivered(
                "upstream_unavailable", f"cannot connect to {where.shown}: {reason}", {"certain": "1"}
            )
            # Without an open connection the whole queue fails; with one, the other exchanges may still be served.
            failed = list(self._queue) if not self._open else [self._queue.popleft()] if self._queue else []
            if not self._open:
                self._queue.clear()
            for exchange in failed:
                self._fail(exchange, failure)
            return
        self._opening -= 1
        self.opened += 1
        self._open.add(connection)
        self.put_back(connection)

    def _fail(self, exchange: Exchange, error: CallError) -> None:
        self.released(exchange)
        exchange.on_failed(error)

    def released(self, exchange: Exchange) -> None:
        """Note that an exchange is over, or that its connection is."""
        self._standing.discard(exchange)
        if self._redirects:
            self._redirects.pop(exchange, None)

    def redirected(self, exchange: Exchange, status: int, location: bytes) -> None:
        """Send a request again where the upstream says."""
        standing, hops = exchange in self._standing, self._redirects.get(exchange, 0) + 1
        self.released(exchange)
        try:
            exchange.request, self.endpoint = redirected(self.endpoint, exchange.request, status, location, hops)
        except ValueError as error:
            exchange.on_failed(NotDelivered("upstream_protocol", str(error), {"http": str(status)}))
            return
        self._redirects[exchange] = hops
        self.submit(exchange, standing)

    def put_back(self, connection: _Connection) -> None:
        """Give a free connection the next exchange, or keep it idle."""
        if connection.carried > 1:
            self.once = 0
        elif self.once >= _ONCE and connection.carried:
            self.discard(connection)
            return
        if self._queue:
            exchange = self._queue.popleft()
            call = getattr(exchange, "call", None)  # not every exchange is about one
            if call is not None:
                call.connected_at = self._loop.time()
            connection.start(exchange)
            self._grow()
        elif self._closed:
            self.discard(connection)
        else:
            connection.idle_since = self._loop.time()
            self.idle.append(connection)

    def closed_early(self, connection: _Connection) -> None:
        """Note that the upstream closed a connection after its first answer, and did not say before that it would."""
        now = self._loop.time()
        if (connection in self.idle or connection.exchange is not None) and now - connection.idle_since < _AT_ONCE_S:
            self.once, self._once_at = self.once + 1, now

    def discard(self, connection: _Connection) -> None:
        """Close a connection that is of no more use."""
        self._open.discard(connection)
        if connection.exchange is not None:
            self.released(connection.exchange)
        if connection in self.idle:
            self.idle.remove(connection)
        if connection.transport is not None and not connection.transport.is_closing():
            connection.transport.abort()
        if self._queue:
            self._grow()

    def withdraw(self, exchange: Exchange) -> bool:
        """Take back an exchange that still waits for a connection. Return false if it does not wait."""
        if exchange not in self._queue:
            return False
        self._queue.remove(exchange)
        return True

    def cancel(self, exchange: Exchange) -> None:
        """Cancel ``exchange`` by closing its connection, as HTTP requires. No method of ``exchange`` is called any
        more."""
        self.released(exchange)
        if self.withdraw(exchange):
            return
        for connection in self._open:
            if connection.exchange is exchange:
                connection.exchange = None
                self.discard(connection)
                return

    def trim(self) -> None:
        """Close connections that were idle for too long, and forget heads: those of the next second have another date.
        Called about once a second."""
        self.heads.clear()
        if self.once and self._loop.time() - self._once_at > _ONCE_S:
            self.once = 0
        if not self.idle:
            return
        deadline = self._loop.time() - self._settings.connection_idle_s
        for connection in [c for c in self.idle if c.idle_since < deadline or not c.usable()]:
            self.discard(connection)

    def close(self) -> None:
        """Close idle connections now, and busy ones when they are done."""
        self._closed = True
        for connection in list(self.idle):
            self.discard(connection)
        waiting, self._queue = list(self._queue), deque()
        for exchange in waiting:
            self._fail(exchange, NotDelivered("upstream_unavailable", "the upstream was removed"))
