"""One front end: the plan by which it is made, and how it starts, drains and closes."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Callable

from gateway.connect.dance import Dance
from gateway.fleet_events import FleetEvents
from gateway.front_end.access import FrontEndAccess
from gateway.front_end.admin import FrontEndAdmin
from gateway.front_end.fleet import FrontEndFleet
from gateway.front_end.presence import Presence
from gateway.front_end.protocol import FrontEndProtocol
from gateway.front_end.streams import FrontEndStreams
from gateway.front_end.telemetry import FrontEndTelemetry
from gateway.http.heads import Process
from gateway.live_rules import LiveRules, policy_of, rules_now
from shared.errors import RegistryUnavailable
from shared.live_rules import Board
from shared.models import now_s
from shared.registry.credentials import CredentialStore
from shared.registry.store import RegistryStore
from shared.secrets import FleetKey
from shared.settings import Settings
from shared.tasks import cancel, spawn, tick

_STREAMS_END_S = 2.0
"""How long standing streams have to end when the process drains."""


class FrontEnd:
    """One front end. ``close`` also closes ``store``; ``key`` is the fleet's.

    ``access``, ``protocol``, ``admin`` and ``dance`` are what listeners answer requests with.
    """

    def __init__(self, settings: Settings, store: RegistryStore, key: FleetKey) -> None:
        self.settings = settings
        self.id = id = secrets.token_hex(6)
        self._store = store
        self._tasks: list[asyncio.Task[None]] = []
        board = Board.inherited()
        rules = rules_now(settings, board)

        self._telemetry = telemetry = FrontEndTelemetry(settings, store, id, rules)
        self._fleet = fleet = FrontEndFleet(settings, store, key, id, policy_of(rules), telemetry)
        self._streams = streams = FrontEndStreams(settings, store, id, fleet)
        self._presence = presence = Presence(settings.fleet, id, telemetry.counters, fleet, streams.open)
        self.access = access = FrontEndAccess(settings, store, id, rules, telemetry, fleet.registry, streams.open)
        self.protocol = FrontEndProtocol(settings, store, key, id, telemetry, fleet, streams, access)
        reader = self.protocol.reader
        self.admin = admin = FrontEndAdmin(settings, store, id, rules, telemetry, fleet, presence, reader, access)
        self.dance = Dance(settings, fleet.registry, CredentialStore(store, key))

        self._live_rules = None
        if board is not None and access.authentication is not None:
            others = (access, admin.access)
            self._live_rules = LiveRules(
                board, settings, access.authentication, access.keys, access.limits, fleet.registry, streams.open, others
            )
        self._events = FleetEvents(
            access.keys,
            fleet.registry,
            fleet.pool,
            fleet.sessions,
            streams.standing,
            streams.open,
            streams.subscriptions,
            fleet.watches,
            streams.unsolicited,
            presence.heartbeat,
            fleet.own_lists,
            admin.events,
        )

    async def start(self) -> None:
        """Join the fleet, and return when requests can be served. Raises ``RegistryUnavailable`` without Redis."""
        self._tasks = [
            *self._fleet.run(self._events),
            *self._streams.run(),
            *self._telemetry.run(),
            *self.access.run(),
            spawn(self._tick(), "tick"),
        ]
        if self._live_rules is not None:
            self._tasks.append(spawn(self._live_rules.run(), "live-rules"))
        await self._fleet.registry.begin()
        await self.access.load_keys()
        self._streams.standing.begin()
        await self._presence.heartbeat.join()
        self._tasks.append(spawn(self._presence.heartbeat.run(), "heartbeat"))
        self.admin.figures.start()
        self._telemetry.export_traces()
        self._tasks.append(spawn(self.admin.events.run(), "events"))

    @property
    def replaced(self) -> bool:
        """Whether another front end serves the same address from now on. Known once this one drains."""
        return self._presence.replaced

    def tell_of_dropped_sessions(self, listener: Callable[[str], None]) -> None:
        """Call ``listener`` with the id of each client session that this front end does not know any more."""
        self._fleet.sessions.tell_of_dropped(listener)

    async def _tick(self) -> None:
        """Once a second: renew the Date header, show signs of life on silent calls, extend and drop client sessions."""
        while True:
            await tick(1.0)
            Process.tick()
            self._fleet.dispatcher.show_life(self.settings.calls.keepalive_comment_s)
            self._streams.open.end_expired(now_s())
            try:
                await self._fleet.trim_sessions()
            except RegistryUnavailable:
                pass

    async def say_goodbye(self) -> None:
        """Begin to drain: connections end with their next answer from now on. Return when no connection is to be
        accepted any more: after ``drain_delay_s``, for which ``/readyz`` says 503, or at once if another front end has
        the same address."""
        await self._presence.retire()
        if not self.replaced:
            await asyncio.sleep(self.settings.fleet.drain_delay_s)

    async def drain(self) -> None:
        """End standing streams, and wait until running calls are over, but no longer than ``drain_timeout_s``."""
        loop = asyncio.get_running_loop()
        deadline = loop.time() + self.settings.fleet.drain_timeout_s
        await self._streams.standing.drain(_STREAMS_END_S)
        dispatcher = self._fleet.dispatcher
        while (dispatcher.under_way or dispatcher.waiting) and loop.time() < deadline:
            await asyncio.sleep(0.02)

    async def close(self) -> None:
        """Leave the fleet, and close links and connections."""
        await cancel(*self._tasks)
        await self._telemetry.close()
        await self.admin.figures.stop()
        await self._presence.heartbeat.leave()
        self._fleet.close()
        await self._fleet.registry.follower.close()
        await self._store.close()
