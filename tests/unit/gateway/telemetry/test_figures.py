"""``gateway.telemetry``: what a front end counted and knows, by name and bounded."""

from __future__ import annotations

from gateway.telemetry.counters import OTHER, Counters
from gateway.telemetry.figures import FrontEndFigures
from gateway.telemetry.observer import ABANDONED, ANSWERED, ObservedCall
from shared.metrics.exposition import exposition
from shared.models import ServerStatus
from tests.unit.builders import record


def _call(tool: str = "echo", group: str = "g", method: str = "tools/call", era: int = 1) -> ObservedCall:
    return ObservedCall(method=method, name=tool, group=group, era=era)


def _end(counters: Counters, call: ObservedCall, outcome: str = ANSWERED, seconds: float = 0.002) -> None:
    call.attempts = 1
    counters.attempted(call, f"{call.group}-1", "w1")
    counters.finished(call, outcome, seconds)


def _lines(counters: Counters) -> list[str]:
    return exposition(counters.families()).decode().splitlines()


def test_calls_are_counted_by_what_they_were_and_what_became_of_them() -> None:
    counters = Counters()
    for outcome in (ANSWERED, ANSWERED, "timeout", ABANDONED):
        _end(counters, _call(), outcome)
    _end(counters, _call(era=0), seconds=99.0)
    _end(counters, _call("file:///secret", method="resources/read"))
    counters.finished(_call(), "upstream_unavailable", 0.0)
    lines = _lines(counters)
    labels = 'group="g",upstream="g-1",tool="echo",method="tools/call",era="modern"'
    read = labels.replace("echo", "").replace("tools/call", "resources/read")
    for line in (
        f'gateway_calls_total{{{labels},outcome="answered"}} 2',
        f'gateway_calls_total{{{labels},outcome="timeout"}} 1',
        f'gateway_calls_total{{{labels},outcome="abandoned"}} 1',
        f'gateway_call_seconds_total{{{labels},outcome="answered"}} 0.004',
        f'gateway_calls_total{{{labels.replace("modern", "legacy")},outcome="answered"}} 1',
        f'gateway_calls_total{{{read},outcome="answered"}} 1',
        f'gateway_calls_total{{{labels.replace("g-1", "")},outcome="upstream_unavailable"}} 1',
        'gateway_call_duration_seconds_bucket{group="g",le="0.0025"} 3',
        'gateway_call_duration_seconds_bucket{group="g",le="30"} 3',
        'gateway_call_duration_seconds_count{group="g"} 4',
    ):
        assert line in lines, line
    assert not any("secret" in line for line in lines), "what is read is not for a label"


def test_however_many_names_there_are_the_figures_stay_few_and_add_up() -> None:
    counters = Counters(max_tools=10)
    for number in range(1000):
        _end(counters, _call(f"t{number}", f"g{number}"))
        counters.attempted(ObservedCall(group=f"g{number}", attempts=2), "u", "w")
    families = counters.families()
    assert all(len(family.samples) <= 111 for family in families), [len(one.samples) for one in families]
    assert sum(sample.value for sample in families[0].samples) == 1000
    assert sum(sum(sample.buckets) for sample in families[2].samples) == 1000
    assert any(OTHER in sample.labels for sample in families[0].samples)
    assert counters.retries == 1000


def test_a_call_that_is_sent_again_counts_where_it_went_last() -> None:
    counters, call = Counters(), _call()
    for number, upstream in enumerate(("a", "b"), start=1):
        call.attempts = number
        counters.attempted(call, upstream, "w")
    counters.finished(call, ANSWERED, 0.1)
    lines = _lines(counters)
    assert 'gateway_retries_total{group="g"} 1' in lines
    assert any('upstream="b"' in line for line in lines) and not any('upstream="a"' in line for line in lines)


def test_the_state_of_upstreams_is_shown_once() -> None:
    records = [record("up", "g"), record("down", sequence=2, status=ServerStatus.ERROR)]
    figures = FrontEndFigures(Counters(), lambda: (5, 6, 7, 2), 100, lambda: records, lambda: 3)
    lines = exposition([*figures.counted(), *figures.known()]).decode().splitlines()
    for line in (
        "gateway_in_flight 5",
        "gateway_in_flight_limit 100",
        "gateway_streams 6",
        "gateway_sessions 7",
        'gateway_upstream_up{group="g",upstream="up"} 1',
        'gateway_upstream_up{group="down",upstream="down"} 0',
        'gateway_upstreams{status="connected"} 1',
        'gateway_upstreams{status="error"} 1',
        'gateway_upstreams{status="stopped"} 0',
        "gateway_tools 3",
    ):
        assert line in lines, line


def test_of_many_tools_the_first_have_figures_of_their_own() -> None:
    counters = Counters(max_tools=10)
    for _ in range(2):
        for number in range(50):
            _end(counters, _call(f"t{number}"))
    calls = {sample.labels[2]: sample.value for sample in counters.families()[0].samples}
    assert calls == {**{f"t{number}": 2 for number in range(10)}, OTHER: 80}
