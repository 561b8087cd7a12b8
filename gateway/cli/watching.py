"""Commands that show what a gateway does now: ``top``, ``errors``, ``events``, ``doctor``."""

from __future__ import annotations

import json
import sys
import time
from datetime import datetime
from typing import Any
from urllib.parse import quote

import click
from msgspec import Struct

from gateway.cli import examination, show
from gateway.cli.admin_client import AdminClient
from gateway.cli.failures import CommandFailed
from gateway.cli.options import JSON, URL
from shared.logs import escaped

_EVERY_S = 2.0


def add_to(cli: click.Group) -> None:
    """Add the commands of this module to ``cli``."""
    for command in (top, errors, events, doctor):
        cli.add_command(command)


class _By(Struct, frozen=True):
    """One way to look at traffic: the member of ``/admin/v1/traffic``, and the members that name a row."""

    member: str
    names: tuple[str, ...]


_WAYS = {
    "tool": _By("tools", ("group", "tool")),
    "group": _By("groups", ("group",)),
    "upstream": _By("upstreams", ("group", "upstream")),
    "principal": _By("principals", ("principal",)),
}
_Counts = dict[tuple[str, ...], tuple[int, int, float]]


def _counts(traffic: dict[str, Any], way: _By) -> _Counts:
    return {
        tuple(one[name] for name in way.names): (one["calls"], one["errors"], one["seconds"])
        for one in traffic[way.member]
    }


def _busiest(before: _Counts, now: _Counts, seconds: float, way: _By) -> list[dict[str, Any]]:
    """Return the rows of ``gateway top``, the busiest first."""
    rows: list[dict[str, Any]] = []
    for key, (calls, errors, took_s) in now.items():
        old = before.get(key, (0, 0, 0.0))
        made = max(calls - old[0], 0)
        rows.append(
            {
                **dict(zip(way.names, key, strict=True)),
                "callsPerSecond": round(made / seconds, 1),
                "errorsPerSecond": round(max(errors - old[1], 0) / seconds, 1),
                "meanMs": round((took_s - old[2]) / made * 1000, 1) if made else None,
                "calls": calls,
            }
        )
    return sorted(rows, key=lambda row: (-row["callsPerSecond"], -row["calls"]))


@click.command()
@click.option("--by", type=click.Choice(list(_WAYS)), default="tool", show_default=True, help="what a row is")
@click.option("--once", is_flag=True, help="one look of two seconds, then end")
@click.option("--limit", type=click.IntRange(1), default=20, show_default=True, metavar="N", help="the busiest N")
@URL
@JSON
def top(by: str, once: bool, limit: int, url: str, as_json: bool) -> None:
    """The busiest tools, groups, upstreams or principals: calls and errors a second, and the mean time to the answer,
    every 2 s until Ctrl-C."""
    client, way = AdminClient(url), _WAYS[by]
    before, then = _counts(client.get("traffic"), way), time.monotonic()
    while True:
        time.sleep(_EVERY_S)
        now, at = _counts(client.get("traffic"), way), time.monotonic()
        rows = _busiest(before, now, at - then, way)[:limit]
        before, then = now, at
        if as_json:
            show.as_json(rows)
        else:
            if not once and sys.stdout.isatty():
                click.clear()
            columns = [*(name.upper() for name in way.names), "CALLS/S", "ERRORS/S", "MEAN MS", "CALLS"]
            show.table(columns, [list(row.values()) for row in rows])
            if by == "principal" and not rows:
                click.echo("nobody who is known by name has called: where callers are not authenticated, none is")
        if once:
            return


@click.command()
@click.option("--limit", type=click.IntRange(1, 500), default=20, show_default=True, metavar="N", help="the newest N")
@click.option("--group", help="only calls of this group")
@click.option("--upstream", help="only calls that were sent to this upstream last")
@click.option("--tool", help="only calls of this tool, by its upstream's name")
@click.option("--principal", help="only calls of this principal")
@click.option("--outcome", help="only calls that failed so: timeout, upstream_error, …")
@click.option("--request", help="only the call with this trace id")
@URL
@JSON
def errors(limit: int, url: str, as_json: bool, tool: str | None, **wanted: str | None) -> None:
    """The last calls that failed, newest first: what failed, where, for whom, and the id of the trace."""
    query = {**wanted, "name": tool}
    chosen = "".join(f"&{name}={quote(value, safe='')}" for name, value in query.items() if value)
    found = AdminClient(url).get(f"errors?limit={limit}{chosen}")
    if as_json:
        show.as_json(found)
        return
    if not found:
        click.echo("no call that fits failed lately" if chosen else "no call failed lately", err=True)
        return
    show.table(
        ["AGO", "OUTCOME", "METHOD", "NAME", "GROUP", "UPSTREAM", "PRINCIPAL", "MS", "REQUEST", "ERROR"],
        [
            [
                show.ago(one["at"]),
                *(one.get(name, "") for name in ("outcome", "method", "name", "group", "upstream", "principal", "ms")),
                one.get("request", ""),
                one.get("error", ""),
            ]
            for one in found
        ],
    )
    for one in found:
        if one.get("link"):
            click.echo(escaped(f"trace {one['link']}"))


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
    try:
        diagnosis = client.get("diagnosis")
        quarantine = client.get("quarantine")
    except CommandFailed:  # of an older version; what else is wrong is found in any case
        diagnosis, quarantine = None, []
    found = examination.examined(overview, servers, time.time(), diagnosis, quarantine)
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
