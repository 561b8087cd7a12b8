"""``worker.calls.fair_queue``: callers take turns."""

from __future__ import annotations

from worker.calls.fair_queue import FairQueue


def _filled(*callers: str) -> FairQueue[str]:
    queue: FairQueue[str] = FairQueue()
    for number, caller in enumerate(callers):
        queue.add(f"{caller}{number}", caller)
    return queue


def test_callers_take_turns_and_each_ones_come_in_their_order() -> None:
    queue = _filled("a", "a", "a", "b", "c", "b")
    assert (queue.waiting, queue.of("a"), queue.of("d"), sorted(queue.counts)) == (6, 3, 0, [1, 2, 3])
    assert queue.drain() == ["a0", "b3", "c4", "a1", "b5", "a2"]
    assert (queue.waiting, list(queue.counts)) == (0, [])


def test_what_leaves_is_not_taken_any_more() -> None:
    queue = _filled("a", "a", "b")
    assert queue.last_of_longest() == "a1"
    assert queue.remove("b2") and not queue.remove("b2") and queue.remove("a0")
    assert (queue.waiting, queue.drain()) == (1, ["a1"])
