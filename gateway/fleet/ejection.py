"""Watches the replicas of each group, and ejects those that do much worse than their siblings.

The driver of ``routing.outliers``, which decides. Each front end decides by its own calls: what one sees of a replica
(a broken link, say) need not be true for another one.
"""

from __future__ import annotations

import asyncio
import itertools
import logging
from collections.abc import Iterable

from gateway.calls.events import Failure
from gateway.calls.in_flight import InFlight
from gateway.fleet.registry_view import RegistryView
from gateway.routing import outliers
from gateway.routing.outliers import Watch
from gateway.routing.routes import Group, Replica
from shared.errors import STATUS
from shared.metrics.tally import Tally
from shared.models import ServerStatus
from shared.settings import RoutingSettings
from shared.tasks import tick

_log = logging.getLogger(__name__)
_LOOK_S = 0.25
_IDLE_S = 1.0
"""How often is looked whether a group has more than one replica."""
_HANGS_S = 1.0
"""A trial that is slow and not answered for so long has failed. What is answered sooner is judged by its answer."""
_OLDEST = 512
"""How many of the oldest calls under way are looked at: those that a replica holds for long are among them."""
Pending = dict[str, dict[str, list[float]]]
"""By replica and tool: the seconds for which calls wait for an answer."""


class Ejection:
    """Ejects replicas of the groups in ``registry``."""

    def __init__(self, registry: RegistryView, settings: RoutingSettings, tally: Tally | None = None) -> None:
        """``tally`` counts ejections, by group and whether the replica failed or was slow."""
        self._tally = tally
        self._registry = registry
        self._settings = settings

    def failed(self, in_flight: InFlight, event: Failure, now: float) -> None:
        """Take note of a call that failed. ``now`` is loop time."""
        replica = in_flight.replica
        if not self._settings.outlier_ejection or not isinstance(replica, Replica) or not blames_upstream(event):
            return
        group = self._registry.catalog.groups.get(replica.record.spec.name)
        watch = replica.watch
        if group is None or watch is None:
            return
        siblings = [one.watch for one in group.replicas if one is not replica and one.watch is not None]
        why = watch.failed(in_flight.call, in_flight.call.name, siblings, self._settings, now)
        if why:
            self._eject(group, replica, why, True, now)

    async def run(self, under_way: Iterable[InFlight]) -> None:
        """Compare latencies a few times a second until cancelled."""
        loop = asyncio.get_running_loop()
        groups: list[Group] = []
        while True:
            await tick(_LOOK_S if groups else _IDLE_S)
            groups = [one for one in self._registry.catalog.groups.values() if len(one.replicas) > 1]
            if not groups:
                continue
            now = loop.time()
            pending = self._pending(under_way, now)
            for group in groups:
                self.look(group, pending, now)

    def look(self, group: Group, pending: Pending, now: float) -> None:
        """Compare the replicas of a group, and eject the slow ones as far as they may be ejected."""
        factor = self._settings.eject_latency_factor
        for replica in group.replicas:
            watch = replica.watch
            if watch is None:
                continue
            watch.relax()
            if not self._settings.outlier_ejection:
                continue
            others = [one for one in group.replicas if one is not replica and one.watch is not None]
            siblings = [one.watch for one in others if one.watch is not None]
            tools = {tool for one in siblings for tool in one.tools()}
            waiting = [pending.get(one.id, {}) for one in others]
            usual = outliers.baselines(siblings, tools, now, waiting, factor) if tools else {}
            if watch.why:
                watch.compare_with(usual)
            elif usual:
                why = outliers.slowness(watch, usual, pending.get(replica.id, {}), factor, now)
                if why:
                    self._eject(group, replica, why, False, now)

    def _pending(self, under_way: Iterable[InFlight], now: float) -> Pending:
        """Return how long calls have waited, and end the trials that wait too long."""
        found: Pending = {}
        for in_flight in itertools.islice(under_way, _OLDEST):
            replica = in_flight.replica
            if not isinstance(replica, Replica) or replica.watch is None or in_flight.asked or in_flight.standing:
                continue
            tool, age = in_flight.call.name, now - in_flight.started_at
            found.setdefault(replica.id, {}).setdefault(tool, []).append(age)
            watch = replica.watch
            if age >= _HANGS_S and watch.trial is in_flight.call and watch.is_slow(tool, age):
                watch.eject(f"its trial took more than {age * 1000:.0f} ms", False, self._settings, now)
                self._count(replica.record.spec.name, failing=False)
        return found

    def _eject(self, group: Group, replica: Replica, why: str, failing: bool, now: float) -> None:
        watch = replica.watch
        assert watch is not None
        able = [one for one in group.replicas if one.record.status is ServerStatus.CONNECTED and one.record.owners]
        ejected = sum(one.watch is not None and bool(one.watch.why) for one in able)
        if not watch.why and not outliers.room(len(able), ejected, self._settings):
            return
        watch.eject(why, failing, self._settings, now)
        self._count(group.name, failing)
        _log.warning("replica %s of %s gets no calls for %.3g s: %s", replica.id, group.name, watch.until - now, why)

    def _count(self, group: str, failing: bool) -> None:
        if self._tally is not None:
            self._tally.count(group, "failing" if failing else "slow")

    def state(self, replica: Replica, now: float) -> str:
        """Return why a replica is kept from calls now, and for how long, or nothing if it is not."""
        watch: Watch | None = replica.watch
        if watch is not None and watch.why:
            left = watch.until - now
            return f"ejected: {watch.why}; " + (f"tried again in {left:.0f} s" if left > 0 else "to be tried again")
        if replica.avoid_until > now:
            return f"avoided for {replica.avoid_until - now:.0f} s"
        return ""

    def ejected_of_groups(self) -> list[tuple[str, str]]:
        """Return the ejected replicas, each behind the name of its group."""
        replicas = self._registry.catalog.replicas
        return [(one.record.spec.name, one.id) for one in replicas if one.watch and one.watch.why]

    def ejected(self) -> dict[str, str]:
        """Return the ejected replicas, and why each is."""
        return {one.id: one.watch.why for one in self._registry.catalog.replicas if one.watch and one.watch.why}


def blames_upstream(event: Failure) -> bool:
    """Return whether a failure is one of the upstream: HTTP 5xx, a connection that broke or was refused, or a time-out.

    The gateway's own failures (a worker that died, a queue that was full) say nothing about the upstream, and what a
    client can bring about with its request alone does not count either.
    """
    if event.code == "timeout":
        return event.delivered
    if event.code == "upstream_unavailable":
        status = event.data.get(STATUS, "")
        return status >= "500" if status else event.delivered or "certain" in event.data
    return event.code == "outcome_unknown" and "upstream" in event.data
