"""What every process says of itself: processor time, memory, descriptors, and how late its loop runs.

The names are those of Prometheus' client libraries, with the process as labels. They need ``/proc``; elsewhere only the
loop's figures are there.
"""

from __future__ import annotations

import os
import resource
from bisect import bisect_left
from pathlib import Path

from shared.metrics.families import Family, Sample, counter, gauge, histogram
from shared.tasks import tick

_LIMITS_S = (0.001, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0)
EVERY_S = 0.5
"""How often the loop's lag is measured."""
_LABELS = ("process", "pid")


class ProcessFigures:
    """The figures of this process. ``process`` is ``frontend`` or ``worker``."""

    def __init__(self, process: str) -> None:
        self._process = process
        self._lags = [0] * (len(_LIMITS_S) + 1)
        self._lag_sum_s = 0.0
        self._page = resource.getpagesize()
        self._ticks = os.sysconf("SC_CLK_TCK")
        self._started_at = self._start()

    async def watch_loop(self) -> None:
        """Measure by how much the loop is late, until cancelled."""
        while True:
            self.late(await tick(EVERY_S))

    def late(self, seconds: float) -> None:
        """Note that the loop was late."""
        self._lags[bisect_left(_LIMITS_S, seconds)] += 1
        self._lag_sum_s += seconds

    def families(self) -> list[Family]:
        """Return the figures as they are now."""
        labels = (self._process, str(os.getpid()))
        lag = histogram("gateway_loop_lag_seconds", "By how much the event loop was late", ("process",), _LIMITS_S)
        lag.samples.append(Sample((self._process,), self._lag_sum_s, list(self._lags)))
        found = [lag]
        for family, value in (
            (counter("process_cpu_seconds", "Processor time, user and system", _LABELS, "own"), self._cpu_s()),
            (gauge("process_resident_memory_bytes", "Resident memory", _LABELS, "own"), self._memory()),
            (gauge("process_open_fds", "Open file descriptors", _LABELS, "own"), self._files()),
            (gauge("process_max_fds", "File descriptors that may be open", _LABELS, "own"), self._most_files()),
            (
                gauge("process_start_time_seconds", "Start of the process, Unix time", _LABELS, "own"),
                self._started_at,
            ),
        ):
            if value is not None:
                family.samples.append(Sample(labels, value))
                found.append(family)
        return found

    @staticmethod
    def _cpu_s() -> float:
        times = os.times()
        return times.user + times.system

    def _memory(self) -> float | None:
        try:
            return float(int(Path("/proc/self/statm").read_text().split()[1]) * self._page)
        except (OSError, ValueError, IndexError):
            return None

    @staticmethod
    def _files() -> float | None:
        try:
            return float(len(os.listdir("/proc/self/fd")))
        except OSError:
            return None

    @staticmethod
    def _most_files() -> float | None:
        limit = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
        return float(limit) if limit >= 0 else None

    def _start(self) -> float | None:
        try:
            after_boot = int(Path("/proc/self/stat").read_text().rpartition(")")[2].split()[19]) / self._ticks
            boot = next(line for line in Path("/proc/stat").read_text().splitlines() if line.startswith("btime "))
            return int(boot.split()[1]) + after_boot
        except (OSError, ValueError, IndexError, StopIteration):
            return None
