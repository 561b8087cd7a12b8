"""One call under way on a link: events arrive in order (interim messages, then one ``Answered`` or ``Failure``)."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from typing import TYPE_CHECKING, Protocol

from msgspec import Struct

from gateway.routing.catalog import Replica
from shared.rpc.connection import BodyStream

if TYPE_CHECKING:
    from gateway.fleet.worker_link import WorkerLink

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


class Nowhere:
    """Stands in for the replica of a call that was routed by another front end."""

    id = ""
    in_flight = 0


class Caller(Protocol):
    """A client session: its calls under way by the client's own request ids (``None``: there are none), and a bit in
    ``told`` for each worker that has heard of it, so that a call looks at no table."""

    under_way: dict[bytes, InFlight] | None
    told: int


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
        "standing",
        "started_at",
        "unwanted",
    )

    def __init__(self, client: WorkerLink, number: int, replica: Replica | Nowhere, started_at: float) -> None:
        self.client = client
        self.number = number
        self.replica = replica
        self.started_at = started_at
        self.done = False
        self.unwanted = False
        self.standing = False  # it has no end, and is no load
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
            if self.standing:
                self.client.standing -= 1
            else:
                self.replica.in_flight -= 1
            if self.registered is not None:
                caller, id = self.registered
                calls = caller.under_way
                if calls is not None and calls.get(id) is self:
                    del calls[id]
                    if not calls:
                        caller.under_way = None
            self.push(event)

    def stand(self) -> None:
        """It has no end (a listen): it does not count as a call in flight."""
        if not self.done:
            self.standing = True
            self.client.standing += 1
            self.replica.in_flight -= 1

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
