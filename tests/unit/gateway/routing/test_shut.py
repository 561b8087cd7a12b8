"""``gateway.routing.shut``: who was refused is refused again without asking, for as long as was said, nobody else."""

from __future__ import annotations

import pytest

from gateway.routing.shut import Shut
from shared.errors import NotDelivered

FULL = NotDelivered("overloaded", "full", {"retryAfter": "1"})


def test_only_who_was_refused_is_refused_and_only_for_a_moment() -> None:
    shut = Shut()
    shut.note("greedy", "0.1", FULL, 10.0)
    known = shut.refusal("greedy", 10.05)
    assert known is not None and known.error is FULL
    assert shut.refusal("modest", 10.05) is None
    assert shut.refusal("greedy", 10.11) is None
    assert 10.05 < shut.until < 10.11


def test_everybody_is_refused_for_as_long_as_that_was_said() -> None:
    shut = Shut()
    shut.note("greedy", "0.1 everybody", FULL, 10.0)
    known = shut.refusal("modest", 10.05)
    assert known is not None and known is shut.refusal("greedy", 10.05)
    assert shut.refusal("modest", 10.11) is None


@pytest.mark.parametrize("seconds", ["0", "-1", "nan", "soon", ""])
def test_what_is_no_time_shuts_nobody_out(seconds: str) -> None:
    shut = Shut()
    shut.note("greedy", seconds, FULL, 10.0)
    assert shut.refusal("greedy", 10.0) is None and shut.until <= 10.0


def test_no_worker_shuts_anybody_out_for_long_and_callers_are_bounded() -> None:
    shut = Shut()
    shut.note("greedy", "1e9", FULL, 10.0)
    assert shut.refusal("greedy", 11.0) is None
    for number in range(5000):
        shut.note(f"s{number}", "0.1", FULL, 10.0)
    assert shut.callers <= 1000
