"""What a worker shows of its upstreams in ``/metrics``, beside what ``worker.calls.observer`` counts."""

from __future__ import annotations

from collections.abc import Iterable

from shared.metrics.families import Family, Sample, gauge
from worker.ownership.upstream import Upstream

_LABELS = ("group", "upstream")


def families(upstreams: Iterable[Upstream], most: int) -> list[Family]:
    """Return the calls under way and waiting, of ``most`` upstreams."""
    under_way = gauge("gateway_upstream_in_flight", "Calls under way at an upstream", _LABELS)
    waiting = gauge("gateway_upstream_waiting", "Calls that wait for a place at an upstream (maxConcurrency)", _LABELS)
    for _, upstream in zip(range(most), upstreams, strict=False):
        names = (upstream.spec.name, upstream.spec.id)
        if upstream.traffic.in_flight:
            under_way.samples.append(Sample(names, upstream.traffic.in_flight))
        if upstream.waiting is not None:
            waiting.samples.append(Sample(names, upstream.waiting))
    return [under_way, waiting]
