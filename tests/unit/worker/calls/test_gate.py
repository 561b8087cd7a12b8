"""``worker.calls.gate``: places, turns, and who is refused. Time is given."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from shared.errors import CallError
from shared.mcp.versions import Era
from worker.calls.call import Call
from worker.calls.concurrency import Fixed, Learned
from worker.calls.gate import Gate
from worker.calls.observer import ANSWERED, CANCELLED


class Wanted(Call):
    """A call that remembers its end."""

    error: CallError | None = None

    def __init__(self, expires_at: float = 0.0) -> None:
        super().__init__("tools/call", b"{}", Era.MODERN, 30.0)
        self.expires_at = expires_at

    def _failed(self, error: CallError) -> None:
        self.error = error


class Bench:
    """A gate whose clock is moved, and whose calls end when told."""

    def __init__(self, limit: int, max_waiting: int = 100, max_wait_s: float = 1.0) -> None:
        self.now = 100.0
        self.started: list[Call] = []
        self.start: Callable[[Call], None] = self.started.append
        self.gate = Gate("up", Fixed(limit), max_waiting, max_wait_s, lambda: self.now, lambda call: self.start(call))

    def enter(self, caller: str = "", expires_at: float = 0.0) -> Wanted:
        call = Wanted(expires_at)
        self.gate.enter(call, caller)
        return call

    def end(self, seconds: float = 0.1, outcome: str = ANSWERED) -> None:
        """So much later the oldest running call ends."""
        self.now += seconds
        self.gate.left(self.running.pop(0), outcome)

    @property
    def running(self) -> list[Call]:
        return self.started

    def known(self, seconds: float) -> None:
        """The gate knows how long calls take, and is empty."""
        self.enter()
        self.end(seconds)


def refused(*calls: Wanted) -> list[bool]:
    return [call.error is not None and call.error.code == "overloaded" for call in calls]


def test_no_more_calls_run_than_there_are_places_and_the_next_starts_when_one_ends() -> None:
    bench = Bench(2)
    calls = [bench.enter() for _ in range(4)]
    assert bench.started == calls[:2] and bench.gate.waiting == 2
    bench.end()
    assert bench.started == calls[1:3] and bench.gate.running == 2
    bench.end()
    bench.end()
    bench.end()
    assert bench.gate.running == bench.gate.waiting == 0 and not any(refused(*calls))


def test_a_burst_may_wait_and_what_would_wait_longer_is_refused_with_the_time_to_wait() -> None:
    bench = Bench(1, max_wait_s=1.0)
    bench.known(0.3)
    calls = [bench.enter() for _ in range(6)]
    assert refused(*calls) == [False] * 4 + [True] * 2, "one runs, and 3 begin within 1 s"
    assert calls[-1].error is not None and calls[-1].error.retry_after_s == 2


@pytest.mark.parametrize(("places", "waiting"), [(1, 1), (2, 1), (4, 2), (9, 5)])
def test_under_lasting_overload_half_as_many_calls_wait_as_there_are_places(places: int, waiting: int) -> None:
    bench = Bench(places, max_wait_s=1.0)
    bench.known(0.1)
    for _ in range(60):
        for _ in range(10):
            bench.enter()
        bench.end(0.05)
        assert bench.gate.running == places, "the upstream is kept busy"
    for _ in range(10):
        bench.enter()
    assert bench.gate.waiting == waiting


def test_under_lasting_overload_a_refusal_says_for_how_long_it_would_be_repeated() -> None:
    bench = Bench(4, max_wait_s=1.0)
    bench.known(0.1)
    burst = [bench.enter() for _ in range(100)][-1]
    assert burst.error is not None and "shut" not in burst.error.data, "places are free soon, perhaps"
    for _ in range(60):
        bench.end(0.05)
        for _ in range(10):
            last = bench.enter()
    assert last.error is not None
    assert 0 < float(last.error.data["shut"]) < 2 * 0.05, "before the two that wait have begun"


def test_under_lasting_overload_everybody_is_refused_only_where_a_newcomer_would_be() -> None:
    def refused_last(*callers: str) -> str:
        bench = Bench(4, max_wait_s=1.0)
        bench.known(0.1)
        for number in range(600):
            if number % 10 == 0 and bench.started:
                bench.end(0.05)
            last = bench.enter(callers[number % len(callers)])
        assert last.error is not None
        newcomer = bench.enter("newcomer")
        assert (newcomer.error is not None) is last.error.data["shut"].endswith(" everybody")
        return str(last.error.data["shut"])

    assert not refused_last("greedy").endswith("everybody")
    assert refused_last("a", "b", "c", "d", "e").endswith("everybody")


def test_a_call_that_could_not_be_answered_in_its_time_is_refused_and_not_run() -> None:
    bench = Bench(1, max_wait_s=10.0)
    bench.known(1.0)
    bench.enter()
    late, early = bench.enter(expires_at=bench.now + 1.5), bench.enter(expires_at=bench.now + 2.5)
    assert refused(late, early) == [True, False]


def test_who_leaves_the_queue_is_not_run() -> None:
    bench = Bench(1)
    bench.enter()
    gone, next_one = bench.enter("a"), bench.enter("b")
    assert gone.stop("the client left") is True
    bench.end()
    assert bench.started == [next_one] and bench.gate.waiting == 0
    assert not bench.gate.abandon(next_one, ""), "it runs, and is stopped at its upstream"


def test_callers_take_turns_and_one_with_many_calls_makes_only_itself_wait() -> None:
    bench = Bench(1, max_wait_s=10.0)
    bench.known(0.1)
    bench.enter("greedy")
    for _ in range(20):
        bench.enter("greedy")
    modest = [bench.enter("modest"), bench.enter("modest")]
    order = []
    for _ in range(6):
        bench.end()
        order.append(bench.started[0])
    assert order[1] is modest[0] and order[3] is modest[1]


def test_a_full_queue_has_room_for_who_has_none_of_it() -> None:
    bench = Bench(1, max_waiting=5, max_wait_s=10.0)
    bench.known(0.1)
    bench.enter("greedy")
    greedy = [bench.enter("greedy") for _ in range(6)]
    assert refused(*greedy) == [False] * 5 + [True]
    modest = bench.enter("modest")
    assert refused(modest, *greedy) == [False] * 5 + [True, True] and bench.gate.waiting == 5


def test_calls_that_fail_as_they_start_do_not_pile_up_on_the_stack() -> None:
    bench = Bench(1, max_waiting=10_000)
    bench.start = lambda call: bench.gate.left(call, "upstream_unavailable") if bench.now > 100 else None
    bench.enter()
    bench.gate.service_s = 0.00001
    for _ in range(5000):
        bench.enter()
    assert bench.gate.waiting == 5000
    bench.now += 1
    bench.gate.left(Wanted(), CANCELLED)
    assert bench.gate.waiting == bench.gate.running == 0


# ---- learned limits


class Server:
    """Serves ``places`` calls at once in ``seconds`` each, and more of them more slowly."""

    def __init__(self, places: int, seconds: float) -> None:
        self.places, self.seconds = places, seconds

    def settle(self, learned: Learned, calls: int) -> int:
        """The limit after so many calls under full load."""
        for _ in range(calls):
            running = learned.limit
            learned.note("t", self.seconds * max(1.0, running / self.places), True, running)
        return learned.limit


def test_a_limit_is_learned_near_what_the_upstream_takes_and_follows_it() -> None:
    learned = Learned()
    assert 4 <= Server(4, 0.1).settle(learned, 3000) <= 10
    assert Server(50, 0.1).settle(learned, 10_000) >= 50
    assert 4 <= Server(4, 0.1).settle(learned, 5000) <= 10


def test_refusals_lower_a_limit_and_idleness_does_not_raise_it() -> None:
    learned = Learned()
    for _ in range(200):
        learned.note("t", 0.1, True, 1)
    assert learned.limit <= 8, "one call at a time shows nothing"
    for _ in range(200):
        learned.note("t", 0.001, False, 16)
    assert learned.limit == 1
    assert Learned(5).limit == 5 and Server(100, 0.1).settle(Learned(5), 1000) == 5


def test_a_mix_of_quick_and_slow_tools_is_no_overload() -> None:
    learned = Learned()
    for number in range(2000):
        learned.note(f"t{number % 2}", (0.01, 3.0)[number % 2], True, learned.limit)
    assert learned.limit > 16
