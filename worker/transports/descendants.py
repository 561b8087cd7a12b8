"""Processes that a stdio child started and left behind, and signs of life of a child that is still starting (Linux).

A child may start processes that leave its process group, as browsers do that Playwright or Puppeteer start. They keep
the environment, so a variable of the child's own finds them (``CHILD``). Elsewhere than on Linux nothing is found.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import os
import signal
from collections.abc import Collection

from shared.tasks import spawn
from worker.reaper import marked_processes

CHILD = "GATEWAY_UPSTREAM_CHILD"
"""The environment variable that names one stdio child, and is inherited by its descendants."""
_ROUNDS, _ROUND_S = 50, 0.02
_numbers = itertools.count(1)


def new_mark(incarnation: str) -> str:
    """Return the value of ``CHILD`` for another child."""
    return f"{incarnation}.{next(_numbers)}"


class _Sweep:
    """Kills what is left of children that have ended. Children that end together share one look at all processes."""

    def __init__(self) -> None:
        self._waiting: set[str] = set()
        self._task: asyncio.Task[None] | None = None

    async def end(self, mark: str) -> None:
        self._waiting.add(mark)
        if self._task is None or self._task.done():
            self._task = spawn(self._run(), "end-descendants")
        await asyncio.wait({self._task})

    async def _run(self) -> None:
        while self._waiting:
            marks, self._waiting = self._waiting, set()
            for _ in range(_ROUNDS):  # a process may start another one meanwhile
                if not await asyncio.to_thread(_kill, marks):
                    break
                await asyncio.sleep(_ROUND_S)


_sweeps: dict[asyncio.AbstractEventLoop, _Sweep] = {}


async def end_descendants(mark: str) -> None:
    """Kill every process that carries ``mark`` and wait until there is none."""
    if not os.path.isdir("/proc/self"):
        return
    loop = asyncio.get_running_loop()
    for other in [one for one in _sweeps if one.is_closed()]:
        del _sweeps[other]
    await _sweeps.setdefault(loop, _Sweep()).end(mark)


def _kill(marks: Collection[str]) -> int:
    pids = marked_processes(CHILD, marks)
    for pid in pids:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.kill(pid, signal.SIGKILL)
    return len(pids)


def cpu_ticks(session: int) -> int:
    """Return the processor time that a child and its descendants have used, in clock ticks: of all processes whose
    session (``setsid``) is ``session``, with those that they have waited for (proc(5), ``stat``)."""
    ticks = 0
    with contextlib.suppress(OSError):
        for name in os.listdir("/proc"):
            if not name.isdigit():
                continue
            with contextlib.suppress(OSError, ValueError, IndexError), open(f"/proc/{name}/stat", "rb") as file:
                fields = file.read().rpartition(b")")[2].split()
                if int(fields[3]) == session:
                    ticks += sum(map(int, fields[11:15]))
    return ticks
