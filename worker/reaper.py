"""The reaper: a small process for each worker that kills the children which the worker would leave behind.

The reaper reads a pipe from its worker. The pipe closes if the worker died (also by ``kill -9``) and falls silent if
the worker was stopped with ``SIGSTOP`` or hangs. In both cases the reaper kills every process whose environment carries
the worker's marker: the stdio children and all their descendants, including those that left the process group. The
silence that it allows is shorter than the life of the worker's record in Redis, so that no other worker starts the same
child before; and shorter still where the kernel says that the worker is stopped, and not only slow. Then it gives up
the lock that it holds together with the worker, so that others need not wait for the end of the record
(``shared.registry.deaths``).

Run as ``python worker/reaper.py INCARNATION SILENCE_S [DESCRIPTOR]``; the descriptor is that of the lock. Imports only
the standard library, and is started by its path so that it also works where the package is not installed.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import select
import signal
import sys
import time
from collections.abc import Collection

MARKER = "GATEWAY_UPSTREAM_OWNER"
"""The environment variable that every stdio child carries: the incarnation of the worker that started it."""


STOPPED_S = 0.75
"""The silence (seconds) that is allowed to a stopped worker: three of its signs of life."""
_LOOK_S = 0.1


def marked_processes(variable: str, values: Collection[str]) -> list[int]:
    """Return the pids in whose environment a variable has one of these values (Linux: read from /proc)."""
    wanted = {f"{variable}={value}".encode() for value in values}
    found = []
    for name in os.listdir("/proc"):
        if name.isdigit() and int(name) != os.getpid():
            with contextlib.suppress(OSError), open(f"/proc/{name}/environ", "rb") as file:
                if not wanted.isdisjoint(file.read().split(b"\0")):
                    found.append(int(name))
    return found


def kill_marked(incarnation: str) -> int:
    """Kill all marked processes, again until none is left (a child may fork meanwhile). Return how many were killed."""
    killed = 0
    for _ in range(50):
        pids = marked_processes(MARKER, (incarnation,))
        if not pids:
            break
        for pid in pids:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.kill(pid, signal.SIGKILL)
                killed += 1
        time.sleep(0.02)
    return killed


def is_stopped(pid: int) -> bool:
    """Whether a process is stopped by a signal (Linux: read from /proc)."""
    try:
        with open(f"/proc/{pid}/stat") as file:
            return file.read().rpartition(")")[2].split()[0] == "T"
    except (OSError, IndexError):
        return False


def watch(pipe: int, incarnation: str, silence_s: float, life: int = -1) -> None:
    """Read heartbeats until the pipe closes. Kill the marked processes after each silence of ``silence_s``, or
    ``STOPPED_S`` of a worker that is stopped, and at the end."""
    heard_at = time.monotonic()
    while True:
        readable, _, _ = select.select([pipe], [], [], _LOOK_S)
        now = time.monotonic()
        if readable:
            heard_at = now
            if not os.read(pipe, 4096):
                kill_marked(incarnation)
                return
            continue
        silent_s = now - heard_at
        if silent_s >= silence_s or (silent_s >= STOPPED_S and is_stopped(os.getppid())):
            kill_marked(incarnation)
            if life >= 0:
                fcntl.flock(life, fcntl.LOCK_UN)  # for the worker too: the lock is that of the open file
            heard_at = time.monotonic()


def main() -> None:
    """Watch the worker on stdin."""
    os.setsid()
    for which in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(which, signal.SIG_IGN)  # the reaper ends with its worker, not with the terminal
    watch(sys.stdin.fileno(), sys.argv[1], float(sys.argv[2]), int(sys.argv[3]) if len(sys.argv) > 3 else -1)


if __name__ == "__main__":
    main()
