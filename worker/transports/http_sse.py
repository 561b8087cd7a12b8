"""HTTP+SSE (2024-11-05): messages from the upstream arrive on one GET stream, messages to it are POSTs.

The stream names the URL for the POSTs in its ``endpoint`` event. The POSTs stay on the upstream's own origin: a URL at
another host is refused, and one that a server behind a proxy names as it sees itself is taken for a path.
"""

from __future__ import annotations

import asyncio
from urllib.parse import urlsplit, urlunsplit

from shared.connections import mask_url
from shared.errors import ELSEWHERE, CallError, NotDelivered, OutcomeUnknown
from shared.loopback import is_loopback_host
from shared.mcp import sse
from shared.mcp.methods import INITIALIZE, PING
from shared.mcp.versions import Era
from worker.calls.call import Call
from worker.calls.client_facts import NOBODY, ClientFacts
from worker.calls.own_call import UpstreamError
from worker.sessions.context import SessionContext
from worker.sessions.session import Session
from worker.transports import overload, session_doubts
from worker.transports.cookies import SET_COOKIE, Cookies
from worker.transports.http_client import HttpPool
from worker.transports.http_endpoint import HttpEndpoint, header_lines
from worker.transports.http_exchange import Notice
from worker.transports.http_reach import http_pool, reach_by_url
from worker.transports.transport import DRIVERS, Pool, Reached, UpstreamFacts, facts_of, opened

_SHOWN_BYTES = 1024
"""How much of a refusal is read."""


class _Stream:
    """The GET stream of a session."""

    def __init__(self, session: SseSession, request: bytes) -> None:
        self.session = session
        self.request: bytes | tuple[bytes, ...] = request
        self.status = 0
        self.reader: sse.Reader | None = None

    def on_headers(self, status: int, headers: dict[bytes, bytes]) -> None:
        self.status = status
        kind = headers.get(b"content-type", b"").partition(b";")[0].strip().lower()
        if SET_COOKIE in headers:
            self.session.on_cookies(headers[SET_COOKIE])
        if status == 200 and kind == b"text/event-stream":
            self.reader = sse.Reader(self.session.context.settings.calls.max_result_bytes)
        elif status in overload.STATUSES:
            authority = self.session.pool.endpoint.authority
            self._end(overload.overloaded(authority, status, headers.get(b"retry-after", b"")))
        else:
            shown = kind.decode("latin-1") or "no content type"
            where = self.session.pool.endpoint
            asked = f"GET {where.authority}{mask_url(where.path)}"
            words = f"{asked} answered HTTP {status} ({shown}), not an event stream"
            self._end(NotDelivered("upstream_unavailable", words, {"http": str(status)}))

    def on_body(self, data: bytes) -> None:
        if self.reader is None:
            return
        try:
            events = self.reader.feed(data)
        except ValueError as error:
            self._end(OutcomeUnknown("upstream_protocol", f"the upstream sent {error}"))
            return
        for event in events:
            if event.name == "endpoint":
                self.session.on_endpoint(bytes(event.data).decode("utf-8", "replace"))
            elif event.data:
                self.session.receive_bytes(event.data)

    def on_complete(self) -> None:
        self._end(NotDelivered("upstream_unavailable", "the upstream closed its event stream", {"certain": "1"}))

    def on_failed(self, error: CallError) -> None:
        code = error.code if ELSEWHERE in error.data else "upstream_unavailable"
        self._end(NotDelivered(code, error.message, error.data))

    def _end(self, error: CallError) -> None:
        self.session.stream_lost(error)


class _Post:
    """One message to the upstream. The answer arrives on the GET stream, so only a refusal matters here."""

    def __init__(self, session: SseSession, request: bytes, id: int, call: Call | None) -> None:
        self.session = session
        self.request: bytes | tuple[bytes, ...] = request
        self.id = id
        self.call = call
        self.target = session.target
        self.status = 0
        self.retry_after = b""
        self.body = b""

    def on_headers(self, status: int, headers: dict[bytes, bytes]) -> None:
        self.status = status
        self.retry_after = headers.get(b"retry-after", b"")
        if SET_COOKIE in headers:
            self.session.on_cookies(headers[SET_COOKIE])

    def on_body(self, data: bytes) -> None:
        """Note the text of a refusal. The specification gives the body of a 202 no meaning."""
        if self.status >= 400:
            self.body = (self.body + data)[:_SHOWN_BYTES]

    def on_complete(self) -> None:
        self._over()
        if session_doubts.names_lost_session(self.status, self.body) and self.session.refused(self):
            return
        if self.status in overload.STATUSES:
            self._fail(overload.overloaded(self.session.pool.endpoint.authority, self.status, self.retry_after))
        elif self.status >= 300 and self.call is not None:
            text = f"the upstream answered HTTP {self.status} to the message"
            kind = OutcomeUnknown if self.status >= 500 else NotDelivered
            self._fail(kind("upstream_unavailable", text, {"http": str(self.status)}))
        elif self.target != self.session.target:  # it was taken, and the stream that had its answer is gone
            self._fail(_forgotten())

    def on_failed(self, error: CallError) -> None:
        if 200 <= self.status < 300:  # it was taken; what is missing is the end of a body that says nothing
            self.on_complete()
            return
        self._over()
        self._fail(error)

    def _over(self) -> None:
        self.session.notices.pop(self, None)
        self.session.posted.discard(self.id)

    def _fail(self, error: CallError) -> None:
        if self.call is not None and self.session.correlation.calls.get(self.id) is self.call:
            self.session.correlation.forget(self.id)
            self.call.fail(error)


def _forgotten(why: str = "the upstream forgot the session") -> CallError:
    return OutcomeUnknown("outcome_unknown", f"{why}; the call may have run")


class SseSession(Session):
    """A session: one GET stream and its POST endpoint. ``posted`` has the ids of calls of which the server has not said
    yet whether it takes them."""

    def __init__(
        self, context: SessionContext, pool: HttpPool, client: ClientFacts = NOBODY, sid_of_client: str = ""
    ) -> None:
        super().__init__(context, Era.LEGACY, client, sid_of_client)
        self.pool = pool
        self._endpoint: asyncio.Future[str | CallError] = self.loop.create_future()
        self._stream: _Stream | None = None
        self._doubted = False
        self._head = b""
        self.target = ""
        self.posted: set[int] = set()
        self._cookies = Cookies()
        self._inside = ""  # what was mended of the endpoint that the server named

    async def connect(self) -> None:
        if self._doubted:
            self._doubted = False
            if await self._answers():
                return
            self._forget_stream("the upstream's event stream was cut off")
            self._questions.withdraw_all()
            self.notify_state_lost()
        request = self.pool.endpoint.head("GET", {"Accept": "text/event-stream", "Cache-Control": "no-store"}) + b"\r\n"
        self._stream = _Stream(self, request)
        self.pool.submit(self._stream, standing=True)
        target = await self._endpoint
        if isinstance(target, CallError):  # another one is raised: that would keep this frame, and so the session
            raise NotDelivered(target.code, target.message, target.data)
        self.target = target
        self._set_head()
        await self.handshake()
        self.flaws += (self._inside,) if self._inside else ()

    def _set_head(self) -> None:
        headers = {"Content-Type": "application/json"}
        cookies = self._cookies.header()
        if cookies and not self.pool.endpoint.has_cookie:
            headers["Cookie"] = cookies
        self._head = self.pool.endpoint.head("POST", headers, self.target)

    def on_cookies(self, said: bytes) -> None:
        """Handle that a response set cookies."""
        if self._cookies.set(said) and self.target:
            self._set_head()

    def on_endpoint(self, reference: str) -> None:
        """Note the URL for messages, which the stream named."""
        if self._endpoint.done():
            return
        reference = reference.strip(' "')
        try:
            self._endpoint.set_result(self.pool.endpoint.resolve(reference))
        except ValueError as error:
            path = _path_from_inside(reference, self.pool.endpoint)
            if path:
                self._inside = (
                    f"the message endpoint {mask_url(reference)!r} was taken for this path at its own address"
                )
                self._endpoint.set_result(self.pool.endpoint.resolve(path))
                return
            text = f"the upstream names as its message endpoint {error}"
            self._endpoint.set_result(OutcomeUnknown("upstream_protocol", text))

    def stream_lost(self, error: CallError) -> None:
        """End the session, because its stream cannot be opened or has ended."""
        self._stream = None
        if not self._endpoint.done():
            self._endpoint.set_result(error)
            return
        for call in [c for c in self.correlation.calls.values() if c.method == INITIALIZE]:
            call.fail(error)
        if not self.opening:
            self.lost(error)

    def refused(self, post: _Post) -> bool:
        """Open the session again, of which the server has no stream any more though ours is open (a proxy holds it, or
        another instance answers), and send the call again, which has not run. Return false for one that was."""
        call = post.call
        if call is None or self.correlation.calls.get(post.id) is not call or call.resent or call.method == INITIALIZE:
            return False
        self.correlation.forget(post.id)
        call.resent = True
        if self.ready and post.target == self.target:
            self._reopen()
            self.notify_state_lost(call)
        self.submit(call)
        return True

    def was_cut_off(self) -> None:
        """Have calls wait until the upstream has answered on the stream, and open another stream if it does not.

        What an upstream sent in vain is sent again by its system after 0.2 s, and then ever more rarely (RFC 6298
        section 5). After ten seconds without a network, answers may come ten seconds late; a new stream works at once.
        """
        if self.ready:
            self.ready, self._doubted = False, True
            self._opening.forget()
            self.start()

    async def _answers(self) -> bool:
        try:
            await self.request(PING, timeout_s=self.context.settings.health.health_check_timeout_s / 2)
        except UpstreamError:
            pass  # an error is an answer, too
        except CallError:
            return False
        return True

    def _reopen(self) -> None:
        """Forget the stream. The next call opens another one."""
        self._forget_stream()
        self.reset()

    def _forget_stream(self, why: str = "the upstream forgot the session") -> None:
        """Close the stream. What was asked on it is not answered any more. Of what the server has not said yet whether
        it takes it, it says so now (``_Post``)."""
        stream, self._stream = self._stream, None
        if stream is not None:
            self.pool.cancel(stream)
        for id in self.correlation.calls.keys() - self.posted:
            self.correlation.calls.pop(id).fail(_forgotten(why))
        self.target = ""
        self._cookies.clear()
        self._endpoint = self.loop.create_future()

    def send_request(self, id: int, call: Call, message: bytes) -> None:
        self._post(id, call, message)

    async def send_initialized(self, message: bytes) -> None:
        notice = Notice(b"%bContent-Length: %d\r\n\r\n%b" % (self._head, len(message), message))
        self.pool.submit(notice)
        await asyncio.wait({notice.done}, timeout=self.context.settings.upstreams.probe_timeout_s)  # some never answer

    def send_notification(self, message: bytes) -> None:
        self._post(0, None, message)

    def _post(self, id: int, call: Call | None, message: bytes) -> None:
        head = self._head
        if call is not None:
            head += (header_lines(call.passed) if call.passed else b"") + call.trace_lines
        request = b"%bContent-Length: %d\r\n\r\n%b" % (head, len(message), message)
        post = _Post(self, request, id, call)
        if call is None:
            self.notices[post] = len(message)
        else:
            self.posted.add(id)
        self.pool.submit(post)

    async def disconnect(self) -> None:
        if self._stream is not None:
            self.pool.cancel(self._stream)
            self._stream = None
        if not self._endpoint.done():
            self._endpoint.cancel()

    def trim(self) -> None:
        """Drop idle connections."""
        self.pool.trim()

    def release(self) -> None:
        """Close the connections, which no other session uses."""
        self.pool.close()


def _path_from_inside(reference: str, endpoint: HttpEndpoint) -> str:
    """Return path and query of a message endpoint that a server behind a proxy names as it sees itself: at a loopback
    address, or at its own host with another scheme or port. Empty if that is another host, where nothing is sent."""
    try:
        parts = urlsplit(reference)
        host = parts.hostname or ""
    except ValueError:
        return ""
    inside = is_loopback_host(host) or host in ("0.0.0.0", "::", endpoint.host)  # it is only compared
    return urlunsplit(("", "", parts.path, parts.query, "")) if inside and parts.path else ""


async def reach_sse(context: SessionContext, pool: HttpPool) -> Reached:
    session = SseSession(context, pool)
    await opened(session)
    version = session.protocol_version
    return Reached(facts_of((Era.LEGACY.word,), "sse", pool.endpoint.url, True, version, session.server), session)


class SseTransport:
    """Implements ``worker.transports.transport.TransportDriver`` for HTTP+SSE."""

    async def reach(self, context: SessionContext) -> Reached:
        """Open the event stream and make the handshake."""
        return await reach_by_url(context, "/sse", True, reach_sse)

    def make_pool(self, context: SessionContext, facts: UpstreamFacts) -> Pool | None:
        return http_pool(context, facts.url)

    def make_session(
        self,
        context: SessionContext,
        era: Era,
        pool: Pool | None,
        client: ClientFacts = NOBODY,
        sid_of_client: str = "",
    ) -> Session:
        """Return a session with an event stream of its own."""
        assert isinstance(pool, HttpPool)
        return SseSession(context, pool, client, sid_of_client)


DRIVERS["sse"] = SseTransport()
