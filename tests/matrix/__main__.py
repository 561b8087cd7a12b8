"""Plays the whole matrix and writes docs/matrix.md. ``python -m tests.matrix [WORD …]`` plays only the cells whose
names have all these words, and writes nothing. Exits 1 when a cell failed.
"""

from __future__ import annotations

import asyncio
import sys
import tempfile
import time
from pathlib import Path

from gateway.supervisor.embedded_redis import EmbeddedRedis
from tests.fleet import ROOT
from tests.matrix.cells import FEATURES, KINDS, PLAYERS, UPSTREAMS, Cell, Kind, every_cell, is_own, players, why_not
from tests.matrix.player import missing
from tests.matrix.theatre import theatre

PAGE = ROOT / "docs/matrix.md"
HEAD = """# What crosses

Written by `make matrix`. Each mark is a test with real clients through two front ends, every request at the other one,
and two workers: the Python SDK 2.x and 1.x and the TypeScript SDK 2.x and 1.x (both 2.x play 2026-07-28, which the
older ones do not have); what no SDK lets one see is played on raw messages. Upstreams are the Python SDK's server,
spoken to in the handshake era (*legacy*: up to 2025-11-25) or in the stateless era (*modern*: 2026-07-28).

✓ every client passes (`✓*` with `isolation: client`, which gives each client a process). ✗ one fails. n/a: does not
apply, for the reason with that number.
"""


async def play(cells: list[Cell]) -> dict[Cell, str]:
    """What went wrong with each cell; empty for those that passed."""
    outcome: dict[Cell, str] = {}
    with tempfile.TemporaryDirectory(prefix="gwmatrix-") as scratch:
        redis = EmbeddedRedis(Path(scratch))
        await redis.start()
        try:
            async with theatre(redis.url) as house:
                for cell in cells:
                    try:
                        await house.play(cell)
                        outcome[cell] = ""
                    except Exception as error:
                        outcome[cell] = f"{type(error).__name__}: {error}"
                        print(f"✗ {cell}: {outcome[cell][:300]}", flush=True)
        finally:
            await redis.stop()
    return outcome


def table(kind: Kind, outcome: dict[Cell, str], notes: list[str]) -> str:
    """The features of one kind of client, a column for each upstream. Adds to ``notes``."""
    over = "HTTP+SSE" if kind.over_sse else "Streamable HTTP"
    lines = [
        f"## Client {kind}, {over}",
        "",
        f"| | {' | '.join(f'{upstream.transport} {upstream.era}' for upstream in UPSTREAMS)} |",
        f"|---|{':-:|' * len(UPSTREAMS)}",
    ]
    for feature, title in FEATURES.items():
        marks = []
        for upstream in UPSTREAMS:
            row = why_not(feature, kind, upstream)
            if row is not None:
                if row.reason not in notes:
                    notes.append(row.reason)
                marks.append(f"n/a ({notes.index(row.reason) + 1})")
                continue
            played = [outcome[Cell(feature, kind, player, upstream)] for player in players(feature, kind)]
            marks.append("✗" if any(played) else "✓*" if is_own(feature, upstream) else "✓")
        lines.append(f"| {title} | {' | '.join(marks)} |")
    return "\n".join(lines) + "\n"


def document(outcome: dict[Cell, str]) -> str:
    """docs/matrix.md."""
    notes: list[str] = []
    tables = [table(kind, outcome, notes) for kind in KINDS]
    numbered = "\n".join(f"{number}. {note}." for number, note in enumerate(notes, 1))
    failed = "".join(f"* {cell}: {why[:300]}\n" for cell, why in outcome.items() if why)
    parts = [HEAD, *tables, f"## Not applicable\n\n{numbered}\n"]
    if failed:
        parts.append(f"## Failed\n\n{failed}")
    return "\n".join(parts)


def main() -> int:
    """The command."""
    if absent := [why for player in PLAYERS if (why := missing(player))]:
        print("\n".join(absent), file=sys.stderr)
        return 1
    words = sys.argv[1:]
    cells = [cell for cell in every_cell() if all(word in str(cell) for word in words)]
    began = time.monotonic()
    outcome = asyncio.run(play(cells))
    failures = sum(1 for why in outcome.values() if why)
    if not words:
        text = document(outcome)
        PAGE.write_text(text)
        print(text)
    print(f"{len(cells)} cells, {failures} failed, {time.monotonic() - began:.0f} s")
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
