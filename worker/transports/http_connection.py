"""One connection to an HTTP upstream, which carries one exchange at a time. Counterpart: ``http_client``, the pool.

The bytes of a response are parsed by httptools as they come, with callbacks instead of tasks.
"""

from __future__ import annotations

import asyncio
from typing import Any, Protocol, cast

import httptools

from shared.errors import OutcomeUnknown
from worker.transports.content_coding import Decoder, decoder_for
from worker.transports.cookies import SET_COOKIE, cookie_in
from worker.transports.http_body import BodyInTurns
from worker.transports.http_exchange import Exchange
from worker.transports.http_heads import END, LENIENT, KnownHead, ResponseHeads
from worker.transports.turns import has_many_lines

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
_MAX_DIGITS = 18
_MAX_HEADERS = 200
_MAX_HEAD_BYTES = 64 * 1024
"""How much an upstream may send in a row that is no body: heads, interim responses, chunk extensions, trailers. Servers
of the field send heads of 8 to 32 KiB at most. What comes in one read (256 KiB at most) is looked at together."""
_TURN = 256 * 1024
"""The bytes that are read from a connection in one turn of the loop. libuv would read up to 8 MB, while no other call
is served."""
_FULL = 64 * 1024


class Pool(Protocol):
    """Where a connection belongs; ``http_client`` implements it."""

    heads: ResponseHeads
    lenient: bool

    def put_back(self, connection: Connection) -> None:
        """Give a free connection the next exchange, or keep it idle."""

    def discard(self, connection: Connection) -> None:
        """Close a connection that is of no more use."""

    def closed_early(self, connection: Connection) -> None:
        """Note that the upstream closed a connection after its first answer, and did not say before that it would."""

    def released(self, exchange: Exchange) -> None:
        """Note that an exchange is over."""

    def redirected(self, exchange: Exchange, status: int, location: bytes) -> None:
        """Send a request again where the upstream says."""


class Connection(asyncio.Protocol):
    """See the module."""

    def __init__(self, pool: Pool) -> None:
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
        self.body: BodyInTurns | None = None  # of a response that is compressed or has very many lines
        self.turn = 0  # bytes of large reads since the last pause

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)

    def start(self, exchange: Exchange) -> None:
        self.exchange = exchange
        self.carried += 1
        self.got_headers = self.finished = False
        self.to_come = self.bodiless = 0
        self.ends = False
        self.body = None
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
        announced = int(length) if length.isdigit() and len(length) <= _MAX_DIGITS else 0  # zeros may stand before it
        if announced >= _PAST_PARSER and status not in (204, 304) and not both:
            self.to_come = announced
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
                decoder = decoder_for(self.headers[b"content-encoding"])
                self.body = self._in_turns(decoder) if decoder is not None else None
            except ValueError:
                if status < 400:  # an error says what it says by its status, too
                    raise
        exchange.on_headers(status, self.headers)

    def on_body(self, body: bytes) -> None:
        self.bodiless = 0
        if self.to_come:
            self.to_come -= len(body)
            self.finished = not self.to_come
        if self.body is None and self.exchange is not None and not has_many_lines(body):
            self.exchange.on_body(body)
        elif self.exchange is not None:
            self.body = self.body or self._in_turns(None)
            self.body.add(body)

    def _in_turns(self, decoder: Decoder | None) -> BodyInTurns:
        return BodyInTurns(decoder, self._take_piece, self._hold, self._drained, self._failed)

    def _take_piece(self, piece: bytes) -> bool:
        if self.exchange is not None:
            self.exchange.on_body(piece)
        return self.exchange is not None  # or it has refused more

    def on_message_complete(self) -> None:
        if self.parser.get_status_code() >= 200 and not self.finished:
            self.finished = True  # the parser may hold more bytes, so the rest is done after it returns
            self.keep = self.parser.should_keep_alive()  # known only here: llhttp forgets it at the end of the message

    # ---- asyncio.Protocol

    def data_received(self, data: bytes) -> None:
        if self.exchange is None:
            self.pool.discard(self)  # bytes without a request: the connection is out of sync
            return
        if self.finished:
            self.keep = False  # the same, while the body is still being read
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
        if broken is None and self.body is not None and self.body.busy:
            return  # ``_drained`` goes on
        if self.finished:
            self._end(broken, data if first and size < _FULL else b"")
        elif broken is not None:
            self._failed(broken)

    def _end(self, broken: Exception | None, data: bytes = b"") -> None:
        """End the exchange whose response is complete; ``data`` is all of it, if it came in one piece and is small."""
        exchange, self.exchange = self.exchange, None
        body, self.body = self.body, None
        if exchange is not None:
            self.pool.released(exchange)
        if broken is None and self.keep and not self.ends and not self.to_eof and self.usable():
            if data and exchange is not None:
                self.pool.heads.learn(data, self.parser.get_status_code(), self.headers)
            self.pool.put_back(self)
        else:
            self.pool.discard(self)
        if exchange is not None:
            _complete(exchange, body, broken)

    def _failed(self, broken: Exception) -> None:
        exchange, self.exchange = self.exchange, None
        if self.body is not None:
            self.body.drop()
        self.pool.discard(self)
        if exchange is not None:
            exchange.on_failed(_broken(broken))

    def _drained(self) -> None:
        """Go on when everything that came of a body was read."""
        self._read_on()
        if self.finished:
            self._end(None)

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

    def _let_others(self) -> None:
        """Continue to read in the next turn of the loop."""
        self.turn = 0
        if self._hold():
            asyncio.get_running_loop().call_soon(self._read_on)

    def _hold(self) -> bool:
        """Read no more for now. Return false over TLS: data that is not decrypted yet would be lost if the upstream
        closed during the pause."""
        plain = self.transport is not None and self.transport.get_extra_info("ssl_object") is None
        if self.transport is not None and plain and self.usable():
            self.transport.pause_reading()
        return plain

    def _read_on(self) -> None:
        if self.transport is not None and self.usable() and not (self.body is not None and self.body.busy):
            self.transport.resume_reading()

    def eof_received(self) -> bool:
        return False

    def connection_lost(self, exc: Exception | None) -> None:
        exchange = self.exchange
        if self.body is not None and self.body.busy:
            self.finished = self.finished or (self.got_headers and self.to_eof and exc is None)
            if self.finished and exchange is not None:
                self.parser = None
                return  # the transport is not usable any more; ``_drained`` goes on
            self.body.drop()
        if self.carried == 1 if exchange is None else self.carried == 2 and self.parser is None:
            self.pool.closed_early(self)
        self.pool.discard(self)
        self.exchange = None
        self.parser = None  # it refers to this connection
        if exchange is None:
            return
        if self.got_headers and self.to_eof and exc is None:
            _complete(exchange, self.body, None)
        else:
            detail = f": {exc}" if exc else ""
            exchange.on_failed(
                OutcomeUnknown(
                    "outcome_unknown",
                    f"the upstream closed the connection before its answer was whole{detail}; it may have run",
                )
            )


def _complete(exchange: Exchange, body: BodyInTurns | None, broken: Exception | None) -> None:
    """End an exchange whose response is complete, unless its compressed body is damaged."""
    if body is None or (broken is None and body.whole):
        exchange.on_complete()
    else:
        exchange.on_failed(_broken(broken or "its compressed body ends early"))


def _broken(why: object) -> OutcomeUnknown:
    return OutcomeUnknown("upstream_protocol", f"the upstream's HTTP answer is broken ({why}); it may have run")
