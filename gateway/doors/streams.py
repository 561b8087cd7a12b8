"""Standing streams: a session's GET stream, an HTTP+SSE connection, a modern ``subscriptions/listen``.

One queue a stream, bounded: a client that does not read loses the oldest messages, never other clients' time. Messages
for a stream that another front end holds go through the session's outbox in Redis; a wake-up on a pub/sub channel tells
the holder. Broadcasts never wait for a writer.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Callable
from typing import Any

import msgspec
import orjson
from aiohttp import web
from msgspec import Raw
from redis.exceptions import RedisError

from gateway.doors.interests import Interests
from gateway.doors.responses import EventStream, problem
from gateway.doors.sessions import ClientSession, SessionTable
from shared.errors import NotDelivered, Refused, RegistryUnavailable
from shared.mcp import jsonrpc
from shared.mcp.jsonrpc import Message
from shared.mcp.kinds import CHANGES
from shared.mcp.methods import (
    ACKNOWLEDGED,
    PROMPTS_CHANGED,
    RESOURCE_UPDATED,
    RESOURCES_CHANGED,
    SUBSCRIPTION_META,
    TOOLS_CHANGED,
)
from shared.mcp.versions import at_least
from shared.registry.client import translated
from shared.registry.store import RegistryStore
from shared.rpc.framing import too_long
from shared.settings import SessionSettings
from shared.tasks import spawn

_log = logging.getLogger(__name__)
_encode = msgspec.json.encode
_MAX_WAITING_BYTES = 32 * 1024 * 1024
"""Of what waits on one stream; the newest message is kept whatever its size."""
LEGACY_CHANGES = {method: jsonrpc.notification(method) for method in CHANGES}
"""Every legacy standing stream hears of all three kinds of lists."""
_TOLD = b'{"jsonrpc":"2.0","method":'
_ASKED = {
    "toolsListChanged": TOOLS_CHANGED,
    "promptsListChanged": PROMPTS_CHANGED,
    "resourcesListChanged": RESOURCES_CHANGED,
}


class StandingStream:
    """One open stream; ``changes`` are the ``list_changed`` notifications that it wants, and in which words; ``tag``
    the JSON of the id that its messages carry (modern)."""

    def __init__(self, sid: str, limit: int, changes: dict[str, bytes], tag: bytes = b"") -> None:
        self.sid = sid
        self.tag = tag
        self.changes = changes
        self.closing = False
        self.gone = False
        self.position = "0-0"
        self._limit = limit
        self._queue: deque[bytes] = deque()
        self._waiting_bytes = 0
        self._waiter: asyncio.Future[None] | None = None

    def push(self, message: bytes) -> None:
        """Queue a message. The oldest notifications make room; a client that reads neither answers nor questions, which
        nobody can do without, loses the stream."""
        self._queue.append(message)
        self._waiting_bytes += len(message)
        if len(self._queue) > 1 and self._full:
            kept: deque[bytes] = deque()
            for number, one in enumerate(self._queue, 1):
                if one.startswith(_TOLD) and self._full_with(len(self._queue) - number + 1 + len(kept)):
                    self._waiting_bytes -= len(one)
                else:
                    kept.append(one)
            self._queue = kept
            if self._full and len(kept) > 1:
                _log.warning("a client does not read what it waits for (streamBuffer); its stream is closed")
                self._queue.clear()
                self._waiting_bytes = 0
                self.closing = True
        self._wake()

    @property
    def _full(self) -> bool:
        return self._full_with(len(self._queue))

    def _full_with(self, count: int) -> bool:
        return count > self._limit or self._waiting_bytes > _MAX_WAITING_BYTES

    def _take(self) -> bytes:
        message = self._queue.popleft()
        self._waiting_bytes -= len(message)
        return message

    def announce(self, methods: set[str]) -> None:
        """Queue each ``list_changed`` once, however often it is announced before the client reads."""
        for method, message in self.changes.items():
            if method in methods and message not in self._queue:
                self.push(message)

    def resource_updated(self, uri: str, own: str, params: bytes) -> None:
        """A resource that the client listens for changed; said once, however often before the client reads."""
        parts = jsonrpc.members(params)
        if bytes(parts.get("uri", b"")) == _encode(own):
            parts["uri"] = Raw(_encode(uri))
        try:
            meta = jsonrpc.members(parts.get("_meta", jsonrpc.ABSENT))
        except Refused:
            meta = {}  # an upstream's nonsense
        meta.pop(SUBSCRIPTION_META, None)
        if self.tag:
            meta[SUBSCRIPTION_META] = Raw(self.tag)
        parts.pop("_meta", None)
        if meta:
            parts = {"_meta": Raw(jsonrpc.assemble(meta)), **parts}
        message = jsonrpc.notification(RESOURCE_UPDATED, jsonrpc.assemble(parts))
        if message not in self._queue:
            self.push(message)

    def close(self) -> None:
        """End the stream after what is queued."""
        self.closing = True
        self._wake()

    def nudge(self) -> None:
        """Let the writer show a sign of life."""
        self._wake()

    def _wake(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    async def write_to(self, stream: EventStream, id: Callable[[], str | None] = lambda: None) -> None:
        """Write until the stream is closed from our side; ``id`` gives each event's."""
        loop = asyncio.get_running_loop()
        while True:
            while self._queue:
                await stream.send(self._take(), id())
            if self.closing:
                return
            self._waiter = loop.create_future()
            await self._waiter
            if not self._queue and not self.closing:
                await stream.comment()


class Streams:
    """All standing streams of this front end."""

    def __init__(
        self,
        store: RegistryStore,
        frontend: str,
        interests: Interests,
        sessions: SessionTable,
        settings: SessionSettings,
    ) -> None:
        self._store = store
        self._sessions = sessions
        self._interests = interests
        self._frontend = frontend
        self._settings = settings
        self._by_session: dict[str, StandingStream] = {}
        self._open: set[StandingStream] = set()
        self.draining = False
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
        try:
            again = await self._take_over(session)
            spawn(self._interests.attach(stream, session, again), "attach-subscriptions")
            events = EventStream({"Mcp-Session-Id": session.sid})
            await events.open(request)
            if last_id:
                stream.announce(self._missed(last_id))
            elif at_least(session.version, "2025-11-25"):
                await events.prime(self._event_id(), int(self._settings.stream_retry_s * 1000))
            await self.collect(session.sid)
            await stream.write_to(events, self._event_id)
            return await events.end()
        finally:
            self.detach(stream)

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

    async def _wake_up(self, frontend: str, text: str) -> None:
        try:
            async with translated():
                await self._store.redis.publish(self._store.keys.wake(frontend), text)
        except RegistryUnavailable:
            pass

    async def listen(self, request: web.BaseRequest, message: Message, scope: str | None) -> web.StreamResponse:
        """``subscriptions/listen``: acknowledged first, tagged with its id, ended with a result."""
        wanted = _filter(message)
        tag = {SUBSCRIPTION_META: Raw(bytes(message.id))}
        honoured = {name: True for name in _ASKED if wanted.get(name) is True}
        tagged = jsonrpc.assemble({"_meta": tag})
        changes = {_ASKED[name]: jsonrpc.notification(_ASKED[name], tagged) for name in honoured}
        resources = wanted.get("resourceSubscriptions")
        stream = self.attach("", changes, bytes(message.id))
        try:
            agreed: dict[str, Any] = dict(honoured)
            if isinstance(resources, list):
                uris = [uri for uri in resources if isinstance(uri, str) and not too_long(uri)]
                agreed["resourceSubscriptions"] = await self._interests.listen(stream, uris, scope)
            events = EventStream()
            await events.open(request)
            acknowledged = jsonrpc.assemble({"_meta": tag, "notifications": agreed})
            await events.send(jsonrpc.notification(ACKNOWLEDGED, acknowledged))
            await stream.write_to(events)
            result = jsonrpc.assemble({"resultType": "complete", "_meta": tag})
            await events.send(jsonrpc.response(bytes(message.id), result))
            return await events.end()
        finally:
            self.detach(stream)

    # ---- resuming: a standing stream says that things changed, so its ids are places in the log of changes

    def _event_id(self) -> str:
        epoch, _ = self.place()
        return f"{epoch}.{self._announced}"

    def _missed(self, last_id: str) -> set[str]:
        """Which lists changed since the event with this id, on whichever front end it was written."""
        epoch, _, sequence = last_id.rpartition(".")
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

    async def deliver(self, session: ClientSession, message: bytes) -> None:
        """Send a message on a session's standing stream, wherever it is held."""
        stream = self._by_session.get(session.sid)
        if stream is not None:
            stream.push(message)
            return
        if not session.holder:
            return
        try:
            async with translated():
                pipe = self._store.redis.pipeline(transaction=True)
                key = self._store.keys.outbox(session.sid)
                pipe.xadd(key, {"message": message}, maxlen=self._settings.stream_buffer, approximate=True)
                pipe.pexpire(key, 60_000)
                pipe.publish(self._store.keys.wake(session.holder), f"outbox {session.sid}")
                await pipe.execute()
        except RegistryUnavailable:
            _log.warning("a message for a stream on another front end was lost: Redis does not answer")

    async def collect(self, sid: str) -> None:
        """Take what other front ends left for a stream that is held here."""
        stream = self._by_session.get(sid)
        if stream is None:
            return
        try:
            async with translated():
                rows = await self._store.redis.xrange(self._store.keys.outbox(sid), f"({stream.position}")
        except RegistryUnavailable:
            return
        for position, fields in rows:
            stream.position = position.decode()
            stream.push(fields[b"message"])

    async def follow_wakeups(self) -> None:
        """Listen on our channels until cancelled; after a reconnect, look into every outbox."""
        everyone = self._store.keys.wake("all")
        while True:
            pubsub = self._store.redis.pubsub()
            try:
                await pubsub.subscribe(self._store.keys.wake(self._frontend), everyone)
                for sid in list(self._by_session):
                    await self.collect(sid)
                while True:
                    item = await pubsub.get_message(ignore_subscribe_messages=True, timeout=1.0)
                    if item is not None:
                        await self._woken(item["data"].decode())
            except (RedisError, OSError):
                await asyncio.sleep(0.5)
            finally:
                await pubsub.aclose()

    async def _woken(self, text: str) -> None:
        kind, _, rest = text.partition(" ")
        sid, _, id = rest.partition(" ")
        if kind == "outbox":
            await self.collect(sid)
        elif kind == "close":
            self.end_session(sid)
        else:
            hint = self.hints.get(kind)
            if hint is not None:
                hint(kind, sid, id)

    async def tell_everyone(self, kind: str, sid: str, id: str) -> None:
        """A hint for whichever front end it concerns."""
        await self._wake_up("all", f"{kind} {sid} {id}")

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


def _filter(message: Message) -> dict[str, Any]:
    raw = jsonrpc.members(message.params).get("notifications")
    try:
        wanted = orjson.loads(bytes(raw)) if raw is not None else None
    except orjson.JSONDecodeError:
        wanted = None
    if not isinstance(wanted, dict):
        raise Refused("invalid_params", "subscriptions/listen needs params.notifications, an object")
    return wanted
