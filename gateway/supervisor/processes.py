"""Child processes of the supervisor: in sessions of their own, ended by the kernel if the supervisor is killed, and
started again after ever longer waits.
"""

from __future__ import annotations

import asyncio
import ctypes
import logging
import signal
import sys
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any

from shared.settings import FleetSettings

_log = logging.getLogger(__name__)
_PR_SET_PDEATHSIG = 1
_libc = ctypes.CDLL(None, use_errno=True) if sys.platform == "linux" else None


def _die_with_parent() -> None:
    """Run in the child: let the kernel send SIGTERM when the supervisor dies, also by ``kill -9`` (prctl(2), Linux)."""
    if _libc is not None:
        _libc.prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)


async def spawn_child(
    command: Sequence[str], environment: Mapping[str, str], pass_fds: Sequence[int] = (), **streams: Any
) -> asyncio.subprocess.Process:
    """Start a child in its own session, so that Ctrl-C reaches only the supervisor, which drains its children in order.

    ``streams`` are further arguments of ``asyncio.create_subprocess_exec``. Without ``stdin`` the child has none.
    """
    streams.setdefault("stdin", asyncio.subprocess.DEVNULL)
    return await asyncio.create_subprocess_exec(
        *command,
        env=dict(environment),
        start_new_session=True,
        preexec_fn=_die_with_parent,
        pass_fds=tuple(pass_fds),
        **streams,
    )


def longer(wait_s: float, fleet: FleetSettings) -> float:
    """Return how long to wait before a process is started again, after having waited ``wait_s`` in vain."""
    return min(max(wait_s * 2, fleet.restart_min_s), fleet.restart_max_s)


async def persistently(start: Callable[[], Awaitable[None]], name: str, wait_s: float, fleet: FleetSettings) -> float:
    """Start a process, again and again while no descriptor or no process is free. Return the last wait."""
    while True:
        try:
            await start()
            return wait_s
        except OSError as error:
            wait_s = longer(wait_s, fleet)
            _log.error("%s cannot be started: %s; trying again in %.1f s", name, error, wait_s)
            await asyncio.sleep(wait_s)
