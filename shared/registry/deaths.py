"""Noticing at once that a worker of this machine died, instead of when its record expires.

A worker holds a lock on a file beside its Unix socket, and its reaper holds the same lock. The kernel gives the lock up
when both have ended, however they ended, and by then the reaper has killed what the worker ran. The reaper gives it up
itself when the worker stands still and its children are killed. So whoever gets the lock may remove the worker's
record, and another worker may start the same children: none of them runs twice. A worker that goes on after all takes
the lock again and joins anew; its record cannot be removed by who saw the lock free before that (``Members.bury``).

Front ends look when a link breaks, the supervisor when a worker of its own ends. A worker on another machine, whose
file nobody here can see, is dead when its record expires.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import fcntl
import os
import socket as sockets
from pathlib import Path

from shared.errors import RegistryUnavailable
from shared.registry.members import Members

_LOOK_S, _LOOK_AGAIN_S = 0.03, 0.25
_UNIX = "unix:"


def hold(socket: Path) -> int:
    """Lock the file beside a worker's Unix socket; return the descriptor, which the reaper inherits."""
    descriptor = os.open(_beside(socket), os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    return descriptor


def hold_again(descriptor: int) -> bool:
    """Lock the file of ``hold`` again, which the reaper may have given up. Return false if it cannot be locked just
    now."""
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False  # somebody looks at it
    return True


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


def listens(socket: Path) -> bool:
    """Whether there still is a process that listens at a Unix socket, also one that is stopped."""
    with sockets.socket(sockets.AF_UNIX, sockets.SOCK_STREAM) as probe:
        probe.setblocking(False)
        return probe.connect_ex(str(socket)) in (0, errno.EAGAIN, errno.EINPROGRESS)


async def report(members: Members, worker: str, address: str, within_s: float) -> bool:
    """Remove the record of a worker once it has certainly ended, or stands still and has no children any more. Return
    false if it has not ``within_s``, or if that cannot be known here."""
    if not address.startswith(_UNIX):
        return False
    socket = Path(address.removeprefix(_UNIX))
    loop = asyncio.get_running_loop()
    deadline = loop.time() + within_s
    buried = False
    while loop.time() < deadline:
        ended = has_ended(socket)
        if ended is None:
            break  # on another machine, or it left in order
        if ended:
            buried = buried or await _bury(members, worker, socket)
            if buried and not listens(socket):
                _clean_up(socket)
                break
        await asyncio.sleep(_LOOK_S if not buried else _LOOK_AGAIN_S)
    else:
        if has_ended(socket) and not listens(socket):
            _clean_up(socket)  # Redis took nothing meanwhile, and the record has expired
    return buried


def _clean_up(socket: Path) -> None:
    """Remove what a process that is no more has left in the run directory."""
    with contextlib.suppress(OSError):
        socket.unlink(missing_ok=True)
        drop(socket)


async def _bury(members: Members, worker: str, socket: Path) -> bool:
    """Remove the record of a dead worker. Return false if Redis does not answer just now, or if the worker lives."""
    try:
        joined_at = await members.joined_at(worker)
        # If it goes on from here, it joins at another time before it starts a child, and stays.
        return has_ended(socket) is True and await members.bury(worker, joined_at)
    except RegistryUnavailable:
        return False
