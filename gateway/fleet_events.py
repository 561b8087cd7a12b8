"""Events of the fleet, passed on to the parts of one front end that need them."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping

from gateway.access.api_keys import ApiKeys
from gateway.admin.events import EventLog
from gateway.fleet.heartbeat import Heartbeat
from gateway.fleet.own_lists import OwnLists
from gateway.fleet.pool import WorkerPool
from gateway.fleet.registry_view import RegistryView
from gateway.fleet.resource_watches import ResourceWatches
from gateway.routing.view import ViewKey
from gateway.sessions.table import SessionTable
from gateway.streams.open_streams import OpenStreams
from gateway.streams.standing_streams import StandingStreams
from gateway.streams.subscriptions import StreamSubscriptions
from gateway.streams.unsolicited import UnsolicitedDelivery
from shared import logs
from shared.errors import RegistryUnavailable
from shared.registry.changes import RESTART
from shared.tasks import spawn

_RECHECK_S = 0.5


class FleetEvents:
    """Passes events of the fleet to the parts that need them; implements ``RegistryEvents`` and ``LinkEvents``."""

    def __init__(
        self,
        keys: ApiKeys | None,
        registry: RegistryView,
        pool: WorkerPool,
        sessions: SessionTable,
        streams: StandingStreams,
        open_streams: OpenStreams,
        subscriptions: StreamSubscriptions,
        watches: ResourceWatches,
        unsolicited: UnsolicitedDelivery,
        heartbeat: Heartbeat,
        own_lists: OwnLists,
        log: EventLog,
    ) -> None:
        self._keys = keys
        self._own_lists = own_lists
        self._log = log
        self._registry = registry
        self._pool = pool
        self._sessions = sessions
        self._streams = streams
        self._open_streams = open_streams
        self._subscriptions = subscriptions
        self._watches = watches
        self._unsolicited = unsolicited
        self._heartbeat = heartbeat

    # ---- fleet.registry_view.RegistryEvents

    def lists_changed(self, changes: Mapping[ViewKey, set[str]]) -> None:
        self._streams.announce(changes)

    def workers_changed(self) -> None:
        self._pool.look()
        self._log.members_changed()

    def session_ended(self, sid: str) -> None:
        session = self._sessions.forget(sid)
        if session is not None:
            for in_flight in session.calls:
                in_flight.cancel("the session ended")
        self._streams.end_session(sid)
        self._pool.end_session(sid)
        self._heartbeat.beat_now()  # the front end that ended the session waits for this

    def level_set(self, sid: str, level: str) -> None:
        self._subscriptions.level_set_elsewhere(sid, level)
        self._heartbeat.beat_now()

    def key_changed(self, name: str) -> None:
        if self._keys is not None:
            self._keys.announce(name)

    def announced(self, kind: str, id: str) -> None:
        if kind == logs.LOG_LEVEL:
            logs.set_level(id)
            self._log.note(kind, id, f"processes log at {id} now")
        elif kind == RESTART:
            self._log.restarted(id)
        elif kind == "frontend":
            self._log.members_changed()

    def changes_missed(self) -> None:
        spawn(self._recheck_sessions(), "recheck-sessions")
        if self._keys is not None:
            spawn(self._load_keys(self._keys), "load-keys")

    async def _load_keys(self, keys: ApiKeys) -> None:
        """Take all API keys from Redis, again until Redis answers."""
        while True:
            try:
                await keys.load(self._registry.place[0])
                return
            except RegistryUnavailable:
                await asyncio.sleep(_RECHECK_S)

    async def _recheck_sessions(self) -> None:
        """Compare the sessions with Redis, again until Redis answers."""
        while True:
            try:
                await self._sessions.recheck()
                return
            except RegistryUnavailable:
                await asyncio.sleep(_RECHECK_S)

    # ---- fleet.worker_link.LinkEvents

    def resource_updated(self, upstream: str, uri: str, sid: str, params: bytes) -> None:
        self._watches.updated(upstream, uri, sid, params)

    def own_list_changed(self, upstream: str, kind: str, sid: str) -> None:
        self._own_lists.changed(upstream, kind, self._sessions.known.get(sid))

    def unsolicited(self, sid: str, message: bytes, dropped: int) -> None:
        self._unsolicited.take(sid, message, dropped)

    def has_stream(self, sid: str) -> bool:
        return self._open_streams.of(sid) is not None

    def links_changed(self) -> None:
        self._registry.wake()
        self._heartbeat.beat_now()  # the supervisor waits for links when it starts or replaces processes
