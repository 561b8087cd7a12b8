"""``gateway.routing.outliers``: who is ejected, for how long, and how a replica comes back. Time is given."""

from __future__ import annotations

import random

import pytest

from gateway.routing import outliers
from gateway.routing.outliers import FOREVER, Watch
from shared.settings import RoutingSettings

LIMITS = RoutingSettings(ejection_s=10.0, ejection_max_s=40.0, slow_start_s=5.0)


class Thing:
    """What is watched."""

    avoid_until = 0.0


def watches(count: int = 2) -> list[Watch]:
    return [Watch(Thing()) for _ in range(count)]


def answer(watch: Watch, seconds: float, times: int = 10, tool: str = "t", now: float = 1.0) -> None:
    for _ in range(times):
        watch.answered(object(), tool, seconds, now, False)


def slowness(watch: Watch, *siblings: Watch, now: float = 1.0, **pending: list[float]) -> str:
    tools = {tool for one in siblings for tool in one.tools()}
    return outliers.slowness(watch, outliers.baselines(siblings, tools, now), pending, 4.0, now)


# ---- failures


def test_three_failures_in_a_row_eject_and_an_answer_between_them_does_not() -> None:
    bad, good = watches()
    for _ in range(2):
        assert not bad.failed(object(), "t", [good], LIMITS, 1.0)
        assert not bad.failed(object(), "t", [good], LIMITS, 1.0)
        answer(bad, 0.1, 1)
    bad.failed(object(), "t", [good], LIMITS, 1.0)
    bad.failed(object(), "t", [good], LIMITS, 1.0)
    assert bad.failed(object(), "t", [good], LIMITS, 1.0) == "3 calls in a row failed"


def test_a_replica_that_fails_every_other_call_is_ejected_by_its_rate_unless_its_sibling_does_so_too() -> None:
    bad, good = watches()
    outcomes = []
    for n in range(20):
        outcomes.append(bad.failed(object(), f"t{n % 3}", [good], LIMITS, 1.0))
        answer(bad, 0.1, 1, f"t{n % 3}")
    assert any("of the last calls failed" in why for why in outcomes)
    one, other = watches()
    for _ in range(20):
        for mine, sibling in ((one, other), (other, one)):
            assert not mine.failed(object(), "t", [sibling], LIMITS, 1.0)
            answer(mine, 0.1, 1)


def test_a_tool_that_fails_at_a_sibling_too_ejects_only_the_first() -> None:
    one, other = watches()
    for _ in range(3):
        why = one.failed(object(), "broken", [other], LIMITS, 1.0)
    assert why
    assert not any(other.failed(object(), "broken", [one], LIMITS, 1.0) for _ in range(10))
    assert other.failures_in_row == 0


# ---- latency


def test_a_replica_is_slow_only_compared_with_siblings_on_the_same_tool() -> None:
    one, other = watches()
    answer(one, 3.0, tool="long")
    answer(other, 0.1, tool="short")
    assert not slowness(one, other) and not slowness(other, one)
    answer(one, 0.1, tool="short")
    answer(other, 3.0, tool="long")
    assert not slowness(one, other)


def test_ten_times_slower_is_slow_and_noise_is_not() -> None:
    slow, fast, third = watches(3)
    answer(slow, 1.0)
    answer(fast, 0.1)
    answer(third, 0.12)
    assert slowness(slow, fast, third) == "it takes 1000 ms where its siblings take 100 ms"
    assert not slowness(fast, slow, third)
    quick, quicker = watches()
    answer(quick, 0.015)
    answer(quicker, 0.001)
    assert not slowness(quick, quicker), "a difference of 14 ms"
    answer(fast, 1.0, 1)
    assert not slowness(fast, third), "one slow answer"


def test_calls_that_wait_count_as_slow_before_they_are_answered() -> None:
    hangs, good = watches()
    answer(good, 0.05)
    assert not slowness(hangs, good, t=[0.06] * 50), "they are young"
    assert not slowness(hangs, good, t=[2.0] * 4), "too few"
    assert slowness(hangs, good, t=[2.0] * 5)


def test_a_replica_that_answered_quickly_until_it_began_to_hang_is_slow_at_once() -> None:
    hangs, good = watches()
    answer(hangs, 0.05, 16, now=1.0)
    answer(good, 0.05, 16, now=1.0)
    assert slowness(hangs, good, now=4.0, t=[2.0] * 6)
    answer(hangs, 0.05, 16, now=3.0)
    assert not slowness(hangs, good, now=4.0, t=[2.0] * 6), "it answers others since"


def test_calls_that_have_become_slow_everywhere_say_nothing_about_one_replica() -> None:
    one, other = watches()
    answer(one, 0.05, 16, now=1.0)
    answer(other, 0.05, 16, now=1.0)
    usual = outliers.baselines([other], ["t"], 4.0, [{"t": [2.0] * 6}], 4.0)
    assert usual == {"t": 2.0}
    assert not outliers.slowness(one, usual, {"t": [2.0] * 6}, 4.0, 4.0)


def test_what_was_seen_long_ago_is_not_compared() -> None:
    slow, fast = watches()
    answer(slow, 1.0, now=1.0)
    answer(fast, 0.1, now=100.0)
    assert not slowness(slow, fast, now=100.0)


def test_a_group_whose_siblings_are_all_ejected_has_no_measure() -> None:
    slow, fast = watches()
    answer(slow, 1.0)
    answer(fast, 0.1)
    fast.eject("test", True, LIMITS, 1.0)
    assert not slowness(slow, fast)


@pytest.mark.parametrize(
    ("able", "share", "most"), [(1, 0.5, 0), (1, 1.0, 0), (2, 0.5, 1), (3, 0.5, 1), (4, 0.5, 2), (4, 1.0, 3), (9, 0, 0)]
)
def test_a_share_of_a_group_may_be_ejected_and_never_the_last(able: int, share: float, most: int) -> None:
    limits = RoutingSettings(max_ejected=share)
    assert [outliers.room(able, ejected, limits) for ejected in range(able + 1)].count(True) == most


# ---- out, on trial, back


def test_a_trial_is_one_call_and_a_failed_one_doubles_the_time_up_to_the_longest() -> None:
    bad, good = watches()
    now, lengths = 1.0, []
    bad.eject("test", True, LIMITS, now)
    for _ in range(4):
        lengths.append(bad.until - now)
        assert bad.replica.avoid_until == FOREVER and not bad.takes(bad.until - 0.1, True, 2)
        now = bad.until
        assert bad.takes(now, True, 2)
        trial = object()
        bad.sent(trial, now)
        assert not bad.takes(now, True, 2), "one at a time"
        why = bad.failed(trial, "t", [good], LIMITS, now)
        assert why == "it failed again when it was tried"
        bad.eject(why, True, LIMITS, now)
    assert lengths == [10.0, 20.0, 40.0, 40.0]


def test_a_replica_that_failed_is_tried_with_a_repeatable_call_or_after_twice_the_time() -> None:
    bad, slow = watches()
    bad.eject("test", True, LIMITS, 0.0)
    slow.eject("test", False, LIMITS, 0.0)
    assert [bad.takes(now, False, 2) for now in (9.0, 11.0, 19.0, 21.0)] == [False, False, False, True]
    assert [slow.takes(now, False, 2) for now in (9.0, 11.0)] == [False, True]


def test_a_trial_of_which_nothing_is_heard_is_followed_by_another() -> None:
    (bad,) = watches(1)
    bad.eject("test", True, LIMITS, 0.0)
    bad.sent(object(), 11.0)
    assert not bad.takes(30.0, True, 2) and bad.takes(42.0, True, 2)


def test_after_a_good_trial_the_share_grows_to_the_replicas_own() -> None:
    random.seed(1)
    (bad,) = watches(1)
    bad.eject("test", True, LIMITS, 0.0)
    trial = object()
    bad.sent(trial, 11.0)
    bad.answered(trial, "t", 0.1, 11.0, False)
    assert not bad.why and bad.replica.avoid_until == 16.0
    shares = [sum(bad.takes(now, False, 2) for _ in range(2000)) / 2000 for now in (11.0, 13.5, 15.9)]
    assert shares == pytest.approx([0.05, 0.25, 0.49], abs=0.04)


def test_a_slow_replica_is_out_again_after_two_slow_trials_and_back_after_a_quick_one() -> None:
    (slow,) = watches(1)
    slow.eject("test", False, LIMITS, 0.0)
    slow.compare_with({"t": 0.1})
    for expected in (False, True):
        trial = object()
        slow.sent(trial, 11.0)
        slow.answered(trial, "t", 2.0, 12.0, False)
        assert slow.why and (slow.until == 32.0) is expected
    trial = object()
    slow.sent(trial, 33.0)
    slow.answered(trial, "t", 0.1, 33.0, False)
    assert not slow.why


def test_time_in_service_is_forgiven_and_a_relapse_is_not() -> None:
    for served_s, length in ((5.0, 20.0), (100.0, 10.0)):
        (bad,) = watches(1)
        bad.eject("test", True, LIMITS, 1000.0)
        trial = object()
        bad.sent(trial, 1010.0)
        bad.answered(trial, "t", 0.1, 1010.0, False)
        bad.eject("test", True, LIMITS, 1010.0 + served_s)
        assert bad.until - (1010.0 + served_s) == length


def test_other_reasons_to_avoid_a_replica_are_no_slow_start() -> None:
    (one,) = watches(1)
    one.replica.avoid_until = 20.0
    assert not one.takes(10.0, True, 2)
