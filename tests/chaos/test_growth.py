"""``tests.chaos.growth``: what counts as growing."""

from __future__ import annotations

import pytest

from tests.chaos.growth import Sample, growth


def _samples(memory: list[float], descriptors: list[int] | None = None) -> list[Sample]:
    """One each ten seconds."""
    files = descriptors or [50] * len(memory)
    return [Sample(10.0 * at, mib, count) for at, (mib, count) in enumerate(zip(memory, files, strict=True))]


def test_a_process_that_grows_at_first_only_does_not_grow() -> None:
    found = growth(_samples([10 + at for at in range(20)] + [30.0] * 20))
    assert found.problems == [] and found.slope_mib_a_min == pytest.approx(0)


def test_a_leak_is_seen_in_noise() -> None:
    noise = [0.4 * ((at * 7) % 5) for at in range(60)]
    assert growth(_samples([30 + one for one in noise])).problems == []
    found = growth(_samples([30 + one + 0.1 * at for at, one in enumerate(noise)]))
    assert found.slope_mib_a_min == pytest.approx(0.6, abs=0.1) and "memory grows" in found.problems[0]


def test_descriptors_may_waver_and_not_grow() -> None:
    assert growth(_samples([1.0] * 40, [50 + at % 9 for at in range(40)])).problems == []
    assert growth(_samples([1.0] * 80, [20 + at for at in range(80)])).problems == [
        "60 descriptors, and never less, became 80"
    ]
