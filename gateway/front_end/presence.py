"""What a front end tells of itself: its record in Redis, and whether a load balancer should send it requests."""

from __future__ import annotations

import json
import os
import socket

from gateway.fleet.heartbeat import Heartbeat
from gateway.front_end.fleet import FrontEndFleet
from gateway.http.heads import Process
from gateway.streams.open_streams import OpenStreams
from gateway.telemetry.counters import Counters
from shared.errors import RegistryUnavailable
from shared.models import now_s
from shared.registry.members import RETIRING
from shared.settings import FleetSettings
from shared.version import VERSION


class Presence:
    """The front end ``id`` as others see it. ``heartbeat`` keeps its record."""

    def __init__(
        self, settings: FleetSettings, id: str, counters: Counters, fleet: FrontEndFleet, streams: OpenStreams
    ) -> None:
        self._id = id
        self._started_at = now_s()
        self._counters = counters
        self._fleet = fleet
        self._streams = streams
        self.replaced = False
        """Whether another front end serves the same address from now on. Known once this one drains."""
        self.heartbeat = Heartbeat(fleet.frontends, id, self.facts, settings.heartbeat_s)

    def facts(self) -> dict[str, str]:
        """Return what this front end publishes with its heartbeat."""
        counters, fleet = self._counters, self._fleet
        in_flight, streams, sessions, workers = self.holds()
        return {
            "pid": str(os.getpid()),
            "host": socket.gethostname(),
            "started_at": str(self._started_at),
            "supervisor": os.environ.get("GATEWAY_SUPERVISOR_PID", ""),
            "master": str(os.getppid()),
            "version": VERSION,
            "calls": str(counters.calls),
            "errors": str(counters.errors),
            "retries": str(counters.retries),
            "failures": json.dumps(counters.failures),
            "seconds": str(round(counters.seconds, 6)),
            "buckets": json.dumps(counters.buckets),
            "ejected": json.dumps(fleet.ejection.ejected()),
            "in_flight": str(in_flight),
            "streams": str(streams),
            "sessions": str(sessions),
            "workers": str(workers),
            "seen": str(fleet.registry.follower.applied),
        }

    def holds(self) -> tuple[int, int, int, int]:
        """Return how many calls are in flight, streams open, client sessions known, and workers linked."""
        fleet = self._fleet
        return len(fleet.dispatcher.under_way), len(self._streams), len(fleet.sessions.known), len(fleet.pool.links)

    @property
    def ready(self) -> bool:
        """Whether this front end should get traffic."""
        if self.replaced:
            return True  # it is the address that is asked about
        if Process.draining or not self._fleet.registry.follower.ready.is_set():
            return False
        return bool(self._fleet.pool.links)

    async def retire(self) -> None:
        """Begin to drain: connections end with their next answer from now on."""
        try:
            self.replaced = await self._fleet.frontends.marked(self._id, RETIRING) == "1"
        except RegistryUnavailable:
            pass
        Process.draining = True
