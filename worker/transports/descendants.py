"""Processes that a stdio child started and left behind, and signs of life of a child that is still starting (Linux).

A child may start processes that leave its process group, as browsers do that Playwright or Puppeteer start. Most keep
the environment, so a variable of the child's own finds them (``CHILD``). Those that were given another environment are
found by their session, or as descendants of the child while it lives. Elsewhere than on Linux nothing is found.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import os
import signal
from collections.abc import Mapping
from typing import NamedTuple

from shared.tasks import spawn
from worker.reaper import marked_processes

CHILD = "GATEWAY_UPSTREAM_CHILD"
"""The environment variable that names one stdio child, and is inherited by its descendants."""
_ROUNDS, _ROUND_S = 50, 0.02
_numbers = itertools.count(1)


def new_mark(incarnation: str) -> str:
    """Return the value of ``CHILD`` for another child."""
    return f"{incarnation}.{next(_numbers)}"


class _Left(NamedTuple):
    """By what else than its mark the processes of a child are found: its ``session``, and descendants by the times at
    which they ``began``."""

    session: int
    began: Mapping[int, int]


class _Sweep:
    """Kills what is left of children that have ended. Children that end together share one look at all processes."""

    def __init__(self) -> None:
        self._waiting: dict[str, _Left] = {}
        self._task: asyncio.Task[None] | None = None

    async def end(self, mark: str, left: _Left) -> None:
        self._waiting[mark] = left
        if self._task is None or self._task.done():
            self._task = spawn(self._run(), "end-descendants")
        await asyncio.wait({self._task})

    async def _run(self) -> None:
        while self._waiting:
            ended, self._waiting = self._waiting, {}
            for _ in range(_ROUNDS):  # a process may start another one meanwhile
                if not await asyncio.to_thread(_kill, ended):
                    break
                await asyncio.sleep(_ROUND_S)


_sweeps: dict[asyncio.AbstractEventLoop, _Sweep] = {}


async def end_descendants(mark: str, session: int = 0, began: Mapping[int, int] | None = None) -> None:
    """Kill every process that carries ``mark``, belongs to ``session``, or is one of the descendants ``began``, and
    wait until there is none. The child itself must have ended."""
    if not os.path.isdir("/proc/self"):
        return
    loop = asyncio.get_running_loop()
    for other in [one for one in _sweeps if one.is_closed()]:
        del _sweeps[other]
    await _sweeps.setdefault(loop, _Sweep()).end(mark, _Left(session, began or {}))


def _kill(ended: Mapping[str, _Left]) -> int:
    pids = set(marked_processes(CHILD, tuple(ended)))
    sessions = {one.session for one in ended.values() if one.session}
    began = {pid: at for one in ended.values() for pid, at in one.began.items()}
    if sessions or began:
        pids |= {one.pid for one in _processes() if one.session in sessions or began.get(one.pid) == one.began}
    for pid in pids:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.kill(pid, signal.SIGKILL)
    return len(pids)


def descendants(pid: int) -> dict[int, int]:
    """Return all descendants of a process that lives, with the times at which they began."""
    children: dict[int, list[_Process]] = {}
    for one in _processes():
        children.setdefault(one.parent, []).append(one)
    found: dict[int, int] = {}
    to_look = [pid]
    while to_look:
        for one in children.get(to_look.pop(), ()):
            if one.pid not in found:
                found[one.pid] = one.began
                to_look.append(one.pid)
    return found


class _Process(NamedTuple):
    pid: int
    parent: int
    session: int
    began: int  # in clock ticks since the machine began


def _processes() -> list[_Process]:
    """Return all processes that have not ended (proc(5), ``stat``)."""
    found = []
    with contextlib.suppress(OSError):
        for name in os.listdir("/proc"):
            if not name.isdigit():
                continue
            with contextlib.suppress(OSError, ValueError, IndexError), open(f"/proc/{name}/stat", "rb") as file:
                fields = file.read().rpartition(b")")[2].split()
                if fields[0] not in (b"Z", b"X"):
                    found.append(_Process(int(name), int(fields[1]), int(fields[3]), int(fields[19])))
    return found


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
