"""Child processes of the supervisor: in sessions of their own, and ended by the kernel if the supervisor is killed."""

from __future__ import annotations

import asyncio
import ctypes
import signal
import sys
from collections.abc import Mapping, Sequence
from typing import Any

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
