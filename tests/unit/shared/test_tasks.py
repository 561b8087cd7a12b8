"""``shared.tasks``: everything that is due expires once, within a tick (the clock is ours); long work takes turns."""

from __future__ import annotations

import asyncio
import time
import weakref
from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.tasks import Deadlines, cancel, in_turns, next_tick, spawn
from tests.fleet import eventually

TICK = 0.1


class Clock:
    """Time stands still until told."""

    def __init__(self, now: float = 1000.0) -> None:
        self.now = now

    def __call__(self) -> float:
        return self.now


class Item:
    """Notes when it expired."""

    def __init__(self, clock: Clock, expires_at: float) -> None:
        self.clock = clock
        self.expires_at = expires_at
        self.expired: list[float] = []

    def expire(self) -> None:
        """As the wheel calls it."""
        self.expired.append(self.clock.now)


def _walk(clock: Clock, wheel: Deadlines, until: float, step: float = TICK) -> None:
    while clock.now < until:
        clock.now = min(clock.now + step, until)
        wheel.advance()


@pytest.mark.parametrize("after", [0.0, 0.01, 0.1, 0.25, 1.0, 30.0])
def test_an_item_expires_once_within_two_ticks_and_never_early(after: float) -> None:
    clock = Clock()
    wheel, item = Deadlines(clock, TICK), Item(clock, clock.now + after)
    wheel.add(item)
    _walk(clock, wheel, 1000.0 + after + 1.0)
    assert len(item.expired) == 1
    assert 1000.0 + after <= item.expired[0] <= 1000.0 + after + 2 * TICK + 1e-6
    assert item.expires_at == 0


def test_an_item_that_is_done_is_forgotten() -> None:
    clock = Clock()
    wheel, item = Deadlines(clock, TICK), Item(clock, 1000.5)
    wheel.add(item)
    item.expires_at = 0
    _walk(clock, wheel, 1002.0)
    assert item.expired == []


def test_a_deadline_that_moves_on_is_followed() -> None:
    clock = Clock()
    wheel, item = Deadlines(clock, TICK), Item(clock, 1000.5)
    wheel.add(item)
    item.expires_at = 1003.0
    _walk(clock, wheel, 1002.9)
    assert item.expired == []
    _walk(clock, wheel, 1003.5)
    assert len(item.expired) == 1


def test_a_deadline_in_the_past_expires_at_the_next_look() -> None:
    clock = Clock()
    wheel, item = Deadlines(clock, TICK), Item(clock, 5.0)
    wheel.advance()
    wheel.add(item)
    _walk(clock, wheel, 1000.2)
    assert len(item.expired) == 1


def test_a_process_that_slept_expires_everything_that_was_due_meanwhile() -> None:
    clock = Clock()
    wheel = Deadlines(clock, TICK)
    items = [Item(clock, 1000.0 + after) for after in (0.1, 3.0, 59.0, 61.0)]
    for item in items:
        wheel.add(item)
    clock.now = 1060.0
    wheel.advance()
    assert [len(item.expired) for item in items] == [1, 1, 1, 0]


def test_an_item_added_while_another_expires_is_not_lost() -> None:
    clock = Clock()
    wheel, second = Deadlines(clock, TICK), Item(clock, 1000.5)
    first = Item(clock, 1000.5)
    first.expire = lambda: wheel.add(second)  # type: ignore[method-assign]
    wheel.add(first)
    _walk(clock, wheel, 1001.5)
    assert len(second.expired) == 1


@given(
    st.lists(st.tuples(st.floats(0, 5), st.floats(0, 5)), max_size=20),
    st.lists(st.floats(0.001, 2), min_size=1, max_size=30),
)
def test_nothing_expires_early_twice_or_never(spans: list[tuple[float, float]], steps: list[float]) -> None:
    clock = Clock()
    wheel = Deadlines(clock, TICK)
    items = [(Item(clock, clock.now + first), clock.now + max(first, moved)) for first, moved in spans]
    for item, final in items:
        wheel.add(item)
        item.expires_at = final
    for step in steps:
        clock.now += step
        wheel.advance()
        assert all(bool(item.expired) or final + 2 * TICK > clock.now for item, final in items)
    _walk(clock, wheel, clock.now + 12, 1.0)
    for item, final in items:
        assert len(item.expired) == 1
        assert item.expired[0] >= final


def test_a_deadline_that_is_moved_back_is_followed() -> None:
    clock = Clock()
    wheel, item = Deadlines(clock, TICK), Item(clock, 1000.5)
    wheel.add(item)
    item.expires_at = 1600.0
    _walk(clock, wheel, 1001.0)
    item.expires_at = 1003.0
    wheel.move(item)
    _walk(clock, wheel, 1003.0)
    assert item.expired == []
    _walk(clock, wheel, 1003.3)
    assert len(item.expired) == 1
    _walk(clock, wheel, 1601.0, 10.0)
    assert len(item.expired) == 1


def test_an_item_that_moves_often_stays_one() -> None:
    clock = Clock()
    wheel, item = Deadlines(clock, TICK), Item(clock, 1001.0)
    wheel.add(item)
    for _ in range(300):
        item.expires_at = clock.now + 5.0
        wheel.move(item)
        wheel.move(item)
        _walk(clock, wheel, clock.now + 1.0)
    assert wheel.held == 1
    item.expires_at = 0
    _walk(clock, wheel, clock.now + 10.0)
    assert item.expired == []
    assert wheel.held == 0
    forgotten = weakref.ref(item)
    del item
    assert forgotten() is None, "the wheel has no reference to what is over"


@given(
    st.lists(
        st.tuples(st.sampled_from(["forward", "move", "end"]), st.floats(0, 5), st.floats(0, 2)),
        min_size=1,
        max_size=25,
    )
)
def test_wherever_it_is_moved_it_expires_once_and_in_time(steps: list[tuple[str, float, float]]) -> None:
    clock = Clock()
    wheel, item = Deadlines(clock, TICK), Item(clock, 1003.0)
    wheel.add(item)
    ended = False
    for how, after, passes in steps:
        if item.expires_at == 0:
            break
        ended = how == "end"
        if how == "move":
            item.expires_at = clock.now + after
            wheel.move(item)
        elif how == "forward":
            item.expires_at = max(item.expires_at, clock.now + after)
        else:
            item.expires_at = 0
        due = item.expires_at
        _walk(clock, wheel, clock.now + passes)
        if due and clock.now >= due + 2 * TICK:
            assert len(item.expired) == 1
        if item.expired:
            assert item.expired[0] >= due
    _walk(clock, wheel, clock.now + 12.0, 1.0)
    assert len(item.expired) == (0 if ended else 1)
    assert wheel.held == 0
    forgotten = weakref.ref(item)
    del item
    assert forgotten() is None, "the wheel has no reference to what is over"


def test_what_is_forgotten_is_gone_at_once_and_never_expires() -> None:
    clock = Clock()
    wheel, item, other = Deadlines(clock, TICK), Item(clock, 1030.0), Item(clock, 1030.0)
    wheel.add(item)
    wheel.add(other)
    wheel.forget(item)
    wheel.forget(item)
    assert wheel.held == 1
    forgotten = weakref.ref(item)
    del item
    assert forgotten() is None, "gone before its bucket is due"
    _walk(clock, wheel, 1031.0)
    assert len(other.expired) == 1


def test_what_an_expiring_item_forgets_does_not_expire_after_it() -> None:
    clock = Clock()
    wheel, second = Deadlines(clock, TICK), Item(clock, 1000.5)
    first = Item(clock, 1000.5)
    first.expire = lambda: wheel.forget(second)  # type: ignore[method-assign]
    wheel.add(first)
    wheel.add(second)
    _walk(clock, wheel, 1001.5)
    assert second.expired == [] and wheel.held == 0


async def test_an_empty_wheel_rests_and_goes_on_with_the_next_item(monkeypatch: pytest.MonkeyPatch) -> None:
    loop = asyncio.get_running_loop()
    wheel, clock = Deadlines(loop.time, 0.005), Clock()
    item = Item(clock, 0.0)
    advance, advanced = wheel.advance, 0

    def counting() -> None:
        nonlocal advanced
        advanced += 1
        advance()

    monkeypatch.setattr(wheel, "advance", counting)
    running = spawn(wheel.run(), "deadlines")
    for count in (1, 2):
        over = Item(clock, loop.time() + 30.0)
        wheel.add(over)
        wheel.forget(over)
        item.expires_at = loop.time() + 0.01
        wheel.add(item)
        await eventually(lambda count=count: len(item.expired) == count)  # type: ignore[misc]
        before = advanced
        await asyncio.sleep(0.1)
        assert advanced <= before + 1
    await cancel(running)
    wheel.add(item)  # as calls may while a worker drains


@pytest.mark.parametrize(("now", "due"), [(10.0, 10.25), (10.1, 10.25), (10.21, 10.25), (10.2499, 10.5), (10.26, 10.5)])
async def test_what_comes_round_in_a_process_comes_round_together(
    now: float, due: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patched:
        patched.setattr(asyncio.get_running_loop(), "time", lambda: now)
        found = next_tick(0.25)
    assert found == due


async def test_long_work_lets_others_have_their_turns() -> None:
    turns = 0

    async def other() -> None:
        nonlocal turns
        while True:
            turns += 1
            await asyncio.sleep(0)

    def work() -> Iterator[int]:
        for number in range(20):
            until = time.perf_counter() + 0.004
            while time.perf_counter() < until:
                pass
            yield number

    beside = spawn(other(), "other")
    await asyncio.sleep(0)
    before = turns
    assert await in_turns(work()) == list(range(20))
    assert turns - before >= 15
    await cancel(beside)
