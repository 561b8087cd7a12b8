"""One figure of the benchmark against its budget, and the verdict. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from loadtest.bench.figures import median, percentile

WITHIN, OVER, FAILED, SHOWN = "within", "OVER", "FAILED", "-"


@dataclass(frozen=True)
class Budget:
    """At most (or, with ``at_least``, no less than) ``limit``."""

    limit: float
    at_least: bool = False

    def keeps(self, value: float) -> bool:
        """Whether ``value`` is within."""
        return value >= self.limit if self.at_least else value <= self.limit

    def __str__(self) -> str:
        return f"{'≥' if self.at_least else '≤'} {self.limit:g}"


@dataclass(frozen=True)
class Outcome:
    """A row of the table: ``value`` is the median of ``values``, one for each round or turn.

    ``unit`` is ``×R`` or what the figure is measured in; ``note`` has absolute figures for orientation; ``problem``
    is why there is no value; ``points`` are (x, y) for the plot of that name.
    """

    row: str
    what: str
    values: tuple[float, ...] = ()
    budget: Budget | None = None
    unit: str = "×R"
    note: str = ""
    problem: str = ""
    plot: str = ""
    points: tuple[tuple[float, float], ...] = field(default=())

    @property
    def value(self) -> float | None:
        """What is held against the budget."""
        return median(self.values) if self.values else None

    @property
    def spread(self) -> tuple[float, float] | None:
        """The middle half of the values lies between these."""
        return (percentile(self.values, 25), percentile(self.values, 75)) if self.values else None

    @property
    def verdict(self) -> str:
        """Within the budget, over it, failed, or only shown."""
        if self.problem or self.value is None:
            return FAILED
        if self.budget is None:
            return SHOWN
        return WITHIN if self.budget.keeps(self.value) else OVER

    def to_json(self) -> dict[str, Any]:
        """For the report's JSON."""
        return {**asdict(self), "value": self.value, "spread": self.spread, "verdict": self.verdict}


def all_kept(outcomes: Sequence[Outcome], strict: bool) -> bool:
    """Whether nothing failed and, if ``strict``, nothing is over its budget."""
    bad = (FAILED, OVER) if strict else (FAILED,)
    return all(outcome.verdict not in bad for outcome in outcomes)
