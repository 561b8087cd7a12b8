"""The families of a front end, beside those of its ``counters``: what it holds now, and the state of upstreams."""

from __future__ import annotations

import os
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator

from gateway.telemetry.counters import Counters
from shared.choices import Duty, Pin
from shared.metrics.families import Family, Sample, gauge
from shared.models import ServerStatus
from shared.registry.records import UpstreamRecord


def single(name: str, text: str, value: float) -> Family:
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
            single("gateway_in_flight", "Calls in flight", in_flight),
            single("gateway_in_flight_limit", "Calls that may be in flight (maxInflight)", self._max_in_flight),
            single("gateway_streams", "Standing streams", streams),
            single("gateway_sessions", "Client sessions that front ends know", sessions),
            linked,
            *self._others(),
        ]

    def known(self) -> Iterator[Family]:
        """Yield the state of upstreams, which every front end knows alike, a family at a time: each is one look at all
        of them, and others can have a turn in between."""
        records, now = [((one.spec.name, one.spec.id), one) for one in self._records()], time.time()
        yield _of_upstreams(
            "up",  # nobody shall be woken by what was switched off
            "1 while an upstream is connected",
            ((names, one.status is ServerStatus.CONNECTED) for names, one in records if one.duty is not Duty.DISABLED),
        )
        yield _of_upstreams(
            "duty",
            "1 for an upstream that somebody drains or disabled",
            (((*names, one.duty.value), 1) for names, one in records if one.duty is not Duty.ACTIVE),
            "duty",
        )
        yield _of_upstreams(
            "status_since_seconds",
            "Since when an upstream has its status, Unix time",
            ((names, one.status_since) for names, one in records),
        )
        probed = [(names, one.health) for names, one in records if one.health is not None]
        yield _of_upstreams(
            "healthy",
            "1 when an upstream answered its last probe",
            ((names, health.healthy) for names, health in probed),
        )
        yield _of_upstreams(
            "probe_seconds",
            "How long the answer to the last probe took",
            ((names, health.latency_ms / 1000) for names, health in probed if health.latency_ms is not None),
        )
        yield _of_upstreams(
            "listed_age_seconds",
            "Age of the lists of an upstream",
            ((names, max(now - one.catalog.listed_at, 0.0)) for names, one in records if one.catalog.listed_at),
        )
        text = "Tools of a pinned upstream that are not as they were approved"
        pinned = gauge("gateway_pinned_tools_differing", text, ("group", "upstream", "pin"))
        pinned.samples += [
            Sample((*names, one.spec.pin.value), self._differing(one.spec.id))
            for names, one in records
            if one.spec.pin is not Pin.OFF
        ]
        yield pinned
        statuses = Counter(one.status.value for _, one in records)
        by_status = gauge("gateway_upstreams", "Upstreams by status", ("status",))
        by_status.samples += [Sample((status.value,), statuses[status.value]) for status in ServerStatus]
        yield by_status
        yield single("gateway_tools", "Tools listed at /mcp", self._tools())


def _of_upstreams(name: str, text: str, values: Iterable[tuple[tuple[str, ...], float]], *more: str) -> Family:
    """Return a gauge of upstreams, with further labels if there are ``more``."""
    family = gauge(f"gateway_upstream_{name}", text, ("group", "upstream", *more))
    family.samples += [Sample(labels, value) for labels, value in values]
    return family
