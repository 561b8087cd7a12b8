"""Faults that meet others: two at once, or one while the fleet is busy with what it was told to do."""

from __future__ import annotations

import os
import signal
from collections.abc import AsyncIterator

from tests.chaos.fault import Fault, deed
from tests.chaos.stage import Stage
from tests.chaos.verdict import Allowance
from tests.fleet import alive, eventually


async def _kill(pid: int) -> None:
    os.kill(pid, signal.SIGKILL)
    await eventually(lambda: not alive(pid), 5.0, "it is dead")


@deed
async def _redis_and_owner_killed(stage: Stage) -> AsyncIterator[None]:
    owner = await stage.worker_with("p")
    await stage.redis.signal(signal.SIGKILL)
    await _kill(owner)
    yield


@deed
async def _redis_hangs_and_owner_killed(stage: Stage) -> AsyncIterator[None]:
    owner = await stage.worker_with("p")
    await stage.redis.signal(signal.SIGSTOP)
    await _kill(owner)
    yield
    await stage.redis.signal(signal.SIGCONT)


@deed
async def _owner_killed_while_it_drains(stage: Stage) -> AsyncIterator[None]:
    owner = await stage.worker_with("p")
    os.kill(owner, signal.SIGTERM)

    async def drains() -> bool:
        facts = await stage.fleet.worker_facts()
        return any(one["pid"] == str(owner) and one["draining"] == "1" for one in facts.values())

    await eventually(drains, 5.0, "it drains")
    await _kill(owner)
    yield


DOUBLE_FAULTS = (
    Fault(
        "redis-and-owner-killed",
        "Redis and the owner of the stdio upstream: kill -9, Redis back with its data after 5 s",
        _redis_and_owner_killed,
        Allowance(codes=("outcome_unknown", "not_delivered"), wait_s=8.0, recovery_s=3.0),
        5.0,
    ),
    Fault(
        "redis-stopped-owner-killed",
        "Redis: SIGSTOP, 10 s, and the owner of the stdio upstream: kill -9",
        _redis_hangs_and_owner_killed,
        Allowance(tools=("p", "s", "h"), throughout=True, hands_off_s=2.0, answer_s=9.0, wait_s=9.0, recovery_s=3.0),
        10.0,
    ),
    Fault(
        "owner-killed-draining",
        "the owner of the stdio upstream: SIGTERM, and kill -9 while it drains",
        _owner_killed_while_it_drains,
        Allowance(codes=("outcome_unknown", "not_delivered")),
    ),
)
