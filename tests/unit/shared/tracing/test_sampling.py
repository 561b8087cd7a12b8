"""Which traces are recorded: alike in all processes, and as OpenTelemetry's SDK decides."""

from __future__ import annotations

import random

import pytest

from shared.errors import ConfigError
from shared.tracing.sampling import NAMES, Sampler, sampler


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("ratio", ["0", "0.25", "1"])
@pytest.mark.parametrize("parent", [None, True, False])
def test_decisions_are_those_of_the_sdk(name: str, ratio: str, parent: bool | None) -> None:
    from opentelemetry import trace
    from opentelemetry.context import Context
    from opentelemetry.sdk.trace import sampling

    plain = {
        "always_on": sampling.ALWAYS_ON,
        "always_off": sampling.ALWAYS_OFF,
        "traceidratio": sampling.TraceIdRatioBased(float(ratio)),
    }[name.removeprefix("parentbased_")]
    theirs = sampling.ParentBased(plain) if name.startswith("parentbased_") else plain
    ours = sampler(name, ratio)
    dice = random.Random(name + ratio)
    for _ in range(200):
        trace_id = dice.getrandbits(128)
        context = None
        if parent is not None:
            flags = trace.TraceFlags(int(parent))
            context = trace.set_span_in_context(
                trace.NonRecordingSpan(trace.SpanContext(trace_id, 5, True, flags)), Context()
            )
        decided = theirs.should_sample(context, trace_id, "x").decision is not sampling.Decision.DROP
        assert ours.takes(trace_id, parent) == decided


def test_a_ratio_takes_its_share() -> None:
    dice = random.Random(7)
    taken = sum(Sampler(1 << 62, False).takes(dice.getrandbits(128)) for _ in range(10_000))
    assert 2300 < taken < 2700


@pytest.mark.parametrize(
    ("name", "argument", "said"),
    [
        ("jaeger_remote", "", "parentbased_traceidratio"),
        ("traceidratio", "1.5", "from 0 to 1"),
        ("traceidratio", "many", "from 0 to 1"),
        ("traceidratio", "nan", "from 0 to 1"),
    ],
)
def test_what_cannot_be_followed_is_refused(name: str, argument: str, said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        sampler(name, argument)
