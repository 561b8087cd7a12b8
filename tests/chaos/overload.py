"""What happens at five times the load that an upstream takes: ``python -m tests.chaos.overload [SECONDS]``.

Two front ends and two workers carry calls to an upstream of known capacity (``maxConcurrency`` places, calls of known
length), first at 0.9 times that, then at five times. Calls come by chance, as those of many clients do. A neighbour, on
the same worker, gets its calls all the time. Then a client calls the neighbour as fast as it can, and the upstream with
more callers than have room, in turns, to see what a served call and a refused one cost in processor time. Printed are
goodput (calls served in the time, by capacity), how long served calls take, and the neighbour's. Exits 1 if that is
beyond what it may be, or if a call ran for nobody.
"""

from __future__ import annotations

import asyncio
import collections
import contextlib
import random
import statistics
import sys
import time
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from typing import Any

from msgspec import Struct

from tests.chaos import processes
from tests.chaos.ground import Server
from tests.chaos.load import Call, Client
from tests.chaos.stage import RedisServer
from tests.fleet import Fleet

SECONDS = 120.0
_PLACES, _CALL_MS = 8, 150
CAPACITY = _PLACES * 1000 / _CALL_MS
_NEIGHBOUR_RATE, _NEIGHBOUR_MS = 20.0, 20
_CLIENTS = 8
_TIMEOUT_S = 60.0
_TURN_S, _TURNS, _AT_ONCE = 2.0, 8, 4
"""How long one turn is measured in which calls are served, refused, or not made, how many turns of each there are, and
how many callers call."""
_SLOW_MS = 1000
"""How long calls last where refusals are counted: so few are served beside them that what these cost hardly counts."""
_LASTS_S = 1.5
"""After so long an overload is no burst."""
GOODPUT, SLOWER, NEIGHBOUR, REFUSAL = 0.95, 2.0, 1.2, 0.3
"""The least goodput, and the most of: p99 at five times the load by that at 0.9 times, the neighbour's, what a refusal
costs by what a served call costs."""


class Phase(Struct):
    """The calls of one rate of load, in the ``seconds`` before ``until``, and those of the neighbour meanwhile."""

    seconds: float
    until: float
    calls: list[Call]
    neighbours: list[Call]

    @property
    def served(self) -> list[Call]:
        """The calls that were answered with a result."""
        return [call for call in self.calls if not call.why]


def p99(calls: Sequence[Call]) -> float:
    """Return the time, in seconds, in which 99 of 100 of these calls were answered."""
    took = sorted(call.took_s for call in calls)
    return took[min(len(took) - 1, int(len(took) * 0.99))] if took else float("inf")


async def _by_chance(rate: float, seconds: float, call: Callable[[], Awaitable[Call]]) -> list[Call]:
    """Call at this rate, at random times, whatever becomes of the calls."""
    dice = random.Random(1)
    began, due, under_way = time.monotonic(), 0.0, list[asyncio.Future[Call]]()
    while (due := due + dice.expovariate(rate)) < seconds:
        await asyncio.sleep(max(0.0, began + due - time.monotonic()))
        under_way.append(asyncio.ensure_future(call()))
    return list(await asyncio.gather(*under_way))


async def _phase(clients: Sequence[Client], urls: Sequence[str], rate: float, seconds: float) -> Phase:
    def caller(tool: str, ms: int) -> Callable[[], Awaitable[Call]]:
        return lambda: random.choice(clients).do(tool, ms, random.choice(urls))

    until = time.monotonic() + seconds
    calls, neighbours = await asyncio.gather(
        _by_chance(rate, seconds, caller("f_do", _CALL_MS)),
        _by_chance(_NEIGHBOUR_RATE, seconds, caller("n_do", _NEIGHBOUR_MS)),
    )
    return Phase(seconds, until, calls, neighbours)


def _spent_s() -> float:
    """Return the processor time that front ends and workers have used so far (Linux, ``proc_pid_schedstat(5)``)."""
    roles = processes.by_role()
    spent_ns = 0
    for pid in (*roles["front end"], *roles["worker"]):
        for schedstat in Path(f"/proc/{pid}/task").glob("*/schedstat"):
            spent_ns += int(schedstat.read_text().split()[0])
    return spent_ns / 1e9


class Turn(Struct):
    """What the gateway used, in seconds of processor time for each second, while so many calls were made, of which so
    many were served."""

    used: float
    seconds: float
    calls: int = 0
    served: int = 0


async def _turn(client: Client, url: str, tool: str, ms: int, callers: int, before_s: float = 0.0) -> Turn:
    """Let so many callers call, each as fast as it is answered; ``before_s``: so long before anything is counted."""
    calls, over = list[Call](), False

    async def caller() -> None:
        while not over:
            calls.append(await client.do(tool, ms, url))

    calling = [asyncio.ensure_future(caller()) for _ in range(callers)]
    await asyncio.sleep(before_s)
    calls.clear()
    began, spent_s = time.monotonic(), _spent_s()
    await asyncio.sleep(_TURN_S)
    seconds, used = time.monotonic() - began, _spent_s() - spent_s
    counted = list(calls)
    over = True
    await asyncio.gather(*calling)
    return Turn(used / seconds, seconds, len(counted), sum(not call.why for call in counted))


def _cost_ms(turn: Turn, without: float, served_ms: float) -> float:
    """Return what a call of this turn cost that was refused, or, where none was, that was served; ``without`` is what
    the gateway used in a turn without calls."""
    spent_ms = (turn.used - without) * turn.seconds * 1000
    refused = turn.calls - turn.served
    return (spent_ms - turn.served * served_ms) / refused if refused else spent_ms / turn.served


class Run:
    """One run, and what of it is not as it may be."""

    def __init__(self, seconds: float, scratch: Path) -> None:
        self._seconds = seconds
        self._ledger = scratch / "ledger"
        self._ledger.touch()
        self._redis = RedisServer(scratch)
        self.problems: list[str] = []

    async def play(self) -> None:
        """Play it, and print what comes of it."""
        async with contextlib.AsyncExitStack() as stack:
            stack.enter_context(processes.adopting())
            servers = {id: Server("http", id, self._ledger) for id in ("f", "n")}
            for server in servers.values():
                await server.start()
                stack.push_async_callback(server.stop)
            await self._redis.start()
            stack.push_async_callback(self._redis.stop)
            fleet = await stack.enter_async_context(Fleet(self._redis.url, 2, 2))
            limited: dict[str, Any] = {"maxConcurrency": _PLACES}
            await fleet.register("f", servers["f"].connection, settings=limited)
            await fleet.register("n", servers["n"].connection)
            clients = [Client(fleet.urls, "modern", _TIMEOUT_S) for _ in range(_CLIENTS)]
            for client in clients:
                stack.push_async_callback(client.session.close)
            await self._loads(clients, fleet.urls)
            await self._costs(clients[0], fleet.urls[0])

    async def _loads(self, clients: Sequence[Client], urls: Sequence[str]) -> None:
        await _phase(clients, urls, 0.5 * CAPACITY, 3.0)
        usual = await _phase(clients, urls, 0.9 * CAPACITY, min(30.0, self._seconds))
        over = await _phase(clients, urls, 5 * CAPACITY, self._seconds)
        self._print("0.9 times", usual)
        self._print("5 times", over)
        ran = collections.Counter(line.split()[0] for line in self._ledger.read_text().splitlines())
        for_nobody = sum(1 for call in over.calls if call.why and ran[call.id])
        other = collections.Counter(call.code for call in over.calls if call.why and call.code != "overloaded")
        goodput = sum(call.ended <= over.until for call in over.served) / over.seconds / CAPACITY
        slower = p99(over.served) / p99(usual.served)
        beside = p99(over.neighbours) / p99(usual.neighbours)
        print(f"goodput {goodput:.1%} of {CAPACITY:.1f} calls a second; p99 {slower:.2f} times that at 0.9")
        print(f"neighbour's p99 {beside:.2f} times that at 0.9; refused in {_median_refusal_ms(over):.1f} ms (median)")
        self._must(goodput >= GOODPUT, "goodput is too low")
        self._must(slower <= SLOWER, "served calls take too long")
        self._must(beside <= NEIGHBOUR, "the neighbour is disturbed")
        self._must(not for_nobody, f"{for_nobody} calls ran for callers that were refused")
        self._must(not other, f"calls failed otherwise: {dict(other)}")
        self._must(not any(call.why for call in over.neighbours), "the neighbour's calls failed")

    async def _costs(self, client: Client, url: str) -> None:
        """Measure what a served call and a refusal cost. Of those who call a full upstream, as many as have a place or
        wait for one ask for nothing meanwhile; the others are refused again and again."""
        idle, served, flood = list[Turn](), list[Turn](), list[Turn]()
        for _ in range(_TURNS):
            idle.append(await _turn(client, url, "", 0, 0))
            served.append(await _turn(client, url, "n_do", 0, _AT_ONCE))
            flood.append(await _turn(client, url, "f_do", _SLOW_MS, _PLACES * 3 // 2 + _AT_ONCE, _LASTS_S))
        without = statistics.median(one.used for one in idle)
        served_ms = statistics.median(_cost_ms(one, without, 0.0) for one in served)
        refusals = sorted(_cost_ms(one, without, served_ms) for one in flood)
        refused_ms = statistics.median(refusals)
        share = refused_ms / served_ms
        print(
            f"a served call costs {served_ms:.3f} ms of processor time, a refusal {refused_ms:.3f} ms "
            f"({sum(one.calls - one.served for one in flood)} of them): {share:.2f}; "
            f"turns: {refusals[0] / served_ms:.2f} to {refusals[-1] / served_ms:.2f}"
        )
        self._must(share <= REFUSAL, "refusals cost too much")

    def _print(self, load: str, phase: Phase) -> None:
        print(
            f"{load}: {len(phase.calls)} calls in {phase.seconds:g} s, {len(phase.served)} served, "
            f"p99 {p99(phase.served) * 1000:.0f} ms; neighbour: {len(phase.neighbours)} calls, "
            f"p99 {p99(phase.neighbours) * 1000:.0f} ms",
            flush=True,
        )

    def _must(self, holds: bool, problem: str) -> None:
        if not holds:
            self.problems.append(problem)


def _median_refusal_ms(phase: Phase) -> float:
    refused = sorted(call.took_s for call in phase.calls if call.why)
    return refused[len(refused) // 2] * 1000 if refused else 0.0


def main() -> None:
    """Play, and say what is not as it may be."""
    import tempfile

    seconds = float(sys.argv[1]) if len(sys.argv) > 1 else SECONDS
    with tempfile.TemporaryDirectory(prefix="gwover-") as scratch:
        run = Run(seconds, Path(scratch))
        asyncio.run(run.play())
    for problem in run.problems:
        print(f"✗ {problem}")
    sys.exit(bool(run.problems))


if __name__ == "__main__":
    main()
