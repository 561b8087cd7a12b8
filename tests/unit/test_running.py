"""What the tests themselves stand on: deadlines that are scaled, and modules that are parsed undisturbed."""

from __future__ import annotations

import ast
import gc
from collections import deque
from collections.abc import Callable

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

    monkeypatch.setattr(machine, "_measured", deque())
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


def test_garbage_that_is_collected_while_a_module_is_parsed_does_no_harm() -> None:
    """On Python 3.11 this was a SystemError, and in pytest's own hands the end of the run."""
    reported = 0

    def deeper(levels: int, do: Callable[[], object]) -> None:
        if levels:
            deeper(levels - 1, do)
        else:
            do()

    class Garbage:
        """Its finalizer shows a line of source, as the traceback module does."""

        def __init__(self) -> None:
            self.me = self

        def __del__(self) -> None:
            nonlocal reported
            reported += 1
            deeper(50, lambda: ast.parse("a + b"))

    module = "\n".join(f"def f{number}(a):\n    return [x + (1, (2, (3,))) for x in a]" for number in range(200))
    for _ in range(20):
        for _ in range(20):
            Garbage()
        assert len(ast.parse(module).body) == 200
    gc.collect()
    assert reported == 400
