"""The garbage collector, set for a process that serves: reference counting frees what a call makes, cycles are rare.

With Python's defaults the collector ran for 4-8 % of a worker's time, looking each time at everything that was loaded
at the start. What is alive then is frozen, and the youngest generation is looked at less often.
"""

from __future__ import annotations

import gc

_THRESHOLDS = (20_000, 20, 20)


def settle() -> None:
    """Called when a process is ready to serve, and after it has taken in a large catalogue."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(*_THRESHOLDS)
