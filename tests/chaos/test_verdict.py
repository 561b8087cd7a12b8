"""``tests.chaos.verdict``: what counts against a fault, and what does not."""

from __future__ import annotations

from typing import Any

import pytest
from msgspec import structs

from tests.chaos.load import Call
from tests.chaos.verdict import Allowance, Times, judge

TIMES = Times(began=100.0, ended=110.0, healthy=111.0)
OWNER = Allowance(tools=("p",), codes=("outcome_unknown",))
FAILED = {"why": "the worker is gone", "code": "outcome_unknown"}


def _call(began: float, took_s: float = 0.1, tool: str = "p_do", **facts: Any) -> Call:
    return Call("c1", "modern", tool, 0, began, began + took_s, **facts)


@pytest.mark.parametrize(
    ("call", "allowed", "problem"),
    [
        (_call(99.95), OWNER, ""),
        (_call(99.95, **FAILED), OWNER, ""),
        (_call(99.0, **FAILED), OWNER, "1 calls failed that need not"),
        (_call(101.0, **FAILED), OWNER, "1 calls failed that need not"),
        (_call(101.0, **FAILED), structs.replace(OWNER, throughout=True), ""),
        (_call(112.0, **FAILED), structs.replace(OWNER, throughout=True), "1 calls failed that need not"),
        (_call(99.95, tool="h_do", **FAILED), OWNER, "1 calls failed that need not"),
        (_call(99.95, **FAILED), structs.replace(OWNER, front_end=1), "1 calls failed that need not"),
        (_call(99.95, why="?", code="internal"), OWNER, "1 calls failed that need not"),
        (_call(99.95, 1.55, **FAILED), OWNER, "a call failed after 1.5 s"),
        (_call(101.0, 3.0), OWNER, "a call waited 3.0 s"),
        (_call(101.0, 1.5), OWNER, "recovery took 2.5 s"),
        (_call(99.95, session_lost=True, **FAILED), OWNER, "1 calls lost their session"),
    ],
)
def test_only_what_a_fault_has_in_its_hands_may_fail_and_soon(call: Call, allowed: Allowance, problem: str) -> None:
    times = TIMES if allowed.throughout else structs.replace(TIMES, ended=100.0)
    problems = judge([call], {"c1": ["p_do"]}, times, allowed).problems
    assert [one[: len(problem)] for one in problems[:1]] == ([problem] if problem else [])


def test_no_call_may_run_twice_but_those_that_say_that_they_may_and_none_be_answered_that_never_ran() -> None:
    times = structs.replace(TIMES, ended=100.0)
    twice = judge([_call(99.0)], {"c1": ["p_do", "p_do"]}, times, OWNER)
    assert (twice.doubled, twice.problems) == (1, ["1 calls ran twice"])
    assert judge([_call(99.0, tool="p_read")], {"c1": ["p_read"] * 2}, times, OWNER).problems == []
    never = judge([_call(99.0)], {}, times, OWNER)
    assert (never.lost, never.problems) == (1, ["1 calls were answered that never ran"])
    ran = judge([_call(99.95, **FAILED)], {"c1": ["p_do"]}, times, OWNER)
    assert (ran.ran_and_failed, ran.said) == (1, [(1, "outcome_unknown: the worker is gone")])


def test_a_slow_machine_has_more_time() -> None:
    times = structs.replace(TIMES, ended=100.0)
    assert judge([_call(101.0, 3.0)], {"c1": ["p_do"]}, times, OWNER).problems
    assert not judge([_call(101.0, 3.0)], {"c1": ["p_do"]}, times, OWNER, slowness=3.0).problems
