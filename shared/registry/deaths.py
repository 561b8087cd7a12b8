"""Noticing at once that a worker of this machine died, instead of when its record expires.

A worker holds a lock on a file beside its Unix socket, and its reaper holds the same lock. The kernel gives the lock up
when both have ended, however they ended, and by then the reaper has killed what the worker ran. So whoever gets the
lock may remove the worker's record, and another worker may start the same children: none of them runs twice.

Front ends look when a link breaks, the supervisor when a worker of its own ends. A worker on another machine, whose
file nobody here can see, is dead when its record expires.
"""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import logging
import os
from pathlib import Path

from shared.errors import RegistryUnavailable
from shared.registry.members import Members

_log = logging.getLogger(__name__)
_LOOK_S = 0.03
_UNIX = "unix:"


def hold(socket: Path) -> int:
    """Lock the file beside a worker's Unix socket; return the descriptor, which the reaper inherits."""
    descriptor = os.open(_beside(socket), os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    return descriptor


def drop(socket: Path) -> None:
    """Remove the file of a worker that has left, or of a dead one."""
    _beside(socket).unlink(missing_ok=True)


def _beside(socket: Path) -> Path:
    return socket.with_suffix(".alive")


def has_ended(socket: Path) -> bool | None:
    """Whether the worker with this socket and its reaper have ended, or ``None`` if this process cannot know."""
    try:
        descriptor = os.open(_beside(socket), os.O_RDWR | os.O_NOFOLLOW | os.O_CLOEXEC)
    except OSError:
        return None
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)  # shared: others may be looking too
    except OSError:
        return False
    finally:
        os.close(descriptor)
    return True


async def report(members: Members, worker: str, address: str, within_s: float) -> bool:
    """Remove the record of a worker once it has certainly ended. Return false if it has not ``within_s``, or if that
    cannot be known here."""
    if not address.startswith(_UNIX):
        return False
    socket = Path(address.removeprefix(_UNIX))
    loop = asyncio.get_running_loop()
    deadline = loop.time() + within_s
    while loop.time() < deadline:
        ended = has_ended(socket)
        if ended is None:
            return False  # on another machine, or it left in order
        if ended and await _bury(members, worker):
            with contextlib.suppress(OSError):
                socket.unlink(missing_ok=True)
                drop(socket)
            return True
        await asyncio.sleep(_LOOK_S)
    return False


async def _bury(members: Members, worker: str) -> bool:
    """Remove the record of a dead worker. Return false if Redis does not answer just now."""
    try:
        if await members.bury(worker):
            _log.warning("worker %s died; what it had is taken over", worker)
    except RegistryUnavailable:
        return False
    return True
