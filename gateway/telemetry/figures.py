"""The families of a front end, beside those of its ``counters``: what it holds now, and the state of upstreams."""

from __future__ import annotations

import os
import time
from collections import Counter
from collections.abc import Callable, Iterable

from gateway.telemetry.counters import Counters
from shared.choices import Duty, Pin
from shared.metrics.families import Family, Sample, gauge
from shared.models import ServerStatus
from shared.registry.records import UpstreamRecord


def one(name: str, text: str, value: float) -> Family:
    """Return a gauge without labels, of which the sum over processes is shown."""
    family = gauge(name, text)
    family.samples.append(Sample((), value))
    return family


class FrontEndFigures:
    """The families of one front end. ``holds`` returns what it holds now: in flight, streams, sessions, workers.
    ``differing`` returns how many tools of a pinned upstream are not as they were approved, ``others`` what else there
    is."""

    def __init__(
        self,
        counters: Counters,
        holds: Callable[[], tuple[int, int, int, int]],
        max_in_flight: int,
        records: Callable[[], Iterable[UpstreamRecord]],
        tools: Callable[[], int],
        differing: Callable[[str], int] = lambda upstream: 0,
        others: Callable[[], list[Family]] = list,
    ) -> None:
        self._others = others
        self._counters = counters
        self._holds = holds
        self._max_in_flight = max_in_flight
        self._records = records
        self._tools = tools
        self._differing = differing

    def counted(self) -> list[Family]:
        """Return what this front end counts and holds; the processes of an instance are added up."""
        in_flight, streams, sessions, workers = self._holds()
        linked = gauge("gateway_workers", "Workers to which a front end has a link", ("process", "pid"), "own")
        linked.samples.append(Sample(("frontend", str(os.getpid())), workers))
        return [
            *self._counters.families(),
            one("gateway_in_flight", "Calls in flight", in_flight),
            one("gateway_in_flight_limit", "Calls that may be in flight (maxInflight)", self._max_in_flight),
            one("gateway_streams", "Standing streams", streams),
            one("gateway_sessions", "Client sessions that front ends know", sessions),
            linked,
            *self._others(),
        ]

    def known(self) -> list[Family]:
        """Return the state of upstreams, which every front end knows alike."""
        labels = ("group", "upstream")
        up = gauge("gateway_upstream_up", "1 while an upstream is connected", labels)
        since = gauge(
            "gateway_upstream_status_since_seconds", "Since when an upstream has its status, Unix time", labels
        )
        healthy = gauge("gateway_upstream_healthy", "1 when an upstream answered its last probe", labels)
        latency = gauge("gateway_upstream_probe_seconds", "How long the answer to the last probe took", labels)
        listed = gauge("gateway_upstream_listed_age_seconds", "Age of the lists of an upstream", labels)
        pinned = gauge(
            "gateway_pinned_tools_differing",
            "Tools of a pinned upstream that are not as they were approved",
            (*labels, "pin"),
        )
        duty = gauge(
            "gateway_upstream_duty", "1 for an upstream that an operator drains or disabled", (*labels, "duty")
        )
        now, statuses = time.time(), Counter({status.value: 0 for status in ServerStatus})
        for record in self._records():
            names = (record.spec.name, record.spec.id)
            statuses[record.status.value] += 1
            if record.duty is not Duty.ACTIVE:
                duty.samples.append(Sample((*names, record.duty.value), 1))
            if record.duty is not Duty.DISABLED:  # nobody shall be woken by what was switched off
                up.samples.append(Sample(names, record.status is ServerStatus.CONNECTED))
            since.samples.append(Sample(names, record.status_since))
            if record.spec.pin is not Pin.OFF:
                differing = self._differing(record.spec.id)
                pinned.samples.append(Sample((*names, record.spec.pin.value), differing))
            if record.health is not None:
                healthy.samples.append(Sample(names, record.health.healthy))
                if record.health.latency_ms is not None:
                    latency.samples.append(Sample(names, record.health.latency_ms / 1000))
            if record.catalog.listed_at:
                listed.samples.append(Sample(names, max(now - record.catalog.listed_at, 0.0)))
        by_status = gauge("gateway_upstreams", "Upstreams by status", ("status",))
        by_status.samples += [Sample((status,), count) for status, count in statuses.items()]
        tools = one("gateway_tools", "Tools listed at /mcp", self._tools())
        return [
            up,
            duty,
            since,
            healthy,
            latency,
            listed,
            pinned,
            by_status,
            tools,
        ]
