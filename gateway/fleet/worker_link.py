"""One link to a worker, from the front end's side: calls go out, and frames that come in become events.

Counterpart: ``worker.rpc_server``. The link knows nothing of catalogues, views or HTTP.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from typing import Any, Protocol

from gateway.calls.events import Answered, Failure, Interim, Resumed
from gateway.calls.in_flight import InFlight, NoReplica, SessionCalls
from gateway.fleet.outgoing import Outgoing
from gateway.routing.routes import Replica
from gateway.telemetry.observer import ObservedCall
from shared.mcp import jsonrpc
from shared.rpc import messages as rpc
from shared.rpc.connection import BodyStream, Link
from shared.rpc.framing import CHUNK
from shared.rpc.peer_credentials import credentials, is_stopped
from shared.tasks import tick

_log = logging.getLogger(__name__)
_UNANSWERED = 3
_IDLE_PINGS = 5
"""With no call under way only every so many pings is sent: nobody waits for the worker, and the kernel is asked instead
whether it is stopped."""
_MAX_ANNOUNCED = 100_000
"""The client sessions whose facts one worker has to remember, at most; the oldest are dropped first."""
_bits: set[int] = set()
"""The bits of ``ClientSession.announced_to`` that links in this process use."""


def _take_bit() -> int:
    bit = 1
    while bit in _bits:
        bit <<= 1
    _bits.add(bit)
    return bit


class LinkEvents(Protocol):
    """What a link calls for frames that do not belong to a call."""

    def resource_updated(self, upstream: str, uri: str, sid: str, params: bytes) -> None:
        """Called when a watched resource changed; ``uri`` is the upstream's, ``params`` those of its notification."""

    def own_list_changed(self, upstream: str, kind: str, sid: str) -> None:
        """Called when an upstream may list something else for a client session alone; ``kind`` is the kind of list."""

    def unsolicited(self, sid: str, message: bytes, dropped: int) -> None:
        """Called with an upstream's message for a client session that has no call in flight there.

        ``dropped`` is how many messages before this one were dropped.
        """

    def has_stream(self, sid: str) -> bool:
        """Return whether the client session has a standing stream at this front end."""

    def links_changed(self) -> None:
        """Called when a link was opened or lost."""


class WorkerLink:
    """A link to one worker. ``on_closed(link)`` is called once when the link is gone.

    It is given its connection when both ends have proved themselves (``shared.rpc.joining``) and is ``ready`` from then
    until the connection is gone. ``secure``: it speaks TLS. ``draining``: the worker takes no new calls. ``calls`` has
    the calls under way by their number on this link.
    """

    def __init__(
        self,
        worker: str,
        frontend: str,
        ping_s: float,
        events: LinkEvents,
        on_closed: Callable[[WorkerLink], None],
    ) -> None:
        self.worker = worker
        self.frontend = frontend
        self.loop = asyncio.get_running_loop()
        self.ready = False
        self.secure = False
        self.draining = False
        self.calls: dict[int, InFlight] = {}
        self.standing = 0  # how many of these have no end (listens)
        self._ping_s = ping_s
        self._events = events
        self._on_closed = on_closed
        self._link: Link | None = None
        self._last_call = 0
        self._announced: dict[str, SessionCalls | None] = {}
        self._bit = 0
        self._watching: dict[int, asyncio.Future[bytes | None]] = {}
        self._last_watch = 0
        self._ping = 0
        self._pong = 0
        self._pid = 0  # of a worker on this machine

    @property
    def in_flight(self) -> int:
        """The calls under way at this worker that count as load."""
        return len(self.calls) - self.standing

    # ---- calls

    def call(
        self,
        replica: Replica,
        head: rpc.Call,
        call: Outgoing,
        session: SessionCalls | None,
        facts: Callable[[Any], rpc.OpenSession],
        now: float,
    ) -> InFlight:
        """Send a call, and number ``head``. The facts of its session go first if this worker does not know them."""
        link = self._link
        assert link is not None
        if session is not None and not session.announced_to & self._bit:
            self._announce(facts(session))
            self._announced[head.session] = session
            session.announced_to |= self._bit
        self._last_call += 1
        head.call = self._last_call
        link.send(head, call.params)
        in_flight = self.calls[head.call] = InFlight(self, head.call, replica, now, call, bool(call.era))
        replica.in_flight += 1
        return in_flight

    async def watch(self, upstream: str, uri: str, session: rpc.OpenSession | None, timeout_s: float) -> bytes | None:
        """Have a resource watched. Return ``None``, or the JSON of the upstream's error.

        Raises ``TimeoutError`` or ``ConnectionError`` if the worker does not answer.
        """
        if self._link is None or self._link.closed:
            raise ConnectionResetError("the link to the worker is gone")
        if session is not None:
            self._announce(session)
        self._last_watch += 1
        number = self._last_watch
        answer = self._watching[number] = self.loop.create_future()
        self._link.send(rpc.Watch(number, upstream, uri, session.session if session is not None else ""))
        try:
            async with asyncio.timeout(timeout_s):
                error: bytes | None = await answer
                return error
        finally:
            self._watching.pop(number, None)

    def unwatch(self, upstream: str, uri: str, sid: str) -> None:
        """Have a resource watched no longer."""
        if self._link is not None:
            self._link.send(rpc.Watch(0, upstream, uri, sid, on=False))

    def announce_again(self, session: rpc.OpenSession) -> None:
        """Send a session's facts again, if this worker knows the session."""
        if session.session in self._announced and self._link is not None:
            self._link.send(session)

    def _announce(self, session: rpc.OpenSession) -> None:
        assert self._link is not None
        if session.session not in self._announced:
            if len(self._announced) >= _MAX_ANNOUNCED:
                self.forget_session(next(iter(self._announced)), over=False)
            self._announced[session.session] = None
            self._link.send(session)

    def cancel(self, in_flight: InFlight, reason: str) -> None:
        """Cancel a call; the upstream may see ``reason``."""
        if self.calls.pop(in_flight.number, None) is not None or not in_flight.done:
            in_flight.finish(Failure("cancelled", reason, False, {}))
        if self._link is not None:
            self._link.abandon(in_flight.number)
            self._link.send(rpc.Cancel(in_flight.number, reason))

    def detach(self, number: int) -> None:
        """Have the worker keep what comes for a call from now on, because its client may resume it."""
        if self._link is not None:
            self._link.send(rpc.Detach(number))

    def resume(self, sid: str, frontend: str, before: int, sequence: int) -> InFlight:
        """Resume the call that had the number ``before`` at ``frontend``, after the message with number ``sequence``.

        The first event of the returned call is ``Resumed`` or a ``Failure``.
        """
        self._last_call += 1
        in_flight = InFlight(self, self._last_call, NoReplica(), self.loop.time(), ObservedCall())
        self.calls[self._last_call] = in_flight
        if self._link is not None:
            self._link.send(rpc.Resume(self._last_call, sid, frontend, before, sequence))
        return in_flight

    def roots_changed(self, sid: str) -> None:
        """Notify the worker that the roots of a session's client changed."""
        if sid in self._announced and self._link is not None:
            self._link.send(rpc.RootsChanged(sid))

    def cancel_request(self, sid: str, request: bytes) -> None:
        """Cancel a request of a session that another front end may have sent, by the JSON of its request id."""
        if self._link is not None:
            self._link.send(rpc.CancelRequest(sid, request))

    def refuse_body(self, in_flight: InFlight) -> None:
        """Have the worker drop the large answer of a call, because nobody reads it."""
        if self._link is not None:
            self._link.abandon(in_flight.number)
            self._link.send(rpc.Cancel(in_flight.number, "nobody reads the answer"))

    def reply(self, question_id: str, sid: str, is_error: bool, raw: bytes) -> None:
        """Send a client's answer to a question of an upstream; ``raw`` is the JSON of ``result`` or ``error``."""
        if self._link is not None and len(question_id) <= jsonrpc.MAX_ID:
            self._link.send(rpc.Reply(question_id, sid, is_error), raw)

    def question_news(self, question_id: str, sid: str, progress: bytes) -> None:
        """Notify the worker that its question was put on a stream, or (``progress``) how far the client is with it."""
        if self._link is not None and len(progress) <= CHUNK and len(question_id) <= jsonrpc.MAX_ID:
            self._link.send(rpc.QuestionNews(question_id, sid), progress)

    def notify(self, upstream: str, session: rpc.OpenSession, message: bytes) -> None:
        """Send a client's notification to an upstream of this worker."""
        if self._link is not None:
            self._announce(session)
            self._link.send(rpc.Notice(upstream, session.session), message)

    def forget_session(self, sid: str, over: bool = True) -> None:
        """Notify the worker that a client session is over, or (not ``over``) that this front end stops using it."""
        if sid in self._announced and self._link is not None:
            session = self._announced.pop(sid)
            if session is not None:
                session.announced_to &= ~self._bit
            self._link.send(rpc.EndSession(sid, over))

    # ---- shared.rpc.connection.Peer

    def on_connected(self, link: Link) -> None:
        self._link = link
        self._bit = _take_bit()
        self.secure = link.extra("ssl_object") is not None
        peer = credentials(link.extra("socket"))
        self._pid = peer.pid if peer is not None else 0
        self.ready = True

    def on_frame(self, link: Link, head: rpc.Head, body: bytes) -> None:
        kind = type(head)
        if kind is rpc.Answer:
            in_flight = self.calls.pop(head.call, None)  # type: ignore[union-attr]
            if in_flight is not None:
                in_flight.finish(Answered(head.is_error, body))  # type: ignore[union-attr]
        elif kind is rpc.Interim:
            in_flight = self.calls.get(head.call)  # type: ignore[union-attr]
            if in_flight is not None:
                in_flight.dropped += head.dropped  # type: ignore[union-attr]
                if body:
                    in_flight.push(Interim(body, head.sequence))  # type: ignore[union-attr]
        elif kind is rpc.Failed:
            assert isinstance(head, rpc.Failed)
            in_flight = self.calls.pop(head.call, None)
            if in_flight is not None:
                in_flight.finish(Failure(head.code, head.message, head.delivered, head.data or {}))
        elif kind is rpc.Resumed:
            assert isinstance(head, rpc.Resumed)
            in_flight = self.calls.get(head.call)
            if in_flight is not None:
                in_flight.push(Resumed(head.request, head.name, head.listed_name))
        elif kind is rpc.Updated:
            assert isinstance(head, rpc.Updated)
            if head.kind:
                self._events.own_list_changed(head.upstream, head.kind, head.session)
            else:
                self._events.resource_updated(head.upstream, head.uri, head.session, body)
        elif kind is rpc.Alive:
            if self._events.has_stream(head.session):  # type: ignore[union-attr]
                link.send(head)
        elif kind is rpc.Unsolicited:
            assert isinstance(head, rpc.Unsolicited)
            self._events.unsolicited(head.session, body, head.dropped)
        elif kind is rpc.Watched:
            assert isinstance(head, rpc.Watched)
            answer = self._watching.get(head.number)
            if answer is not None and not answer.done():
                answer.set_result(None if head.agreed else body)
        elif kind is rpc.Pong:
            self._pong = head.number  # type: ignore[union-attr]
        elif kind is rpc.GoAway:
            assert isinstance(head, rpc.GoAway)
            self.draining = True
            for number in [number for number in self.calls if number > head.last_call]:
                self.calls.pop(number).finish(Failure("not_delivered", "the worker is shutting down", False, {}))

    def stream_body(self, link: Link, head: rpc.Head, stream: BodyStream) -> bool:
        """Take a large answer as a stream, so that a slow client stalls only itself; have other bodies assembled."""
        if not isinstance(head, rpc.Answer):
            return False
        in_flight = self.calls.pop(head.call, None)
        if in_flight is None or in_flight.unwanted:
            link.abandon(head.call)
            link.send(rpc.Cancel(head.call, "nobody reads the answer"))
            stream.break_off()
            if in_flight is not None:
                in_flight.finish(Failure("cancelled", "the client left", True, {}))
            return True
        in_flight.finish(Answered(head.is_error, b"", stream))
        return True

    def on_closed(self, link: Link, error: Exception | None) -> None:
        self.ready = False
        for session in self._announced.values():
            if session is not None:
                session.announced_to &= ~self._bit
        self._announced.clear()
        _bits.discard(self._bit)
        for answer in self._watching.values():
            if not answer.done():
                answer.set_exception(ConnectionResetError("the worker is gone"))
        calls, self.calls = self.calls, {}
        for in_flight in calls.values():
            in_flight.finish(
                Failure(
                    "outcome_unknown",
                    "the worker that carried the call is gone; the call may have run",
                    True,
                    {},
                )
            )
        self._on_closed(self)

    # ---- life

    async def keep_checking(self) -> None:
        """Ping the worker, and end the link after ``_UNANSWERED`` pings: its loop hangs, or nothing passes. If the
        kernel says that the worker is stopped, one is enough."""
        rounds = 0
        while self._link is not None and not self._link.closed:
            unanswered = self._ping - self._pong
            if unanswered >= _UNANSWERED or (unanswered and self._pid and is_stopped(self._pid)):
                _log.warning("worker %s does not answer; dropping its link", self.worker)
                self._link.abort()
                return
            rounds += 1
            if self.in_flight or unanswered or rounds % _IDLE_PINGS == 0 or (self._pid and is_stopped(self._pid)):
                self._ping += 1
                self._link.send(rpc.Ping(self._ping))
            await tick(self._ping_s)

    def close(self) -> None:
        """Close the link."""
        if self._link is not None:
            self._link.close()
