"""Whether a process grows, from samples of its memory and its descriptors. Pure.

Only the last half of a run counts: caches, pools and the allocator's arenas fill in the first one.
"""

from __future__ import annotations

from collections.abc import Sequence
from statistics import median

from msgspec import Struct

MOST_MIB_A_MIN = 0.2
_SPARE_DESCRIPTORS = 8
"""Pools of connections keep what the largest burst needed; what leaks one for each session or reload has many more."""


class Sample(Struct, frozen=True):
    """One look at a process: when (seconds), its own memory, and how many descriptors it has open, those of connections
    of clients left out."""

    at: float
    memory_mib: float
    descriptors: int


class Growth(Struct, frozen=True):
    """How a process has grown in the last half of its samples; ``memory_mib`` is the median and
    ``descriptors`` the least of each quarter: connections come and go with bursts, what leaks stays."""

    slope_mib_a_min: float
    memory_mib: tuple[float, float]
    descriptors: tuple[int, int]

    @property
    def problems(self) -> list[str]:
        """What is more than it may be."""
        found = []
        if self.slope_mib_a_min > MOST_MIB_A_MIN:
            found.append(f"memory grows by {self.slope_mib_a_min:.2f} MiB/min, {MOST_MIB_A_MIN:g} are allowed")
        before, after = self.descriptors
        if after > before + _SPARE_DESCRIPTORS:
            found.append(f"{before} descriptors, and never less, became {after}")
        return found


def growth(samples: Sequence[Sample]) -> Growth:
    """Return how a process has grown. There must be at least eight samples, in the order of time."""
    last = samples[len(samples) // 2 :]
    quarters = last[: len(last) // 2], last[len(last) // 2 :]
    return Growth(
        60 * _slope([one.at for one in last], [one.memory_mib for one in last]),
        (median(one.memory_mib for one in quarters[0]), median(one.memory_mib for one in quarters[1])),
        (min(one.descriptors for one in quarters[0]), min(one.descriptors for one in quarters[1])),
    )


def _slope(at: Sequence[float], values: Sequence[float]) -> float:
    """Return the slope of the line of least squares."""
    mean_at, mean = sum(at) / len(at), sum(values) / len(values)
    spread = sum((one - mean_at) ** 2 for one in at)
    return sum((x - mean_at) * (y - mean) for x, y in zip(at, values, strict=True)) / spread
