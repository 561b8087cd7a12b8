"""What a fault is, and the two that can be done to any process."""

from __future__ import annotations

import contextlib
import os
import signal
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager as Context
from typing import Any

from msgspec import Struct

from tests.chaos.ground import Ground
from tests.chaos.stage import Stage
from tests.chaos.verdict import Allowance
from tests.fleet import alive, eventually


class Fault(Struct):
    """One fault. ``what``: the row's title. ``stage`` makes what it is done to. ``sessions_refused``: meanwhile no
    session can be opened."""

    name: str
    what: str
    done_to: Callable[[Any], Context[None]]
    allowed: Allowance
    lasts_s: float = 0.0
    stage: Callable[[], Ground] = Stage
    sessions_refused: bool = False
    possible: Callable[[], bool] = lambda: True
    """Whether it can be done on this machine."""


def deed(does: Callable[[Any], AsyncIterator[None]]) -> Callable[[Any], Context[None]]:
    return contextlib.asynccontextmanager(does)


def killed(find: Callable[[Any], Any]) -> Callable[[Any], Context[None]]:
    """``kill -9`` of the processes that ``find`` returns."""

    async def does(stage: Any) -> AsyncIterator[None]:
        pids = await find(stage)
        for pid in pids:
            os.kill(pid, signal.SIGKILL)
        await eventually(lambda: not any(map(alive, pids)), 5.0, "they are dead")
        yield

    return deed(does)


def stopped(find: Callable[[Any], Any]) -> Callable[[Any], Context[None]]:
    """SIGSTOP, and SIGCONT in the end, of the processes that ``find`` returns."""

    async def does(stage: Any) -> AsyncIterator[None]:
        pids = await find(stage)
        for pid in pids:
            os.kill(pid, signal.SIGSTOP)
        yield
        for pid in pids:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGCONT)

    return deed(does)
