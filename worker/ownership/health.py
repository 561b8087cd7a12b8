"""When an upstream counts as down, and when as up again. Pure.

A probe's failure counts towards a threshold (one lost packet is no outage). A refused connection or a dead process
counts as down at once, because waiting would change nothing.
"""

from __future__ import annotations

from msgspec import Struct


class HealthPolicy(Struct):
    """Counters of consecutive probes. ``down`` is the verdict."""

    unhealthy_after: int
    healthy_after: int
    failures: int = 0
    successes: int = 0
    down: bool = False

    def succeeded(self) -> bool:
        """Count a probe that was answered. Return true if this brings the upstream back."""
        self.failures = 0
        self.successes += 1
        if self.down and self.successes >= self.healthy_after:
            self.down = False
            return True
        return False

    def failed(self, certain: bool = False) -> bool:
        """Count a probe that failed. Return true if this takes the upstream out. ``certain``: the upstream is gone."""
        self.successes = 0
        self.failures += 1
        if not self.down and (certain or self.failures >= self.unhealthy_after):
            self.down = True
            return True
        return False
