"""The reaper: a small process for each worker that kills the children which the worker would leave behind.

The reaper reads a pipe from its worker. The pipe closes if the worker died (also by ``kill -9``) and falls silent if
the worker was stopped with ``SIGSTOP`` or hangs. In both cases the reaper kills every process whose environment carries
the worker's marker: the stdio children and all their descendants, including those that left the process group. The
silence that it allows is shorter than the life of the worker's record in Redis, so that no other worker starts the same
child before; and shorter still where the kernel says that the worker is stopped, and not only slow. Then it gives up
the lock that it holds together with the worker, so that others need not wait for the end of the record
(``shared.registry.deaths``).

A container of podman or docker is no child of the command line tool that is one, so containers are found
by their labels, which are these markers too, and removed by the same tool.

Run as ``python worker/reaper.py INCARNATION SILENCE_S [DESCRIPTOR]``; the descriptor is that of the lock. Imports only
the standard library, and is started by its path so that it also works where the package is not installed.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import select
import signal
import subprocess
import sys
import time
from collections.abc import Collection, Mapping

MARKER = "GATEWAY_UPSTREAM_OWNER"
"""The environment variable that every stdio child carries: the incarnation of the worker that started it."""


STOPPED_S = 0.75
"""The silence (seconds) that is allowed to a stopped worker: three of its signs of life."""
_LOOK_S = 0.1
LABEL = "--label"
"""Before the labels of a container in the command line of its tool (``worker.transports.sandbox``)."""
_MARKS = "GATEWAY_UPSTREAM_"
_EXEC_LOOKS, _EXEC_LOOK_S = 100, 0.005
"""How often a process is looked at again that begins another program."""
_TOOL_S, _REMOVED_S = 10.0, 20.0
"""How long a tool may take for one answer, and how long containers are looked for that are still being made."""
Tool = tuple[str, tuple[tuple[str, str], ...]]
"""A command line tool for containers, and the environment that leads it to them."""


def marked_processes(variable: str, values: Collection[str]) -> list[int]:
    """Return the pids in whose environment a variable has one of these values (Linux: read from /proc)."""
    wanted = {f"{variable}={value}".encode() for value in values}
    found = []
    pids = [int(name) for name in os.listdir("/proc") if name.isdigit() and int(name) != os.getpid()]
    for _ in range(_EXEC_LOOKS):
        executing = []
        for pid in pids:
            environment = _environment(pid)
            if not wanted.isdisjoint(environment.split(b"\0")):
                found.append(pid)
            elif not environment and _is_executing(pid):
                executing.append(pid)
        if not executing:
            break
        pids = executing
        time.sleep(_EXEC_LOOK_S)
    return found


def _environment(pid: int) -> bytes:
    """Return the environment of a process, or nothing if there is none to read."""
    try:
        with open(f"/proc/{pid}/environ", "rb") as file:
            return file.read()
    except OSError:
        return b""


def _is_executing(pid: int) -> bool:
    """Whether a process without an environment begins another program at this moment: it has a program, unlike a
    thread of the kernel, and no arguments yet either. Its parent may have gone on, or have been killed, before."""
    try:
        os.readlink(f"/proc/{pid}/exe")
        with open(f"/proc/{pid}/cmdline", "rb") as file:
            return not file.read(1)
    except OSError:
        return False


def kill_marked(incarnation: str) -> int:
    """Kill all marked processes, again until none is left (a child may fork meanwhile), and end their containers.
    Return how many were killed."""
    killed = 0
    label = f"{MARKER}={incarnation}"
    tools: set[Tool] = set()
    for _ in range(50):
        pids = marked_processes(MARKER, (incarnation,))
        if not pids:
            break
        for pid in pids:
            tool = _container_tool(pid, label)
            if tool is not None:
                tools.add(tool)
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.kill(pid, signal.SIGKILL)
                killed += 1
        time.sleep(0.02)
    for name, environment in tools:
        end_containers(name, dict(environment), label)
    return killed


def _container_tool(pid: int, label: str) -> Tool | None:
    """Return the tool that a process is, if it runs a container with this label."""
    try:
        with open(f"/proc/{pid}/cmdline", "rb") as file:
            words = os.fsdecode(file.read()).split("\0")
        with open(f"/proc/{pid}/environ", "rb") as file:
            pairs = [line.partition("=") for line in os.fsdecode(file.read()).split("\0") if line]
    except OSError:
        return None
    if "run" not in words[1:] or LABEL not in words or label not in words:
        return None
    kept = [(name, value) for name, _, value in pairs if not name.startswith(_MARKS)]
    return words[words.index("run", 1) - 1], tuple(sorted(kept))


def end_containers(tool: str, environment: Mapping[str, str], label: str) -> bool:
    """Remove all containers with a label, running or not. Return false if the tool cannot be asked, or they do not
    end."""
    until = time.monotonic() + _REMOVED_S
    while time.monotonic() < until:
        found = _run(environment, tool, "ps", "--all", "--quiet", "--filter", f"label={label}")
        if found is None or not found.split():
            return found is not None
        _run(environment, tool, "rm", "--force", *found.split())
    return False


def _run(environment: Mapping[str, str], *command: str) -> str | None:
    """Return what a command writes, or ``None`` if it fails."""
    try:
        done = subprocess.run(
            command, env=environment, stdin=subprocess.DEVNULL, capture_output=True, timeout=_TOOL_S, check=False
        )
    except (OSError, ValueError, subprocess.SubprocessError):
        return None
    return done.stdout.decode("ascii", "replace") if done.returncode == 0 else None


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
