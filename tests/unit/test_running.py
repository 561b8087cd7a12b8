"""What the tests themselves stand on: deadlines that are scaled."""

from __future__ import annotations

import pytest

from tests import machine


@pytest.mark.parametrize(
    ("slowness", "factor"),
    [(0.5, 1.0), (1.0, 1.0), (1.5, 2.0), (2.0, 3.0), (1000.0, machine.MOST)],
    ids=["fast", "idle", "one of three", "one of four", "hardly running"],
)
def test_what_a_machine_loses_counts_twice_within_bounds(slowness: float, factor: float) -> None:
    assert machine.factor(slowness) == factor


def test_a_busy_moment_counts_for_a_minute(monkeypatch: pytest.MonkeyPatch) -> None:
    now, work_s = 0.0, machine.IDLE_S

    def work() -> None:
        nonlocal now
        now += work_s

    monkeypatch.setattr(machine, "_measured", machine.deque())
    monkeypatch.setattr(machine, "_work", work)
    monkeypatch.setattr(machine, "perf_counter", lambda: now)
    assert machine.scaled(10.0) == 10.0
    work_s = 2 * machine.IDLE_S
    now += 1.0
    assert machine.scaled(10.0) == 10.0, "a fresh measurement is good enough"
    assert machine.measure() == pytest.approx(3.0), "unless somebody asks how it is now"
    work_s = machine.IDLE_S
    now += 50.0
    assert machine.scaled(10.0) == pytest.approx(30.0)
    now += 11.0
    assert machine.scaled(10.0) == pytest.approx(10.0)
