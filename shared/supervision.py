"""How a front end asks the supervisor that started it for something: over a socket that it inherited.

A datagram is one request: the id under which the answer will be found (``shared.registry.rolls``). Only processes that
inherited the descriptor can write to it, so no password is needed, and no process of another gateway can be hit as it
could with a signal to a pid.
"""

from __future__ import annotations

import contextlib
import os
import socket

from shared.errors import RestartRefused

VARIABLE = "GATEWAY_SUPERVISOR_FD"
"""The environment variable that names the descriptor."""
MOST_BYTES = 64


def pair() -> tuple[socket.socket, socket.socket]:
    """Return the supervisor's end and the one that its front ends inherit."""
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
    ours.setblocking(False)
    theirs.setblocking(False)
    theirs.set_inheritable(True)
    return ours, theirs


def asked(ours: socket.socket) -> list[str]:
    """Return the ids of the requests that have come."""
    found = []
    with contextlib.suppress(BlockingIOError):
        while data := ours.recv(MOST_BYTES):
            found.append(data.decode("ascii", "replace"))
    return found


def ask(id: str) -> None:
    """Ask the supervisor of this process for a restart. Raises ``RestartRefused`` if it has none that hears."""
    number = os.environ.get(VARIABLE, "")
    try:
        with socket.socket(fileno=os.dup(int(number))) as ours:
            ours.send(id.encode())
    except (ValueError, OSError) as error:
        raise RestartRefused(
            "nothing here can replace this process: it was not started by 'gateway up' or 'gateway serve'; "
            "whoever started it can (SIGTERM drains it)"
        ) from error
