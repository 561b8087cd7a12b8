"""``gateway.fleet.redial``: failures are repeated ever more seldom, and said as often as they are worth it."""

from __future__ import annotations

from gateway.fleet.redial import Redial


def _waits(redial: Redial, count: int, unproven: bool) -> list[float]:
    return [redial.failed("w", 0.0, unproven) for _ in range(count)]


def test_a_worker_that_cannot_be_reached_is_dialled_again_soon_and_then_seldom() -> None:
    redial = Redial()
    assert not redial.waits("w", 0.0)
    assert _waits(redial, 9, unproven=False) == [0.1, 0.2, 0.4, 0.8, 1.6, 3.2, 6.4, 10.0, 10.0]
    assert redial.waits("w", 9.9) and not redial.waits("w", 10.0) and not redial.waits("v", 0.0)


def test_a_worker_that_did_not_prove_itself_is_dialled_seldom_from_the_start() -> None:
    assert _waits(Redial(), 5, unproven=True) == [1.0, 2.0, 4.0, 8.0, 10.0]


def test_a_link_that_lasted_and_a_worker_that_is_gone_are_forgotten() -> None:
    redial = Redial()
    _waits(redial, 5, unproven=False)
    redial.forget("w")
    assert redial.failed("w", 0.0) == 0.1
    redial.failed("v", 0.0)
    redial.keep({"v"})
    assert not redial.waits("w", 0.0) and redial.waits("v", 0.0)


def test_what_cannot_be_reached_is_said_when_it_lasts() -> None:
    redial, said = Redial(), []
    for _ in range(6):
        redial.failed("w", 0.0)
        said.append(redial.worth_saying("w", 0.0, "refused"))
    assert said == [False] * 4 + [True] * 2


def test_a_wrong_proof_is_said_at_once_and_again_after_a_minute_or_when_it_changes() -> None:
    redial = Redial()
    redial.failed("w", 0.0, unproven=True)
    times = [(0.0, "wrong"), (1.0, "wrong"), (59.0, "wrong"), (60.0, "wrong"), (61.0, "older"), (62.0, "older")]
    assert [redial.worth_saying("w", now, why, unproven=True) for now, why in times] == [
        True,
        False,
        False,
        True,
        True,
        False,
    ]
