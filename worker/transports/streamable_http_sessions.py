"""Sessions of Streamable HTTP, in both eras.

``ModernHttp`` is stateless: each call is one POST with ``Mcp-*`` headers, and closing the POST cancels the call.
``LegacyHttp`` has a handshake and, if the upstream issues an ``Mcp-Session-Id``, a session with a standing GET stream.
Answers may come as JSON or SSE in any case. A POST stream that the upstream closes after an event id is resumed with
``Last-Event-ID``. A session that the upstream does not know any more is opened again once, and the call is sent again
(``session_doubts``).
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable

from shared.errors import CallError, NotDelivered, OutcomeUnknown, Refused
from shared.mcp import headers as mcp_headers
from shared.mcp import jsonrpc, sse
from shared.mcp.methods import INITIALIZE, LISTEN, NAMED_BY, PING
from shared.mcp.rope import Body, Whole
from shared.mcp.versions import LATEST_MODERN, Era
from shared.rpc.framing import COPIED
from shared.tasks import spawn
from worker.calls.call import Call
from worker.calls.client_facts import NOBODY, ClientFacts
from worker.calls.own_call import UpstreamError
from worker.sessions.context import SessionContext
from worker.sessions.session import Session
from worker.transports import overload, session_doubts
from worker.transports.cookies import Cookies
from worker.transports.http_client import HttpPool
from worker.transports.http_endpoint import header_lines
from worker.transports.http_exchange import Notice
from worker.transports.http_post import Post
from worker.transports.http_standing_get import StandingGet
from worker.transports.session_doubts import Refusal

_log = logging.getLogger(__name__)
ACCEPT = {"Content-Type": "application/json", "Accept": "application/json, text/event-stream"}
_EVENTS_BEGIN = (b"e", b"d", b":", b"i", b"r")
"""The bytes with which an event stream begins: ``event:``, ``data:``, a comment, ``id:``, ``retry:``."""
_MOST_LINES = 2000
"""The lines of an event stream that is read in one go, because its response does not say that it is one."""
_RESUMES = 3
_LINGER_S = 1.0
_DOUBT_S = 5.0
"""How often an error of the server is taken for one about the session at most."""


class HttpSession(Session):
    """What both eras share: the POSTs under way, and the meaning of their responses."""

    def __init__(
        self,
        context: SessionContext,
        era: Era,
        pool: HttpPool,
        client: ClientFacts = NOBODY,
        sid_of_client: str = "",
    ) -> None:
        super().__init__(context, era, client, sid_of_client)
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

    def on_cookies(self, said: bytes) -> None:
        """Ignore that a response set cookies. ``LegacyHttp`` overrides this."""

    def on_session_header(self, post: Post) -> None:
        """Ignore that a response named a session. ``LegacyHttp`` overrides this."""

    def answered(self, post: Post, body: Whole) -> None:
        """Handle a complete response that is not an event stream."""
        call = post.call
        if call is None or not post.unanswered:
            return
        json_body = post.kind == b"application/json" or body[:1] in (b"{", b"[")
        if body[:1] in _EVENTS_BEGIN and 200 <= post.status < 300 and self._events(post, body):
            return
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

    def _events(self, post: Post, body: Whole) -> bool:
        """Handle a body that is an event stream, though the response does not say so. Return whether it answered the
        call."""
        if bytes(body).count(b"\n") > _MOST_LINES:
            return False
        reader = sse.Reader(self.context.settings.calls.max_result_bytes)
        try:
            found = [event.data for event in reader.feed(bytes(body))]
        except ValueError:
            return False
        for data in (*found, reader.end()):
            if data:
                self.receive_bytes(data, post.call)
        return not post.unanswered

    def _adopt_idless_error(self, post: Post, body: Whole) -> None:
        """Answer the call with an error that has no usable id. On the call's own response it can only mean this
        call."""
        try:
            message = jsonrpc.decode(body)
        except Refused:
            return
        if bytes(message.id) not in (b"", b"null") or not message.error or post.call is None:
            return
        if self.correlation.forget(post.id) is not None:
            post.call.answer(True, bytes(message.error))

    def _verdict(self, post: Post, body: Whole) -> CallError:
        """Return the error for an HTTP response that is not an MCP answer."""
        where, status = self.pool.endpoint.authority, post.status
        if status in (401, 403):
            return NotDelivered(
                self.pool.refused_code,
                f"{where} answered HTTP {status}: check the headers configured for it, or its auth",
                {"http": str(status)},
            )
        if status in overload.STATUSES:
            return overload.overloaded(where, status, post.retry_after)
        if status == 407:
            proxy = self.pool.endpoint.shown_proxy or "a proxy"
            text = (
                f"{proxy} wants credentials (HTTP 407): put them into the proxy's URL, http://USER:PASSWORD@HOST:PORT"
            )
            return NotDelivered("upstream_unavailable", text, {"http": "407"})
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
        """Fail the call, because its event stream ended before the answer."""
        if post.call is not None:
            self.correlation.forget(post.id)
            post.call.fail(
                OutcomeUnknown(
                    "outcome_unknown",
                    "the upstream ended its stream without an answer; the call may have run",
                )
            )

    def _fail_resumed(self, post: Post) -> None:
        """Fail a call whose stream broke. The upstream had taken the call, so it may have run, whatever a resuming GET
        is answered."""
        assert post.call is not None
        self.correlation.forget(post.id)
        text = "the upstream's stream broke and could not be resumed; the call may have run"
        post.call.fail(OutcomeUnknown("outcome_unknown", text))

    def post_failed(self, post: Post, error: CallError) -> None:
        """Fail the call, because the exchange failed."""
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

    def trim(self) -> None:
        """Drop idle connections."""
        self.pool.trim()

    def release(self) -> None:
        """Close the connections, which no other session uses."""
        self.pool.close()


class ModernHttp(HttpSession):
    """2026-07-28: no handshake, no session."""

    streams_apart = True

    def __init__(self, context: SessionContext, pool: HttpPool) -> None:
        super().__init__(context, Era.MODERN, pool)
        self.protocol_version = LATEST_MODERN
        self.ready = True
        self._head = pool.endpoint.head("POST", {**ACCEPT, "MCP-Protocol-Version": LATEST_MODERN})
        self._heads: dict[tuple[str, str], bytes] = {}

    async def connect(self) -> None:
        """Do nothing: every request stands for itself."""

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
        if call.passed:
            head += header_lines(call.passed)
        self.post(id, call, head + call.trace_lines if call.trace_lines else head, message)

    def cancel_request(self, id: int, call: Call, reason: str) -> None:
        post = self.posts.pop(id, None)
        if post is not None:
            self.pool.cancel(post)  # closing the stream is the cancellation (2026-07-28, Cancellation)

    def send_notification(self, message: bytes) -> None:
        """Do nothing: the modern era has no notifications from client to server over HTTP."""


class LegacyHttp(HttpSession):
    """2025-03-26 to 2025-11-25: a handshake, and a session if the upstream wants one."""

    def __init__(
        self, context: SessionContext, pool: HttpPool, client: ClientFacts = NOBODY, sid_of_client: str = ""
    ) -> None:
        super().__init__(context, Era.LEGACY, pool, client, sid_of_client)
        self._head = b""
        self._get: StandingGet | None = None
        self._cookies = Cookies()
        self._doubted_at = float("-inf")  # when an error of the server was last taken for one about the session
        self._checked_at = 0  # the connections that were open when an error was last taken for one about the session
        self._set_head()

    def _set_head(self) -> None:
        self.extra_headers: dict[str, str] = {}
        if self.protocol_version:
            self.extra_headers["MCP-Protocol-Version"] = self.protocol_version
        if self.sid:
            self.extra_headers["Mcp-Session-Id"] = self.sid
        cookies = self._cookies.header()
        if cookies and not self.pool.endpoint.has_cookie:
            self.extra_headers["Cookie"] = cookies
        self._head = self.pool.endpoint.head("POST", {**ACCEPT, **self.extra_headers})

    async def connect(self) -> None:
        self.sid = self.protocol_version = ""
        self._cookies.clear()
        self._set_head()
        await self.handshake()
        if self._get is None:
            self._get = StandingGet(self)
            self._get.open()

    def on_session_header(self, post: Post) -> None:
        if post.call is not None and post.call.method == INITIALIZE and not self.sid:
            text = post.session_header.decode("latin-1")
            if text.isascii() and text.isprintable():
                self.sid = text

    def on_cookies(self, said: bytes) -> None:
        if self._cookies.set(said):
            self._set_head()

    def send_request(self, id: int, call: Call, message: bytes) -> None:
        head = self._head + header_lines(call.passed) if call.passed else self._head
        self.post(id, call, head + call.trace_lines if call.trace_lines else head, message)

    def cancel_request(self, id: int, call: Call, reason: str) -> None:
        super().cancel_request(id, call, reason)
        post = self.posts.pop(id, None)
        if post is not None:  # an upstream need not answer a cancelled request, so free the connection after a moment
            self.loop.call_later(_LINGER_S, self.pool.cancel, post)

    async def send_initialized(self, message: bytes) -> None:
        self._set_head()
        notice = Notice(b"%bContent-Length: %d\r\n\r\n%b" % (self._head, len(message), message))
        self.pool.submit(notice)
        # What hangs here is the answer: the upstream has read the message, and some never answer one.
        await asyncio.wait({notice.done}, timeout=self.context.settings.upstreams.probe_timeout_s)
        if notice.done.done():
            self.pool.cancel(notice)  # the answer may be an event stream without end

    def send_notification(self, message: bytes) -> None:
        self.post(0, None, self._head, message)

    def answered(self, post: Post, body: Whole) -> None:
        call = post.call
        if post.status < 400 or call is None or not post.unanswered or call.method == INITIALIZE:
            super().answered(post, body)
        elif post.sid and session_doubts.is_over(post.status):
            if call.resent:
                self.correlation.forget(post.id)
                call.fail(NotDelivered("upstream_unavailable", "the upstream forgot the session twice in a row"))
            else:
                self._send_again(call, post.sid)
        elif self._may_be_broken(post, call):
            self._doubted_at = self.loop.time()
            spawn(self._check_broken(post, body, call), "check-session")
        else:
            refusal = session_doubts.refusal_by_http(post.status, body)
            if refusal is None or not self._may_doubt(call):
                super().answered(post, body)
            else:
                answered = super().answered
                spawn(self._decide(call, post.sid, refusal, lambda: answered(post, body)), "check-session")

    def doubts(self, call: Call, error: Body) -> bool:
        if not self._may_doubt(call):
            return False
        if self.pool.opened == self._checked_at and not session_doubts.speaks_of_session(error):
            return False
        refusal = session_doubts.refusal_by_error(error)
        if refusal is None:
            return False
        self._checked_at = self.pool.opened
        spawn(self._decide(call, self.sid, refusal, lambda: call.answer(True, error)), "check-session")
        return True

    def _may_doubt(self, call: Call) -> bool:
        """Whether a refusal of ``call`` may be about the session. A call is sent again only once, and what refuses a
        ``ping`` is no proof, because not every server knows it."""
        return self.ready and not call.resent and call.method not in (INITIALIZE, PING)

    def _may_be_broken(self, post: Post, call: Call) -> bool:
        """Whether an error of the server may mean that it does not find the session. That is looked at now and then."""
        broken = session_doubts.is_broken(post.status) and bool(post.sid)
        return broken and self._may_doubt(call) and self.loop.time() - self._doubted_at > _DOUBT_S

    async def _check_broken(self, post: Post, body: Whole, call: Call) -> None:
        """Open another session for the next call if even ``ping`` fails in the same way. This call may have run, so it
        is not sent again."""
        if await self._refuses_alike(Refusal(post.status)) and post.sid == self.sid and self.ready:
            self._reopen()
            self.notify_state_lost(call)
        super().answered(post, body)

    async def _decide(self, call: Call, sid: str, refusal: Refusal, take: Callable[[], None]) -> None:
        """Send ``call`` again on a new session if ``ping`` is refused as the call was, else ``take`` the answer. What
        the upstream refuses with the session has not run."""
        if sid == self.sid and self.ready and not await self._refuses_alike(refusal):
            if not call.done:
                take()
        elif not call.done:
            self._send_again(call, sid)

    async def _refuses_alike(self, refusal: Refusal) -> bool:
        try:
            await self.request(PING, timeout_s=self.context.settings.health.health_check_timeout_s)
        except UpstreamError as error:
            return session_doubts.refusal_by_error(error.raw) == refusal
        except CallError as error:
            status = error.data.get("http")
            return status == str(refusal.status)
        return False

    def _send_again(self, call: Call, sid: str) -> None:
        """Open the session again, unless that has happened meanwhile, and send ``call`` on it."""
        id = self.correlation.id_of(call)
        if id is not None:
            self.correlation.forget(id)
        call.resent = True
        if sid == self.sid and self.ready:
            self._reopen()
        self.notify_state_lost(call)
        self.submit(call)

    def _reopen(self) -> None:
        """Forget the session that the upstream has forgotten. The next call opens a new one, and calls that come
        meanwhile wait."""
        _log.info("%s: the upstream session has expired; opening a new one", self.context.spec.id)
        self.reset()
        if self._get is not None:
            self._get.close()
            self._get = None

    def forgotten(self) -> None:
        """Forget the session, which the standing stream found gone. A session with subscribed resources is opened again
        at once."""
        self._reopen()
        self.notify_state_lost()
        self.context.events.forgotten(self)

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
            "GET", {"Accept": "text/event-stream", **self.extra_headers, "Last-Event-ID": post.last_event_id}
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
            self._get = None
        await super().disconnect()
        if self.sid:
            self.pool.submit(Notice(self.pool.endpoint.head("DELETE", self.extra_headers) + b"\r\n"))
