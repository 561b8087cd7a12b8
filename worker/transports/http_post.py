"""One POST of Streamable HTTP (or a resuming GET) and its response: JSON, an event stream, or another type.

Counterpart: ``worker.transports.streamable_http_sessions``, which sends the POST and decides what a response means for
the call.
"""

from __future__ import annotations

from typing import Protocol

from shared.errors import CallError, NotDelivered, OutcomeUnknown
from shared.mcp import sse
from shared.mcp.rope import Rope, Whole
from shared.mcp.text import is_json
from worker.calls.call import Call
from worker.sessions.context import SessionContext
from worker.sessions.correlation import Correlation
from worker.transports import overload
from worker.transports.cookies import SET_COOKIE
from worker.transports.http_client import HttpPool

OLDER = "httpSse"
"""In the data of the error for a POST that was answered with the stream of the older transport, which some servers open
for any request."""


class PostingSession(Protocol):
    """The session to which a POST belongs (``worker.transports.streamable_http_sessions``)."""

    context: SessionContext
    correlation: Correlation
    pool: HttpPool
    posts: dict[int, Post]
    notices: dict[object, int]

    def receive_bytes(self, body: Whole, call: Call | None = None) -> bool:
        """Handle one message of the upstream."""

    def on_cookies(self, said: bytes) -> None:
        """Handle that a response set cookies."""

    def on_session_header(self, post: Post) -> None:
        """Handle that a response named a session."""

    def answered(self, post: Post, body: Whole) -> None:
        """Handle a complete response that is not an event stream."""

    def stream_ended(self, post: Post) -> None:
        """Handle that an event stream ended before its answer."""

    def post_failed(self, post: Post, error: CallError) -> None:
        """Handle that the exchange failed."""


class Post:
    """One POST (or a resuming GET) and its response: JSON, SSE, or another type."""

    __slots__ = (
        "body",
        "call",
        "id",
        "kind",
        "last_event_id",
        "pieces",
        "reader",
        "refusal",
        "request",
        "resumes",
        "retry_after",
        "retry_ms",
        "session",
        "session_header",
        "sid",
        "status",
    )

    def __init__(self, session: PostingSession, request: bytes | tuple[bytes, ...], id: int, call: Call | None) -> None:
        self.session = session
        self.request = request
        self.id = id
        self.call = call
        self.status = 0
        self.kind = b""
        self.body = b""
        self.pieces: Rope | None = None  # the body, if it arrives in more than one part
        self.reader: sse.Reader | None = None
        self.last_event_id: str | None = None
        self.retry_ms = 1000
        self.resumes = 0
        self.session_header = b""
        self.retry_after = b""
        self.refusal = b""  # WWW-Authenticate of a 401 or 403
        self.sid = ""  # the upstream session on which the request was sent

    @property
    def unanswered(self) -> bool:
        """Whether the call still waits for this exchange. A call that was sent again after a question has another
        one."""
        call = self.call
        return call is not None and not call.done and self.session.correlation.calls.get(self.id) is call

    def on_headers(self, status: int, headers: dict[bytes, bytes]) -> None:
        self.status = status
        self.kind = headers.get(b"content-type", b"").partition(b";")[0].strip().lower()
        if status in (401, 403):
            self.refusal = headers.get(b"www-authenticate", b"")
        self.session_header = headers.get(b"mcp-session-id", b"")
        if self.session_header:
            self.session.on_session_header(self)
        if SET_COOKIE in headers:
            self.session.on_cookies(headers[SET_COOKIE])
        if status in overload.STATUSES:
            self.retry_after = headers.get(b"retry-after", b"")
        elif self.kind == b"text/event-stream" and 200 <= status < 300:
            self.reader = sse.Reader(self.session.context.settings.calls.max_result_bytes)
            if self.call is None:  # a notification has no answer, and this stream may have no end
                self.session.pool.cancel(self)
                self.on_complete()

    def on_body(self, data: bytes) -> None:
        if self.reader is not None and data[:1] in (b"{", b"[") and not self.reader.fed:
            self.reader = None  # JSON that is called an event stream
        if self.reader is None:
            if not self.body:
                self.body = data
            elif self.pieces is None:
                self.pieces = Rope()
                self.pieces.add(self.body)
            size = len(data)
            if self.pieces is not None:
                self.pieces.add(data)
                size = self.pieces.size
            if size > self.session.context.settings.calls.max_result_bytes:
                self._give_up(
                    OutcomeUnknown("upstream_protocol", "the upstream's answer is larger than maxResultBytes")
                )
            return
        try:
            events = self.reader.feed(data)
        except ValueError as error:
            self._give_up(OutcomeUnknown("upstream_protocol", f"the upstream sent {error}"))
            return
        for event in events:
            if event.id is not None:
                self.last_event_id = event.id
            if event.retry_ms is not None:
                self.retry_ms = min(event.retry_ms, 60_000)
            if event.data and (event.name == "message" or b'"jsonrpc"' in event.data[:200]):
                self.session.receive_bytes(event.data, self.call)
            elif event.name == "endpoint" and self.unanswered:
                self._give_up(NotDelivered("upstream_protocol", "it speaks HTTP+SSE", {OLDER: "1"}))
                return

    def on_complete(self) -> None:
        self.session.posts.pop(self.id, None)
        self.session.notices.pop(self, None)
        if self.reader is not None:
            last = self.reader.end() if self.unanswered else None
            if last is not None and is_json(last):
                self.session.receive_bytes(last, self.call)
            if self.unanswered:
                self.session.stream_ended(self)
            return
        self.session.answered(self, self.body if self.pieces is None else self.pieces.take())

    def on_failed(self, error: CallError) -> None:
        self.session.posts.pop(self.id, None)
        self.session.notices.pop(self, None)
        if self.reader is not None and self.last_event_id is not None and self.unanswered:
            self.session.stream_ended(self)
        else:
            self.session.post_failed(self, error)

    def _give_up(self, error: CallError) -> None:
        self.session.pool.cancel(self)
        self.on_failed(error)
