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
from functools import partial

from msgspec import Raw

from shared.errors import CallError, NotDelivered, OutcomeUnknown, Refused
from shared.mcp import headers as mcp_headers
from shared.mcp import jsonrpc
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
from worker.transports import session_doubts
from worker.transports.cookies import Cookies
from worker.transports.http_client import HttpPool
from worker.transports.http_elsewhere import AnsweredElsewhere
from worker.transports.http_endpoint import header_lines
from worker.transports.http_exchange import Notice
from worker.transports.http_odd_bodies import take_messages
from worker.transports.http_post import Post
from worker.transports.http_refusals import is_answer, refusal
from worker.transports.http_standing_get import StandingGet
from worker.transports.session_doubts import Refusal

_log = logging.getLogger(__name__)
ACCEPT = {"Content-Type": "application/json", "Accept": "application/json, text/event-stream"}
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
        self._looks = False  # whether messages are looked for in what is none

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
        if post.resumes and post.kind != b"application/json" and body[:1] not in (b"{", b"["):
            self._fail_resumed(post)
            return
        if is_answer(post.status, body, post.id, call.method) and self.receive_bytes(body):
            if not post.unanswered:
                return
            self._adopt_idless(post, body)
            if not post.unanswered:
                return
        self.correlation.forget(post.id)
        call.fail(self._refusal(post, body))

    def _refusal(self, post: Post, body: Whole) -> CallError:
        endpoint, code = self.pool.endpoint, self.pool.refused_code
        return refusal(endpoint, code, post.status, post.kind, post.refusal, post.retry_after, body)

    def _fail_unreadable(self, body: Whole, error: Refused) -> bool:
        if self._looks:
            return False
        found: list[bool] = []
        self._looks = True
        try:
            take_messages(body, self.context.settings.calls.max_result_bytes, partial(self._take, found))
        finally:
            self._looks = False
        return any(found) or super()._fail_unreadable(body, error)

    def _take(self, found: list[bool], body: Whole) -> bool:
        found.append(self.receive_bytes(body))
        return found[-1]

    def _adopt_idless(self, post: Post, body: Whole) -> None:
        """Answer the call with an answer that has no usable id. As the call's own response it can only mean this
        call."""
        try:
            message = jsonrpc.decode_answer(body)
        except Refused:
            return
        if bytes(message.id) not in (b"", b"null") or message.method or post.call is None:
            return
        message.id = Raw(b"%d" % post.id)
        self._receive(message, post.call)

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
        self._elsewhere = AnsweredElsewhere(self.correlation)
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
        if post.status < 400:
            self._named(post.session_header, post.sid)

    def _named(self, header: bytes, sent: str) -> None:
        """Take the session that the response to a request on session ``sent`` names: most servers name it once, a few
        later or another one."""
        text = header.decode("latin-1")
        if text != self.sid == sent and text.isascii() and text.isprintable():
            self.sid = text
            self._set_head()

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
        sent = self.sid
        self.pool.submit(notice)
        # What hangs here is the answer: the upstream has read the message, and some never answer one.
        await asyncio.wait({notice.done}, timeout=self.context.settings.upstreams.probe_timeout_s)
        if notice.done.done():
            self.pool.cancel(notice)  # the answer may be an event stream without end
        if notice.session and notice.status < 400:
            self._named(notice.session, sent)

    def send_notification(self, message: bytes) -> None:
        self.post(0, None, self._head, message)

    def answered(self, post: Post, body: Whole) -> None:
        call = post.call
        if post.status == 202 and not body and self._get is not None and not self._get.refused and post.unanswered:
            self._elsewhere.add(post.id, self._refusal(post, body))
        elif post.status < 400 or call is None or not post.unanswered or call.method == INITIALIZE:
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

    def unheard(self) -> None:
        """Fail the calls whose answers were to come on the standing stream, which the upstream refuses."""
        self._elsewhere.refused()

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
