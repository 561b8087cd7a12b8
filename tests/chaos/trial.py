"""One fault on one stage: load before, during and after it; what it cost."""

from __future__ import annotations

import asyncio
import contextlib
import time

from msgspec import Struct

from tests.chaos.fault import Fault
from tests.chaos.ground import TOOLS, Ground
from tests.chaos.load import Client, Load
from tests.chaos.verdict import Times, Verdict, judge
from tests.machine import scaled, scaling

RATE = 80.0
CLIENTS_OF_EACH_ERA = 6
NEWCOMER_S = 0.5
_BEFORE_S = 1.5
_AFTER_S = 2.0
_HEALTHY_S = 30.0
_PATIENCE_S = 30.0
"""How long a client waits for an answer: longer than anything may take."""


class Outcome(Struct):
    """What came of a fault. ``not_healthy`` says what was not as before in the end."""

    fault: Fault
    verdict: Verdict
    not_healthy: str = ""
    healthy_after_s: float = 0.0

    @property
    def met(self) -> bool:
        """Whether it cost what it may, and no more."""
        return not self.verdict.problems


async def play(stage: Ground, fault: Fault, rate: float = RATE) -> Outcome:
    """Do it to the fleet, and see what it costs."""
    assert await _wait_healthy(stage, []) == "", "the fleet is well before anything is done to it"
    async with Load(stage.urls, TOOLS, rate, CLIENTS_OF_EACH_ERA, _PATIENCE_S, NEWCOMER_S) as load:
        await asyncio.sleep(_BEFORE_S)
        began = time.monotonic()
        async with fault.done_to(stage):
            await asyncio.sleep(fault.lasts_s)
        ended = time.monotonic()
        await stage.mend()
        not_healthy = await _wait_healthy(stage, load.clients)
        healthy = time.monotonic()
        await asyncio.sleep(_AFTER_S)
        await load.stop()
        calls = load.drain()
        ran, times = stage.executions(), Times(began, ended, healthy)
        verdict = judge(calls, ran, times, fault.allowed, scaling())
        verdict.stretched = not verdict.problems and bool(judge(calls, ran, times, fault.allowed).problems)
        if not_healthy:
            verdict.problems.append(f"not as before after {_HEALTHY_S:g} s: {not_healthy}")
        else:
            verdict.left = await _left(stage)
            verdict.problems += [f"left: {one}" for one in verdict.left]
        if load.refused_sessions and not fault.sessions_refused:
            refused = f"{len(load.refused_sessions)} clients could not open a session: {load.refused_sessions[0]}"
            verdict.problems.append(refused[:300])
    return Outcome(fault, verdict, not_healthy, healthy - ended)


async def _wait_healthy(stage: Ground, clients: list[Client]) -> str:
    """Wait until everything is as before, also for the clients that were there; return what is not."""
    deadline = time.monotonic() + scaled(_HEALTHY_S)
    while True:
        try:
            async with asyncio.timeout(2 * stage.request_timeout_s):
                wrong = await stage.healthy() or await stage.all_answer(clients)
        except Exception as error:  # Redis may just be away
            wrong = f"{type(error).__name__}: {error}"
        if not wrong or time.monotonic() > deadline:
            return wrong
        await asyncio.sleep(0.1)


async def _left(stage: Ground) -> list[str]:
    """Return what is left over; what is ending just now has a moment for it."""
    left: list[str] = []
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(scaled(8.0)):
            while left := await stage.leftovers():
                await asyncio.sleep(0.2)
    return left
