"""Commands that show what a gateway does now: ``top``, ``events``, ``doctor``."""

from __future__ import annotations

import json
import sys
import time
from datetime import datetime
from typing import Any

import click

from gateway.cli import examination, show
from gateway.cli.admin_client import AdminClient
from gateway.cli.options import JSON, URL
from shared.logs import escaped

_EVERY_S = 2.0


def add_to(cli: click.Group) -> None:
    """Add the commands of this module to ``cli``."""
    for command in (top, events, doctor):
        cli.add_command(command)


_Counts = dict[tuple[str, str], tuple[int, int, float]]


def _counts(traffic: dict[str, Any]) -> _Counts:
    return {(one["group"], one["tool"]): (one["calls"], one["errors"], one["seconds"]) for one in traffic["tools"]}


@click.command()
@click.option("--once", is_flag=True, help="one look of two seconds, then end")
@click.option("--limit", type=click.IntRange(1), default=20, show_default=True, metavar="N", help="the busiest N")
@URL
@JSON
def top(once: bool, limit: int, url: str, as_json: bool) -> None:
    """The busiest tools: calls and errors a second, and the mean time to the answer, every 2 s until Ctrl-C."""
    client = AdminClient(url)
    before, then = _counts(client.get("traffic")), time.monotonic()
    while True:
        time.sleep(_EVERY_S)
        now, at = _counts(client.get("traffic")), time.monotonic()
        rows = []
        for key, (calls, errors, seconds) in now.items():
            old = before.get(key, (0, 0, 0.0))
            made = max(calls - old[0], 0)
            rows.append(
                {
                    "group": key[0],
                    "tool": key[1],
                    "callsPerSecond": round(made / (at - then), 1),
                    "errorsPerSecond": round(max(errors - old[1], 0) / (at - then), 1),
                    "meanMs": round((seconds - old[2]) / made * 1000, 1) if made else None,
                    "calls": calls,
                }
            )
        rows.sort(key=lambda row: (-row["callsPerSecond"], -row["calls"]))  # type: ignore[operator]
        before, then = now, at
        if as_json:
            show.as_json(rows[:limit])
        else:
            if not once and sys.stdout.isatty():
                click.clear()
            columns = ["GROUP", "TOOL", "CALLS/S", "ERRORS/S", "MEAN MS", "CALLS"]
            show.table(columns, [list(row.values()) for row in rows[:limit]])
        if once:
            return


@click.command()
@click.option("--follow", "-f", is_flag=True, help="go on with what happens, until Ctrl-C")
@URL
@JSON
def events(follow: bool, url: str, as_json: bool) -> None:
    """What happened lately: upstreams, workers and front ends that changed, came or went."""
    client = AdminClient(url)

    def tell(event: dict[str, Any]) -> None:
        if as_json:
            click.echo(json.dumps(event))
        else:
            at = datetime.fromtimestamp(event["at"]).strftime("%H:%M:%S")
            group = f" ({event['group']})" if event["group"] not in ("", event["id"]) else ""
            click.echo(escaped(f"{at} {event['kind']:<16} {event['id']}{group} {event['text']}".rstrip()))
        sys.stdout.flush()

    if follow:
        client.follow("events", tell)
        return
    for event in client.get("events"):
        tell(event)


@click.command()
@URL
@JSON
def doctor(url: str, as_json: bool) -> None:
    """Examine a running gateway: what is wrong, or will be, and what to do. Exit code 1 when something is wrong."""
    client = AdminClient(url)
    overview, servers = client.get("overview"), client.get("servers")
    found = examination.examined(overview, servers, time.time())
    if as_json:
        show.as_json([{"level": one.level, "what": one.what, "do": one.do} for one in found])
    else:
        for one in found:
            mark = click.style(f"{one.level:<7}", fg=_COLOURS[one.level])
            click.echo(f"{mark} {escaped(one.what)}")
            if one.do:
                click.echo(f"        {escaped(one.do)}")
    sys.exit(1 if any(one.level == "wrong" for one in found) else 0)


_COLOURS = {"fine": "green", "look": "yellow", "wrong": "red"}
