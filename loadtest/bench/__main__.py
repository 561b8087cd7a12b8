"""``python -m loadtest.bench [--quick] [--row NAME]… [--save]``: run the table, print it, write JSON and Markdown."""

from __future__ import annotations

import argparse
import contextlib
import resource
import signal
import sys
import tempfile
import time
from collections.abc import Callable, Generator, Iterator
from pathlib import Path

from loadtest.bench import report
from loadtest.bench.children import ROOT
from loadtest.bench.outcome import Outcome, all_kept
from loadtest.bench.plan import Plan, quick
from loadtest.bench.scenarios import (
    access,
    beside,
    calls,
    crowds,
    links,
    lists,
    peer,
    processes,
    rest,
    start,
    streams,
    traces,
    virtual,
    visibility,
)

Scenario = Callable[[Plan], Iterator[Outcome]]
SCENARIOS: tuple[tuple[tuple[str, ...], Scenario], ...] = (
    (calls.ROWS, calls.run),
    (lists.ROWS, lists.run),
    (processes.ROWS, processes.run),
    (crowds.CATALOGUE_ROWS, crowds.catalogue),
    (crowds.SESSION_ROWS, crowds.sessions),
    (streams.ROWS, streams.run),
    (beside.ROWS, beside.run),
    (access.ROWS, access.run),
    (links.ROWS, links.run),
    (traces.ROWS, traces.run),
    (visibility.ROWS, visibility.run),
    (virtual.ROWS, virtual.run),
    (start.ROWS, start.run),
    (rest.ROWS, rest.run),
    (peer.ROWS, peer.run),
)
ROWS = tuple(row for rows, _ in SCENARIOS for row in rows)


def arguments() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m loadtest.bench", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="short rounds and small sizes: under two minutes in all")
    parser.add_argument("--row", action="append", default=[], metavar="NAME", help=f"only this: {', '.join(ROWS)}")
    parser.add_argument("--strict", action="store_true", help="exit code 1 when a row is over its budget")
    parser.add_argument("--rounds", type=int, help="of each side")
    parser.add_argument("--seconds", type=float, help="of each round")
    parser.add_argument("--out", type=Path, default=ROOT / "bench-results", help="where results go [bench-results]")
    parser.add_argument(
        "--peer", default="", metavar="COMMAND", help="another gateway: with {port} and {upstream} in it"
    )
    parser.add_argument("--save", action="store_true", help="write docs/benchmarks.{json,md,svg} as well")
    return parser.parse_args()


def plan(options: argparse.Namespace, folder: Path) -> Plan:
    """What the command line asks for. Raises ``SystemExit`` for a row that does not exist."""
    for asked in options.row:
        if not any(row.startswith(asked) for row in ROWS):
            raise SystemExit(f"no row {asked!r}; there are {', '.join(ROWS)}")
    wanted = tuple(options.row)
    made = quick(folder, wanted) if options.quick else Plan(folder, wanted)
    changed = {name: getattr(options, name) for name in ("rounds", "seconds", "peer") if getattr(options, name)}
    return Plan(**{**vars(made), **changed})


def outcomes(chosen: Plan) -> Generator[Outcome, None, None]:
    """All wanted rows; where a scenario fails, the rows that it still owes are outcomes too."""
    for rows, scenario in SCENARIOS:
        owed = [row for row in rows if chosen.wants(row)]
        if not owed:
            continue
        seen = ""
        try:
            for outcome in scenario(chosen):
                seen = outcome.row
                yield outcome
        except Exception as error:
            # The row that it came from may have yielded something already, and rows come in their order.
            left = owed[owed.index(seen) :] if seen in owed else owed
            for row in left:
                yield Outcome(row, "could not be measured", problem=f"{type(error).__name__}: {error}"[:400])


def main() -> int:
    """Exit code 0; 1 when a row could not be measured, or with ``--strict`` is over; 130 after Ctrl-C."""
    options = arguments()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    limit = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (limit, limit))  # for thousands of streams; children inherit it
    found: list[Outcome] = []
    begun = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="bench-") as folder:
        chosen = plan(options, Path(folder))
        print(report.heading(), flush=True)
        try:
            with contextlib.closing(outcomes(chosen)) as rows:
                for outcome in rows:
                    found.append(outcome)
                    print(report.line(outcome), flush=True)
        except KeyboardInterrupt:
            return 130
    facts = report.facts(chosen, time.monotonic() - begun)
    written = report.write(options.out, found, facts)
    if options.save:
        written += report.write(ROOT / "docs", found, facts)
    print("\nwritten: " + ", ".join(str(path) for path in written))
    return 0 if all_kept(found, options.strict) else 1


if __name__ == "__main__":
    sys.exit(main())
