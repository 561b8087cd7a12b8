"""The parts of a fleet that a fault is done to: each function returns the pids of one."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from tests.chaos import processes
from tests.chaos.ground import Ground
from tests.chaos.stage import Stage
from tests.chaos.supervised import Supervised


async def front_end(stage: Stage) -> list[int]:
    return stage.front_end(0)


async def forked(stage: Stage) -> list[int]:
    return stage.front_end(0)[1:]


async def worker(stage: Stage) -> list[int]:
    return [await stage.worker_without("p")]


async def owner(stage: Stage) -> list[int]:
    return [await stage.worker_with("p")]


async def both_workers(stage: Stage) -> list[int]:
    return stage.workers


async def reapers(stage: Ground) -> list[int]:
    return processes.by_role()["reaper"]


async def owner_and_reaper(stage: Stage) -> list[int]:
    owner = await stage.worker_with("p")
    return [*processes.by_role(owner)["reaper"], owner]


async def child(stage: Ground) -> list[int]:
    return processes.by_role()["stdio child"]


def server(id: str) -> Callable[[Ground], Any]:
    async def find(stage: Ground) -> list[int]:
        process = stage.servers[id].process
        assert process is not None
        return [process.pid]

    return find


async def redis(stage: Ground) -> list[int]:
    return processes.by_role()["redis"]


async def supervisor(stage: Supervised) -> list[int]:
    assert stage.process is not None
    return [stage.process.pid]


async def gunicorn(stage: Supervised) -> list[int]:
    assert stage.process is not None
    return [pid for pid in processes.by_role()["front end"] if processes.parent(pid) == stage.process.pid]


async def one_forked(stage: Supervised) -> list[int]:
    (master,) = await gunicorn(stage)
    return list(processes.below(master))[:1]


async def one_owner(stage: Supervised) -> list[int]:
    return [processes.parent(pid) for pid in processes.by_role()["stdio child"]][:1]
