"""``worker.ownership.listing_brake``: no announcement goes round without a brake, and a rare one is heard at once."""

from __future__ import annotations

from collections.abc import Callable

from worker.ownership.listing_brake import ListingBrake


def _waits(changed: Callable[[int], bool], seconds: float, brake: ListingBrake | None = None) -> list[float]:
    """What is waited by an upstream that announces a change after each reading."""
    brake, now, waits = brake or ListingBrake(), 1000.0, []
    while now < 1000.0 + seconds:
        waits.append(brake.wait_s(now))
        now += waits[-1]
        brake.read(now, changed(len(waits)))
    return waits


def test_lists_that_do_not_change_are_read_more_and_more_rarely() -> None:
    waits = _waits(lambda number: False, 600.0)
    assert waits[0] == 0.05 and len(waits) < 40
    assert 25.0 < max(waits) < 35.0


def test_lists_that_change_each_time_are_read_every_two_seconds_at_most() -> None:
    waits = _waits(lambda number: True, 60.0)
    assert waits[:4] == [0.05, 0.05, 0.1, 0.2] and waits[-1] == 2.0 and len(waits) < 45


def test_lists_that_change_every_other_time_have_a_brake_too() -> None:
    assert len(_waits(lambda number: number % 2 == 0, 60.0)) < 45


def test_after_a_calm_time_an_announcement_is_heard_at_once() -> None:
    brake = ListingBrake()
    _waits(lambda number: True, 60.0, brake)
    assert brake.wait_s(1062.5) == 2.0
    assert brake.wait_s(1080.0) == 0.05
    _waits(lambda number: False, 60.0, brake)
    assert brake.wait_s(1080.0) > 5.0
    assert brake.wait_s(1200.0) == 0.05
