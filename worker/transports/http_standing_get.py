"""The standing GET stream of a legacy Streamable HTTP session, on which servers send notifications and requests."""

from __future__ import annotations

import asyncio
import random
from typing import Any, Protocol

from shared.errors import CallError
from shared.mcp import sse
from shared.mcp.rope import Whole
from worker.calls.call import Call
from worker.sessions.context import SessionContext
from worker.transports.http_client import HttpPool

_MIN_RETRY_S, _MAX_RETRY_S = 0.25, 60.0
_LASTED_S = 30.0
"""A stream that lasted so long is opened again without further delay."""
_FRUITFUL = 2
"""How often the wait is doubled at most for streams that end soon, and bring messages."""
_BRIEF_S = 4.0
"""How long is waited at least after several streams that ended soon, whatever the upstream says (``retry``)."""


class ListeningSession(Protocol):
    """The session to which the stream belongs (``worker.transports.streamable_http_sessions``)."""

    context: SessionContext
    pool: HttpPool
    loop: asyncio.AbstractEventLoop
    sid: str
    ready: bool
    closed: bool
    extra_headers: dict[str, str]

    def receive_bytes(self, body: Whole, call: Call | None = None) -> bool:
        """Handle one message of the upstream."""

    def forgotten(self) -> None:
        """Handle that the upstream does not know the session any more."""

    def unheard(self) -> None:
        """Handle that the upstream has no such stream."""


class StandingGet:
    """The stream of one session, which is opened again whenever it ends.

    Streams that end at once again and again are opened more and more rarely. An answer that is neither an event stream
    nor 429 or 5xx ends the attempts: 405 means that the upstream has no such stream.
    """

    def __init__(self, session: ListeningSession) -> None:
        self.session = session
        self.request: bytes | tuple[bytes, ...] = b""
        self._reader: sse.Reader | None = None
        self._last_event_id: str | None = None
        self._retry_ms = 1000
        self._closed = False
        self.refused = False
        """Whether the upstream has no such stream."""
        self._opened = False
        self._opened_at = 0.0
        self._timer: asyncio.TimerHandle | None = None
        self._fruitless = 0  # how many streams in a row ended soon; those that brought messages count less

    def open(self) -> None:
        """Send the GET."""
        extra: dict[str, Any] = {"Accept": "text/event-stream", **self.session.extra_headers}
        if self._last_event_id is not None:
            extra["Last-Event-ID"] = self._last_event_id
        self.request = self.session.pool.endpoint.head("GET", extra) + b"\r\n"
        self._reader = None
        self._opened_at = self.session.loop.time()
        self.session.pool.submit(self, standing=True)

    def on_headers(self, status: int, headers: dict[bytes, bytes]) -> None:
        kind = headers.get(b"content-type", b"").lower()
        if 200 <= status < 300 and kind.startswith(b"text/event-stream"):  # mcp-go said 202 here
            self._opened = True
            self._reader = sse.Reader(self.session.context.settings.calls.max_result_bytes)
            return
        if status >= 500 or status == 429:
            return  # a later try may succeed: the upstream, or a proxy before it, is starting or overloaded
        self.refused = True
        self.session.unheard()
        # A 404 to the first GET of a session only means that there is no such stream.
        if status == 404 and self._opened and self.session.sid and not self._closed and self.session.ready:
            self.session.forgotten()

    def on_body(self, data: bytes) -> None:
        if self._reader is None:
            return
        try:
            events = self._reader.feed(data)
        except ValueError:
            self.close()
            return
        for event in events:
            if event.id is not None:
                self._last_event_id = event.id
            if event.retry_ms is not None:
                self._retry_ms = min(event.retry_ms, 60_000)
            if event.data:
                self._fruitless = min(self._fruitless, _FRUITFUL)
                self.session.receive_bytes(event.data)

    def on_complete(self) -> None:
        self._again()

    def on_failed(self, error: CallError) -> None:
        self._again()

    def _again(self) -> None:
        if self._closed or self.refused or self.session.closed:
            return
        if self.session.loop.time() - self._opened_at > _LASTED_S:
            self._fruitless = 0
        wait_s = max(self._retry_ms / 1000, _MIN_RETRY_S) * 2**self._fruitless
        if self._fruitless >= _FRUITFUL:
            wait_s = max(wait_s, _BRIEF_S)
        if wait_s < _MAX_RETRY_S:
            self._fruitless += 1
        self._timer = self.session.loop.call_later(min(wait_s, _MAX_RETRY_S) * random.uniform(0.8, 1.2), self._reopen)

    def _reopen(self) -> None:
        if not (self._closed or self.session.closed) and self.session.ready:
            self.open()

    def close(self) -> None:
        """Stop listening."""
        self._closed = True
        if self._timer is not None:
            self._timer.cancel()
        self.session.pool.cancel(self)
