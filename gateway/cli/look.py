"""Commands that show the state of a running gateway, from its admin API: ``status``, ``health``, ``topology``,
``settings``, ``explain``."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable
from typing import Any
from urllib.parse import quote, urlencode

import click

from gateway.cli import screen, show
from gateway.cli.admin_client import AdminClient
from gateway.cli.failures import CommandFailed
from gateway.cli.options import JSON, URL
from shared.logs import escaped

_EVENTS = 5
_EVERY_S = 2.0
_LINES_OF_LOG = 100
_FAILURES = 5


def add_to(cli: click.Group) -> None:
    """Add the commands of this module to ``cli``."""
    for command in (status, health, topology, settings, explain):
        cli.add_command(command)


def _again_and_again(once: Callable[[], None]) -> None:
    while True:
        try:
            once()
        except CommandFailed as error:  # whoever watches wants to see it come back
            click.echo(escaped(f"error: {error}"), err=True)
        time.sleep(_EVERY_S)


def _show_status(found: dict[str, Any], before: dict[str, tuple[int, float]]) -> None:
    """Show what the admin API said of front ends, workers, upstreams and restarts.

    ``before`` keeps each front end's count of calls and when it was read, for the rate. The first rate is since the
    front end started.
    """
    if not found["redis"]:
        click.echo("Redis does not answer: other front ends and the workers are not known, calls go on", err=True)
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
        rows.append([*process(one), *counts, show.within(one["buckets"], 0.5), show.within(one["buckets"], 0.99)])
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
@click.option("--watch", is_flag=True, help="again every 2 s; on a terminal a screen with keys to look closer")
@JSON
def status(url: str, watch: bool, as_json: bool) -> None:
    """Front ends, workers, upstreams; calls per second, in flight."""
    client = AdminClient(url)
    before: dict[str, tuple[int, float]] = {}

    def once() -> None:
        overview = client.get("overview")  # there also while Redis is away
        found = {kind: overview[kind] for kind in ("redis", "frontends", "workers", "restarts")}
        found["servers"] = client.get("servers")
        if watch:
            found["events"] = client.get("events")[-_EVENTS:]
        if as_json:
            show.as_json(found)
        else:
            _show_status(found, before)

    if not watch:
        once()
    elif as_json or not (sys.stdin.isatty() and sys.stdout.isatty()):
        _again_and_again(once)
    else:
        screen.watch(lambda: _looked(client), lambda id: _closer(client, id))


def _looked(client: AdminClient) -> screen.Looked:
    found = {kind: client.get(kind) for kind in ("overview", "servers", "traffic", "events")}
    return screen.Looked(at=time.monotonic(), **found)


def _closer(client: AdminClient, id: str) -> dict[str, Any]:
    """Return what is known of one upstream: itself, its last calls that failed, and the end of its error output."""
    path = f"servers/{quote(id, safe='')}"
    failed = client.get(f"errors?limit={_FAILURES}&upstream={quote(id, safe='')}")
    return {
        "server": client.get(path),
        "errors": [
            f"{show.ago(one['at'])} ago  {one.get('name', '')}  {one.get('outcome', '')}: {one.get('error', '')}"
            for one in failed
        ],
        "logs": client.get(f"{path}/logs")[-_LINES_OF_LOG:],
    }


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
    rows = [
        [one["key"], _value(one["value"]), _value(one["default"]), one.get("source", ""), one["variable"]]
        for one in found
    ]
    show.table(["SETTING", "VALUE", "DEFAULT", "FROM", "VARIABLE"], rows)


def _value(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value)


def _probed(health: dict[str, Any] | None) -> str:
    if health is None:
        return ""
    return f"{'good' if health['healthy'] else 'bad'}, {show.ago(health['checkedAt'])} ago"


def _placed(place: dict[str, Any]) -> str:
    group = f" ({place['group']})" if place["group"] != place["id"] else ""
    return f"{place['id']}{group} {place['duty'] if place['duty'] != 'active' else place['status']}"


@click.command()
@click.argument("tool")
@click.option(
    "--as", "principal", metavar="PRINCIPAL", help="whether this one may: key:NAME, or ISSUER#SUBJECT with --claims"
)
@click.option("--claims", default="", metavar="JSON", help="the claims of a token of this principal")
@click.option(
    "--server", default="", metavar="NAME", help="as seen at this group's or virtual server's endpoint [/mcp]"
)
@URL
@JSON
def explain(tool: str, principal: str | None, claims: str, server: str, url: str, as_json: bool) -> None:
    """Where a call of TOOL would go, and why; and whether a principal may make it."""
    query = {"tool": tool, **({"server": server} if server else {})}
    if principal is not None:
        query |= {"as": principal, "claims": claims}
    found = AdminClient(url).get(f"explain?{urlencode(query, quote_via=quote)}")
    if as_json:
        show.as_json(found)
        return
    click.echo(
        escaped(f"{found['tool']}: tool {found['upstreamName']!r} of group {found['group']!r}, {found['balancer']}")
    )
    show.table(
        [
            *("REPLICA", "STATUS", "AVAILABLE", "IN FLIGHT", "ELSEWHERE", "WAITING", "CALLS", "ERRORS"),
            *("LATENCY MS", "LAST PROBE", "WEIGHT", "WORKERS", "REASON"),
        ],
        [
            [
                one["id"],
                one["status"],
                "yes" if one["available"] else "no",
                one["inFlight"],
                one["inFlightElsewhere"],
                *(one.get(figure) for figure in ("waiting", "calls", "errors", "latencyMs")),
                _probed(one.get("lastHealthCheck")),
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
        for what in ("rules", "conditions", "limits"):
            for one in access[what]:
                click.echo(escaped(f"  {what.removesuffix('s')} {one}"))
        if not access["shown"]:
            click.echo("-> unknown tool, for this principal")
            return
    click.echo(escaped(f"-> {found['choice'] or 'open'}: {found['because']}"))
