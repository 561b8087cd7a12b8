"""Streamable HTTP towards an upstream, in both eras.

``ModernHttp`` is stateless: each call is one POST with ``Mcp-*`` headers; closing it cancels. ``LegacyHttp`` has
a handshake and, where the upstream hands out an ``Mcp-Session-Id``, a session with a standing GET stream.
Answers may come as JSON or SSE, whatever was expected. A POST stream that the upstream closes after an event
id is resumed with ``Last-Event-ID``. An expired session is opened again once and the call sent again.
"""

from __future__ import annotations

import asyncio
import logging
from typing import Any

from shared.errors import CallError, NotDelivered, OutcomeUnknown, Refused
from shared.mcp import headers as mcp_headers
from shared.mcp import jsonrpc, sse
from shared.mcp.methods import INITIALIZE, LISTEN, NAMED_BY
from shared.mcp.rope import Rope, Whole
from shared.mcp.versions import LATEST_MODERN, Era
from shared.rpc.framing import COPIED
from shared.tasks import spawn
from worker.calls.calls import NOBODY, Call, ClientFacts
from worker.sessions.context import SessionContext
from worker.sessions.session import Session
from worker.transports.http_client import HttpPool, Notice

_log = logging.getLogger(__name__)
_ACCEPT = {"Content-Type": "application/json", "Accept": "application/json, text/event-stream"}
_RESUMES = 3
_LINGER_S = 1.0
_MIN_RETRY_S = 0.25


class Post:
    """One POST (or a resuming GET) and its response: JSON, SSE, or something else."""

    __slots__ = (
        "body",
        "call",
        "id",
        "kind",
        "last_event_id",
        "pieces",
        "reader",
        "request",
        "resumes",
        "retry_ms",
        "session",
        "session_header",
        "sid",
        "status",
    )

    def __init__(self, session: HttpSession, request: bytes | tuple[bytes, ...], id: int, call: Call | None) -> None:
        self.session = session
        self.request = request
        self.id = id
        self.call = call
        self.status = 0
        self.kind = b""
        self.body = b""
        self.pieces: Rope | None = None  # of a body that comes in more than one
        self.reader: sse.Reader | None = None
        self.last_event_id: str | None = None
        self.retry_ms = 1000
        self.resumes = 0
        self.session_header = b""
        self.sid = ""  # the upstream session that it was sent on

    @property
    def unanswered(self) -> bool:
        """Its call still waits for this exchange (a call that goes on after a need for input has another one)."""
        call = self.call
        return call is not None and not call.done and self.session.correlation.calls.get(self.id) is call

    def on_headers(self, status: int, headers: dict[bytes, bytes]) -> None:
        self.status = status
        self.kind = headers.get(b"content-type", b"").partition(b";")[0].strip().lower()
        self.session_header = headers.get(b"mcp-session-id", b"")
        if self.session_header:
            self.session.on_session_header(self)
        if self.kind == b"text/event-stream" and status == 200:
            self.reader = sse.Reader(self.session.context.settings.calls.max_result_bytes)

    def on_body(self, data: bytes) -> None:
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
            if event.data and event.name == "message":
                self.session.receive_bytes(event.data, self.call)

    def on_complete(self) -> None:
        self.session.posts.pop(self.id, None)
        self.session.notices.pop(self, None)
        if self.reader is not None:
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


class HttpSession(Session):
    """What both eras share: posts under way and what their answers mean."""

    def __init__(self, context: SessionContext, pool: HttpPool, client: ClientFacts = NOBODY) -> None:
        super().__init__(context, client)
        self.pool = pool
        self.posts: dict[int, Post] = {}
        self.sid = ""

    def post(self, id: int, call: Call | None, head: bytes, message: bytes) -> None:
        """Send one message."""
        if len(message) > COPIED:
            start = b"%bContent-Length: %d\r\n\r\n" % (head, len(message))
            exchange = Post(self, (start, message), id, call)
        else:
            exchange = Post(self, b"%bContent-Length: %d\r\n\r\n%b" % (head, len(message), message), id, call)
        exchange.sid = self.sid
        if call is not None:
            self.posts[id] = exchange
        else:
            self.notices[exchange] = len(message)
        self.pool.submit(exchange, call is not None and call.method == LISTEN)

    def hand_over(self, call: Call, heir: Call) -> None:
        super().hand_over(call, heir)
        for post in self.posts.values():
            if post.call is call:
                post.call = heir

    def unsend(self, id: int) -> bool:
        post = self.posts.get(id)
        if post is None or post.resumes or not self.pool.withdraw(post):
            return False
        del self.posts[id]
        return True

    def on_session_header(self, post: Post) -> None:
        """A response named a session."""

    def answered(self, post: Post, body: Whole) -> None:
        """A response that is no event stream is whole."""
        call = post.call
        if call is None or not post.unanswered:
            return
        json_body = post.kind == b"application/json" or body[:1] in (b"{", b"[")
        if post.resumes and not json_body:
            self._fail_resumed(post)
            return
        if json_body and (200 <= post.status < 300 or post.status in (400, 404)) and self.receive_bytes(body):
            if not post.unanswered:
                return
            self._adopt_idless_error(post, body)
            if not post.unanswered:
                return
        self.correlation.forget(post.id)
        call.fail(self._verdict(post, body))

    def _adopt_idless_error(self, post: Post, body: Whole) -> None:
        """An error without a usable id on the call's own response can only mean this call."""
        try:
            message = jsonrpc.decode(body)
        except Refused:
            return
        if bytes(message.id) not in (b"", b"null") or not message.error or post.call is None:
            return
        if self.correlation.forget(post.id) is not None:
            post.call.answer(True, bytes(message.error))

    def _verdict(self, post: Post, body: Whole) -> CallError:
        """What an HTTP answer that is no MCP answer means for the call."""
        where, status = self.pool.endpoint.authority, post.status
        if status in (401, 403):
            return NotDelivered(
                "upstream_unavailable",
                f"{where} answered HTTP {status}: check the headers configured for it",
                {"http": str(status)},
            )
        if status in (429, 503):
            return NotDelivered(
                "upstream_unavailable",
                f"{where} answered HTTP {status}: it is overloaded",
                {"http": str(status)},
            )
        if 300 <= status < 400:
            return NotDelivered(
                "upstream_protocol",
                f"{where} redirects (HTTP {status}): register the final URL",
                {"http": str(status)},
            )
        if status >= 500:
            return OutcomeUnknown(
                "upstream_unavailable",
                f"{where} answered HTTP {status}; the call may have run",
                {"http": str(status)},
            )
        if status >= 400:
            return NotDelivered(
                "upstream_protocol", f"{where} answered HTTP {status}, no MCP answer", {"http": str(status)}
            )
        kind = post.kind.decode("latin-1") or "nothing"
        return OutcomeUnknown(
            "upstream_protocol",
            f"{where} answered {kind} instead of MCP ({len(body)} bytes); the call may have run",
        )

    def stream_ended(self, post: Post) -> None:
        """An event stream ended before its answer."""
        if post.call is not None:
            self.correlation.forget(post.id)
            post.call.fail(
                OutcomeUnknown(
                    "outcome_unknown",
                    "the upstream ended its stream without an answer; the call may have run",
                )
            )

    def _fail_resumed(self, post: Post) -> None:
        """The call had been taken before its stream broke: whatever a resuming GET is told, it may have run."""
        assert post.call is not None
        self.correlation.forget(post.id)
        text = "the upstream's stream broke and could not be resumed; the call may have run"
        post.call.fail(OutcomeUnknown("outcome_unknown", text))

    def post_failed(self, post: Post, error: CallError) -> None:
        """The exchange broke."""
        call = post.call
        if call is None or not post.unanswered:
            return
        if post.resumes:
            self._fail_resumed(post)
        else:
            self.correlation.forget(post.id)
            call.fail(error)

    async def disconnect(self) -> None:
        for post in list(self.posts.values()):
            self.pool.cancel(post)
        self.posts.clear()


class ModernHttp(HttpSession):
    """2026-07-28: no handshake, no session."""

    era = Era.MODERN
    streams_apart = True

    def __init__(self, context: SessionContext, pool: HttpPool) -> None:
        super().__init__(context, pool)
        self.protocol_version = LATEST_MODERN
        self.ready = True
        self._head = pool.endpoint.head("POST", {**_ACCEPT, "MCP-Protocol-Version": LATEST_MODERN})
        self._heads: dict[tuple[str, str], bytes] = {}

    async def connect(self) -> None:
        """Nothing to do: every request stands alone."""

    def send_request(self, id: int, call: Call, message: bytes) -> None:
        key = (call.method, call.name)
        head = self._heads.get(key)
        if head is None:
            lines = f"Mcp-Method: {mcp_headers.encode_value(call.method)}\r\n"
            if call.method in NAMED_BY and call.name:
                lines += f"Mcp-Name: {mcp_headers.encode_value(call.name)}\r\n"
            head = self._head + lines.encode()
            if len(self._heads) < 4096:
                self._heads[key] = head
        if call.headers:
            head += "".join(f"{name}: {value}\r\n" for name, value in call.headers.items()).encode("latin-1", "replace")
        self.post(id, call, head, message)

    def cancel_request(self, id: int, call: Call, reason: str) -> None:
        post = self.posts.pop(id, None)
        if post is not None:
            self.pool.cancel(post)  # closing the stream is the cancellation (2026-07-28, Cancellation)

    def send_notification(self, message: bytes) -> None:
        """The modern era has no notifications from client to server over HTTP."""


class LegacyHttp(HttpSession):
    """2025-03-26 to 2025-11-25: a handshake, and a session where the upstream wants one."""

    era = Era.LEGACY

    def __init__(self, context: SessionContext, pool: HttpPool, client: ClientFacts = NOBODY) -> None:
        super().__init__(context, pool, client)
        self._head = b""
        self._get: _StandingGet | None = None
        self._set_head()

    def _set_head(self) -> None:
        self._extra: dict[str, str] = {}
        if self.protocol_version:
            self._extra["MCP-Protocol-Version"] = self.protocol_version
        if self.sid:
            self._extra["Mcp-Session-Id"] = self.sid
        self._head = self.pool.endpoint.head("POST", {**_ACCEPT, **self._extra})

    async def connect(self) -> None:
        self.sid = self.protocol_version = ""
        self._set_head()
        await self.handshake()
        if self._get is None:
            self._get = _StandingGet(self)
            self._get.open()

    def on_session_header(self, post: Post) -> None:
        if post.call is not None and post.call.method == INITIALIZE and not self.sid:
            text = post.session_header.decode("latin-1")
            if text.isascii() and text.isprintable():
                self.sid = text

    def send_request(self, id: int, call: Call, message: bytes) -> None:
        self.post(id, call, self._head, message)

    def cancel_request(self, id: int, call: Call, reason: str) -> None:
        super().cancel_request(id, call, reason)
        post = self.posts.pop(id, None)
        if post is not None:  # nobody has to answer a cancelled request: do not hold a connection for it
            self.loop.call_later(_LINGER_S, self.pool.cancel, post)

    async def send_initialized(self, message: bytes) -> None:
        self._set_head()
        notice = Notice(b"%bContent-Length: %d\r\n\r\n%b" % (self._head, len(message), message))
        self.pool.submit(notice)
        await notice.done

    def send_notification(self, message: bytes) -> None:
        self.post(0, None, self._head, message)

    def answered(self, post: Post, body: Whole) -> None:
        call = post.call
        expired = post.status == 404 or (post.status == 400 and b"ession" in bytes(body))
        if expired and post.sid and call is not None and call.method != INITIALIZE and post.unanswered:
            self.correlation.forget(post.id)
            if not call.resent:
                call.resent = True
                if post.sid == self.sid and self.ready:
                    self._reopen()
                self.tell_state_lost(call)
                self.submit(call)
                return
            call.fail(NotDelivered("upstream_unavailable", "the upstream forgot the session twice in a row"))
            return
        super().answered(post, body)

    def _reopen(self) -> None:
        """The upstream forgot the session: the next call opens a new one, and those that come meanwhile wait for it."""
        _log.info("%s: the upstream session has expired; opening a new one", self.context.spec.id)
        self.ready = False
        self._opening = None
        self._withdraw_all()
        if self._get is not None:
            self._get.close()
            self._get = None

    def forgotten(self) -> None:
        """The standing stream found the session gone: open it again at once if somebody listens there."""
        self._reopen()
        self.tell_state_lost()
        self.context.on_forgotten(self)

    def stream_ended(self, post: Post) -> None:
        if post.last_event_id is None or post.resumes >= _RESUMES:
            super().stream_ended(post)
            return
        spawn(self._resume(post), "resume-stream")

    async def _resume(self, post: Post) -> None:
        await asyncio.sleep(post.retry_ms / 1000)
        if not post.unanswered or self.closed:
            return
        assert post.last_event_id is not None
        head = self.pool.endpoint.head(
            "GET", {"Accept": "text/event-stream", **self._extra, "Last-Event-ID": post.last_event_id}
        )
        again = Post(self, head + b"\r\n", post.id, post.call)
        again.last_event_id, again.retry_ms, again.resumes = (
            post.last_event_id,
            post.retry_ms,
            post.resumes + 1,
        )
        self.posts[post.id] = again
        self.pool.submit(again)

    async def disconnect(self) -> None:
        if self._get is not None:
            self._get.close()
        await super().disconnect()
        if self.sid:
            self.pool.submit(Notice(self.pool.endpoint.head("DELETE", self._extra) + b"\r\n"))


class _StandingGet:
    """The GET stream of a session: servers send notifications and requests there. 405 means: there is none."""

    def __init__(self, session: LegacyHttp) -> None:
        self.session = session
        self.request: bytes | tuple[bytes, ...] = b""
        self._reader: sse.Reader | None = None
        self._last_event_id: str | None = None
        self._retry_ms = 1000
        self._closed = False
        self._refused = False
        self._opened = False

    def open(self) -> None:
        """Send the GET."""
        extra: dict[str, Any] = {"Accept": "text/event-stream", **self.session._extra}
        if self._last_event_id is not None:
            extra["Last-Event-ID"] = self._last_event_id
        self.request = self.session.pool.endpoint.head("GET", extra) + b"\r\n"
        self._reader = None
        self.session.pool.submit(self, standing=True)

    def on_headers(self, status: int, headers: dict[bytes, bytes]) -> None:
        if status == 200 and headers.get(b"content-type", b"").startswith(b"text/event-stream"):
            self._opened = True
            self._reader = sse.Reader(self.session.context.settings.calls.max_result_bytes)
            return
        if status >= 500 or status == 429:
            return  # it may come yet: the upstream, or what stands before it, is starting or overloaded
        self._refused = True
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
                self.session.receive_bytes(event.data)

    def on_complete(self) -> None:
        self._again()

    def on_failed(self, error: CallError) -> None:
        self._again()

    def _again(self) -> None:
        if not (self._closed or self._refused or self.session.closed):
            self.session.loop.call_later(max(self._retry_ms / 1000, _MIN_RETRY_S), self._reopen)

    def _reopen(self) -> None:
        if not (self._closed or self.session.closed) and self.session.ready:
            self.open()

    def close(self) -> None:
        """Stop listening."""
        self._closed = True
        self.session.pool.cancel(self)
