"""The reaper: a small process beside each worker that kills what the worker would leave behind.

It reads a pipe from its worker. When the pipe closes (the worker died, also by ``kill -9``) or falls silent (the
worker was stopped with ``SIGSTOP``, or hangs), it kills every process whose environment carries the worker's
marker: the stdio children and all their descendants, also those that left the process group. Silence is
shorter than the worker's record lives in Redis, so that nobody else starts the same child meanwhile.

Run as ``python -m worker.reaper INCARNATION SILENCE_S``; imports nothing but the standard library.
"""

from __future__ import annotations

import contextlib
import os
import select
import signal
import sys
import time

MARKER = "GATEWAY_UPSTREAM_OWNER"
"""Environment variable that every stdio child carries: the incarnation of the worker that started it."""


def marked_processes(incarnation: str) -> list[int]:
    """Pids whose environment carries this incarnation's marker (Linux: read from /proc)."""
    wanted = f"{MARKER}={incarnation}".encode()
    found = []
    for name in os.listdir("/proc"):
        if name.isdigit() and int(name) != os.getpid():
            with contextlib.suppress(OSError), open(f"/proc/{name}/environ", "rb") as file:
                if wanted in file.read().split(b"\0"):
                    found.append(int(name))
    return found


def kill_marked(incarnation: str) -> int:
    """Kill them all, again until none is left (a child may fork meanwhile). How many were killed."""
    killed = 0
    for _ in range(50):
        pids = marked_processes(incarnation)
        if not pids:
            break
        for pid in pids:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.kill(pid, signal.SIGKILL)
                killed += 1
        time.sleep(0.02)
    return killed


def watch(pipe: int, incarnation: str, silence_s: float) -> None:
    """Read heartbeats until the pipe closes; kill at silence and at the end."""
    while True:
        readable, _, _ = select.select([pipe], [], [], silence_s)
        if not readable:
            kill_marked(incarnation)
            continue
        if not os.read(pipe, 4096):
            kill_marked(incarnation)
            return


def main() -> None:
    """Entry point."""
    os.setsid()
    for which in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(which, signal.SIG_IGN)  # it ends with its worker, not with the terminal
    watch(sys.stdin.fileno(), sys.argv[1], float(sys.argv[2]))


if __name__ == "__main__":
    main()
