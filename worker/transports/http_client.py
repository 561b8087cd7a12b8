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

from shared.egress import Egress
from shared.errors import CallError, NotDelivered
from shared.settings import UpstreamSettings
from shared.tasks import spawn
from worker.calls.call import caller_of
from worker.calls.fair_queue import FairQueue
from worker.transports.exhausted import exhausted
from worker.transports.http_connection import Connection
from worker.transports.http_dial import dial
from worker.transports.http_endpoint import HttpEndpoint
from worker.transports.http_exchange import Exchange
from worker.transports.http_heads import ResponseHeads
from worker.transports.http_redirects import redirected

_ONCE, _AT_ONCE_S, _ONCE_S = 2, 0.5, 60.0
"""After how many connections that the upstream closed at once after one answer, without a word, none is used again for
a minute: what is sent while it closes has an unknown outcome."""
_SLOW_S = 1.0
"""After so long a connection that is being opened is not waited for alone. Its first packet was lost and is sent again
ever more rarely (RFC 6298 section 5), so another connection may be there first."""


class HttpPool:
    """The connections to one endpoint. ``endpoint`` gets another path if the upstream has moved there for good."""

    refused_code = "upstream_unavailable"
    """The code of the error for calls whose credentials the upstream refuses."""

    def __init__(self, endpoint: HttpEndpoint, settings: UpstreamSettings) -> None:
        self.endpoint = endpoint
        self._settings = settings
        self._egress = Egress(settings.egress_allow, settings.egress_deny)
        self._loop = asyncio.get_running_loop()
        self.idle: list[Connection] = []
        self.once = 0
        self._once_at = 0.0
        self._open: set[Connection] = set()
        self._dials: dict[object, float] = {}  # connections that are being opened, and since when
        self.opened = 0  # the connections that were ever opened; another number shows that the upstream may be another
        self._queue: FairQueue[Exchange] = FairQueue()
        self._standing: set[Exchange] = set()
        self._redirects: dict[Exchange, int] = {}
        self.heads = ResponseHeads()
        self.lenient = False  # whether a response broke rules of HTTP that clients do not insist on
        self._closed = False
        self._answered: set[Connection] = set()  # whose call is over, though the response is not

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
        else:
            self._wait(exchange)

    def _wait(self, exchange: Exchange) -> None:
        """Have an exchange wait for a connection; or fail it, or another one, if there is no room for so many."""
        queue, caller = self._queue, _caller_of(exchange)
        if queue.waiting >= self._settings.max_pending:
            error = NotDelivered("overloaded", f"{queue.waiting} calls wait for a connection already (maxPending)")
            if queue.of(caller) + 1 >= max(queue.counts):
                self._fail(exchange, error)
                return
            last = queue.last_of_longest()
            queue.remove(last)
            self._fail(last, error)
        queue.add(exchange, caller)
        self._grow()

    def _grow(self) -> None:
        now = self._loop.time()
        soon = sum(now - began < _SLOW_S for began in self._dials.values())
        busy = len(self._open) + len(self._dials) - len(self._standing)
        if soon < self._queue.waiting and busy < self._settings.max_connections:
            one = object()
            self._dials[one] = now
            spawn(self._connect(one), "upstream-connect")

    async def _connect(self, one: object) -> None:
        where = self.endpoint
        try:
            async with asyncio.timeout(self._settings.connect_timeout_s):
                connection = await dial(where, lambda: Connection(self), self._egress)
        except (TimeoutError, OSError, ValueError) as error:  # ValueError: the host is not a valid name
            del self._dials[one]
            reason = str(error) or f"no connection in {self._settings.connect_timeout_s:g} s"
            failure = exhausted(error) or NotDelivered(
                "upstream_unavailable", f"cannot connect to {where.shown}: {reason}", {"certain": "1"}
            )
            # Another connection for each may still come. Of those that wait for one that is open, one fails.
            left = max(len(self._dials), self._queue.waiting - 1 if self._open else 0)
            failed = [self._queue.take() for _ in range(self._queue.waiting - left)]
            for exchange in failed:
                self._fail(exchange, failure)
            return
        del self._dials[one]
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

    def put_back(self, connection: Connection) -> None:
        """Give a free connection the next exchange, or keep it idle."""
        if connection.carried > 1:
            self.once = 0
        elif self.once >= _ONCE and connection.carried:
            self.discard(connection)
            return
        if self._queue.waiting:
            exchange = self._queue.take()
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

    def closed_early(self, connection: Connection) -> None:
        """Note that the upstream closed a connection after its first answer, and did not say before that it would."""
        now = self._loop.time()
        if (connection in self.idle or connection.exchange is not None) and now - connection.idle_since < _AT_ONCE_S:
            self.once, self._once_at = self.once + 1, now

    def discard(self, connection: Connection) -> None:
        """Close a connection that is of no more use."""
        self._open.discard(connection)
        if connection.exchange is not None:
            self.released(connection.exchange)
        if connection in self.idle:
            self.idle.remove(connection)
        if connection.transport is not None and not connection.transport.is_closing():
            connection.transport.abort()
        if self._queue.waiting:
            self._grow()

    def withdraw(self, exchange: Exchange) -> bool:
        """Take back an exchange that still waits for a connection. Return false if it does not wait."""
        return self._queue.remove(exchange)

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
        self._end_answered()
        if self.once and self._loop.time() - self._once_at > _ONCE_S:
            self.once = 0
        if not self.idle:
            return
        deadline = self._loop.time() - self._settings.connection_idle_s
        for connection in [c for c in self.idle if c.idle_since < deadline or not c.usable()]:
            self.discard(connection)

    def _end_answered(self) -> None:
        """Close connections whose call was over at the last look already: some servers never end an event stream."""
        over = {one for one in self._open if getattr(getattr(one.exchange, "call", None), "done", False)}
        for connection in over & self._answered:
            exchange = connection.exchange
            if exchange is not None:
                self.cancel(exchange)
                exchange.on_complete()
        self._answered = over - self._answered

    def close(self) -> None:
        """Close idle connections now, and busy ones when they are done."""
        self._closed = True
        for connection in list(self.idle):
            self.discard(connection)
        for exchange in self._queue.drain():
            self._fail(exchange, NotDelivered("upstream_unavailable", "the upstream was removed"))


def _caller_of(exchange: Exchange) -> str:
    """Return for whom an exchange is; empty for the worker itself."""
    call = getattr(exchange, "call", None)  # not every exchange is about one
    return caller_of(call) if call is not None else ""
