"""``gateway.fleet.hedging``: a late call of a read-only tool is sent to a second replica; the first answer counts, and
the other attempt is cancelled. The front end and its links are real, workers answer as they are told.
"""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from msgspec import structs

from gateway.calls.events import Answered, Interim
from gateway.calls.in_flight import InFlight
from gateway.fleet.outgoing import ANYWHERE, Affinity, Bound
from gateway.routing.hedges import Hedge
from gateway.routing.retry import RetryBudget
from gateway.sessions.session import ClientSession
from shared.errors import CallError
from shared.registry.records import UpstreamRecord
from shared.rpc import messages as rpc
from shared.settings import build
from tests.fleet import eventually
from tests.unit.builders import record, tool
from tests.unit.gateway.fakes import Front, failed, outgoing, result, told

WARM = 24
"""Answered calls after which it is known when one is late."""
LOST = failed("outcome_unknown", True)


def _records(hints: dict[str, Any], replicas: str = "ab", **spec: Any) -> tuple[UpstreamRecord, ...]:
    listed = [tool("t", annotations=hints)]
    return tuple(record(id, "g", n, tools=listed, **spec) for n, id in enumerate(replicas))


class Bench:
    """A front end that hedges, or does not (``after``), with these upstreams."""

    def __init__(self, *records: UpstreamRecord, after: str = "p95", workers: tuple[str, ...] = ("w1",)) -> None:
        settings = build({"redisUrl": "unix:///nowhere/redis.sock", "hedge": {"after": after}})
        self.front = Front(*records, settings=settings, workers=workers)
        self.dispatcher = self.front.dispatcher

    async def warm(self) -> None:
        """Let calls be answered at once."""
        for id in "ab":
            self.front.upstream(id, result())
        for _ in range(WARM):
            await self.call()
        for id in "ab":
            self.front.upstream(id)  # from now on it is silent

    def begin(self, affinity: Affinity = ANYWHERE) -> InFlight:
        """Begin a call."""
        call = structs.replace(outgoing(self.front.route("t")), affinity=affinity)
        begun = self.dispatcher.begin(call)
        assert isinstance(begun, InFlight)
        return begun

    async def call(self, begun: InFlight | None = None) -> Answered:
        """Make a call, or go on with one."""
        begun = begun or self.begin()
        in_flight, event = await self.dispatcher.send(begun.call, begun)  # type: ignore[arg-type]
        assert isinstance(event, Answered)
        self.dispatcher.answered(in_flight, event)
        return event

    @property
    def calls(self) -> list[rpc.Call]:
        """What was sent since it is warm."""
        return [one for worker in self.front.workers.values() for one in worker.fake.calls][WARM:]

    async def both(self) -> list[rpc.Call]:
        """Wait for the second attempt."""
        await eventually(lambda: len(self.calls) == 2)
        return self.calls

    def answer(self, call: rpc.Call, frames: list[Any]) -> None:
        """Let the worker say something about an attempt."""
        self.front.worker.answer(call.call, frames)

    @property
    def cancelled(self) -> list[int]:
        """The attempts that were cancelled."""
        return [one.call for one, _ in self.front.worker.fake.frames if isinstance(one, rpc.Cancel)]

    def over(self) -> None:
        """Nothing is under way, and nothing is counted."""
        assert not self.dispatcher.under_way
        assert all(replica.in_flight == 0 for replica in self.front.registry.catalog.replicas)
        assert all(not worker.link.calls for worker in self.front.workers.values())

    @property
    def counted(self) -> tuple[int, int]:
        """Hedges that were sent, and that won."""
        hedging = self.dispatcher.hedging
        return hedging.sent["g"], hedging.won["g"]


READ = _records({"readOnlyHint": True})


async def test_the_second_replica_answers_first() -> None:
    bench = Bench(*READ)
    await bench.warm()
    begun = bench.begin()
    first, second = await bench.both()
    assert first.upstream != second.upstream and not bench.cancelled
    bench.answer(second, result(b'{"from":2}'))
    assert (await bench.call(begun)).body == b'{"from":2}'
    assert begun.call.upstream == second.upstream
    assert bench.cancelled == [first.call] and bench.counted == (1, 1)
    bench.answer(first, result(b'{"from":1}'))  # too late: nobody hears of it
    bench.over()


async def test_the_first_replica_answers_first_after_all() -> None:
    bench = Bench(*READ)
    await bench.warm()
    begun = bench.begin()
    first, second = await bench.both()
    bench.answer(first, result(b'{"from":1}'))
    assert (await bench.call(begun)).body == b'{"from":1}'
    assert bench.cancelled == [second.call] and bench.counted == (1, 0)
    bench.over()


@pytest.mark.parametrize("fails", [0, 1])
async def test_one_that_fails_leaves_the_call_to_the_other(fails: int) -> None:
    bench = Bench(*READ)
    await bench.warm()
    begun = bench.begin()
    both = await bench.both()
    bench.answer(both[fails], LOST)
    assert not begun.done
    bench.answer(both[1 - fails], result(b'{"from":"other"}'))
    assert (await bench.call(begun)).body == b'{"from":"other"}'
    assert len(bench.calls) == 2 and not bench.cancelled
    bench.over()


async def test_a_call_that_both_fail_is_sent_again_as_any_other() -> None:
    bench = Bench(*READ)
    await bench.warm()
    begun = bench.begin()
    for one in await bench.both():
        bench.front.upstream(one.upstream, LOST)
        bench.answer(one, LOST)
    with pytest.raises(CallError):
        await bench.call(begun)
    bench.over()


async def test_a_lost_link_leaves_the_call_to_the_other_worker() -> None:
    apart = (READ[0], structs.replace(READ[1], owners=((0, "w2"),)))
    bench = Bench(*apart, workers=("w1", "w2"))
    await bench.warm()
    begun = bench.begin()
    workers = list(bench.front.workers.values())
    await eventually(lambda: all(worker.link.calls for worker in workers))
    workers[0].lose()
    assert not begun.done
    workers[1].answer(next(iter(workers[1].link.calls)), result())
    assert (await bench.call(begun)).body == b"{}"
    bench.over()


async def test_a_client_that_leaves_ends_both() -> None:
    bench = Bench(*READ)
    await bench.warm()
    begun = bench.begin()
    first, second = await bench.both()
    bench.dispatcher.discard(begun)
    assert sorted(bench.cancelled) == sorted([first.call, second.call])
    bench.over()


async def test_a_sign_of_life_keeps_a_call_where_it_is() -> None:
    bench = Bench(*READ)
    await bench.warm()
    begun = bench.begin()
    (first,) = bench.calls
    bench.answer(first, told(b'{"progress":1}'))
    await asyncio.sleep(0.05)  # later than any call is late here
    assert len(bench.calls) == 1
    assert isinstance(await begun.next(), Interim)
    bench.answer(first, result())
    await bench.call(begun)
    bench.over()


@pytest.mark.parametrize(
    ("records", "after", "bound"),
    [
        (READ, "", False),
        (READ, "p95", True),
        (_records({"idempotentHint": True}), "p95", False),
        (_records({"readOnlyHint": False}), "p95", False),
        (_records({}), "p95", False),
        (_records({"readOnlyHint": True}, "a"), "p95", False),
    ],
    ids=["off", "bound", "idempotent", "not read-only", "silent on it", "alone"],
)
async def test_no_other_call_is_sent_twice(records: tuple[UpstreamRecord, ...], after: str, bound: bool) -> None:
    bench = Bench(*records, after=after)
    await bench.warm()
    session = ClientSession("s", "2025-11-25", "", "")
    session.pins["g"] = "a"
    begun = bench.begin(Bound(session) if bound else ANYWHERE)
    await asyncio.sleep(0.05)  # later than any call is late here
    (only,) = bench.calls
    bench.answer(only, result())
    await bench.call(begun)
    bench.over()


async def test_an_upstream_has_a_hedge_of_its_own() -> None:
    bench = Bench(*_records({"readOnlyHint": True}, settings={"hedge": {"after": "p50"}}), after="")
    hedge = bench.front.route("t").hedge
    assert hedge is not None and hedge.after == "p50"
    bench.front.take(*_records({"readOnlyHint": True}, settings={"hedge": {"after": "p50"}}, weight=2))
    assert bench.front.route("t").hedge is hedge, "what was measured stays"


def test_a_call_is_late_after_the_percentile() -> None:
    hedge = Hedge("p95")
    for number in range(19):
        hedge.answered(0.1)
        assert hedge.late_s is None, number
    hedge.answered(0.1)
    assert hedge.late_s == 0.1
    for number in range(200):
        hedge.answered(1.0 if number % 10 == 0 else 0.2)
    assert hedge.late_s == 1.0


def test_hedges_keep_to_the_share_of_the_retry_budget() -> None:
    budget = RetryBudget(0.2)
    taken = 0
    for _ in range(1000):
        budget.sent += 1
        if budget.take_spare():
            taken += 1
            budget.sent += 1
    assert 190 <= taken <= 200
    assert budget.take(), "a retry after a failure has its allowance beside"
