"""One call under way on a link: its events in order, and the ways in which its client may end it early.

The link (``fleet.worker_link``) adds events; the request of the client takes them.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from typing import Protocol

from gateway.calls.events import SILENT, Answered, CallEvent, Interim
from gateway.routing.routes import Replica
from gateway.telemetry.observer import ObservedCall

_MAX_WAITING_BYTES = 2 * 1024 * 1024
"""Interim messages kept for a client that reads slowly; older ones are dropped first. More than what workers keep of a
call, so that a resumed stream is whole."""
_EVENT_BYTES = 64
"""About how much an event takes in addition to its message."""


class NoReplica:
    """Stands in for the replica of a call that another front end routed."""

    id = ""
    in_flight = 0
    watch = None


class SessionCalls(Protocol):
    """What a link needs of a client session.

    ``under_way`` has the session's calls under way by the client's own request ids, or is ``None`` without calls.
    ``announced_to`` has a bit for each worker that knows the session, so that a call needs no table lookup.
    """

    under_way: dict[bytes, InFlight] | None
    announced_to: int


class Hedged(Protocol):
    """What sends a late call to a second replica too (``fleet.hedging``)."""

    def call_off(self) -> None:
        """Ask nobody else, and no longer two: the upstream shows life, or the client ends the call."""

    def answered(self, now: float) -> float:
        """Note the answer. Return when the replica that gave it was asked (loop time)."""


class CallLink(Protocol):
    """The link that carries a call (``fleet.worker_link``). ``ready``: until its connection is gone."""

    worker: str
    ready: bool
    frontend: str
    loop: asyncio.AbstractEventLoop
    standing: int
    calls: dict[int, InFlight]

    def cancel(self, in_flight: InFlight, reason: str) -> None:
        """Cancel a call; the upstream may see ``reason``."""

    def detach(self, number: int) -> None:
        """Have the worker keep what comes for a call from now on, because its client may resume it."""

    def refuse_body(self, in_flight: InFlight) -> None:
        """Have the worker drop the large answer of a call, because nobody reads it."""


class InFlight:
    """One call under way. ``started_at`` is the loop time of this attempt."""

    __slots__ = (
        "_events",
        "_waiter",
        "_waiting_bytes",
        "asked",
        "call",
        "done",
        "dropped",
        "link",
        "listener",
        "modern",
        "number",
        "race",
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
        self.asked = False  # the upstream asked the client, so the time to the answer is the client's too
        self.standing = False  # the call has no end (a listen), and does not count as load
        self.dropped = 0  # notifications that were dropped, and not yet reported to the client
        self.shown_alive_at = started_at
        self.listener: Callable[[], None] | None = None  # called for each event, where no task awaits ``next``
        self.registered: tuple[SessionCalls, bytes] | None = None
        self.race: Hedged | None = None  # where the call may be sent to a second replica too
        self._events: deque[CallEvent] = deque()
        self._waiter: asyncio.Future[None] | None = None
        self._waiting_bytes = 0

    # ---- what comes

    def push(self, event: CallEvent) -> None:
        """Queue an event that arrived, and wake the reader."""
        self._events.append(event)
        if type(event) is Interim:
            self.asked = self.asked or event.asks
            self._waiting_bytes += len(event.message) + _EVENT_BYTES
            if self.race is not None:
                self.race.call_off()
            if self._waiting_bytes > _MAX_WAITING_BYTES:
                self._make_room(event)
        if self.listener is not None:
            self.listener()
            return
        waiter = self._waiter
        if waiter is not None and not waiter.done():
            waiter.set_result(None)

    def _make_room(self, newest: Interim) -> None:
        """Drop the oldest notifications until half of the room is free. Questions and ``newest`` are kept."""
        kept: deque[CallEvent] = deque()
        for event in self._events:
            told = type(event) is Interim and event is not newest and not event.asks
            if told and self._waiting_bytes > _MAX_WAITING_BYTES // 2:
                self._waiting_bytes -= len(event.message) + _EVENT_BYTES  # type: ignore[union-attr]
                self.dropped += 1
            else:
                kept.append(event)
        self._events = kept

    def finish(self, event: CallEvent) -> None:
        """Queue the last event, and count the call no longer as under way. A second time does nothing."""
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
        """Count this call no longer as load, because it has no end (a listen)."""
        if not self.done:
            self.standing = True
            self.link.standing += 1
            self.replica.in_flight -= 1

    def register(self, session: SessionCalls, id: bytes) -> None:
        """Enter this call in ``session`` under the client's own request id, until the call is over."""
        if self.done:
            return
        if session.under_way is None:
            session.under_way = {id: self}
        else:
            session.under_way[id] = self
        self.registered = (session, id)

    # ---- the reader

    async def next(self) -> CallEvent:
        """Wait for the next event, and return it."""
        while not self._events:
            self._waiter = self.link.loop.create_future()
            await self._waiter
        event = self._events.popleft()
        if type(event) is Interim:
            self._waiting_bytes -= len(event.message) + _EVENT_BYTES
        return event

    @property
    def first(self) -> CallEvent:
        """The oldest event that was not taken yet."""
        return self._events[0]

    def drop_first(self) -> None:
        """Remove the oldest event, which must be an answer: the bytes of interim messages are not counted down here."""
        self._events.popleft()

    def show_life(self, now: float) -> None:
        """Give a reader that has no event ``SILENT``, so that a sign of life is shown. ``now`` is loop time."""
        self.shown_alive_at = now
        if self.listener is not None:
            self.push(SILENT)
            return
        if not self._events and self._waiter is not None and not self._waiter.done():
            self._events.append(SILENT)
            self._waiter.set_result(None)

    # ---- the client ends the call

    def detach(self) -> None:
        """Have the worker keep what comes from now on, so that the client can resume the call at any front end."""
        if self.race is not None:
            self.race.call_off()
        self.link.detach(self.number)

    def client_left(self, reason: str) -> None:
        """Note that the client closed the response.

        In the modern era that cancels the call (2026-07-28, Cancellation). In the handshake era the call runs on, and
        the worker keeps its answer for a client that resumes.
        """
        if self.modern:
            self.cancel(reason)
            return
        self.unwanted = True
        self.detach()
        for event in self._events:
            if isinstance(event, Answered) and event.stream is not None:
                self.link.refuse_body(self)

    def cancel(self, reason: str) -> None:
        """Cancel the call; the upstream may see ``reason``."""
        if self.race is not None:
            self.race.call_off()
        self.link.cancel(self, reason)

    def refuse_body(self) -> None:
        """Have the worker drop the large answer, because nobody reads it."""
        self.link.refuse_body(self)
