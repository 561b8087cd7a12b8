"""Commands that show the state of a running gateway, from its admin API: ``status``, ``health``, ``topology``,
``settings``, ``explain``."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable
from typing import Any
from urllib.parse import quote

import click

from gateway.cli import show
from gateway.cli.admin_client import AdminClient
from gateway.cli.failures import CommandFailed
from gateway.cli.options import JSON, URL
from shared.logs import escaped
from shared.metrics.families import BUCKETS_S

_EVENTS = 5


def add_to(cli: click.Group) -> None:
    """Add the commands of this module to ``cli``."""
    for command in (status, health, topology, settings, explain):
        cli.add_command(command)


def _watching(once: Callable[[], None], watch: bool) -> None:
    while True:
        if watch and sys.stdout.isatty():
            click.clear()
        try:
            once()
        except CommandFailed as error:
            if not watch:
                raise
            click.echo(escaped(f"error: {error}"), err=True)  # whoever watches wants to see it come back
        if not watch:
            return
        time.sleep(2.0)


def _within(buckets: list[int], share: float) -> str:
    """Return in what time this share of all calls was answered, by the buckets of ``shared.metrics.families``."""
    total, below = sum(buckets), 0
    for count, limit_s in zip(buckets, (*BUCKETS_S, None), strict=False):
        below += count
        if total and below >= share * total:
            return f"<{limit_s * 1000:g}ms" if limit_s is not None else f">{BUCKETS_S[-1]:g}s"
    return ""


def _show_status(found: dict[str, Any], before: dict[str, tuple[int, float]]) -> None:
    """Show what the admin API said of front ends, workers, upstreams and restarts.

    ``before`` keeps each front end's count of calls and when it was read, for the rate. The first rate is since the
    front end started.
    """
    several_hosts = len({one["host"] for one in (*found["frontends"], *found["workers"])}) > 1

    def process(one: dict[str, Any]) -> list[Any]:
        return [one["id"], *([one["host"]] if several_hosts else []), one["pid"], show.ago(one["startedAt"])]

    columns = [*(["HOST"] if several_hosts else []), "PID", "UP"]
    rows = []
    for one in found["frontends"]:
        calls, now = one["calls"], time.time()
        then = before.get(one["id"], (0, one["startedAt"]))
        per_s = f"{(calls - then[0]) / max(now - then[1], 0.001):.1f}"
        before[one["id"]] = (calls, now)
        counts = [calls, per_s, one["inFlight"], one["streams"], one["retries"]]
        rows.append([*process(one), *counts, _within(one["buckets"], 0.5), _within(one["buckets"], 0.99)])
    show.table(
        ["FRONT END", *columns, "CALLS", "CALLS/S", "IN FLIGHT", "STREAMS", "RETRIES", "P50", "P99"],
        rows,
    )
    show.table(
        ["WORKER", *columns, "IN FLIGHT", "UPSTREAMS"],
        [
            [*process(one), one["load"], sum(one["id"] in server["owners"] for server in found["servers"])]
            for one in found["workers"]
        ],
    )
    show.table(
        ["UPSTREAM", "GROUP", "TRANSPORT", "STATUS", "SINCE", "ERROR"],
        [
            [
                one["id"],
                one["name"],
                one["transport"],
                one["status"],
                show.ago(one["statusSince"]),
                one["error"],
            ]
            for one in found["servers"]
        ],
    )
    if found.get("events"):
        click.echo("")
        for event in found["events"]:
            click.echo(
                escaped(f"{show.ago(event['at']):>5} ago  {event['kind']}  {event['id']}  {event['text']}".rstrip())
            )
    ejected = [[one["id"], id, why] for one in found["frontends"] for id, why in one.get("ejected", {}).items()]
    if ejected:
        show.table(["FRONT END", "EJECTED", "WHY"], ejected)
    if found["restarts"]:
        show.table(["PROCESS", "REPLACED"], sorted(found["restarts"].items()))


@click.command()
@URL
@click.option("--watch", is_flag=True, help="again every 2 s")
@JSON
def status(url: str, watch: bool, as_json: bool) -> None:
    """Front ends, workers, upstreams; calls per second, in flight."""
    client = AdminClient(url)
    before: dict[str, tuple[int, float]] = {}

    def once() -> None:
        found = {kind: client.get(kind) for kind in ("frontends", "workers", "servers", "restarts")}
        if watch:
            found["events"] = client.get("events")[-_EVENTS:]
        if as_json:
            show.as_json(found)
        else:
            _show_status(found, before)

    _watching(once, watch)


@click.command()
@URL
@JSON
def health(url: str, as_json: bool) -> None:
    """The last health check of each upstream. Exit code 1 when one is unhealthy."""
    found = AdminClient(url).get("health")
    if as_json:
        show.as_json(found)
    else:
        show.table(
            ["UPSTREAM", "HEALTHY", "LATENCY MS", "CHECKED", "ERROR"],
            [
                [
                    one["serverId"],
                    "yes" if one["healthy"] else "no",
                    one["latencyMs"],
                    show.ago(one["checkedAt"]),
                    one["error"],
                ]
                for one in found
            ],
        )
    sys.exit(0 if all(one["healthy"] for one in found) else 1)


@click.command()
@URL
@JSON
def topology(url: str, as_json: bool) -> None:
    """Which worker carries which upstream: * leads (lists and probes), the others carry calls."""
    found = AdminClient(url).get("topology")
    if as_json:
        show.as_json(found)
        return
    workers = len(found["workers"])
    for one in found["frontends"]:
        click.echo(escaped(f"front end {one['id']} on {one['host']}, linked to {one['workers']} of {workers} workers"))
    for one in found["workers"]:
        worker = one["worker"]
        click.echo(escaped(f"worker {worker['id']} on {worker['host']}, {worker['load']} calls under way"))
        for place in one["upstreams"]:
            click.echo(escaped(f"  {'*' if place['leads'] else ' '} {_placed(place)}"))
    if found["unowned"]:
        click.echo("no worker")
        for place in found["unowned"]:
            click.echo(escaped(f"    {_placed(place)}"))


@click.command()
@click.option("--all", "everything", is_flag=True, help="also those that have their default")
@URL
@JSON
def settings(everything: bool, url: str, as_json: bool) -> None:
    """The settings that a gateway goes by, which are not their default; durations in milliseconds."""
    found = [one for one in AdminClient(url).get("settings") if everything or one["given"]]
    if as_json:
        show.as_json(found)
        return
    rows = [[one["key"], _value(one["value"]), _value(one["default"]), one["variable"]] for one in found]
    show.table(["SETTING", "VALUE", "DEFAULT", "VARIABLE"], rows)


def _value(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value)


def _placed(place: dict[str, Any]) -> str:
    group = f" ({place['group']})" if place["group"] != place["id"] else ""
    return f"{place['id']}{group} {place['duty'] if place['duty'] != 'active' else place['status']}"


@click.command()
@click.argument("tool")
@click.option(
    "--as", "principal", metavar="PRINCIPAL", help="whether this one may: key:NAME, or ISSUER#SUBJECT with --claims"
)
@click.option("--claims", default="", metavar="JSON", help="the claims of a token of this principal")
@URL
@JSON
def explain(tool: str, principal: str | None, claims: str, url: str, as_json: bool) -> None:
    """Where a call of TOOL would go, and why; and whether a principal may make it."""
    whose = f"&as={quote(principal, safe='')}&claims={quote(claims, safe='')}" if principal is not None else ""
    found = AdminClient(url).get(f"explain?tool={quote(tool, safe='')}{whose}")
    if as_json:
        show.as_json(found)
        return
    click.echo(
        escaped(f"{found['tool']}: tool {found['upstreamName']!r} of group {found['group']!r}, {found['balancer']}")
    )
    show.table(
        ["REPLICA", "STATUS", "AVAILABLE", "IN FLIGHT", "ELSEWHERE", "LATENCY MS", "WEIGHT", "WORKERS", "REASON"],
        [
            [
                one["id"],
                one["status"],
                "yes" if one["available"] else "no",
                one["inFlight"],
                one["inFlightElsewhere"],
                one.get("latencyMs"),
                one["weight"],
                ", ".join(one["workers"]),
                one["reason"],
            ]
            for one in found["candidates"]
        ],
    )
    access = found["access"]
    if access is not None:
        roles = ", ".join(access["roles"]) or "none"
        who = access["principal"] or "nobody (no credentials)"
        click.echo(escaped(f"for {who}, roles {roles}: {access['verdict']}"))
        for what in ("rules", "conditions"):
            for one in access[what]:
                click.echo(escaped(f"  {what.removesuffix('s')} {one}"))
        if not access["shown"]:
            click.echo("-> unknown tool, for this principal")
            return
    click.echo(escaped(f"-> {found['choice'] or 'open'}: {found['because']}"))
