"""Plays every fault and writes docs/faults.md: ``python -m tests.chaos [WORD …]``.

With words only the faults are played whose names have one of them, and nothing is written. Exits 1 if a fault cost more
than it may. What the processes of the fleet say is written to ``chaos.log`` in the folder of the results.
"""

from __future__ import annotations

import asyncio
import os
import platform
import sys
import time
from pathlib import Path

from shared.version import VERSION
from tests.chaos.faults import FAULTS
from tests.chaos.trial import RATE, Outcome, play
from tests.fleet import ROOT
from tests.machine import measure

PAGE = ROOT / "docs/faults.md"
LOG = ROOT / "bench-results/chaos.log"
LIMIT_S = 900.0
MOST_SAID = 3
HEAD = """# What breaks, and what it costs

Written by `make chaos`. Two front ends and two workers carry {rate:g} calls a second of clients of both eras to two
replicas over Streamable HTTP, an upstream over HTTP+SSE and one over stdio; beside that two clients a second open a
session, call and close it. Upstreams write down what they execute. Then a part is killed, stopped, cut off or filled,
and started again as a service manager would do it. Timeouts are the defaults, but `requestTimeout` is 8 s.

*failed*: calls without a result, and how many of these ran all the same. *to fail*: how long the slowest of them took
to say so, from the fault or its own beginning. *waited*: the slowest call that was served. *again*: after so long
nothing failed or took more than a second, from the fault, or from its end where it lasts. No call ran twice, none was
answered that had not run, no session was lost and no process, socket or record was left over, unless the row says so.
What was allowed is beside each fault in `tests/chaos/faults.py`; (✓): only with the time that a busy machine was given
(the line below the table).

"""
COLUMNS = "| fault | calls | failed (ran) | to fail | waited | again | |\n|---|--:|--:|--:|--:|--:|:-:|\n"


def row(outcome: Outcome) -> str:
    """Return the row of the page."""
    verdict = outcome.verdict
    failed = f"{verdict.failed} ({verdict.ran_and_failed})" if verdict.failed else "0"
    to_fail = f"{verdict.longest_to_fail_s:.2f} s" if verdict.failed else ""
    mark = "✗" if not outcome.met else "(✓)" if verdict.stretched else "✓"
    cells = [
        outcome.fault.what, str(verdict.calls), failed, to_fail, f"{verdict.longest_wait_s:.2f} s",
        f"{verdict.recovery_s:.2f} s", mark,
    ]  # fmt: skip
    return f"| {' | '.join(cells)} |"


def words(outcome: Outcome) -> list[str]:
    """Return what clients were told, most frequent first, and what was not as it should be."""
    said = outcome.verdict.said
    lines = [f"  * {count} × `{text}`" for count, text in said[:MOST_SAID]]
    if len(said) > MOST_SAID:
        rest = sum(count for count, _ in said[MOST_SAID:])
        lines.append(f"  * {rest} × in other words ({len(said) - MOST_SAID})")
    return [*lines, *(f"  * **{problem}**" for problem in outcome.verdict.problems)]


def page(outcomes: list[Outcome], took_s: float, slowness: float) -> str:
    """Return docs/faults.md."""
    told = [(outcome.fault.what, words(outcome)) for outcome in outcomes]
    machine = f"{os.cpu_count()} cores, Python {platform.python_version()}, gateway {VERSION}"
    return (
        HEAD.format(rate=RATE)
        + COLUMNS
        + "\n".join(row(one) for one in outcomes)
        + f"\n\n{len(outcomes)} faults in {took_s / 60:.0f} minutes, on {machine}. Limits in time were those of the "
        f"machine when idle, times {slowness:.1f} at most.\n\n## What clients were told\n\n"
        + "\n".join(f"* {what}\n" + "\n".join(lines) for what, lines in told if lines)
        + "\n"
    )


async def play_all(names: list[str]) -> tuple[list[Outcome], float]:
    """Play the faults whose names have one of these words, or all; return what came of them, and how slow the machine
    was at worst. After ``LIMIT_S`` no further fault is begun."""
    outcomes: list[Outcome] = []
    slowest, began = 1.0, time.monotonic()
    faults = [one for one in FAULTS if not names or any(name in one.name for name in names)]
    for fault in [one for one in faults if not one.possible()]:
        faults.remove(fault)
        print(f"not played, it needs root, ip, tc and unshare: {fault.what}", flush=True)
    while faults and time.monotonic() - began < LIMIT_S:
        kind = faults[0].stage
        async with kind() as stage:
            while faults and faults[0].stage is kind and time.monotonic() - began < LIMIT_S:
                outcome = await play(stage, faults.pop(0))
                slowest = max(slowest, measure())
                outcomes.append(outcome)
                print(row(outcome), *words(outcome), sep="\n", flush=True)
                if outcome.not_healthy:
                    break  # the next one gets another stage
    for fault in faults:
        print(f"not played, {LIMIT_S / 60:g} minutes are over: {fault.what}", flush=True)
    return outcomes, slowest


def main() -> None:
    """Play, and write the page if everything was played."""
    names = sys.argv[1:]
    LOG.parent.mkdir(exist_ok=True)
    began = time.monotonic()
    with open(LOG, "w") as log:
        os.dup2(log.fileno(), 2)  # processes of the fleet say a lot, which belongs to no table
        outcomes, slowness = asyncio.run(play_all(names))
    if not names:
        PAGE.write_text(page(outcomes, time.monotonic() - began, slowness))
        print(f"\nwritten: {PAGE.relative_to(ROOT)}")
    failed = [one.fault.name for one in outcomes if not one.met]
    print(f"{len(outcomes)} faults, {len(failed)} cost more than they may{': ' if failed else ''}{', '.join(failed)}")
    print(f"what the processes said: {Path(LOG).relative_to(ROOT)}")
    sys.exit(bool(failed))


if __name__ == "__main__":
    main()
