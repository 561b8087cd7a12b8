"""``gateway.telemetry.counters``: what observers are told, as counts."""

from __future__ import annotations

import pytest

from gateway.admin.overview import traffic
from gateway.telemetry.counters import Counters
from gateway.telemetry.observer import ABANDONED, ANSWERED, LISTENING, UPSTREAM_ERROR, ObservedCall, Observers
from shared.metrics.exposition import exposition
from shared.metrics.families import BUCKETS_S
from tests.unit.gateway.fakes import Heard


def _finished(*outcomes: str, seconds: float = 0.5) -> Counters:
    counters = Counters()
    for outcome in outcomes:
        call = ObservedCall()
        counters.begun(call)
        counters.finished(call, outcome, seconds)
    return counters


@pytest.mark.parametrize(
    ("outcome", "calls", "errors", "failures", "seconds"),
    [
        (ANSWERED, 1, 0, {}, 0.5),
        (UPSTREAM_ERROR, 1, 1, {}, 0.5),
        ("timeout", 1, 0, {"timeout": 1}, 0.0),
        ("overloaded", 1, 0, {"overloaded": 1}, 0.0),
        (ABANDONED, 0, 0, {}, 0.0),
        (LISTENING, 0, 0, {}, 0.0),
    ],
)
def test_each_outcome_is_counted_where_it_belongs(
    outcome: str, calls: int, errors: int, failures: dict[str, int], seconds: float
) -> None:
    counters = _finished(outcome)
    assert (counters.calls, counters.errors, counters.failures) == (calls, errors, failures)
    assert (counters.seconds, sum(counters.buckets)) == (seconds, bool(seconds))


def test_counts_add_up() -> None:
    counters = _finished(ANSWERED, "timeout", UPSTREAM_ERROR, "timeout", ABANDONED, "overloaded", seconds=2.0)
    assert (counters.calls, counters.errors, counters.seconds) == (5, 1, 4.0)
    assert counters.failures == {"timeout": 2, "overloaded": 1}


@pytest.mark.parametrize(("attempts", "retries"), [(1, 0), (2, 1), (3, 2)])
def test_every_attempt_but_the_first_is_a_retry(attempts: int, retries: int) -> None:
    counters, call = Counters(), ObservedCall()
    for number in range(1, attempts + 1):
        call.attempts = number
        counters.attempted(call, "up", "w1")
    assert (counters.retries, counters.calls) == (retries, 0)


@pytest.mark.parametrize(
    ("seconds", "bucket"),
    [(0.0, 0), (0.001, 0), (0.0011, 1), (0.02, 4), (1.0, 9), (30.0, 13), (31.0, 14), (1e9, 14)],
)
def test_an_answer_is_in_the_bucket_of_its_duration(seconds: float, bucket: int) -> None:
    buckets = _finished(ANSWERED, seconds=seconds).buckets
    assert buckets.index(1) == bucket and sum(buckets) == 1
    assert len(buckets) == len(BUCKETS_S) + 1


def test_several_observers_hear_the_same_in_their_order() -> None:
    first, second, counters = Heard(), Heard(), Counters()
    observers, call = Observers(first, second, counters), ObservedCall(attempts=2)
    observers.begun(call)
    observers.attempted(call, "up", "w1")
    observers.finished(call, ANSWERED, 0.5)
    told = [("begun", 0), ("attempted", 0, "up", "w1"), ("finished", 0, ANSWERED)]
    assert first.notes == second.notes == told
    assert first.seconds == [0.5]
    assert (counters.calls, counters.retries) == (1, 1)


def test_who_called_is_counted_apart_bounded_and_not_for_metrics() -> None:
    counters = Counters(max_tools=2)
    for principal, outcome in (("a", ANSWERED), ("a", "timeout"), ("a", ABANDONED), ("", ANSWERED), ("b", ANSWERED)):
        counters.finished(ObservedCall(principal=principal), outcome, 0.5)
    for principal in ("c", "d"):
        counters.finished(ObservedCall(principal=principal), UPSTREAM_ERROR, 0.5)
    assert counters.principals == {"a": [3, 1, 1.5], "b": [1, 0, 0.5], "other": [2, 2, 1.0]}
    assert "principal" not in exposition(counters.families()).decode()
    (found,) = [one for one in traffic(counters.families()).principals if one.errors == 1]
    assert (found.principal, found.calls, found.seconds) == ("a", 3, 1.5)


def test_calls_that_were_not_answered_with_a_result_are_told() -> None:
    told: list[str] = []
    counters = Counters(on_failure=lambda call, outcome, seconds: told.append(outcome))
    for outcome in (ANSWERED, UPSTREAM_ERROR, ABANDONED, "timeout", LISTENING):
        counters.finished(ObservedCall(), outcome, 0.5)
    assert told == [UPSTREAM_ERROR, "timeout"]
