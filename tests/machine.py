"""How slow the machine is now, measured: what a test may wait for the machine is scaled by it.

Tests name their deadlines for an idle machine of two cores. On one that other programs use, or whose cores are slow,
the same work takes longer, and that says nothing about the gateway. So a fixed piece of work is timed: what it takes
beyond ``IDLE_S`` (slow cores, other load, a hypervisor that takes time away) makes every deadline longer. A deadline
that is kept costs nothing, however far it is.
"""

from __future__ import annotations

from collections import deque
from time import perf_counter

IDLE_S = 0.035
"""Wall time of ``_work`` on an idle core of the machines that this project's CI runs on (Python 3.11)."""
MOST = 10.0
"""No factor is larger: a test that hangs must end some time."""
MOST_STRETCHED = 3.0
"""That is what two busy loops beside the tests ask for on two cores, and somewhat more."""
FRESH_S = 5.0
"""So old may a measurement be when a test starts: measuring then takes less than one per cent of the time."""
REMEMBERED_S = 60.0
"""So long a measurement counts: load comes and goes, and a test may meet more than its start did."""

_measured: deque[tuple[float, float]] = deque()


def factor(slowness: float) -> float:
    """What to multiply deadlines with when work takes ``slowness`` times as long as on an idle machine.

    What is lost counts twice. Work of one process measures it, and a fleet is several: beside two busy loops on two
    cores one process runs at two thirds of its speed, two run at half of theirs.
    """
    return min(max(1.0 + 2.0 * (slowness - 1.0), 1.0), MOST)


def measure() -> float:
    """Look how slow the machine is at this moment; the factor for deadlines. Takes ``IDLE_S`` or longer."""
    began = perf_counter()
    _work()
    now = perf_counter()
    _measured.append((now, factor((now - began) / IDLE_S)))
    return scaling()


def scaling() -> float:
    """The largest factor of the last minute, measured anew when there is none of the last seconds."""
    now = perf_counter()
    if not _measured or now - _measured[-1][0] > FRESH_S:
        return measure()
    while now - _measured[0][0] > REMEMBERED_S:
        _measured.popleft()
    return max(one for _, one in _measured)


def scaled(seconds: float) -> float:
    """What may take ``seconds`` on an idle machine may take so long now."""
    return seconds * scaling()


def stretched(seconds: float) -> float:
    """The same for what a test waits out, as a timeout that it means to see: that costs time, so it stays small."""
    return seconds * min(scaling(), MOST_STRETCHED)


def _work() -> None:
    total = 0
    for number in range(1_000_000):
        total += number & 7
