"""Counts of this front end's calls: plain slots, read by the heartbeat and ``/metrics``. An increment costs 0.05 µs.

What is counted by name is bounded: the first ``max_tools`` tools have rows of their own, all further ones are counted
as ``other``, and so are upstreams and groups once there are ``_ROWS_PER_TOOL`` times as many rows.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable

from gateway.telemetry.observer import ABANDONED, ANSWERED, LISTENING, UPSTREAM_ERROR, ObservedCall
from shared.mcp.versions import Era
from shared.metrics.families import BUCKETS_S, Family, Sample, counter, histogram

_NO_ERRORS = (ABANDONED, LISTENING)
OTHER = "other"
"""The name under which is counted what has no row of its own."""
_CALL = "tools/call"
_ROWS_PER_TOOL = 10
CALL_LABELS = ("group", "upstream", "tool", "method", "era", "outcome")
_Key = tuple[str, str, str, str, str]
_Row = tuple[Sample, Sample]
"""How many calls, and the seconds to their answers: the samples that are shown, so that showing them costs little."""


class Durations:
    """How long answers took: a count for each limit in ``BUCKETS_S`` and one for what took longer, and their sum."""

    __slots__ = ("buckets", "seconds")

    def __init__(self) -> None:
        self.buckets = [0] * (len(BUCKETS_S) + 1)
        self.seconds = 0.0


class Counters:
    """The first ``CallObserver``: counts since this process started.

    ``calls`` counts calls that were answered or failed, ``errors`` those that the upstream answered with an error,
    ``failures`` by error code those that failed in the gateway. ``buckets`` and ``seconds`` are the durations of
    answered calls. ``principals`` counts calls, errors and seconds by who called, where callers are authenticated.
    ``families`` has all of it by name. ``on_failure``, if given, is called with each call that was not
    answered with a result.
    """

    hears_begun = False
    __slots__ = (
        "_groups",
        "_legacy",
        "_max_tools",
        "_modern",
        "_on_failure",
        "_tools",
        "calls",
        "errors",
        "failures",
        "principals",
        "repeats",
    )

    def __init__(
        self, max_tools: int = 1000, on_failure: Callable[[ObservedCall, str, float], None] | None = None
    ) -> None:
        self.calls = 0
        self.errors = 0
        self.repeats: dict[str, int] = {}
        self.failures: dict[str, int] = {}
        self.principals: dict[str, list[float]] = {}
        self._on_failure = on_failure
        self._max_tools = max_tools
        self._tools: set[tuple[str, str]] = set()
        self._groups: dict[str, Durations] = {}
        self._modern: dict[_Key, _Row] = {}
        self._legacy: dict[_Key, _Row] = {}

    @property
    def retries(self) -> int:
        """How many attempts were not a call's first."""
        return sum(self.repeats.values())

    @property
    def seconds(self) -> float:
        """The sum of the durations of answered calls."""
        return sum(one.seconds for one in self._groups.values())

    @property
    def buckets(self) -> list[int]:
        """The durations of all answered calls, as in ``Durations``."""
        rows = [one.buckets for one in self._groups.values()] or [Durations().buckets]
        return [sum(column) for column in zip(*rows, strict=True)]

    def begun(self, call: ObservedCall) -> None:
        """Do nothing: a call counts when it is over."""

    def attempted(self, call: ObservedCall, upstream: str, worker: str) -> None:
        """Count an attempt that is not the first as a retry."""
        call.upstream = upstream
        if call.attempts > 1:
            group = call.group if call.group in self.repeats or len(self.repeats) < self._max_tools else OTHER
            self.repeats[group] = self.repeats.get(group, 0) + 1

    def attempt_failed(self, call: ObservedCall, code: str) -> None:
        """Do nothing: the end of the call counts."""

    def finished(self, call: ObservedCall, outcome: str, seconds: float) -> None:
        """Count an answer or a failure; calls whose client left, and listens, have rows but do not count."""
        rows = self._modern if call.era else self._legacy
        name = call.name if call.method == _CALL else ""
        try:
            count, time = rows[call.group, call.upstream, name, call.method, outcome]
        except KeyError:
            count, time = self._row(rows, (call.group, call.upstream, name, call.method, outcome))
        count.value += 1
        if call.principal:
            try:
                who = self.principals[call.principal]
            except KeyError:
                who = self._principal(call.principal)
            who[0] += 1
            who[1] += outcome is not ANSWERED and outcome not in _NO_ERRORS
            who[2] += seconds
        if outcome is ANSWERED or outcome is UPSTREAM_ERROR:
            self.calls += 1
            time.value += seconds
            try:
                durations = self._groups[call.group]
            except KeyError:
                durations = self._durations(call.group)
            durations.seconds += seconds
            durations.buckets[bisect_left(BUCKETS_S, seconds)] += 1
            if outcome is UPSTREAM_ERROR:
                self.errors += 1
                if self._on_failure is not None:
                    self._on_failure(call, outcome, seconds)
        elif outcome not in _NO_ERRORS:
            self.calls += 1
            self.failures[outcome] = self.failures.get(outcome, 0) + 1
            if self._on_failure is not None:
                self._on_failure(call, outcome, seconds)

    def _row(self, rows: dict[_Key, _Row], key: _Key) -> _Row:
        """Return the row of a call that has none yet under its own names."""
        group, upstream, tool, method, outcome = key
        if tool and (group, tool) not in self._tools:
            if len(self._tools) < self._max_tools:
                self._tools.add((group, tool))
            else:
                tool = OTHER
        if len(self._modern) + len(self._legacy) >= self._max_tools * _ROWS_PER_TOOL:
            group, upstream, tool, method = OTHER, OTHER, OTHER if tool else "", OTHER
        key = (group, upstream, tool, method, outcome)
        if key not in rows:
            labels = (group, upstream, tool, method, Era(rows is self._modern).word, outcome)
            rows[key] = Sample(labels, 0), Sample(labels, 0.0)
        return rows[key]

    def _principal(self, id: str) -> list[float]:
        """Return the row of a principal that has none yet."""
        name = id if len(self.principals) < self._max_tools else OTHER
        return self.principals.setdefault(name, [0, 0, 0.0])

    def _durations(self, group: str) -> Durations:
        name = group if len(self._groups) < self._max_tools else OTHER
        return self._groups.setdefault(name, Durations())

    def families(self) -> list[Family]:
        """Return all counts. The samples are those that go on counting."""
        calls = counter("gateway_calls", "Calls that are over, by what became of them", CALL_LABELS)
        seconds = counter("gateway_call_seconds", "Time to the answers of answered calls", CALL_LABELS)
        for rows in (self._legacy, self._modern):
            for count, time in rows.values():
                calls.samples.append(count)
                if time.value:
                    seconds.samples.append(time)
        durations = histogram("gateway_call_duration_seconds", "Time to the answer, of answered calls", ("group",))
        for group, one in list(self._groups.items()):
            durations.samples.append(Sample((group,), one.seconds, list(one.buckets)))
        retries = counter("gateway_retries", "Attempts that were not a call's first", ("group",))
        retries.samples += [Sample((group,), count) for group, count in list(self.repeats.items())]
        return [calls, seconds, durations, retries, *self._of_principals()]

    def _of_principals(self) -> list[Family]:
        """Return what was counted by principal. Who called is for those with admin rights, not for ``/metrics``."""
        found = []
        for place, name in enumerate(("calls", "errors", "seconds")):
            family = counter(f"gateway_principal_{name}", "By who called", ("principal",))
            family.samples += [Sample((who,), row[place]) for who, row in list(self.principals.items())]
            family.private = True
            found.append(family)
        return found
