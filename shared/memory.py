"""How a process that serves calls manages its memory: the garbage collector and, with glibc, the allocator.

Reference counting frees what calls and sessions make: what has ended is in no circle, as the collector looks at old
objects once in millions of new ones (``tests/integration/test_ended_sessions.py``). With Python's defaults the
collector still took 4-8 % of a worker's time, because each run looked at everything that was loaded at the start. glibc
by default returns buffers of 128 KiB and more to the kernel at once, so every large body caused page faults (a quarter
of a worker's time for 1 MiB results).
"""

from __future__ import annotations

import ctypes
import gc

_THRESHOLDS = (20_000, 20, 20)
_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3  # mallopt(3)
_KEPT_BYTES = 64 * 1024 * 1024
_MAPPED_FROM_BYTES = 2 * 1024 * 1024


def tune() -> None:
    """Set the collector and the allocator for serving. Called once, when a process is ready to serve."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(*_THRESHOLDS)
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (OSError, AttributeError):
        return  # another C library
    mallopt(_M_MMAP_THRESHOLD, _MAPPED_FROM_BYTES)
    mallopt(_M_TRIM_THRESHOLD, _KEPT_BYTES)
