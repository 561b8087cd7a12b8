"""Pictures of the whole: the state of the gateway in one answer, and what was called how often.

Pure but for the clock.

The dashboard and ``gateway top`` ask for these every few seconds, so they are made from memory.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping

from gateway.admin.schemas import (
    FrontEndState,
    OpenFiles,
    Place,
    Topology,
    Traffic,
    TrafficOfGroup,
    TrafficOfPrincipal,
    TrafficOfTool,
    TrafficOfUpstream,
    WorkerPlace,
    WorkerState,
)
from gateway.telemetry.observer import ABANDONED, ANSWERED, LISTENING
from shared.metrics.families import Family, Sample
from shared.models import ServerStatus, now_s
from shared.registry.records import UpstreamRecord

_CALLS, _SECONDS, _DURATIONS = "gateway_calls", "gateway_call_seconds", "gateway_call_duration_seconds"
_PRINCIPAL_CALLS, _PRINCIPAL_ERRORS = "gateway_principal_calls", "gateway_principal_errors"
_PRINCIPAL_SECONDS = "gateway_principal_seconds"
_UPSTREAM, _WAITING = "gateway_upstream_duration_seconds", "gateway_upstream_waiting"


def statuses(records: Iterable[UpstreamRecord]) -> dict[str, int]:
    """Return how many upstreams have each status."""
    found = Counter(record.status.value for record in records)
    return {status.value: found[status.value] for status in ServerStatus}


def topology(frontends: list[FrontEndState], workers: list[WorkerState], records: Iterable[UpstreamRecord]) -> Topology:
    """Return who carries what. What a dead worker had is nobody's."""
    carried: dict[str, list[Place]] = {one.id: [] for one in workers}
    unowned: list[Place] = []
    for record in records:
        owners = [(slot, worker) for slot, worker in record.owners if worker in carried]
        places = [(worker, slot == 0) for slot, worker in owners] or [("", False)]
        for worker, leads in places:
            place = Place(record.spec.id, record.spec.name, record.status.value, record.duty, leads)
            (carried[worker] if worker else unowned).append(place)
    return Topology(frontends, [WorkerPlace(one, carried[one.id]) for one in workers], unowned)


def open_files(counted: Iterable[Family]) -> list[OpenFiles]:
    """Return how many descriptors each process has open, of how many it may."""
    families = {family.name: family for family in counted}
    most = dict(_series(families.get("process_max_fds")))
    return [
        OpenFiles(labels[0], int(labels[1]), int(value), int(most[labels]))
        for labels, value in _series(families.get("process_open_fds"))
        if labels in most
    ]


def traffic(counted: Iterable[Family]) -> Traffic:
    """Return what the live processes counted since they started, by group, tool, upstream and principal; ``counted`` is
    what they counted, added up."""
    families = {family.name: family for family in counted}
    tools: dict[tuple[str, str], TrafficOfTool] = {}
    groups: dict[str, TrafficOfGroup] = {}
    failed_at: Counter[tuple[str, str]] = Counter()
    for (group, upstream, tool, _, _, outcome), count in _series(families.get(_CALLS)):
        failed = int(count) if outcome not in (ANSWERED, ABANDONED, LISTENING) else 0
        of_group = groups.setdefault(group, TrafficOfGroup(group))
        of_group.calls += int(count)
        of_group.errors += failed
        failed_at[group, upstream] += failed
        if tool:
            of_tool = tools.setdefault((group, tool), TrafficOfTool(group, tool))
            of_tool.calls += int(count)
            of_tool.errors += failed
    for (group, _, tool, _, _, _), seconds in _series(families.get(_SECONDS)):
        if (group, tool) in tools:
            tools[group, tool].seconds += seconds
    for sample in _samples(families.get(_DURATIONS)):
        of_group = groups.setdefault(sample.labels[0], TrafficOfGroup(sample.labels[0]))
        of_group.buckets, of_group.seconds = sample.buckets, sample.value
    upstreams: dict[tuple[str, ...], TrafficOfUpstream] = {}
    for sample in _samples(families.get(_UPSTREAM)):
        of, upstream = sample.labels
        upstreams[sample.labels] = TrafficOfUpstream(
            of, upstream, sum(sample.buckets), sample.value, sample.buckets, failed_at[of, upstream]
        )
    for (of, upstream), waiting in _series(families.get(_WAITING)):
        upstreams.setdefault((of, upstream), TrafficOfUpstream(of, upstream)).waiting = int(waiting)
    return Traffic(
        now_s(), list(groups.values()), list(tools.values()), list(upstreams.values()), _principals(families)
    )


def _principals(families: Mapping[str, Family]) -> list[TrafficOfPrincipal]:
    found: dict[str, TrafficOfPrincipal] = {}
    for (who,), calls in _series(families.get(_PRINCIPAL_CALLS)):
        found[who] = TrafficOfPrincipal(who, int(calls))
    for (who,), errors in _series(families.get(_PRINCIPAL_ERRORS)):
        found[who].errors = int(errors)
    for (who,), seconds in _series(families.get(_PRINCIPAL_SECONDS)):
        found[who].seconds = seconds
    return list(found.values())


def _samples(family: Family | None) -> list[Sample]:
    return family.samples if family is not None else []


def _series(family: Family | None) -> Iterable[tuple[tuple[str, ...], float]]:
    return ((sample.labels, sample.value) for sample in _samples(family))
