"""``gateway.telemetry.prometheus``: the counts, as Prometheus reads them."""

from __future__ import annotations

from gateway.telemetry.counters import Counters
from gateway.telemetry.observer import ANSWERED, ObservedCall
from gateway.telemetry.prometheus import exposition
from shared.models import ServerStatus
from tests.unit.builders import record


def test_counts_of_each_front_end_and_the_times_of_this_one_are_shown() -> None:
    counters = Counters()
    for seconds in (0.002, 0.002, 0.3, 99.0):
        counters.finished(ObservedCall(), ANSWERED, seconds)
    facts = {"calls": "4", "errors": "1", "retries": "2", "failures": '{"timeout":3}', "in_flight": "5", "streams": "6"}
    records = [record("up", "g"), record("down", sequence=2, status=ServerStatus.ERROR)]
    lines = exposition("f1", counters, {"f1": facts, "f2": {}}, records, 7).decode().splitlines()
    for line in (
        'gateway_calls_total{frontend="f1"} 4.0',
        'gateway_calls_total{frontend="f2"} 0.0',
        'gateway_call_errors_total{frontend="f1"} 1.0',
        'gateway_retries_total{frontend="f1"} 2.0',
        'gateway_call_failures_total{code="timeout",frontend="f1"} 3.0',
        'gateway_in_flight{frontend="f1"} 5.0',
        'gateway_streams{frontend="f1"} 6.0',
        'gateway_call_seconds_bucket{frontend="f1",le="0.001"} 0.0',
        'gateway_call_seconds_bucket{frontend="f1",le="0.0025"} 2.0',
        'gateway_call_seconds_bucket{frontend="f1",le="0.5"} 3.0',
        'gateway_call_seconds_bucket{frontend="f1",le="+Inf"} 4.0',
        'gateway_upstream_up{group="g",id="up"} 1.0',
        'gateway_upstream_up{group="down",id="down"} 0.0',
        "gateway_workers 7.0",
    ):
        assert line in lines, line
