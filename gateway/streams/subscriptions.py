"""What clients subscribe to: resources that change, and log messages from a level on.

A legacy session's subscriptions are kept in its hash in Redis (``sub:{uri}``), because the front end that takes
``resources/subscribe`` need not be the one that holds the session's stream. It sends a hint to all front ends, and the
holder takes over. The subscriptions of a ``subscriptions/listen`` are in the request and live as long as its stream.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable

import msgspec
from msgspec import Raw, structs

from gateway.fleet.dispatch import Dispatcher
from gateway.fleet.known_tasks import MAX_LISTENED, KnownTasks
from gateway.fleet.outgoing import Only
from gateway.fleet.registry_view import RegistryView
from gateway.fleet.resource_watches import Listener, ResourceWatches
from gateway.routing.routes import Route
from gateway.routing.view import View
from gateway.sessions.session import ClientSession
from gateway.sessions.table import SessionTable
from gateway.streams.listen_passthrough import ListenPassthrough, ListenToTasks
from gateway.streams.open_streams import OpenStreams
from gateway.streams.outbox import Outbox
from gateway.streams.standing_stream import StandingStream
from shared.errors import Refused
from shared.mcp import jsonrpc, tasks
from shared.mcp.methods import FILTER, TASKS_IN_FILTER
from shared.mcp.versions import Era
from shared.settings import Settings
from shared.tasks import spawn

HANDOVER_S = 10.0
"""How long a front end watches a resource for a session whose stream another one holds: time for that one to take
over."""
MAX_RESOURCES = 1000
"""How many resources one session, or one listen, may subscribe to."""
_UNKNOWN = -32002
_AT_ONCE = 20
"""So many resources are looked for in one turn of the loop, because others wait."""


class _RemoteStream:
    """Stands in for a stream that another front end holds."""

    gone = False

    def resource_updated(self, uri: str, own: str, params: bytes) -> None:
        """Do nothing: the front end that holds the stream is notified as well."""


class StreamSubscriptions:
    """Subscribes streams and sessions to resources, and keeps log levels of sessions."""

    def __init__(
        self,
        registry: RegistryView,
        dispatcher: Dispatcher,
        watches: ResourceWatches,
        sessions: SessionTable,
        streams: OpenStreams,
        outbox: Outbox,
        settings: Settings,
        known_tasks: KnownTasks,
    ) -> None:
        self._known_tasks = known_tasks
        self._registry = registry
        self._dispatcher = dispatcher
        self._watches = watches
        self._sessions = sessions
        self._streams = streams
        self._outbox = outbox
        self._acknowledge_s = settings.sessions.acknowledge_s
        self._loop = asyncio.get_running_loop()

    # ---- log levels

    async def set_level(self, session: ClientSession, level: str) -> None:
        """Set a session's log level at all front ends and workers, and return when every live front end knows."""
        session.log_level = level
        self._dispatcher.announce_again(session)
        await self._sessions.note_level(session, level)

    def level_set_elsewhere(self, sid: str, level: str) -> None:
        """Take a session's log level that was set at any front end."""
        session = self._sessions.known.get(sid)
        if session is not None and session.log_level != level:
            session.log_level = level
            self._dispatcher.announce_again(session)

    # ---- legacy sessions

    async def subscribe(self, session: ClientSession, uri: str, view: View) -> bytes:
        """Subscribe a session to a resource. Return empty bytes, or the JSON of the error. Raises ``Refused``."""
        if uri not in session.subscriptions and len(session.subscriptions) >= MAX_RESOURCES:
            raise Refused("invalid_params", f"a session may subscribe to {MAX_RESOURCES} resources")
        listener: Listener | None = self._streams.of(session.sid)
        elsewhere = None
        if listener is None:
            listener = elsewhere = _RemoteStream()
        try:
            error = await self._add(listener, uri, view, session)
        finally:  # also when the client leaves meanwhile
            if elsewhere is not None:
                self._loop.call_later(HANDOVER_S, self._watches.drop, elsewhere)
        if error:
            return error
        await self._sessions.note_subscription(session, uri, True)
        if elsewhere is not None:
            self._outbox.hint_everyone("subscribed", session.sid, uri)
        return b""

    async def unsubscribe(self, session: ClientSession, uri: str) -> None:
        """Unsubscribe a session from a resource; no error if it was not subscribed."""
        await self._sessions.note_subscription(session, uri, False)
        listener = self._streams.of(session.sid)
        if listener is not None:
            self._watches.remove(listener, uri)
        else:
            self._outbox.hint_everyone("unsubscribed", session.sid, uri)

    def hint(self, kind: str, sid: str, uri: str) -> None:
        """Take a session's subscription (``kind`` "subscribed") or its end ("unsubscribed") from another front end."""
        session, listener = self._sessions.known.get(sid), self._streams.of(sid)
        if session is None:
            return
        (session.subscriptions.add if kind == "subscribed" else session.subscriptions.discard)(uri)
        if listener is None:
            return
        if kind == "subscribed":
            spawn(self._add(listener, uri, self._view_of(session), session), "take-subscription")
        else:
            self._watches.remove(listener, uri)

    async def attach(self, listener: Listener, session: ClientSession, again: bool) -> None:
        """Take over a session's subscriptions, because its stream is held here from now on.

        ``again``: the session had a stream before. Changes in between may have been missed, so all its resources are
        reported as changed.
        """
        for uri in await self._sessions.subscriptions(session):
            error = await self._add(listener, uri, self._view_of(session), session)
            if again and not error:
                params = jsonrpc.assemble({"uri": uri})
                listener.resource_updated(uri, uri, params)

    def _view_of(self, session: ClientSession) -> View:
        """Return the view that the client of a session has now."""
        return self._registry.views.of(session.endpoint, session.policy_class)

    # ---- modern streams

    def pass_through(
        self, stream: StandingStream, wanted: dict[str, bytes], params: Raw, view: View, principal: str
    ) -> ListenPassthrough | None:
        """Pass on the members of a listen's filter that the gateway does not know, to a modern replica of the group.

        Return ``None`` if there are no such members, the endpoint has several groups, or no replica is modern.
        """
        others = {name: Raw(what) for name, what in wanted.items() if name not in FILTER}
        route = view.passthrough if others else None
        if route is None:
            return None
        modern = tuple(one for one in route.replicas if Era.MODERN.word in one.record.eras)
        if not modern:
            return None
        route = structs.replace(route, replicas=modern)
        return ListenPassthrough(self._dispatcher, route, principal, params, others, stream, self._acknowledge_s)

    def listen_to_tasks(
        self, stream: StandingStream, wanted: dict[str, bytes], params: Raw, view: View, principal: str
    ) -> list[ListenToTasks]:
        """Listen at their upstreams for the changes of the tasks that a listen's filter names, one listen an upstream.

        Ids of tasks that the caller does not have are left out. Raises ``Refused``: -32021 without the extension.
        """
        raw = wanted.get(TASKS_IN_FILTER)
        if raw is None:
            return []
        meta = jsonrpc.params_of(params).meta
        tasks.check_declared(meta.capabilities if meta is not None else b"")
        try:
            ids = list(dict.fromkeys(msgspec.json.decode(raw, type=list[str])))
        except (msgspec.DecodeError, RecursionError) as error:
            raise Refused(
                "invalid_params", f"params.notifications.{TASKS_IN_FILTER} must be an array of ids"
            ) from error
        if len(ids) > MAX_LISTENED:
            raise Refused("invalid_params", f"one stream may listen for {MAX_LISTENED} tasks")
        by_upstream: dict[str, tuple[Route, dict[str, str]]] = {}
        for id in ids:
            try:
                task = self._known_tasks.find(id, principal, view)
            except Refused:
                continue
            if task.worker:  # no upstream tells of it: the client polls
                continue
            by_upstream.setdefault(task.upstream, (task.route, {}))[1][task.own] = id
        return [
            ListenToTasks(self._dispatcher, route, principal, params, own, stream, self._acknowledge_s, Only(upstream))
            for upstream, (route, own) in by_upstream.items()
        ]

    async def listen(self, listener: Listener, uris: Iterable[str], view: View) -> list[str]:
        """Subscribe a listen to resources, and return the URIs that upstreams agreed to in time. Raises ``Refused``."""
        wanted = list(dict.fromkeys(uris))
        if len(wanted) > MAX_RESOURCES:
            raise Refused("invalid_params", f"one stream may listen for {MAX_RESOURCES} resources")
        if not wanted:
            return []
        tasks = {}
        for number, uri in enumerate(wanted, 1):
            tasks[uri] = spawn(self._add(listener, uri, view, None), "listen")
            if number % _AT_ONCE == 0:
                await asyncio.sleep(0)
        await asyncio.wait(tasks.values(), timeout=self._acknowledge_s)
        return [uri for uri, task in tasks.items() if task.done() and not task.result()]

    async def _add(self, listener: Listener, uri: str, view: View, session: ClientSession | None) -> bytes:
        error = jsonrpc.error_object(_UNKNOWN, f"resource not found: {uri[:256]}", {"uri": uri[:256]})
        for route, upstream_uri in view.locate(uri):
            if route.guard is not None and not route.guard.open:  # nobody is told of what they may not read
                continue
            if listener.gone:  # the stream was closed meanwhile: a watch added now would never be removed
                break
            error = await self._watches.add(listener, uri, route, upstream_uri, session)
            if not error:
                break
        return error

    def detach(self, listener: Listener) -> None:
        """Remove all subscriptions of a stream that is gone."""
        self._watches.drop(listener)
