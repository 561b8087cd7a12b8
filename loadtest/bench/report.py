"""The table on the terminal, and the results as JSON and Markdown."""

from __future__ import annotations

import json
import os
import platform
import subprocess
import sysconfig
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from loadtest.bench import plot
from loadtest.bench.children import ROOT
from loadtest.bench.load import generator
from loadtest.bench.outcome import Outcome
from loadtest.bench.plan import Plan

_COLUMNS = ("row", "what", "value", "spread", "budget", "verdict", "absolute")
_WIDTHS = (27, 59, 13, 18, 9, 8, 0)


def number(value: float) -> str:
    """Three figures that matter."""
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.3g}"


def cells(outcome: Outcome) -> tuple[str, ...]:
    """A row's texts in the order of the columns."""
    value, spread = outcome.value, outcome.spread
    return (
        outcome.row,
        outcome.what,
        "" if value is None else f"{number(value)} {outcome.unit}",
        "" if spread is None or spread[0] == spread[1] else f"{number(spread[0])} - {number(spread[1])}",
        str(outcome.budget or ""),
        outcome.verdict,
        outcome.problem or outcome.note,
    )


def _padded(texts: Sequence[str]) -> str:
    return " ".join(f"{text:<{width}}" for text, width in zip(texts, _WIDTHS, strict=True)).rstrip()


def heading() -> str:
    """The table's first lines."""
    return _padded(_COLUMNS) + "\n" + _padded(["-" * (width or 8) for width in _WIDTHS])


def line(outcome: Outcome) -> str:
    """One line of the table."""
    return _padded(cells(outcome))


def facts(plan: Plan, took_s: float) -> dict[str, Any]:
    """What a reader needs to judge the figures."""
    return {
        "date": time.strftime("%Y-%m-%d %H:%M:%S"),
        "commit": _commit(),
        "cpu": _cpu_model(),
        "cores": os.cpu_count(),
        "python": f"{platform.python_version()}, {_build()}",
        "load": generator(),
        "quick": plan.quick,
        "rounds": plan.rounds,
        "seconds_per_round": plan.seconds,
        "rows": list(plan.wanted),
        "took_s": round(took_s),
    }


def _commit() -> str:
    said = subprocess.run(["git", "describe", "--always", "--dirty"], cwd=ROOT, capture_output=True, text=True)
    return said.stdout.strip()


def _build() -> str:
    """How the interpreter was built. Profile-guided and link-time optimisation are worth 8 to 10 %."""
    options = str(sysconfig.get_config_var("CONFIG_ARGS") or "")
    how = [text for option, text in (("--enable-optimizations", "PGO"), ("--with-lto", "LTO")) if option in options]
    return f"built with {' and '.join(how) if how else 'neither PGO nor LTO'}"


def _cpu_model() -> str:
    for text in Path("/proc/cpuinfo").read_text().splitlines():
        if text.startswith("model name"):
            return text.partition(":")[2].strip()
    return platform.machine()


def markdown(outcomes: Sequence[Outcome], about: dict[str, Any], picture: str = "") -> str:
    """The report."""
    rows = ["| " + " | ".join(text.replace("|", "\\|") for text in cells(outcome)) + " |" for outcome in outcomes]
    conditions = [f"* {name.replace('_', ' ')}: {value}" for name, value in about.items() if value not in ("", [])]
    return "\n".join(
        [
            "# Benchmarks",
            "",
            "Written by `make bench`. ×R is a ratio to a bare aiohttp reverse proxy measured in the same run, both",
            "taking turns every second; each value is the median of the pairs of turns, and half of them lie in the",
            "spread. CPU is that of all processes of the gateway, Redis included.",
            "",
            "| " + " | ".join(_COLUMNS) + " |",
            "|" + "---|" * len(_COLUMNS),
            *rows,
            "",
            *([f"![CPU per call against processes, sessions and upstreams]({picture})", ""] if picture else []),
            *conditions,
            "",
        ]
    )


def write(folder: Path, outcomes: Sequence[Outcome], about: dict[str, Any]) -> list[Path]:
    """``benchmarks.json``, ``benchmarks.md``, and ``benchmarks.svg`` where there is something to plot."""
    folder.mkdir(parents=True, exist_ok=True)
    picture = plot.svg(outcomes)
    texts = {
        "benchmarks.json": json.dumps({"about": about, "outcomes": [one.to_json() for one in outcomes]}, indent=1)
        + "\n",
        "benchmarks.md": markdown(outcomes, about, "benchmarks.svg" if picture else ""),
        "benchmarks.svg": picture,
    }
    for name, text in texts.items():
        (folder / name).unlink(missing_ok=True)
        if text:
            (folder / name).write_text(text)
    return [folder / name for name, text in texts.items() if text]
