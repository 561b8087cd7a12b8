"""What a front end sees of a replica, and when the replica is ejected because its siblings do better. Pure.

A replica is compared with its siblings only, and only on the same tool: a tool that is slow, or fails, everywhere says
nothing about a replica. What counts are failures of the upstream itself (5xx, connection errors, time-outs) and the
time to its answers; JSON-RPC errors and calls whose client left do not count.

::

    in service ── fails, or is slow ──▶ ejected ── its time is over ──▶ on trial with one call
        ▲                                  ▲                               │        │
        │                                  └─── fails, or is slow ─────────┘        │
        └── slow start: a share of calls that grows to the replica's own ◀── passes ┘

Times of ejection double. An ejected replica still gets calls that no other replica can take (``router.choose``). A
replica that failed is tried with a call that may be repeated elsewhere; if none comes, with any after twice the time.
"""

from __future__ import annotations

import random
from collections import deque
from collections.abc import Iterable, Mapping, Sequence
from statistics import median, median_low
from typing import Protocol

_KEPT, _ENOUGH = 16, 5
"""The latest answers of one tool that are kept, and how many are needed for a comparison."""
_WINDOW_S = 30.0
"""Answers are forgotten after this time, so that a replica is compared by what it does now."""
_TOOLS = 128
"""The tools of one replica that are compared. A call of another one only counts as answered or failed."""
_NOISE_S = 0.02
"""Differences of latency below this are not looked at: a pause of the garbage collector is longer."""
_WEIGHT = 0.1
_FAILING = 0.4
"""The share of failed calls, of about the last ten, from which on a replica is ejected."""
_TRIAL_S = 30.0
"""A trial of whose end nothing is heard for so long (its client left, say) is followed by another one."""
_FORGIVEN_S = 60.0
"""Time in service after which the next ejection is again as short as the first; it is at least twice the last one."""
_FIRST_SHARE = 0.1
FOREVER = float("inf")


class Limits(Protocol):
    """The settings of ejection (``shared.settings.RoutingSettings``)."""

    @property
    def max_ejected(self) -> float:
        """The share of a group that may be ejected."""

    @property
    def eject_failures(self) -> int:
        """Failures in a row that eject a replica."""

    @property
    def eject_latency_factor(self) -> float:
        """A replica so many times slower than its siblings is ejected."""

    @property
    def ejection_s(self) -> float:
        """The length of the first ejection."""

    @property
    def ejection_max_s(self) -> float:
        """The longest ejection."""

    @property
    def slow_start_s(self) -> float:
        """How long a replica takes back to its share of calls."""


class Avoidable(Protocol):
    """The replica that is watched."""

    avoid_until: float


class Watch:
    """One replica as this front end sees it. All times are loop times.

    ``why`` says why the replica is ejected, and is empty if it is not; ``failing`` whether for its failures.
    ``latency_s`` is a moving average over all tools, 0 before the first answer.
    """

    __slots__ = (
        "_baselines",
        "_for_s",
        "_limits",
        "_moved",
        "_ramp_until",
        "_samples",
        "_served_since",
        "_slow_trials",
        "_times",
        "_tool_failures",
        "_trial",
        "_trial_at",
        "failing",
        "failure_rate",
        "failures_in_row",
        "latency_s",
        "replica",
        "until",
        "why",
    )

    def __init__(self, replica: Avoidable) -> None:
        self.replica = replica
        self.latency_s = 0.0
        self.failures_in_row = 0
        self.failure_rate = 0.0
        self.why = ""
        self.failing = False
        self.until = 0.0
        self._moved = False  # whether an answer came since the last ``relax``
        self._samples: dict[str, tuple[float, deque[tuple[float, float]]]] = {}  # by tool: since when, (at, seconds)
        self._tool_failures: dict[str, int] = {}  # by tool: in a row
        self._baselines: Mapping[str, float] = {}
        self._limits: Limits | None = None
        self._for_s = 0.0
        self._times = 0
        self._served_since = 0.0
        self._ramp_until = 0.0
        self._slow_trials = 0
        self._trial: object | None = None
        self._trial_at = -FOREVER

    # ---- what is seen

    def answered(self, call: object, tool: str, seconds: float, now: float, is_error: bool) -> None:
        """Note an answer to ``call`` after ``seconds``. A JSON-RPC error shows that the replica works, and not how
        fast."""
        if self.failures_in_row or self.failure_rate:
            self.failures_in_row = 0
            self.failure_rate = self.failure_rate * (1 - _WEIGHT) if self.failure_rate > 0.01 else 0.0
            self._tool_failures.pop(tool, None)
        if self._trial is call:
            self._tried(tool, seconds, now)
        if is_error:
            return
        self._moved = True
        self.outrun(tool, seconds, now)

    def outrun(self, tool: str, seconds: float, now: float) -> None:
        """Note that the replica answered after ``seconds``, or that another one had answered by then."""
        self.latency_s += (seconds - self.latency_s) * _WEIGHT if self.latency_s else seconds
        known = self._samples.get(tool)
        if known is None or now - known[0] > _WINDOW_S:
            if known is None and len(self._samples) >= _TOOLS:
                return
            known = self._samples[tool] = now, deque(maxlen=_KEPT)
        known[1].append((now, seconds))

    def failed(self, call: object, tool: str, siblings: Iterable[Watch], limits: Limits, now: float) -> str:
        """Note that the upstream failed ``call``. Return why the replica has to be ejected, or nothing.

        A tool that fails at a sibling as well counts for neither of them.
        """
        siblings = list(siblings)
        if len(self._tool_failures) < _TOOLS or tool in self._tool_failures:
            self._tool_failures[tool] = self._tool_failures.get(tool, 0) + 1
        if any(one._tool_failures.get(tool, 0) >= limits.eject_failures for one in siblings):
            if self._trial is call:
                self._pass(now)
            return ""
        self.failures_in_row += 1
        self.failure_rate += (1.0 - self.failure_rate) * _WEIGHT
        if self._trial is call:
            return "it failed again when it was tried"
        if self.why:
            return ""
        if self.failures_in_row >= limits.eject_failures:
            return f"{self.failures_in_row} calls in a row failed"
        best = min((one.failure_rate for one in siblings), default=1.0)
        if self.failure_rate >= max(_FAILING, 2 * best):
            return f"{self.failure_rate:.0%} of the last calls failed"
        return ""

    def relax(self) -> None:
        """Forget slowly what was seen of a replica that answers nothing, so that it is tried again some time. Called a
        few times a second."""
        if not self._moved:
            self.latency_s *= 0.97
        self._moved = False

    def median(self, tool: str, now: float, pending: Sequence[float] = ()) -> float | None:
        """Return the median of a tool's seconds, or ``None`` if too few are known.

        ``pending`` are those of calls that are not answered yet. Enough of them outdate the answers that came before
        the oldest of them was sent: a replica that hangs has answered quickly until then.
        """
        since, kept = self._samples.get(tool, (0.0, ()))
        answers = list(kept) if now - since <= _WINDOW_S else []
        if len(pending) >= _ENOUGH:
            answers = [one for one in answers if one[0] >= now - max(pending)]
        known = [*(seconds for _, seconds in answers), *pending]
        return median(known) if len(known) >= _ENOUGH else None

    def tools(self) -> list[str]:
        """Return the tools of which answers are kept."""
        return list(self._samples)

    # ---- ejected, tried, back

    def eject(self, why: str, failing: bool, limits: Limits, now: float) -> None:
        """Keep the replica away from calls, each time for longer."""
        served_s = now - self._served_since
        if not self.why and served_s > max(_FORGIVEN_S, 2 * self._for_s):
            self._times = 0
        self._for_s = min(limits.ejection_s * 2**self._times, limits.ejection_max_s)
        self._times += self._for_s < limits.ejection_max_s
        self.why, self.failing, self.until = why, failing, now + self._for_s
        self._limits, self._slow_trials = limits, 0
        self._trial, self._trial_at = None, -FOREVER
        self._samples.clear()
        self.replica.avoid_until = FOREVER

    def takes(self, now: float, repeatable: bool, among: int) -> bool:
        """Return whether the next call should go to this replica, which is avoided and one ``among`` several: as a
        trial, or as a part of its slow start. ``repeatable``: the call may be sent again elsewhere if it fails."""
        if self.why:
            due = self.until if repeatable or not self.failing else self.until + self._for_s
            return now >= due and now - self._trial_at > _TRIAL_S
        if self._limits is None or self.replica.avoid_until != self._ramp_until:
            return False  # it is avoided for another reason
        left = (self._ramp_until - now) / self._limits.slow_start_s
        return random.random() * among < max(1.0 - left, _FIRST_SHARE)

    def sent(self, call: object, now: float) -> None:
        """Note that a call is sent to this replica although it is avoided. If the replica's time is over, the call is
        its trial."""
        if self.why and now >= self.until and now - self._trial_at > _TRIAL_S:
            self._trial, self._trial_at = call, now

    @property
    def trial(self) -> object | None:
        """The call by which the replica is tried now."""
        return self._trial

    def is_slow(self, tool: str, seconds: float) -> bool:
        """Whether an ejected replica that takes ``seconds`` is still much slower than its siblings are."""
        usual = self._baselines.get(tool)
        if usual is None or self._limits is None:
            return False
        return _much_slower(seconds, usual, self._limits.eject_latency_factor)

    def compare_with(self, baselines: Mapping[str, float]) -> None:
        """Note how long siblings take for each tool, by which a trial is judged."""
        self._baselines = baselines

    def _tried(self, tool: str, seconds: float, now: float) -> None:
        """Judge an answered trial. A single answer may be late by chance: only the second slow one counts."""
        if self.failing or self._limits is None or not self.is_slow(tool, seconds):
            self._pass(now)
        elif self._slow_trials:
            self.eject(in_words(seconds, self._baselines[tool]), False, self._limits, now)
        else:
            self._slow_trials += 1
            self._trial, self._trial_at = None, -FOREVER

    def _pass(self, now: float) -> None:
        """Put the replica back into service, with few calls at first."""
        self.why, self.failing, self._trial = "", False, None
        self.failures_in_row, self.failure_rate, self._served_since = 0, 0.0, now
        self._tool_failures.clear()
        self._samples.clear()
        self._ramp_until = self.replica.avoid_until = now + (self._limits.slow_start_s if self._limits else 0.0)

    def try_soon(self) -> None:
        """Try an ejected replica with the next call: its upstream has connected anew."""
        if self.why:
            self.until = self._for_s = 0.0


def _much_slower(seconds: float, usual: float, factor: float) -> bool:
    return seconds >= usual * factor and seconds - usual >= _NOISE_S


def room(able: int, ejected: int, limits: Limits) -> bool:
    """Return whether one more of ``able`` replicas may be ejected. The last one never is."""
    return ejected < min(int(able * limits.max_ejected), able - 1)


def baselines(
    siblings: Sequence[Watch],
    tools: Iterable[str],
    now: float,
    pending: Sequence[Mapping[str, list[float]]] = (),
    factor: float = 1.0,
) -> dict[str, float]:
    """Return how many seconds the siblings of a replica take for each tool that enough of their answers are known of.

    ``pending`` has, for each sibling, the ages of its unanswered calls by tool: calls may have become slow everywhere.
    """
    found: dict[str, float] = {}
    for tool in tools:
        medians = []
        for place, one in enumerate(siblings):
            usual = one.median(tool, now)
            if one.why or usual is None:
                continue
            ages = pending[place].get(tool, ()) if pending else ()
            late = [age for age in ages if _much_slower(age, usual, factor)]
            medians.append(one.median(tool, now, late) or usual)
        if medians:
            found[tool] = median_low(medians)
    return found


def slowness(
    watch: Watch, usual: Mapping[str, float], pending: Mapping[str, list[float]], factor: float, now: float
) -> str:
    """Return how much slower than ``usual`` a replica is, in words, or nothing if it is not.

    ``pending`` has the ages of its unanswered calls by tool. The replica is slow if most of its tools are.
    """
    slow = fast = 0
    worst = (0.0, 0.0)
    for tool, seconds in usual.items():
        late = [age for age in pending.get(tool, ()) if _much_slower(age, seconds, factor)]
        own = watch.median(tool, now, late)
        if own is None:
            continue
        if _much_slower(own, seconds, factor):
            slow += 1
            worst = max(worst, (own, seconds))
        else:
            fast += 1
    if slow <= fast:
        return ""
    return in_words(*worst)


def in_words(seconds: float, usual: float) -> str:
    """Say how much slower a replica is."""
    return f"it takes {seconds * 1000:.0f} ms where its siblings take {usual * 1000:.0f} ms"
