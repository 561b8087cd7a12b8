"""CPU time and memory of process trees, from /proc (Linux). Trees are followed by parent: sessions may differ."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterable
from pathlib import Path

_TICKS = os.sysconf("SC_CLK_TCK")
UPSTREAM_MARK = b"upstream_stdio"
"""In the command line of stdio upstreams, which stand below the gateway's worker but are not the gateway."""


def _stat(pid: int) -> list[str] | None:
    try:
        # The second field is the command in parentheses, which may contain anything.
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except (FileNotFoundError, ProcessLookupError):
        return None


def _is_upstream(pid: int) -> bool:
    with contextlib.suppress(OSError):
        return UPSTREAM_MARK in Path(f"/proc/{pid}/cmdline").read_bytes()
    return False


def tree(root: int) -> list[int]:
    """A process and its descendants, without stdio upstreams."""
    children: dict[int, list[int]] = {}
    for entry in os.listdir("/proc"):
        if entry.isdigit() and (fields := _stat(int(entry))) is not None:
            children.setdefault(int(fields[1]), []).append(int(entry))
    found, queue = [], [root]
    while queue:
        pid = queue.pop()
        if not _is_upstream(pid):
            found.append(pid)
            queue += children.get(pid, [])
    return found


def cpu_s(pids: Iterable[int]) -> float:
    """User and system seconds that these processes have used so far."""
    ticks = 0
    for pid in pids:
        fields = _stat(pid)
        if fields is not None:
            ticks += int(fields[11]) + int(fields[12])
    return ticks / _TICKS


def memory_bytes(pids: Iterable[int]) -> int:
    """Proportional set size: pages that processes share count once altogether.

    The gateway's processes show it to root alone. For others it is the resident size, which counts shared pages again.
    """
    total = 0
    for pid in pids:
        try:
            for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
                if line.startswith("Pss:"):
                    total += int(line.split()[1]) * 1024
        except PermissionError:
            total += _status_bytes([pid], "VmRSS:")
        except OSError:
            continue
    return total


def begin_peak(pids: Iterable[int]) -> int:
    """Resident bytes now; ``peak_bytes`` counts from here. The kernel keeps the peak, watching costs nothing."""
    for pid in pids:
        with contextlib.suppress(OSError):
            Path(f"/proc/{pid}/clear_refs").write_text("5")
    return _status_bytes(pids, "VmRSS:")


def peak_bytes(pids: Iterable[int]) -> int:
    """The sum of each process's most resident bytes since ``begin_peak``."""
    return _status_bytes(pids, "VmHWM:")


def _status_bytes(pids: Iterable[int], name: str) -> int:
    total = 0
    for pid in pids:
        with contextlib.suppress(OSError):
            for line in Path(f"/proc/{pid}/status").read_text().splitlines():
                if line.startswith(name):
                    total += int(line.split()[1]) * 1024
    return total
