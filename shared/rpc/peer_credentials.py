"""Who is at the other end of a Unix socket, as the kernel says (``SO_PEERCRED``, Linux; see unix(7)).

Other systems say it in other ways; there the permissions of the socket's file have to do, and the proofs of
``shared.rpc.handshake``.
"""

from __future__ import annotations

import os
import socket
import struct
import sys
from typing import Any, NamedTuple

_UCRED = struct.Struct("3i")  # pid, uid, gid


class Credentials(NamedTuple):
    """The process that connected, or that listens; and as whom it did so."""

    pid: int
    uid: int


def credentials(here: Any) -> Credentials | None:
    """Return who is at the other end of a socket, or ``None`` if it is no Unix socket or the system does not say.

    ``here`` is a ``socket.socket``, or what a transport gives as one.
    """
    if sys.platform != "linux" or here is None or here.family != socket.AF_UNIX:
        return None
    pid, uid, _ = _UCRED.unpack(here.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _UCRED.size))
    return Credentials(pid, uid)


def is_stopped(pid: int) -> bool:
    """Whether a process of this machine is stopped by a signal: it does not answer, and is not only slow. False if the
    system does not say."""
    try:
        with open(f"/proc/{pid}/stat") as file:
            return file.read().rpartition(")")[2].split()[0] == "T"
    except (OSError, IndexError):
        return False


def objection(peer: Credentials | None, own_uid: int | None = None) -> str:
    """Return why a process may not be the other end of a link, or nothing. It must run as our user or as root."""
    own = os.geteuid() if own_uid is None else own_uid
    if peer is None or peer.uid in (own, 0):
        return ""
    return (
        f"it runs as uid {peer.uid} and this process as uid {own}; run workers and front ends of one host as one user"
    )


def place(here: Any, peername: Any) -> str:
    """Return where the other end of a link is, for a log: ``host:port`` of TCP, the process at a Unix socket."""
    if isinstance(peername, tuple):
        host, port = peername[:2]
        return f"[{host}]:{port}" if ":" in str(host) else f"{host}:{port}"
    known = credentials(here)
    return "a Unix socket" if known is None else f"a Unix socket, pid {known.pid}"
