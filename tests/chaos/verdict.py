"""What a fault cost, from what clients saw and upstreams executed, and whether that is within what it may cost. Pure.

Only calls that a fault has in its hands may fail (``Allowance``): those under way in the process that is killed, those
to an upstream that nothing replaces. All others are served, however long that takes within ``wait_s``.
"""

from __future__ import annotations

import collections
import re
from collections.abc import Mapping, Sequence

from msgspec import Struct, field

from tests.chaos.load import Call

_VARIABLE = re.compile(r"\b[0-9a-f]{6,}\b|\b\d+(\.\d+)?\b")
MOST_LINES = 4


class Allowance(Struct, frozen=True):
    """What a fault may cost. Times in seconds, on an idle machine.

    Calls of ``tools`` (prefixes of their names) at front end ``front_end`` (``None``: any) may fail, if they began
    before the fault was ``hands_off_s`` old; ``throughout``: until so long after its end. ``executions``: how often a
    call that must not run twice may have run.
    """

    tools: tuple[str, ...] = ()
    front_end: int | None = None
    hands_off_s: float = 0.5
    throughout: bool = False
    answer_s: float = 1.0
    """From the fault, or the beginning of the call, until a call that fails says so."""
    wait_s: float = 2.0
    """How long a call may take that is served."""
    recovery_s: float = 2.0
    """After so long nothing fails or waits any more: from the fault, or, where it lasts, from its end."""
    codes: tuple[str, ...] = ()
    """Codes that say clearly what happened; empty: any of the gateway's own."""


class Times(Struct, frozen=True):
    """When a fault began and ended, and when everything was as before, in seconds of ``time.monotonic``."""

    began: float
    ended: float
    healthy: float


class Verdict(Struct):
    """What a fault cost; ``problems`` says where that is more than it may."""

    calls: int = 0
    failed: int = 0
    said: list[tuple[int, str]] = field(default_factory=list)
    """How many calls failed with which code and text."""
    longest_to_fail_s: float = 0.0
    longest_wait_s: float = 0.0
    doubled: int = 0
    ran_and_failed: int = 0
    lost: int = 0
    """Calls with a result that no upstream executed."""
    recovery_s: float = 0.0
    sessions_lost: int = 0
    left: list[str] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)
    stretched: bool = False
    """Whether it is within limits only with the time that a slow machine was given."""


def judge(
    calls: Sequence[Call],
    executions: Mapping[str, Sequence[str]],
    times: Times,
    allowed: Allowance,
    slowness: float = 1.0,
) -> Verdict:
    """Return what a fault cost. ``slowness`` of the machine stretches every limit in time."""
    verdict = Verdict(calls=len(calls))
    failed = [call for call in calls if call.why]
    served = [call for call in calls if not call.why]
    verdict.failed = len(failed)
    verdict.said = [(count, text) for text, count in collections.Counter(map(_said, failed)).most_common()]
    verdict.longest_to_fail_s = max((call.ended - max(call.began, times.began) for call in failed), default=0.0)
    verdict.longest_wait_s = max((call.took_s for call in served), default=0.0)
    doubled = [call for call in calls if call.tool.endswith("_do") and len(executions.get(call.id, ())) > 1]
    verdict.doubled = len(doubled)
    verdict.lost = sum(1 for call in served if not executions.get(call.id))
    verdict.ran_and_failed = sum(1 for call in failed if executions.get(call.id))
    verdict.sessions_lost = sum(1 for call in failed if call.session_lost)
    trouble = [call.ended for call in calls if call.ended > times.began and (call.why or call.took_s > 1.0 * slowness)]
    reference = times.ended if allowed.throughout or allowed.recovery_s < times.ended - times.began else times.began
    verdict.recovery_s = max(0.0, max(trouble, default=0.0) - reference)
    verdict.problems = _problems(verdict, failed, times, allowed, slowness)
    return verdict


def _problems(verdict: Verdict, failed: Sequence[Call], times: Times, allowed: Allowance, slowness: float) -> list[str]:
    problems = []
    for text, count in collections.Counter(
        _said(call) for call in failed if not _allowed(call, times, allowed, slowness)
    ).most_common(MOST_LINES):
        problems.append(f"{count} calls failed that need not: {text}")
    if verdict.longest_to_fail_s > allowed.answer_s * slowness:
        problems.append(f"a call failed after {verdict.longest_to_fail_s:.1f} s, {allowed.answer_s:g} s are allowed")
    if verdict.longest_wait_s > allowed.wait_s * slowness:
        problems.append(f"a call waited {verdict.longest_wait_s:.1f} s, {allowed.wait_s:g} s are allowed")
    if verdict.recovery_s > allowed.recovery_s * slowness:
        problems.append(f"recovery took {verdict.recovery_s:.1f} s, {allowed.recovery_s:g} s are allowed")
    for count, what in (
        (verdict.doubled, "calls ran twice"),
        (verdict.lost, "calls were answered that never ran"),
        (verdict.sessions_lost, "calls lost their session"),
    ):
        if count:
            problems.append(f"{count} {what}")
    return problems


def _allowed(call: Call, times: Times, allowed: Allowance, slowness: float) -> bool:
    until = times.ended if allowed.throughout else times.began
    return (
        call.tool.startswith(allowed.tools or ("",))
        and (allowed.front_end is None or call.front_end == allowed.front_end)
        and call.ended >= times.began
        and call.began <= until + allowed.hands_off_s * slowness
        and (not allowed.codes or call.code in allowed.codes)
    )


def _said(call: Call) -> str:
    text = _VARIABLE.sub("N", call.why)
    return f"{call.code}: {text}" if call.code not in text else text
