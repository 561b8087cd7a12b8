"""The standing streams of a front end, and what comes on them."""

from __future__ import annotations

import asyncio

from gateway.front_end.fleet import FrontEndFleet
from gateway.streams.open_streams import OpenStreams
from gateway.streams.outbox import Outbox
from gateway.streams.standing_streams import StandingStreams
from gateway.streams.subscriptions import StreamSubscriptions
from gateway.streams.unsolicited import UnsolicitedDelivery
from shared.registry.store import RegistryStore
from shared.settings import Settings
from shared.tasks import spawn


class FrontEndStreams:
    """Makes and holds them. ``open`` are those that are open now, ``standing`` what opens and serves them."""

    def __init__(self, settings: Settings, store: RegistryStore, id: str, fleet: FrontEndFleet) -> None:
        kept, outbox = settings.sessions, Outbox(store, id)
        self.open = OpenStreams(kept)
        self.subscriptions = StreamSubscriptions(
            fleet.registry,
            fleet.dispatcher,
            fleet.watches,
            fleet.sessions,
            self.open,
            outbox,
            settings,
            fleet.known_tasks,
        )
        self.standing = StandingStreams(
            self.open, outbox, id, fleet.registry, fleet.pool, self.subscriptions, fleet.sessions, kept
        )
        self.unsolicited = UnsolicitedDelivery(
            fleet.sessions, self.standing, fleet.pool, kept.stream_buffer, kept.replay_bytes
        )

    def run(self) -> list[asyncio.Task[None]]:
        """Begin to look after the streams. Return the tasks that do."""
        return [
            spawn(self.standing.follow_wakeups(), "wake-ups"),
            spawn(self.standing.keep_alive(), "stream-keepalive"),
        ]
