"""``shared.registry.turns``: no more than so many at once, in order, and none is lost when somebody leaves."""

from __future__ import annotations

import asyncio

from shared.registry.turns import Turns


async def _stay(turns: Turns, inside: list[int], number: int, leave: asyncio.Event) -> None:
    async with turns:
        inside.append(number)
        await leave.wait()


async def test_who_comes_later_waits_in_order() -> None:
    turns, inside, leave = Turns(2), list[int](), [asyncio.Event() for _ in range(5)]
    tasks = [asyncio.ensure_future(_stay(turns, inside, number, leave[number])) for number in range(5)]
    await asyncio.sleep(0)
    assert inside == [0, 1]
    leave[1].set()
    await tasks[1]
    await asyncio.sleep(0)
    assert inside == [0, 1, 2]
    for one in leave:
        one.set()
    await asyncio.gather(*tasks)
    assert inside == [0, 1, 2, 3, 4]


async def test_who_is_cancelled_takes_no_turn() -> None:
    turns, inside, leave = Turns(1), list[int](), asyncio.Event()
    leave.set()
    async with turns:
        tasks = [asyncio.ensure_future(_stay(turns, inside, number, leave)) for number in range(3)]
        await asyncio.sleep(0)
        tasks[0].cancel()  # while it waits
        await asyncio.sleep(0)
    tasks[1].cancel()  # in the moment in which its turn comes
    found = await asyncio.gather(*tasks, return_exceptions=True)
    assert [type(one) for one in found] == [asyncio.CancelledError, asyncio.CancelledError, type(None)]
    assert inside == [2]
    async with asyncio.timeout(1), turns:
        pass


async def test_who_is_cancelled_while_somebody_leaves_hears_of_nothing_else() -> None:
    turns, inside, leave = Turns(1), list[int](), asyncio.Event()
    leave.set()
    async with turns:
        task = asyncio.ensure_future(_stay(turns, inside, 0, leave))
        await asyncio.sleep(0)
        task.cancel()  # and in the same turn of the loop the one before leaves, who passes over it
    assert [type(one) for one in await asyncio.gather(task, return_exceptions=True)] == [asyncio.CancelledError]
    async with asyncio.timeout(1), turns:
        pass
