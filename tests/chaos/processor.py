"""Less of a processor than a process needs, by a control group of its own (Linux, version 1; needs root)."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path

_GROUPS = Path("/sys/fs/cgroup/cpu")
_PERIOD_US = 100_000


def processor_possible() -> bool:
    """Whether that can be done here."""
    return os.access(_GROUPS / "cgroup.procs", os.W_OK) and (_GROUPS / "cpu.cfs_quota_us").exists()


@contextlib.contextmanager
def slowed(pid: int, share: float) -> Iterator[None]:
    """Meanwhile a process gets this share of one processor."""
    group = _GROUPS / f"gwchaos{os.getpid()}"
    group.mkdir()
    try:
        (group / "cpu.cfs_period_us").write_text(str(_PERIOD_US))
        (group / "cpu.cfs_quota_us").write_text(str(int(_PERIOD_US * share)))
        (group / "cgroup.procs").write_text(str(pid))
        yield
    finally:
        with contextlib.suppress(OSError):  # it has ended
            (_GROUPS / "cgroup.procs").write_text(str(pid))
        group.rmdir()
