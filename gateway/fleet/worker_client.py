"""One link to a worker, from the front end's side. Counterpart: ``worker.rpc_server``.

``InFlight`` is one call on it: events arrive in order (interim messages, then one ``Answered`` or ``Failure``).
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Callable
from typing import Any, Protocol

from msgspec import Struct

from gateway.routing.catalog import Replica
from shared.mcp import jsonrpc
from shared.rpc import messages as rpc
from shared.rpc.connection import BodyStream, Link
from shared.rpc.framing import CHUNK
from shared.secrets import FleetKey

_log = logging.getLogger(__name__)
_MAX_ANNOUNCED = 100_000
"""Client sessions whose facts one worker is asked to remember; the oldest make room."""
_MAX_WAITING_BYTES = 2 * 1024 * 1024
"""Interim messages kept for a client that reads slowly; older ones are dropped first. More than what workers keep of a
call, so that a resumed stream is whole."""
_EVENT_BYTES = 64
"""What an event takes beside its message, about."""


class Interim(Struct, gc=False):
    """A JSON-RPC message before the call's answer; ``sequence`` numbers those of a session's call from 1."""

    message: bytes
    sequence: int = 0

    @property
    def asks(self) -> bool:
        """It is a request, which the call waits for the answer to: never dropped."""
        return self.message.startswith(b'{"jsonrpc":"2.0","id":')


class Resumed(Struct, gc=False):
    """The call's stream goes on here; ``request`` is the JSON of the client's request id, ``name`` and ``listed`` the
    URI of a resource at its upstream and here, where these differ."""

    request: bytes
    name: str = ""
    listed: str = ""


class Answered(Struct, gc=False):
    """The upstream's answer: JSON of ``result`` or ``error``; large ones come as a stream."""

    is_error: bool
    body: bytes
    stream: BodyStream | None = None


class Failure(Struct, gc=False):
    """The call failed on the way; ``delivered`` False: certainly not sent."""

    code: str
    message: str
    delivered: bool
    data: dict[str, str]


class Silent(Struct, gc=False):
    """Nothing came for a while; the door may want to show a sign of life."""


Event = Interim | Answered | Failure | Silent | Resumed
SILENT = Silent()


class Told(Protocol):
    """A client session: ``told`` has a bit for each worker that has heard of it, so that a call looks at no table."""

    told: int


_bits: set[int] = set()
"""Those in use by links that are up."""


def _take_bit() -> int:
    bit = 1
    while bit in _bits:
        bit <<= 1
    _bits.add(bit)
    return bit


class Nowhere:
    """Stands in for the replica of a call that was routed by another front end."""

    id = ""
    in_flight = 0


class Caller(Protocol):
    """Who made calls: those under way, by the client's own request ids; ``None`` while there are none."""

    under_way: dict[bytes, InFlight] | None


class InFlight:
    """One call under way. ``started_at`` is loop time."""

    __slots__ = (
        "_events",
        "_waiter",
        "_waiting_bytes",
        "client",
        "done",
        "dropped",
        "hushed_at",
        "listener",
        "modern",
        "number",
        "readdress",
        "registered",
        "replica",
        "started_at",
        "unwanted",
    )

    def __init__(self, client: WorkerClient, number: int, replica: Replica | Nowhere, started_at: float) -> None:
        self.client = client
        self.number = number
        self.replica = replica
        self.started_at = started_at
        self.done = False
        self.unwanted = False
        self.dropped = 0  # notifications that the client will never see
        self.hushed_at = started_at
        self.modern = False
        self.listener: Callable[[], None] | None = None  # hears of events, instead of somebody who awaits ``next``
        self.readdress: Callable[[bytes], bytes] | None = None  # what the door does to the result
        self.registered: tuple[Caller, bytes] | None = None
        self._events: deque[Event] = deque()
        self._waiter: asyncio.Future[None] | None = None
        self._waiting_bytes = 0

    def push(self, event: Event) -> None:
        """An event arrived."""
        self._events.append(event)
        if type(event) is Interim:
            self._waiting_bytes += len(event.message) + _EVENT_BYTES
            if self._waiting_bytes > _MAX_WAITING_BYTES:
                self._make_room(event)
        if self.listener is not None:
            self.listener()
            return
        waiter = self._waiter
        if waiter is not None and not waiter.done():
            waiter.set_result(None)

    def _make_room(self, newest: Interim) -> None:
        """Drop the older half of what is only told."""
        kept: deque[Event] = deque()
        for event in self._events:
            told = type(event) is Interim and event is not newest and not event.asks
            if told and self._waiting_bytes > _MAX_WAITING_BYTES // 2:
                self._waiting_bytes -= len(event.message) + _EVENT_BYTES  # type: ignore[union-attr]
                self.dropped += 1
            else:
                kept.append(event)
        self._events = kept

    def finish(self, event: Event) -> None:
        """The last event."""
        if not self.done:
            self.done = True
            self.replica.in_flight -= 1
            if self.registered is not None:
                caller, id = self.registered
                calls = caller.under_way
                if calls is not None and calls.get(id) is self:
                    del calls[id]
                    if not calls:
                        caller.under_way = None
            self.push(event)

    def register(self, caller: Caller, id: bytes) -> None:
        """Be found at ``caller`` under the client's own request id, until the call is over."""
        if self.done:
            return
        if caller.under_way is None:
            caller.under_way = {id: self}
        else:
            caller.under_way[id] = self
        self.registered = (caller, id)

    async def next(self) -> Event:
        """The next event."""
        while not self._events:
            self._waiter = self.client.loop.create_future()
            await self._waiter
        event = self._events.popleft()
        if type(event) is Interim:
            self._waiting_bytes -= len(event.message) + _EVENT_BYTES
        return event

    @property
    def first(self) -> Event:
        """The oldest event that nobody has taken."""
        return self._events[0]

    def drop_first(self) -> None:
        """It was taken (for whole answers: no interim message is taken this way)."""
        self._events.popleft()

    def hush(self, now: float) -> None:
        """Wake the waiter without news, so that it can show a sign of life."""
        self.hushed_at = now
        if self.listener is not None:
            self.push(SILENT)
            return
        if not self._events and self._waiter is not None and not self._waiter.done():
            self._events.append(SILENT)
            self._waiter.set_result(None)

    def detach(self) -> None:
        """The client may come back for what is said from now on, here or elsewhere."""
        self.client.detach(self.number)

    def leave(self) -> None:
        """The client left, but its call runs on (handshake era): its answer is of no use here any more."""
        self.unwanted = True
        self.detach()
        for event in self._events:
            if isinstance(event, Answered) and event.stream is not None:
                self.client.refuse_body(self)

    def cancel(self, reason: str) -> None:
        """The client gave up: tell the worker, forget the rest."""
        self.client.cancel(self, reason)


class WorkerClient:
    """See the module. ``on_closed(self)`` is called once when the link is gone."""

    def __init__(
        self,
        worker: str,
        frontend: str,
        key: FleetKey,
        ping_s: float,
        on_closed: Callable[[WorkerClient], None],
    ) -> None:
        self.worker = worker
        self.loop = asyncio.get_running_loop()
        self.ready = False
        self.draining = False
        self.calls: dict[int, InFlight] = {}
        self._frontend = frontend
        self._key = key
        self._ping_s = ping_s
        self._on_closed = on_closed
        self._link: Link | None = None
        self._last_call = 0
        self._announced: dict[str, Told | None] = {}
        self._bit = 0
        self._watching: dict[int, asyncio.Future[bytes | None]] = {}
        self._last_watch = 0
        self.on_updated: Callable[[str, str, str, bytes], None] = lambda upstream, uri, sid, params: None
        self.on_aside: Callable[[str, bytes, int], None] = lambda sid, message, dropped: None
        self.has_stream: Callable[[str], bool] = lambda sid: False
        self._ping = 0
        self._pong = 0
        self._ready_waiter: asyncio.Future[None] = self.loop.create_future()

    @property
    def frontend(self) -> str:
        """Who we are to the worker."""
        return self._frontend

    @property
    def writing(self) -> bool:
        """Whether something leaves for this worker in this tick anyway."""
        return self._link is not None and self._link.scheduled

    # ---- calls

    def call(
        self,
        replica: Replica,
        head: rpc.Call,
        params: bytes | memoryview,
        session: Told | None,
        facts: Callable[[Any], rpc.OpenSession],
    ) -> InFlight:
        """Send a call (numbering ``head``); facts of its session go first where this worker has not heard them."""
        link = self._link
        assert link is not None
        if session is not None and not session.told & self._bit:
            self._announce(facts(session))
            self._announced[head.session] = session
            session.told |= self._bit
        self._last_call += 1
        head.call = self._last_call
        in_flight = InFlight(self, head.call, replica, self.loop.time())
        self.calls[head.call] = in_flight
        replica.in_flight += 1
        link.send(head, params)
        return in_flight

    async def watch(self, upstream: str, uri: str, session: rpc.OpenSession | None, timeout_s: float) -> bytes | None:
        """Have a resource watched; ``None``, or the JSON of the error. Raises ``TimeoutError``, ``ConnectionError``."""
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
        """Nobody here wants to hear of it any more."""
        if self._link is not None:
            self._link.send(rpc.Watch(0, upstream, uri, sid, on=False))

    def announce_again(self, session: rpc.OpenSession) -> None:
        """Send a session's facts again, if this worker has heard of it."""
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
        """Stop a call."""
        if self.calls.pop(in_flight.number, None) is not None or not in_flight.done:
            in_flight.finish(Failure("cancelled", reason, False, {}))
        if self._link is not None:
            self._link.abandon(in_flight.number)
            self._link.send(rpc.Cancel(in_flight.number, reason))

    def detach(self, number: int) -> None:
        """Let the worker keep what comes for a call."""
        if self._link is not None:
            self._link.send(rpc.Detach(number))

    def resume(self, sid: str, frontend: str, before: int, sequence: int) -> InFlight:
        """Go on with a call that ``frontend`` knew as ``before``; its first event is ``Resumed`` or a ``Failure``."""
        self._last_call += 1
        in_flight = InFlight(self, self._last_call, Nowhere(), self.loop.time())
        self.calls[self._last_call] = in_flight
        if self._link is not None:
            self._link.send(rpc.Resume(self._last_call, sid, frontend, before, sequence))
        return in_flight

    def roots_changed(self, sid: str) -> None:
        """A session's roots changed."""
        if sid in self._announced and self._link is not None:
            self._link.send(rpc.RootsChanged(sid))

    def cancel_request(self, sid: str, request: bytes) -> None:
        """A session cancelled a request that another front end may have sent."""
        if self._link is not None:
            self._link.send(rpc.CancelRequest(sid, request))

    def refuse_body(self, in_flight: InFlight) -> None:
        """Nobody reads the large answer of this call: the worker need not keep it."""
        if self._link is not None:
            self._link.abandon(in_flight.number)
            self._link.send(rpc.Cancel(in_flight.number, "nobody reads the answer"))

    def reply(self, ask: str, sid: str, is_error: bool, raw: bytes) -> None:
        """A client answers what an upstream of this worker asked it."""
        if self._link is not None and len(ask) <= jsonrpc.MAX_ID:
            self._link.send(rpc.Reply(ask, sid, is_error), raw)

    def news(self, ask: str, sid: str, progress: bytes) -> None:
        """A question of this worker is before its client; or the client tells how far it is with the answer."""
        if self._link is not None and len(progress) <= CHUNK and len(ask) <= jsonrpc.MAX_ID:
            self._link.send(rpc.AskNews(ask, sid), progress)

    def notify(self, upstream: str, session: rpc.OpenSession, message: bytes) -> None:
        """A notification of a client for an upstream of this worker."""
        if self._link is not None:
            self._announce(session)
            self._link.send(rpc.Notice(upstream, session.session), message)

    def forget_session(self, sid: str, over: bool = True) -> None:
        """A client session ended (``over``), or is not used here any more."""
        if sid in self._announced and self._link is not None:
            session = self._announced.pop(sid)
            if session is not None:
                session.told &= ~self._bit
            self._link.send(rpc.EndSession(sid, over))

    # ---- shared.rpc.connection.Peer

    def on_connected(self, link: Link) -> None:
        self._link = link
        self._bit = _take_bit()

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
                in_flight.push(Resumed(head.request, head.name, head.listed))
        elif kind is rpc.Updated:
            assert isinstance(head, rpc.Updated)
            self.on_updated(head.upstream, head.uri, head.session, body)
        elif kind is rpc.Alive:
            if self.has_stream(head.session):  # type: ignore[union-attr]
                link.send(head)
        elif kind is rpc.Aside:
            assert isinstance(head, rpc.Aside)
            self.on_aside(head.session, body, head.dropped)
        elif kind is rpc.Watched:
            assert isinstance(head, rpc.Watched)
            answer = self._watching.get(head.number)
            if answer is not None and not answer.done():
                answer.set_result(None if head.agreed else body)
        elif kind is rpc.Pong:
            self._pong = head.number  # type: ignore[union-attr]
        elif kind is rpc.Challenge:
            assert isinstance(head, rpc.Challenge)
            link.send(rpc.Hello(self._frontend, self._key.proof(head.nonce)))
        elif kind is rpc.Welcome:
            self.ready = True
            if not self._ready_waiter.done():
                self._ready_waiter.set_result(None)
        elif kind is rpc.GoAway:
            assert isinstance(head, rpc.GoAway)
            self.draining = True
            for number in [number for number in self.calls if number > head.last_call]:
                self.calls.pop(number).finish(Failure("not_delivered", "the worker is shutting down", False, {}))

    def stream_body(self, link: Link, head: rpc.Head, stream: BodyStream) -> bool:
        """Large answers go to the client as they come, so that a slow client stalls only itself."""
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
                session.told &= ~self._bit
        self._announced.clear()
        _bits.discard(self._bit)
        if not self._ready_waiter.done():
            self._ready_waiter.set_exception(ConnectionError("the worker refused or closed the link"))
            self._ready_waiter.exception()
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

    async def wait_ready(self) -> None:
        """Until the link may carry calls. Raises ``ConnectionError``."""
        await self._ready_waiter

    async def keep_checking(self) -> None:
        """Ping; two unanswered pings end the link (the worker is stopped or its loop hangs)."""
        while self._link is not None and not self._link.closed:
            if self._ping - self._pong >= 2:
                _log.warning("worker %s does not answer; dropping its link", self.worker)
                self._link.abort()
                return
            self._ping += 1
            self._link.send(rpc.Ping(self._ping))
            await asyncio.sleep(self._ping_s)

    def close(self) -> None:
        """End the link."""
        if self._link is not None:
            self._link.close()
