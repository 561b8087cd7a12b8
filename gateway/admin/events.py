"""What happened in the fleet lately, and who follows it: upstreams that changed, processes that came or went.

Each front end finds that out for itself, by comparing its copy of the registry with what it was. So all of them tell
the same, but each with its own numbers; a follower that comes back to another front end gets what is recent there.
"""

from __future__ import annotations

import asyncio
import itertools
from collections import deque
from collections.abc import AsyncIterator, Callable, Mapping

from gateway.admin.schemas import Event
from gateway.fleet.registry_view import RegistryView
from gateway.routing.pinning import Differing
from shared.choices import Duty, Pin
from shared.errors import RegistryUnavailable
from shared.models import ServerStatus, now_s
from shared.registry.members import Members
from shared.registry.records import UpstreamRecord

_KEPT = 500
_WAITING = 1000
"""Events that wait for a follower that reads slowly; further ones are dropped, and it is told how many."""
MOST_FOLLOWERS = 100
_LOOK_S = 1.0
_IDLE_S = 60.0
_MEMBERS_S = 10.0
"""How often the members are read from Redis, to find those that were killed: nobody announces their end."""
_WORDS = 300
_SHOWN = 10
PinNews = Callable[[UpstreamRecord, str, list[str]], None]
"""Takes an upstream, the kind of an event, and the tools of a pinned upstream that it is about, with what they are."""


class Follower:
    """One who follows: ``queue`` has what it has not taken yet."""

    def __init__(self) -> None:
        self.queue: asyncio.Queue[Event] = asyncio.Queue(_WAITING)
        self.dropped = 0

    def tell(self, event: Event) -> None:
        """Queue an event, or count it as dropped."""
        try:
            self.queue.put_nowait(event)
        except asyncio.QueueFull:
            self.dropped += 1


class EventLog:
    """The last events, at most ``_KEPT``."""

    def __init__(
        self, registry: RegistryView, frontends: Members, workers: Members, on_pins: PinNews | None = None
    ) -> None:
        self._registry = registry
        self._on_pins = on_pins
        self._differing: Mapping[str, Differing] = {}
        self._members: Mapping[str, Members] = {"frontend": frontends, "worker": workers}
        self._alive: dict[str, dict[str, dict[str, str]]] = {}
        self._records: dict[str, UpstreamRecord] = {}
        self._redis = True
        self._kept: deque[Event] = deque(maxlen=_KEPT)
        self._numbers = itertools.count(1)
        self._followers: set[Follower] = set()
        self._look_at_members = asyncio.Event()

    def recent(self, after: int = 0) -> list[Event]:
        """Return the events that are kept and newer than number ``after``, the oldest first.

        A number that was not given yet is that of another front end, or of an earlier process: then all are returned.
        """
        if not self._kept or after > self._kept[-1].sequence:
            after = 0
        return [event for event in self._kept if event.sequence > after]

    def follow(self) -> Follower | None:
        """Return a new follower, or ``None`` if there are too many. ``leave`` ends it."""
        if len(self._followers) >= MOST_FOLLOWERS:
            return None
        follower = Follower()
        self._followers.add(follower)
        return follower

    def leave(self, follower: Follower) -> None:
        """Tell a follower no more."""
        self._followers.discard(follower)

    def note(self, kind: str, id: str, text: str = "", group: str = "") -> None:
        """Note that something happened to what has this ``id``."""
        event = Event(next(self._numbers), now_s(), kind, id[:_WORDS], text[:_WORDS], group)
        self._kept.append(event)
        for follower in list(self._followers):
            follower.tell(event)

    def restarted(self, id: str) -> None:
        """Note that somebody asked to have an upstream started anew."""
        record = self._registry.records.get(id)
        if record is not None:
            self.note("upstream-restart", id, "somebody asked for it", record.spec.name)

    def members_changed(self) -> None:
        """Look which processes there are, because one joined or left."""
        self._look_at_members.set()

    async def run(self) -> None:
        """Note what happens, until cancelled."""
        self._records = self._registry.records
        self._compare_pins()
        await self._read_members(first=True)
        await asyncio.gather(self._watch_registry(), self._watch_members())

    async def _watch_registry(self) -> None:
        while True:
            await self._registry.wait_change(_IDLE_S)
            if self._registry.available != self._redis:
                self._redis = self._registry.available
                self.note("redis", "redis", "answers again" if self._redis else "does not answer; served from memory")
            if self._registry.records is not self._records:
                before, self._records = self._records, self._registry.records
                self._compare(before, self._records)
                self._compare_pins()

    def _compare(self, before: Mapping[str, UpstreamRecord], now: Mapping[str, UpstreamRecord]) -> None:
        for id, record in now.items():
            old, group = before.get(id), record.spec.name
            if old is record:
                continue
            if old is None:
                self.note("upstream-added", id, record.spec.transport, group)
            # One that has gone on since it was registered, before it was seen here, tells that as well.
            if record.status is not (old.status if old is not None else ServerStatus.REGISTERED):
                why = f": {record.error}" if record.error and record.status.value != "connected" else ""
                self.note("upstream-status", id, f"{record.status.value}{why}", group)
            if record.duty is not (old.duty if old is not None else Duty.ACTIVE):
                self.note("upstream-duty", id, f"{record.duty.value} now", group)
            if old is not None and old.spec != record.spec:
                self.note("upstream-changed", id, "its entry was changed", group)
            if old is not None and old.catalog.digest and old.catalog.digest != record.catalog.digest:
                self.note("upstream-lists", id, "lists something else now", group)
        for id, old in before.items():
            if id not in now:
                self.note("upstream-removed", id, "", old.spec.name)

    def _compare_pins(self) -> None:
        """Note which tools of pinned upstreams are no longer as they were approved, or are again."""
        before, self._differing = self._differing, dict(self._registry.catalog.pinning.differing)
        for id in {**before, **self._differing}:
            record, was, now = self._records.get(id), before.get(id, {}), self._differing.get(id, {})
            if record is None or was == now:
                continue
            word = "tool-quarantined" if record.spec.pin is Pin.BLOCK else "tool-changed"
            self._note_pins(record, word, [f"{name} ({what})" for name, what in now.items() if was.get(name) != what])
            self._note_pins(record, "tool-released", [name for name in was if name not in now])

    def _note_pins(self, record: UpstreamRecord, kind: str, tools: list[str]) -> None:
        if not tools:
            return
        more = f" and {len(tools) - _SHOWN} more" if len(tools) > _SHOWN else ""
        self.note(kind, record.spec.id, ", ".join(tools[:_SHOWN]) + more, record.spec.name)
        if self._on_pins is not None:
            self._on_pins(record, kind, tools)

    async def _watch_members(self) -> None:
        while True:
            self._look_at_members.clear()
            try:
                async with asyncio.timeout(_MEMBERS_S):
                    await self._look_at_members.wait()
            except TimeoutError:
                pass
            await self._read_members()

    async def _read_members(self, first: bool = False) -> None:
        for kind, members in self._members.items():
            try:
                now = await members.alive()
            except RegistryUnavailable:
                continue
            before = self._alive.get(kind, {})
            self._alive[kind] = now
            if first or not before:
                continue
            for id in now.keys() - before.keys():
                self.note(f"{kind}-joined", id, f"pid {now[id].get('pid')} on {now[id].get('host')}")
            for id in before.keys() - now.keys():
                self.note(f"{kind}-left", id, f"pid {before[id].get('pid')} on {before[id].get('host')}")


async def told(follower: Follower, silence_s: float, over: Callable[[], bool]) -> AsyncIterator[Event | None]:
    """Yield the events of a follower, ``None`` after ``silence_s`` without one, and end once ``over`` is true."""
    loop = asyncio.get_running_loop()
    silent_until = loop.time() + silence_s
    while not over():
        try:
            async with asyncio.timeout(_LOOK_S):
                event = await follower.queue.get()
            if over():
                return
            yield event
        except TimeoutError:
            if loop.time() < silent_until:
                continue
            yield None
        silent_until = loop.time() + silence_s
