"""Standing streams: a session's GET stream, an HTTP+SSE connection, a modern ``subscriptions/listen``.

Each has a bounded queue (``doors.standing``). Messages for a stream that another front end holds go through the
session's outbox in Redis (``doors.outbox``); a wake-up tells the holder. Broadcasts never wait for a writer.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from typing import Any

import orjson
from aiohttp import web
from msgspec import Raw

from gateway.http.responses import EventStream, problem
from gateway.sessions.table import ClientSession, SessionTable
from gateway.streams.outbox import EVERYONE, KEPT_MS, Outbox, is_place
from gateway.streams.standing_stream import StandingStream
from gateway.streams.subscriptions import StreamSubscriptions
from shared.errors import NotDelivered, Refused, RegistryUnavailable
from shared.mcp import jsonrpc
from shared.mcp.jsonrpc import Message
from shared.mcp.listings import CHANGES
from shared.mcp.methods import (
    ACKNOWLEDGED,
    LISTS_IN_FILTER,
    RESOURCES_IN_FILTER,
    SUBSCRIPTION_META,
)
from shared.mcp.versions import at_least
from shared.registry.store import RegistryStore
from shared.rpc.framing import too_long
from shared.settings import SessionSettings
from shared.tasks import spawn

_log = logging.getLogger(__name__)
LEGACY_CHANGES = {method: jsonrpc.notification(method) for method in CHANGES}
"""Every legacy standing stream hears of all three kinds of lists."""
_LEAVE_AGAIN_S = 0.5
_MAX_LEFT_BYTES = 128 * 1024 * 1024
"""What waits in Redis for the holder of an HTTP+SSE stream: two of the largest answers."""
_STRING_ID = b'{"jsonrpc":"2.0","id":"'
"""How questions of upstreams begin (and answers to some clients): workers give them ids that are strings."""
_METHOD_NEXT = b'","method":'


class StandingStreams:
    """All standing streams of this front end."""

    def __init__(
        self,
        store: RegistryStore,
        frontend: str,
        interests: StreamSubscriptions,
        sessions: SessionTable,
        settings: SessionSettings,
    ) -> None:
        self._sessions = sessions
        self._interests = interests
        self._frontend = frontend
        self._settings = settings
        self._by_session: dict[str, StandingStream] = {}
        self._open: set[StandingStream] = set()
        self._outbox = Outbox(store, frontend)
        self.draining = False
        self.available: Callable[[], bool] = lambda: True  # whether Redis answers
        self.on_question: Callable[[str, str], None] = lambda ask, sid: None  # it is on an open stream of its client
        self.place: Callable[[], tuple[str, int]] = lambda: ("", 0)
        self._announced = 0  # the last change that streams were told of
        self._began = 0
        self._changed: dict[str, int] = {}
        self.hints: dict[str, Callable[[str, str, str], None]] = {
            "subscribed": interests.hint,
            "unsubscribed": interests.hint,
        }
        interests.stream_of = self._by_session.get
        interests.tell_everyone = self.tell_soon

    # ---- opening

    def attach(self, sid: str, changes: dict[str, bytes], tag: bytes = b"") -> StandingStream:
        """A new stream. One a session, the newest wins. Raises ``NotDelivered`` at the limit."""
        if len(self._open) >= self._settings.max_streams or self.draining:
            raise NotDelivered("overloaded", f"{len(self._open)} standing streams are open here (maxStreams)")
        stream = StandingStream(sid, self._settings.stream_buffer, changes, tag)
        if sid:
            older = self._by_session.get(sid)
            if older is not None:
                older.close()
            self._by_session[sid] = stream
        self._open.add(stream)
        return stream

    def detach(self, stream: StandingStream) -> None:
        """It is gone."""
        stream.gone = True
        self._open.discard(stream)
        self._interests.detach(stream)
        if self._by_session.get(stream.sid) is stream:
            del self._by_session[stream.sid]

    async def standing_get(
        self, request: web.BaseRequest, session: ClientSession, last_id: str = ""
    ) -> web.StreamResponse:
        """The GET stream of a Streamable HTTP session; with ``last_id`` it goes on where another one ended."""
        try:
            stream = self.attach(session.sid, LEGACY_CHANGES)
        except NotDelivered as error:
            return problem(error, status=503)
        stream.resumable = stream.collecting = True  # nothing is taken for it until it is known from where
        try:
            again = await self._take_over(session)
            stream.hears_warnings = lambda: session.hears_warnings
            spawn(self._interests.attach(stream, session, again), "attach-subscriptions")
            events = EventStream({"Mcp-Session-Id": session.sid})
            await events.open(request)
            stream.position = stream.written = _place_in(last_id) or await self._begin(session.sid)
            stream.collecting = False
            await self.collect(session.sid)
            if last_id:
                stream.announce(self._missed(last_id))
            elif at_least(session.version, "2025-11-25"):
                await events.prime(self._event_id(stream), int(self._settings.stream_retry_s * 1000))
            await stream.write_to(events, lambda: self._event_id(stream))
            return await events.end()
        finally:
            self.detach(stream)

    async def _begin(self, sid: str) -> str:
        try:
            return await self._outbox.begin(sid)
        except RegistryUnavailable:
            return ""

    async def _take_over(self, session: ClientSession) -> bool:
        """Another front end may hold an older stream of this session: the newest wins there too.

        Whether the session had a stream before.
        """
        before = await self._sessions.note(session, "holder", self._frontend)
        if before and before != self._frontend:
            await self._wake_up(before, f"close {session.sid}")
        before = before or session.holder
        session.holder = self._frontend
        return bool(before)

    async def _give_way(self, sid: str) -> None:
        """Another front end took over from a stream of the session here, which the client may have left since for a new
        one here: that one stays, also while it is only being opened."""
        stream = self._by_session.get(sid)
        if stream is None or not stream.written:
            return
        try:
            holder = await self._sessions.noted(sid, "holder")
        except RegistryUnavailable:
            return
        if holder != self._frontend:
            stream.close()
            # What was left meanwhile for the stream that was here woke nobody.
            await self._wake_up(holder, f"outbox {sid}")

    async def _wake_up(self, frontend: str, text: str) -> None:
        try:
            await self._outbox.wake(frontend, text)
        except RegistryUnavailable:
            pass

    async def listen(self, request: web.BaseRequest, message: Message, scope: str | None) -> web.StreamResponse:
        """``subscriptions/listen``: acknowledged first, tagged with its id, ended with a result."""
        wanted = _filter(message)
        tag = {SUBSCRIPTION_META: Raw(bytes(message.id))}
        honoured = {name: True for name in LISTS_IN_FILTER if wanted.get(name) == b"true"}
        tagged = jsonrpc.assemble({"_meta": tag})
        methods = [LISTS_IN_FILTER[name] for name in honoured]
        changes = {method: jsonrpc.notification(method, tagged) for method in methods}
        try:
            resources = orjson.loads(wanted.get(RESOURCES_IN_FILTER, b"null"))
        except orjson.JSONDecodeError as error:  # as JSON it was read before: it is nested too deeply for this reader
            raise Refused("invalid_params", f"params.notifications.{RESOURCES_IN_FILTER}: {error}") from error
        stream = self.attach("", changes, bytes(message.id))
        foreign = None
        try:
            foreign = self._interests.foreign(stream, wanted, message.params, scope)
            agreed: dict[str, Any] = dict(honoured)
            if isinstance(resources, list):
                uris = [uri for uri in resources if isinstance(uri, str) and not too_long(uri)]
                agreed[RESOURCES_IN_FILTER] = await self._interests.listen(stream, uris, scope)
            if foreign is not None:
                agreed.update(await foreign.agreed())
            events = EventStream()
            await events.open(request)
            acknowledged = jsonrpc.assemble({"_meta": tag, "notifications": agreed})
            await events.send(jsonrpc.notification(ACKNOWLEDGED, acknowledged))
            await stream.write_to(events)
            if not stream.cut:
                result = jsonrpc.assemble({"resultType": "complete", "_meta": tag})
                await events.send(jsonrpc.response(bytes(message.id), result))
            return await events.end()
        finally:
            self.detach(stream)
            if foreign is not None:
                await foreign.close()

    # ---- resuming: event ids are places in the log of changes and in the session's outbox: ``epoch.change.place``

    def _event_id(self, stream: StandingStream) -> str:
        epoch, _ = self.place()
        return f"{epoch}.{self._announced}.{stream.written}"

    def _missed(self, last_id: str) -> set[str]:
        """Which lists changed since the event with this id, on whichever front end it was written."""
        epoch, _, rest = last_id.partition(".")
        sequence = rest.partition(".")[0]
        if epoch != self.place()[0] or not sequence.isdecimal():
            return set(CHANGES)
        return {method for method in CHANGES if self._changed.get(method, self._began) > int(sequence[:15])}

    def begin(self) -> None:
        """The registry is loaded: what changed before is not known here."""
        self._began = self._announced = self.place()[1]

    # ---- what happens

    def announce(self, methods: set[str]) -> None:
        """Merged lists changed."""
        self._announced = self.place()[1]
        self._changed.update(dict.fromkeys(methods, self._announced))
        for stream in self._open:
            stream.announce(methods)

    def end_session(self, sid: str) -> None:
        """The session is over: so is its stream."""
        stream = self._by_session.get(sid)
        if stream is not None:
            stream.close()

    def has(self, sid: str) -> bool:
        """Whether the session's stream is held here."""
        return sid in self._by_session

    def reaches(self, session: ClientSession) -> bool:
        """Whether an answer to what comes now would find its way to the session's stream."""
        return session.sid in self._by_session or self.available()

    async def deliver(self, session: ClientSession, message: bytes, dropped: int = 0) -> None:
        """Send an answer or a question on a session's HTTP+SSE stream, wherever it is held: it must not get lost.
        ``dropped``: so many notifications before it were."""
        loop = asyncio.get_running_loop()
        deadline = loop.time() + KEPT_MS / 1000
        while not session.ended:
            stream = self._by_session.get(session.sid)
            if stream is not None:
                stream.missed(dropped)
                stream.push(message)
                return
            try:
                count, size = await self._outbox.leave(session.sid, [message], session.holder, dropped=dropped)
            except RegistryUnavailable:
                if loop.time() < deadline:
                    await asyncio.sleep(_LEAVE_AGAIN_S)
                    continue
                _log.warning("an answer for a stream on another front end was lost: Redis does not answer")
                return
            if count > self._settings.stream_buffer or size > _MAX_LEFT_BYTES:
                _log.warning("the holder of an HTTP+SSE stream does not take its answers; its session ends")
                await self._end(session)
            return

    async def _end(self, session: ClientSession) -> None:
        try:
            await self._sessions.end(session.sid)
        except RegistryUnavailable:
            self._sessions.forget(session.sid)

    async def pass_on(self, session: ClientSession, messages: list[bytes], dropped: int) -> None:
        """Send what belongs to no call on a session's standing stream, wherever it is held; kept for a while for one
        that is opened, or resumed, then. ``dropped``: so many before these were. Raises ``RegistryUnavailable``."""
        stream = self._by_session.get(session.sid)
        if stream is not None and stream.closing:
            stream = None
        try:
            to = EVERYONE if stream is None else ""
            newest, size = self._settings.stream_buffer, self._settings.replay_bytes
            await self._outbox.leave(session.sid, messages, to, newest, size, dropped)
        except RegistryUnavailable:
            if stream is None:
                raise
            stream.missed(dropped)
            for message in messages:
                self.show(stream, message)
            return
        if stream is not None and stream.closing:  # another front end has taken over since
            await self._wake_up(EVERYONE, f"outbox {session.sid}")
        await self.collect(session.sid)

    def show(self, stream: StandingStream, message: bytes, place: str = "") -> None:
        """Put a message on a stream that is held here."""
        stream.push(message, place)
        ask = ask_of(message)
        if ask:
            self.on_question(ask, stream.sid)

    async def collect(self, sid: str) -> None:
        """Take what other front ends left for a stream that is held here. One at a time: nothing is taken twice."""
        stream = self._by_session.get(sid)
        if stream is None:
            return
        stream.again = True
        if stream.collecting:
            return
        stream.collecting = True
        try:
            while stream.again and not stream.gone:
                stream.again = False
                await self._collect(stream)
        except RegistryUnavailable:
            pass  # looked at again when Redis is back (``follow_wakeups``)
        finally:
            stream.collecting = False

    async def _collect(self, stream: StandingStream) -> None:
        stream.position = stream.position or await self._outbox.begin(stream.sid)
        rows = await self._outbox.after(stream.sid, stream.position)
        if not rows or stream.gone:
            return
        stream.again = True  # there may be more
        for row in rows:
            stream.missed(row.dropped)
            self.show(stream, row.message, row.place)
        stream.position = rows[-1].place
        session = self._sessions.known.get(stream.sid)
        if stream.resumable and session is not None:
            await self._sessions.note(session, "taken", stream.position)
        else:
            await self._outbox.clear(stream.sid, stream.position)

    async def follow_wakeups(self) -> None:
        """Listen on our channels until cancelled; after a reconnect, look into every outbox."""

        async def look() -> None:
            for sid in list(self._by_session):
                await self.collect(sid)

        await self._outbox.follow(self._woken, look)

    async def _woken(self, text: str) -> None:
        kind, _, rest = text.partition(" ")
        sid, _, id = rest.partition(" ")
        if kind == "outbox":
            await self.collect(sid)
        elif kind == "close":
            await self._give_way(sid)
        else:
            hint = self.hints.get(kind)
            if hint is not None:
                hint(kind, sid, id)

    async def tell_everyone(self, kind: str, sid: str, id: str) -> None:
        """A hint for whichever front end it concerns."""
        await self._wake_up(EVERYONE, f"{kind} {sid} {id}")

    def tell_soon(self, kind: str, sid: str, id: str) -> None:
        """``tell_everyone`` without waiting for it."""
        spawn(self.tell_everyone(kind, sid, id), "tell-everyone")

    async def keep_alive(self) -> None:
        """A comment on every silent stream, now and then; until cancelled."""
        while True:
            await asyncio.sleep(self._settings.stream_keepalive_s)
            for stream in list(self._open):
                stream.nudge()
                self._sessions.cached(stream.sid)  # whose stream is open uses its session

    async def drain(self, wait_s: float) -> None:
        """End every stream as its era asks, bounded."""
        self.draining = True
        for stream in list(self._open):
            stream.close()
        deadline = asyncio.get_running_loop().time() + wait_s
        while self._open and asyncio.get_running_loop().time() < deadline:
            await asyncio.sleep(0.01)

    @property
    def count(self) -> int:
        """Open streams."""
        return len(self._open)


def ask_of(message: bytes) -> str:
    """The id that a worker gave to this question of an upstream; empty for any other message.

    Ids of workers need no escapes, and requests of ours have their method next: a large answer is not read for this.
    """
    end = message.find(b'"', len(_STRING_ID)) if message.startswith(_STRING_ID) else -1
    return message[len(_STRING_ID) : end].decode() if message.startswith(_METHOD_NEXT, end) and end > 0 else ""


def _place_in(last_id: str) -> str:
    """The place in the outbox that an event id of a standing stream names, if it does."""
    place = last_id.rpartition(".")[2]
    return place if is_place(place) else ""


def _filter(message: Message) -> dict[str, bytes]:
    """The JSON of each member."""
    raw = jsonrpc.members(message.params).get("notifications", jsonrpc.ABSENT)
    if bytes(raw)[:1] != b"{":
        raise Refused("invalid_params", "subscriptions/listen needs params.notifications, an object")
    return {name: bytes(value) for name, value in jsonrpc.members(raw).items()}
