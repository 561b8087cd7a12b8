"""Two sides under the same load in turns of a second: a pair's ratio does not depend on the machine's mood.

That mood changes from second to second (a neighbour's work can double what ours costs). So each pair is a measurement
of its own, and one that such a burst fell into does not spoil the others.

wrk sees only HTTP statuses. So that JSON-RPC errors are not counted as fast calls, one call is looked at beforehand,
and every turn's answers must be as long as that one.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from loadtest import wire
from loadtest.bench import accounting
from loadtest.bench.figures import median
from loadtest.bench.load import Load, LoadFailed, Sample, drive, put
from loadtest.bench.plan import Plan
from loadtest.bench.subject import exchange

_SAME_LENGTH = 0.05


@dataclass(frozen=True)
class Side:
    """What is loaded: where it listens, and whose CPU it costs."""

    port: int
    pids: Sequence[int]
    load: Load


@dataclass(frozen=True)
class Cost:
    """One turn of one side. ``cpu_us`` is CPU time per call."""

    cpu_us: float
    per_second: float
    p50_ms: float
    p99_ms: float
    bytes_per_call: float


@dataclass(frozen=True)
class Comparison:
    """Pairs of turns: (subject, reference)."""

    turns: tuple[tuple[Cost, Cost], ...] = ()

    def __add__(self, other: Comparison) -> Comparison:
        """The turns of both."""
        return Comparison(self.turns + other.turns)

    def ratios(self, of: Callable[[Cost], float]) -> tuple[float, ...]:
        """Subject over reference, pair by pair."""
        return tuple(of(subject) / of(reference) for subject, reference in self.turns)

    def medians(self, of: Callable[[Cost], float]) -> tuple[float, float]:
        """Of the subject and of the reference."""
        subjects, references = zip(*self.turns, strict=True)
        return median([of(cost) for cost in subjects]), median([of(cost) for cost in references])

    def note(self, of: Callable[[Cost], float], unit: str, name: str = "R") -> str:
        """The absolute figures."""
        subject, reference = self.medians(of)
        return f"{subject:,.4g} {unit}; {name} {reference:,.4g}"


def length_of_a_good_answer(side: Side) -> int:
    """Bytes on the wire of one call's answer. Raises ``LoadFailed`` when it is an error."""
    status, headers, body = exchange(side.port, side.load.requests[0])
    answer = wire.read(headers.get("content-type", ""), body)
    if answer.error or status >= 400:
        raise LoadFailed(f"HTTP {status}: {answer.error}")
    return (
        len(body) + sum(len(name) + len(value) + 4 for name, value in headers.items()) + len("HTTP/1.1 200 OK\r\n\r\n")
    )


def same_length(sample: Sample, expected: int, connections: int) -> bool:
    """Whether answers were as long as ``expected``; what was under way at the end counts as bytes, but as no call."""
    slack = expected * _SAME_LENGTH
    under_way = expected * connections / sample.calls
    return expected - slack <= sample.bytes_per_call <= expected + slack + under_way


def measure(side: Side, seconds: float) -> Cost:
    """One turn. Raises ``LoadFailed`` when calls failed."""
    expected = length_of_a_good_answer(side)
    before = accounting.cpu_s(side.pids)
    sample = put(side.port, side.load, seconds)
    if not same_length(sample, expected, side.load.connections):
        raise LoadFailed(f"answers of {sample.bytes_per_call:.0f} bytes, where a good one has {expected}")
    return _cost(sample, accounting.cpu_s(side.pids) - before)


def _cost(sample: Sample, cpu_s: float) -> Cost:
    return Cost(
        cpu_s / sample.calls * 1e6,
        sample.calls / sample.seconds,
        sample.p50_ms,
        sample.p99_ms,
        sample.bytes_per_call,
    )


def compare(subject: Side, reference: Side, plan: Plan) -> Comparison:
    """As many rounds of each as planned, in turns; who begins alternates too."""
    if plan.warm_up_s:
        for side in (reference, subject):
            drive(side.port, side.load, plan.warm_up_s)
    turns = max(1, round(plan.seconds))
    pairs = (_pair(subject, reference, plan.seconds / turns, bool(n % 2)) for n in range(plan.rounds * turns))
    return Comparison(tuple(pairs))


def _pair(subject: Side, reference: Side, seconds: float, subject_first: bool) -> tuple[Cost, Cost]:
    if subject_first:
        ours = measure(subject, seconds)
        return ours, measure(reference, seconds)
    theirs = measure(reference, seconds)
    return measure(subject, seconds), theirs


def cpu(cost: Cost) -> float:
    """CPU per call."""
    return cost.cpu_us


def rate(cost: Cost) -> float:
    """Calls a second."""
    return cost.per_second
