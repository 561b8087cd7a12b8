"""``gateway.routing.retry``: a call is never silently run twice."""

from __future__ import annotations

import pytest

from gateway.routing.retry import ATTEMPTS, RetryBudget, may_repeat
from shared.errors import WIRE
from shared.mcp.methods import REPEATABLE

SAFE = sorted(REPEATABLE)
CODES = sorted(WIRE)


@pytest.mark.parametrize("code", CODES)
@pytest.mark.parametrize("method", ["tools/call", "tools/list", "resources/subscribe"])
def test_what_was_not_delivered_goes_elsewhere_unless_the_client_gave_up_or_the_time_is_over(
    code: str, method: str
) -> None:
    assert may_repeat(False, code, method, False) is (code not in ("cancelled", "timeout"))


@pytest.mark.parametrize("code", CODES)
def test_a_call_that_may_have_run_is_not_run_again(code: str) -> None:
    assert not may_repeat(True, code, "tools/call", False)
    assert not may_repeat(True, code, "unknown/method", False)


@pytest.mark.parametrize("method", SAFE)
def test_reads_are_repeated(method: str) -> None:
    assert may_repeat(True, "outcome_unknown", method, False)


def test_a_tool_that_says_so_is_repeated() -> None:
    assert may_repeat(True, "outcome_unknown", "tools/call", True)
    assert may_repeat(True, "upstream_unavailable", "tools/call", True)


@pytest.mark.parametrize(("method", "repeatable"), [("tools/call", True), ("tools/list", False)])
def test_a_timeout_has_used_up_its_time(method: str, repeatable: bool) -> None:
    assert not may_repeat(True, "timeout", method, repeatable)


def test_nothing_that_changes_anything_counts_as_a_read() -> None:
    assert not REPEATABLE & {"tools/call", "initialize", "logging/setLevel", "resources/subscribe"}
    assert 2 <= ATTEMPTS <= 10


def test_retries_are_a_share_of_the_calls_of_ten_seconds_and_ten_are_always_allowed() -> None:
    budget = RetryBudget(0.2)
    assert sum(budget.take() for _ in range(50)) == 10
    budget.sent += 1000
    allowed = sum(budget.take() for _ in range(1000))
    assert 150 <= allowed <= 200
    for _ in range(10):
        budget.advance()
    assert sum(budget.take() for _ in range(50)) == 10, "what was long ago counts no longer"
