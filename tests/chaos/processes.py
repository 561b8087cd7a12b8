"""What runs below this process, by role; also what lost its parent, which then becomes a child of this one."""

from __future__ import annotations

import collections
import contextlib
import ctypes
import os
import sys
from collections.abc import Iterator
from pathlib import Path

_PR_SET_CHILD_SUBREAPER = 36
ROLES = {
    "worker/reaper.py": "reaper",
    "-m worker": "worker",
    "gunicorn": "front end",
    "tests.chaos.upstream stdio": "stdio child",
    "redis-server": "redis",
    "-m gateway": "supervisor",
}
"""What stands in the command line of a process of this role."""


@contextlib.contextmanager
def adopting() -> Iterator[None]:
    """Whatever loses its parent becomes a child of this process (prctl(2), Linux), so that nothing is overlooked."""
    libc = ctypes.CDLL(None, use_errno=True) if sys.platform == "linux" else None
    if libc is not None:
        libc.prctl(_PR_SET_CHILD_SUBREAPER, 1)
    try:
        yield
    finally:
        if libc is not None:
            libc.prctl(_PR_SET_CHILD_SUBREAPER, 0)


def below(root: int) -> dict[int, str]:
    """Return the command lines of all living descendants of a process, by pid."""
    children: dict[int, list[int]] = {}
    for name in filter(str.isdigit, os.listdir("/proc")):
        with contextlib.suppress(OSError):
            fields = Path(f"/proc/{name}/stat").read_text().rpartition(")")[2].split()
            if fields[0] != "Z":
                children.setdefault(int(fields[1]), []).append(int(name))
    found: dict[int, str] = {}
    to_do = [root]
    while to_do:
        for pid in children.get(to_do.pop(), []):
            with contextlib.suppress(OSError):
                found[pid] = Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
            to_do.append(pid)
    return found


def parent(pid: int) -> int:
    """Return the parent of a process."""
    return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])


def role(command_line: str) -> str:
    """Return the role of a process, or an empty string."""
    return next((role for words, role in ROLES.items() if words in command_line), "")


def by_role(root: int | None = None) -> dict[str, list[int]]:
    """Return the pids below a process (by default this one) by role."""
    found: dict[str, list[int]] = collections.defaultdict(list)
    for pid, command_line in below(root or os.getpid()).items():
        if known := role(command_line):
            found[known].append(pid)
    return found
