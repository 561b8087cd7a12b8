"""One call under way on a link: its events in order, and the ways in which its client may end it early."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from typing import Protocol

from gateway.calls.events import SILENT, Answered, Event, Interim
from gateway.routing.routes import Replica
from gateway.telemetry.observer import ObservedCall

_MAX_WAITING_BYTES = 2 * 1024 * 1024
"""Interim messages kept for a client that reads slowly; older ones are dropped first. More than what workers keep of a
call, so that a resumed stream is whole."""
_EVENT_BYTES = 64
"""What an event takes beside its message, about."""


class NoReplica:
    """Stands in for the replica of a call that another front end routed."""

    id = ""
    in_flight = 0


class SessionCalls(Protocol):
    """A client session: its calls under way by the client's own request ids (``None`` without calls), and a bit in
    ``announced_to`` for each worker that has heard of the session, so that a call looks at no table."""

    under_way: dict[bytes, InFlight] | None
    announced_to: int


class CallLink(Protocol):
    """The link that carries a call (``fleet.worker_link``)."""

    worker: str
    frontend: str
    loop: asyncio.AbstractEventLoop
    standing: int

    def cancel(self, in_flight: InFlight, reason: str) -> None:
        """Stop a call."""

    def detach(self, number: int) -> None:
        """Let the worker keep what comes for a call."""

    def refuse_body(self, in_flight: InFlight) -> None:
        """Let the worker drop the large answer of a call that nobody reads."""


class InFlight:
    """One call under way. ``started_at`` is the loop time of this attempt."""

    __slots__ = (
        "_events",
        "_waiter",
        "_waiting_bytes",
        "call",
        "done",
        "dropped",
        "link",
        "listener",
        "modern",
        "number",
        "readdress",
        "registered",
        "replica",
        "shown_alive_at",
        "standing",
        "started_at",
        "unwanted",
    )

    def __init__(
        self,
        link: CallLink,
        number: int,
        replica: Replica | NoReplica,
        started_at: float,
        call: ObservedCall,
        modern: bool = False,
    ) -> None:
        self.link = link
        self.number = number
        self.replica = replica
        self.started_at = started_at
        self.call = call
        self.modern = modern
        self.done = False
        self.unwanted = False
        self.standing = False  # it has no end, and is no load
        self.dropped = 0  # notifications that the client will never see
        self.shown_alive_at = started_at
        self.listener: Callable[[], None] | None = None  # hears of events, instead of somebody who awaits ``next``
        self.readdress: Callable[[bytes], bytes] | None = None  # applied to the result
        self.registered: tuple[SessionCalls, bytes] | None = None
        self._events: deque[Event] = deque()
        self._waiter: asyncio.Future[None] | None = None
        self._waiting_bytes = 0

    # ---- what comes

    def push(self, event: Event) -> None:
        """Take an event that arrived."""
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
        """Drop the older half of the notifications."""
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
        """Take the last event."""
        if not self.done:
            self.done = True
            if self.standing:
                self.link.standing -= 1
            else:
                self.replica.in_flight -= 1
            if self.registered is not None:
                session, id = self.registered
                calls = session.under_way
                if calls is not None and calls.get(id) is self:
                    del calls[id]
                    if not calls:
                        session.under_way = None
            self.push(event)

    def stand(self) -> None:
        """Count this call no longer as a load: it has no end (a listen)."""
        if not self.done:
            self.standing = True
            self.link.standing += 1
            self.replica.in_flight -= 1

    def register(self, session: SessionCalls, id: bytes) -> None:
        """Let ``session`` find this call under the client's own request id, until the call is over."""
        if self.done:
            return
        if session.under_way is None:
            session.under_way = {id: self}
        else:
            session.under_way[id] = self
        self.registered = (session, id)

    # ---- who waits

    async def next(self) -> Event:
        """Return the next event."""
        while not self._events:
            self._waiter = self.link.loop.create_future()
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
        """Remove the oldest event, a whole answer (no interim message is taken this way)."""
        self._events.popleft()

    def show_life(self, now: float) -> None:
        """Wake whoever waits without news, so that a sign of life can be shown."""
        self.shown_alive_at = now
        if self.listener is not None:
            self.push(SILENT)
            return
        if not self._events and self._waiter is not None and not self._waiter.done():
            self._events.append(SILENT)
            self._waiter.set_result(None)

    # ---- how the client ends it

    def detach(self) -> None:
        """Let the client come back for what is said from now on, here or elsewhere."""
        self.link.detach(self.number)

    def client_left(self, reason: str) -> None:
        """The client closed the response. That cancels the call in the modern era (2026-07-28, Cancellation); in the
        handshake era the call runs on, and only its answer is of no use here any more."""
        if self.modern:
            self.cancel(reason)
            return
        self.unwanted = True
        self.detach()
        for event in self._events:
            if isinstance(event, Answered) and event.stream is not None:
                self.link.refuse_body(self)

    def cancel(self, reason: str) -> None:
        """Stop the call: the client gave up."""
        self.link.cancel(self, reason)

    def refuse_body(self) -> None:
        """Let the worker drop the large answer, which nobody reads."""
        self.link.refuse_body(self)
