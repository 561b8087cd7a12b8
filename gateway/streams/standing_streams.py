"""Opening, resuming and feeding standing streams.

A stream is a session's GET stream, an HTTP+SSE connection, or a modern ``subscriptions/listen``. Each has a bounded
queue (``standing_stream``). Messages for a stream that another front end holds go through the session's outbox in
Redis (``outbox``), and a wake-up makes the holder look there. Broadcasts never wait for a writer.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping
from typing import Any

import orjson
from aiohttp import web
from msgspec import Raw

from gateway.access.principal import Principal
from gateway.admission.caller import Caller
from gateway.fleet.pool import WorkerPool
from gateway.fleet.registry_view import RegistryView
from gateway.http.event_stream import EventStream
from gateway.routing.view import View, ViewKey
from gateway.sessions.session import ClientSession
from gateway.sessions.table import SessionTable
from gateway.streams.listen_passthrough import ListenPassthrough
from gateway.streams.open_streams import OpenStreams
from gateway.streams.outbox import EVERYONE, KEPT_MS, Outbox, is_place
from gateway.streams.standing_stream import StandingStream
from gateway.streams.subscriptions import StreamSubscriptions
from shared.errors import Refused, RegistryUnavailable
from shared.mcp import jsonrpc
from shared.mcp.jsonrpc import Message
from shared.mcp.listings import CHANGES
from shared.mcp.methods import (
    ACKNOWLEDGED,
    LISTS_IN_FILTER,
    RESOURCES_IN_FILTER,
    SUBSCRIPTION_META,
    TASKS_IN_FILTER,
)
from shared.mcp.versions import at_least
from shared.rpc.framing import too_long
from shared.settings import SessionSettings
from shared.tasks import spawn

_log = logging.getLogger(__name__)
LEGACY_CHANGES = {method: jsonrpc.notification(method) for method in CHANGES}
"""The notifications that every legacy standing stream gets, by method: changes of all three kinds of lists."""
_LEAVE_AGAIN_S = 0.5
_MAX_LEFT_BYTES = 128 * 1024 * 1024
"""The bytes that may wait in Redis for the holder of an HTTP+SSE stream: two of the largest answers."""
_KEPT_VIEWS = 1000
"""How many views have their changes remembered, for streams that are resumed. In others all lists count as changed."""
_STRING_ID = b'{"jsonrpc":"2.0","id":"'
"""The first bytes of an upstream's question (and of answers to some clients): workers give questions string ids."""
_METHOD_NEXT = b'","method":'


class StandingStreams:
    """Opens, resumes and feeds all standing streams of this front end. ``frontend`` is this front end's id."""

    def __init__(
        self,
        streams: OpenStreams,
        outbox: Outbox,
        frontend: str,
        registry: RegistryView,
        pool: WorkerPool,
        subscriptions: StreamSubscriptions,
        sessions: SessionTable,
        settings: SessionSettings,
    ) -> None:
        self._streams = streams
        self._outbox = outbox
        self._frontend = frontend
        self._registry = registry
        self._pool = pool
        self._subscriptions = subscriptions
        self._sessions = sessions
        self._settings = settings
        self._announced = 0  # the number of the last change that was announced on streams
        self._changed: dict[ViewKey, dict[str, int]] = {}  # by view and method: the last change that may concern both

    # ---- opening

    def attach(self, session: ClientSession, view: View, principal: Principal | None = None) -> StandingStream:
        """Open the stream of a session, which ends with the credentials of ``principal``. Raises ``NotDelivered`` at
        the limit."""
        self._watch(view)
        stream = self._streams.add(session.sid, view.key, LEGACY_CHANGES, wants_warnings=lambda: session.wants_warnings)
        stream.principal = principal
        return stream

    def detach(self, stream: StandingStream) -> None:
        """Remove a stream whose client is gone, and its subscriptions."""
        self._streams.discard(stream)
        self._subscriptions.detach(stream)
        endpoint = stream.view[0]
        if endpoint and not self._registry.catalog.serves(endpoint) and not self._is_shown(stream.view):
            self._forget(stream.view)  # clients can make up any number of names

    async def standing_get(
        self, request: web.BaseRequest, session: ClientSession, caller: Caller, last_id: str = ""
    ) -> web.StreamResponse:
        """Show the GET stream of a Streamable HTTP session of ``caller``. Raises ``NotDelivered`` at the limit.

        ``last_id`` is the id of the last event that the client got on an earlier stream, or empty.
        """
        view = caller.view
        stream = self.attach(session, view, caller.principal)
        stream.resumable = stream.collecting = True  # nothing is taken from the outbox before its place is known
        try:
            again = await self._take_over(session)
            spawn(self._subscriptions.attach(stream, session, again), "attach-subscriptions")
            events = EventStream({"Mcp-Session-Id": session.sid})
            await events.open(request)
            stream.position = stream.written = _place_in(last_id) or await self._begin(session.sid)
            stream.collecting = False
            await self.collect(session.sid)
            if last_id:
                stream.announce(self._missed(view, last_id))
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
        """Make this front end the holder of the session's stream, and have another holder close its older stream.

        Return whether the session had a stream before.
        """
        before = await self._sessions.note(session, "holder", self._frontend)
        if before and before != self._frontend:
            await self._outbox.wake_if_possible(before, f"close {session.sid}")
        before = before or session.holder
        session.holder = self._frontend
        return bool(before)

    async def _give_way(self, sid: str) -> None:
        """Close the session's stream here, because another front end took over.

        The client may have opened a newer stream here since. That stream stays, also while it is being opened.
        """
        stream = self._streams.of(sid)
        if stream is None or not stream.written:
            return
        try:
            holder = await self._sessions.noted(sid, "holder")
        except RegistryUnavailable:
            return
        if holder != self._frontend:
            stream.close()
            # Messages that were left for the stream here meanwhile have not woken the new holder.
            await self._outbox.wake_if_possible(holder, f"outbox {sid}")

    async def listen(self, request: web.BaseRequest, message: Message, caller: Caller) -> web.StreamResponse:
        """Show the stream of a ``subscriptions/listen``. Raises ``CallError``.

        Its messages are tagged with the request's id. The acknowledgement comes first, and a result ends the stream.
        """
        wanted = _filter(message)
        tag = {SUBSCRIPTION_META: Raw(bytes(message.id))}
        honoured = {name: True for name in LISTS_IN_FILTER if wanted.get(name) == b"true"}
        tagged = jsonrpc.assemble({"_meta": tag})
        methods = [LISTS_IN_FILTER[name] for name in honoured]
        changes = {method: jsonrpc.notification(method, tagged) for method in methods}
        try:
            resources = orjson.loads(wanted.get(RESOURCES_IN_FILTER, b"null"))
        except orjson.JSONDecodeError as error:  # it was read as JSON before: it is nested too deeply for orjson
            raise Refused("invalid_params", f"params.notifications.{RESOURCES_IN_FILTER}: {error}") from error
        view = caller.view
        self._watch(view)
        stream = self._streams.add("", view.key, changes, bytes(message.id))
        stream.principal = caller.principal
        passed: list[ListenPassthrough] = []
        try:
            passed += self._subscriptions.listen_to_tasks(stream, wanted, message.params, view, caller.principal.id)
            other = self._subscriptions.pass_through(stream, wanted, message.params, view, caller.principal.id)
            passed += [other] if other is not None else []
            agreed: dict[str, Any] = dict(honoured)
            if isinstance(resources, list):
                uris = [uri for uri in resources if isinstance(uri, str) and not too_long(uri)]
                agreed[RESOURCES_IN_FILTER] = await self._subscriptions.listen(stream, uris, view)
            for members in await asyncio.gather(*(one.agreed() for one in passed)):
                ids = members.pop(TASKS_IN_FILTER, None)
                if ids is not None:
                    agreed.setdefault(TASKS_IN_FILTER, []).extend(orjson.loads(bytes(ids)))
                agreed.update(members)
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
            for one in passed:
                await one.close()

    # ---- resuming: event ids are places in the log of changes and in the session's outbox: ``epoch.change.place``

    def _event_id(self, stream: StandingStream) -> str:
        epoch, _ = self._registry.place
        return f"{epoch}.{self._announced}.{stream.written}"

    def _missed(self, view: View, last_id: str) -> set[str]:
        """Return the ``list_changed`` methods of what changed in a view since the event with this id.

        Any front end may have written the event. If the changes since then are not known here, return all methods.
        """
        epoch, _, rest = last_id.partition(".")
        sequence = rest.partition(".")[0]
        if epoch != self._registry.place[0] or not sequence.isdecimal():
            return set(CHANGES)
        return {method for method, place in self._changed[view.key].items() if place > int(sequence[:15])}

    def begin(self) -> None:
        """Begin to remember changes, once the registry is loaded. Earlier changes are not known here."""
        self._announced = self._registry.place[1]
        for key in self._registry.views.lasting:
            self._remember(key)

    def _watch(self, view: View) -> None:
        """Remember from now on what changes in a view."""
        self._registry.views.watch(view)
        if view.key not in self._changed:
            self._remember(view.key)

    def _remember(self, key: ViewKey) -> None:
        if len(self._changed) >= _KEPT_VIEWS:
            in_use = {*self._registry.views.lasting, *(stream.view for stream in self._streams)}
            for unused in [one for one in self._changed if one not in in_use][:1]:
                self._forget(unused)
        self._changed[key] = dict.fromkeys(CHANGES, self._registry.place[1])

    def _is_shown(self, key: ViewKey) -> bool:
        return any(stream.view == key for stream in self._streams)

    def _forget(self, key: ViewKey) -> None:
        self._changed.pop(key, None)
        self._registry.views.unwatch(key)

    # ---- what happens

    def announce(self, changes: Mapping[ViewKey, set[str]]) -> None:
        """Announce on each stream that lists of its view changed."""
        self._announced = self._registry.place[1]
        for key, methods in changes.items():
            if key in self._changed:
                self._changed[key].update(dict.fromkeys(methods, self._announced))
        for stream in self._streams:
            methods = changes.get(stream.view, set())
            if methods:
                stream.announce(methods)

    def end_session(self, sid: str) -> None:
        """Close the stream of a session that is over."""
        stream = self._streams.of(sid)
        if stream is not None:
            stream.close()

    def reaches(self, session: ClientSession) -> bool:
        """Return whether answers can reach the session's stream now: it is held here, or Redis is available."""
        return self._streams.of(session.sid) is not None or self._registry.available

    async def deliver(self, session: ClientSession, message: bytes, dropped: int = 0) -> None:
        """Send a message of a call on a session's HTTP+SSE stream, whichever front end holds it.

        An answer or a question must not get lost: while Redis is away this tries again, for up to a minute. ``dropped``
        is how many notifications before the message were dropped.
        """
        loop = asyncio.get_running_loop()
        deadline = loop.time() + KEPT_MS / 1000
        while not session.ended:
            stream = self._streams.of(session.sid)
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
        """Send messages that belong to no call on a session's standing stream, whichever front end holds it.

        The outbox keeps them for a minute, for a stream that is opened or resumed later. ``dropped`` is how many
        messages before these were dropped. Raises ``RegistryUnavailable``.
        """
        stream = self._streams.of(session.sid)
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
            await self._outbox.wake_if_possible(EVERYONE, f"outbox {session.sid}")
        await self.collect(session.sid)

    def show(self, stream: StandingStream, message: bytes, place: str = "") -> None:
        """Queue a message on a stream that is held here; if it is a question, notify the worker that it was shown."""
        stream.push(message, place)
        question_id = question_id_of(message)
        if question_id:
            self._pool.question_news(question_id, stream.sid)

    async def collect(self, sid: str) -> None:
        """Take the messages in a session's outbox, if the session's stream is held here.

        Only one task takes messages for a stream at a time, so that no message is taken twice.
        """
        stream = self._streams.of(sid)
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
            pass  # ``follow_wakeups`` looks again when Redis is back
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
            if row.message:
                self.show(stream, row.message, row.place)
        stream.position = rows[-1].place
        session = self._sessions.known.get(stream.sid)
        if stream.resumable and session is not None:
            await self._sessions.note(session, "taken", stream.position)
        else:
            await self._outbox.clear(stream.sid, stream.position)

    async def follow_wakeups(self) -> None:
        """Act on wake-ups of other front ends until cancelled; after a reconnect, look into every outbox."""

        async def look() -> None:
            for sid in self._streams.sessions:
                await self.collect(sid)

        await self._outbox.follow(self._woken, look)

    async def _woken(self, text: str) -> None:
        kind, _, rest = text.partition(" ")
        sid, _, id = rest.partition(" ")
        if kind == "outbox":
            await self.collect(sid)
        elif kind == "close":
            await self._give_way(sid)
        elif kind in ("subscribed", "unsubscribed"):
            self._subscriptions.hint(kind, sid, id)

    async def keep_alive(self) -> None:
        """Show signs of life on silent streams, and keep the sessions of all streams alive, until cancelled."""
        while True:
            await asyncio.sleep(self._settings.stream_keepalive_s)
            for stream in self._streams:
                stream.nudge()
                self._sessions.cached(stream.sid)  # an open stream keeps its session alive

    async def drain(self, wait_s: float) -> None:
        """Close every stream, and wait until all are gone, but no longer than ``wait_s``. No stream opens any more."""
        self._streams.draining = True
        for stream in self._streams:
            stream.close()
        deadline = asyncio.get_running_loop().time() + wait_s
        while len(self._streams) and asyncio.get_running_loop().time() < deadline:
            await asyncio.sleep(0.01)


def question_id_of(message: bytes) -> str:
    """Return the id that a worker gave to this question of an upstream, or an empty string for any other message.

    Only the first bytes are read, also of a large answer: ids of workers need no escapes, and the gateway writes the
    method right after the id.
    """
    end = message.find(b'"', len(_STRING_ID)) if message.startswith(_STRING_ID) else -1
    return message[len(_STRING_ID) : end].decode() if message.startswith(_METHOD_NEXT, end) and end > 0 else ""


def _place_in(last_id: str) -> str:
    """Return the place in the outbox that an event id of a standing stream names, or an empty string."""
    place = last_id.rpartition(".")[2]
    return place if is_place(place) else ""


def _filter(message: Message) -> dict[str, bytes]:
    """Return the JSON of each member of a listen's filter. Raises ``Refused`` if there is none."""
    raw = jsonrpc.few_members(message.params).get("notifications", jsonrpc.ABSENT)
    if bytes(raw)[:1] != b"{":
        raise Refused("invalid_params", "subscriptions/listen needs params.notifications, an object")
    return {name: bytes(value) for name, value in jsonrpc.members(raw).items()}
