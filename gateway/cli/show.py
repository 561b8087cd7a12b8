"""Output of commands: tables for people (with colour on a terminal), JSON for programs."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Sequence
from typing import Any

import click
from rich.console import Console
from rich.table import Table
from rich.text import Text

from shared.logs import escaped
from shared.metrics.families import BUCKETS_S

COLOURS = {
    "connected": "green",
    "error": "red",
    "connecting": "yellow",
    "registered": "yellow",
    "stopped": "dim",
    "draining": "yellow",
    "disabled": "dim",
    "yes": "green",
    "no": "red",
}

_NARROW = 100
"""Columns of a terminal below which space is saved."""


def as_json(value: Any) -> None:
    """Print ``value`` as indented JSON."""
    click.echo(json.dumps(value, indent=2))


def table(columns: Sequence[str], rows: Sequence[Sequence[Any]], title: str | None = None, paged: bool = False) -> None:
    """Print a table. Long cells are folded, never cut; without a terminal the table is 200 characters wide.

    On a narrow terminal columns stand closer to each other.
    ``paged``: on a terminal that has fewer lines a pager shows it.
    """
    console = Console(width=None if sys.stdout.isatty() else 200, highlight=False)
    shown = Table(
        title=None if title is None else Text(escaped(title)),
        box=None,
        header_style="bold",
        title_justify="left",
        pad_edge=False,
        collapse_padding=console.width < _NARROW,
    )
    for column in columns:
        shown.add_column(column, overflow="fold")
    for row in rows:
        shown.add_row(*(_cell(cell) for cell in row))
    if not (paged and sys.stdout.isatty() and len(rows) >= console.height - 1):
        console.print(shown)
        return
    with console.capture() as captured:
        console.print(shown)
    click.echo_via_pager(captured.get())


def _cell(cell: Any) -> Text:
    """Return a cell; what upstreams and clients say cannot steer the terminal."""
    text = "" if cell is None else str(cell)
    return Text(escaped(text), style=COLOURS.get(text, ""))


def counted(number: int, what: str) -> str:
    """Return so many of something, as people say it."""
    return f"{number} {what}{'' if number == 1 else 's'}"


def within(buckets: Sequence[int], share: float) -> str:
    """Return in what time this share of all calls was answered, by the buckets of ``shared.metrics.families``."""
    total, below = sum(buckets), 0
    for count, limit_s in zip(buckets, (*BUCKETS_S, None), strict=False):
        below += count
        if total and below >= share * total:
            return f"<{limit_s * 1000:g}ms" if limit_s is not None else f">{BUCKETS_S[-1]:g}s"
    return ""


def at(unix_s: float) -> str:
    """Return a moment (Unix time) as the clock here has it, and how long ago it is."""
    when = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(unix_s))
    return f"{when} ({ago(unix_s)} ago)" if ago(unix_s) else ""


def ago(unix_s: float | str | None) -> str:
    """Return the time since ``unix_s`` (Unix time) like ``12s`` or ``3m``, or an empty string if it is unset."""
    seconds = time.time() - float(unix_s or 0)
    if not unix_s or seconds > 10 * 365 * 86400:
        return ""
    for limit, unit, divisor in ((120, "s", 1), (7200, "m", 60), (172800, "h", 3600)):
        if seconds < limit:
            return f"{int(seconds / divisor)}{unit}"
    return f"{int(seconds / 86400)}d"
