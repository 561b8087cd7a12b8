"""Figures, verdicts, the report, the plot and wrk's script: what a benchmark does with what it measured."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from loadtest import wire
from loadtest.bench import __main__ as program
from loadtest.bench import compare, plot, report, wrk
from loadtest.bench.compare import Comparison, Cost, Side, cpu, rate, same_length
from loadtest.bench.figures import median, percentile
from loadtest.bench.load import Load, Sample
from loadtest.bench.outcome import FAILED, OVER, SHOWN, WITHIN, Budget, Outcome, all_kept
from loadtest.bench.plan import Plan, quick


def test_percentiles_are_values_that_occurred() -> None:
    values = [float(value) for value in range(100, 0, -1)]
    assert [percentile(values, percent) for percent in (1, 50, 99, 100)] == [1, 50, 99, 100]
    assert percentile([7.0], 99) == 7.0
    with pytest.raises(ValueError):
        percentile([], 50)


def test_medians() -> None:
    assert median([3.0, 1.0, 2.0]) == 2.0 and median([4.0, 1.0]) == 2.5


@pytest.mark.parametrize(
    ("values", "budget", "verdict"),
    [
        ((0.4, 0.5, 0.9), Budget(0.5), WITHIN),
        ((0.4, 0.6, 0.9), Budget(0.5), OVER),
        ((1.6, 1.5, 1.4), Budget(1.5, at_least=True), WITHIN),
        ((1.6, 1.4, 1.4), Budget(1.5, at_least=True), OVER),
        ((1.0,), None, SHOWN),
        ((), Budget(1.0), FAILED),
    ],
)
def test_the_median_round_is_held_against_the_budget(
    values: tuple[float, ...], budget: Budget | None, verdict: str
) -> None:
    assert Outcome("row", "what", values, budget).verdict == verdict


def test_what_could_not_be_measured_fails_a_run_and_what_is_over_only_a_strict_one() -> None:
    over, broken = Outcome("a", "", (2.0,), Budget(1.0)), Outcome("b", "", problem="why")
    assert all_kept([over], strict=False) and not all_kept([over], strict=True)
    assert not all_kept([broken], strict=False)


def _cost(cpu_us: float, per_second: float) -> Cost:
    return Cost(cpu_us, per_second, 1.0, 2.0, 100.0)


def test_ratios_are_taken_pair_by_pair() -> None:
    found = Comparison(((_cost(10, 300), _cost(20, 100)), (_cost(30, 100), _cost(30, 100))))
    assert found.ratios(cpu) == (0.5, 1.0) and found.ratios(rate) == (3.0, 1.0)
    assert found.medians(cpu) == (20.0, 25.0)


def test_one_side_takes_its_turn_after_the_other_and_who_begins_alternates(monkeypatch: pytest.MonkeyPatch) -> None:
    turns: list[tuple[int, float]] = []

    def measure(side: Side, seconds: float) -> Cost:
        turns.append((side.port, seconds))
        return _cost(side.port, len(turns))

    monkeypatch.setattr(compare, "measure", measure)
    load = Load((wire.modern("tools/list"),))
    found = compare.compare(Side(1, [], load), Side(2, [], load), Plan(Path(), rounds=2, seconds=2.0, warm_up_s=0.0))
    assert turns == [(port, 1.0) for port in (2, 1, 1, 2, 2, 1, 1, 2)]
    assert found.ratios(cpu) == (0.5,) * 4


def test_a_burst_in_a_few_turns_changes_nothing() -> None:
    found = Outcome("row", "what", (0.5, 0.5, 1.2, 0.49, 0.2, 0.51, 0.5, 0.5))
    assert found.value == 0.5 and found.spread == (0.49, 0.5)


@pytest.mark.parametrize(
    ("bytes_per_call", "calls", "same"),
    [(1000, 5000, True), (960, 5000, True), (800, 5000, False), (1200, 5000, False), (1200, 100, True)],
)
def test_answers_must_be_as_long_as_a_good_one(bytes_per_call: float, calls: int, same: bool) -> None:
    sample = Sample(calls, 0, 1.0, 1.0, 1.0, bytes_per_call)
    assert same_length(sample, 1000, connections=16) is same


def test_a_scenario_that_fails_owes_its_rows(monkeypatch: pytest.MonkeyPatch) -> None:
    def scenario(chosen: Plan) -> Iterator[Outcome]:
        yield Outcome("one", "", (1.0,))
        yield Outcome("two", "", (1.0,))
        raise RuntimeError("gone")

    monkeypatch.setattr(program, "SCENARIOS", ((("one", "two", "three", "four"), scenario),))
    found = list(program.outcomes(Plan(Path(), wanted=("one", "two", "three"))))
    assert [(one.row, one.problem) for one in found[2:]] == [
        ("two", "RuntimeError: gone"),
        ("three", "RuntimeError: gone"),
    ]


def test_rows_are_chosen_by_the_beginning_of_their_name() -> None:
    assert Plan(Path()).wants("modern")
    chosen = quick(Path(), ("legacy", "stdio"))
    assert chosen.wants("legacy-session") and chosen.wants("modern", "stdio") and not chosen.wants("modern")


OUTCOMES = [
    Outcome("modern", "CPU | call", (0.4, 0.5, 0.6), Budget(0.5), note="50 µs"),
    Outcome("scale", "sizes", (1.0,), Budget(1.1), plot="upstreams", points=((100.0, 1.02), (1000.0, 1.3))),
    Outcome("list", "could not be measured", problem="LoadFailed: 3 of 9"),
]


def test_a_line_of_the_table_has_value_spread_budget_and_verdict() -> None:
    shown = re.sub(" +", " ", report.line(OUTCOMES[0]))
    assert shown == "modern CPU | call 0.5 ×R 0.4 - 0.6 ≤ 0.5 within 50 µs"
    assert report.line(OUTCOMES[2]).endswith("FAILED   LoadFailed: 3 of 9")


def test_the_report_is_written_as_json_markdown_and_picture(tmp_path: Path) -> None:
    written = report.write(tmp_path, OUTCOMES, {"cores": 2})
    assert [path.name for path in written] == ["benchmarks.json", "benchmarks.md", "benchmarks.svg"]
    data = json.loads(written[0].read_text())
    assert [one["verdict"] for one in data["outcomes"]] == [WITHIN, WITHIN, FAILED]
    text = written[1].read_text()
    assert "| modern | CPU \\| call | 0.5 ×R | 0.4 - 0.6 | ≤ 0.5 | within | 50 µs |" in text and "* cores: 2" in text
    assert "benchmarks.svg" in text
    report.write(tmp_path, OUTCOMES[:1], {})
    assert not (tmp_path / "benchmarks.svg").exists()


def test_the_plot_begins_each_line_at_its_smallest_size() -> None:
    assert plot.series(OUTCOMES) == {"upstreams": [(1.0, 1.0), (100.0, 1.02), (1000.0, 1.3)]}
    picture = plot.svg(OUTCOMES)
    assert picture.count("<circle") == 3 and "registered upstreams" in picture
    assert plot.svg(OUTCOMES[:1]) == ""


def test_wrk_script_for_one_request_and_for_several() -> None:
    request = wire.Request(b'{"a":"\\n"}', {"X-A": 'b"c'})
    alone = wrk.script([request]).decode()
    assert 'wrk.body = "{\\"a\\":\\"\\\\n\\"}"' in alone and 'wrk.headers["X-A"] = "b\\"c"' in alone
    several = wrk.script([request] * 250).decode()
    assert several.count('"POST /mcp HTTP/1.1\\r\\nHost: " .. host .. "\\r\\nX-A: b\\"c\\r\\n') == 250
    assert several.count("local function make()") == 3
    assert "local ready, turn, host = {}, 7, ''" in wrk.script([request] * 250, first=7).decode()


def test_wrk_figures() -> None:
    said = 'Running 1s\nFIGURES {"calls": 4, "failed": 0, "seconds": 1.0, "p50_ms": 2, "p99_ms": 3, "bytes": 400}\n'
    assert wrk.parse(said)["bytes_per_call"] == 100
    with pytest.raises(ValueError):
        wrk.parse("unable to connect")
