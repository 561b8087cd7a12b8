"""The commands about access: ``keys`` (create, list, revoke), ``access explain``, and ``audit`` (tail, verify)."""

from __future__ import annotations

import json
import time
from typing import Any
from urllib.parse import quote, urlencode

import click

from gateway.cli import show
from gateway.cli.admin_client import AdminClient
from gateway.cli.failures import CommandFailed
from gateway.cli.options import JSON, URL, URL_HERE
from gateway.telemetry.audit import verify
from shared.logs import escaped

_FOLLOW_S = 1.0
_MOST_PROBLEMS = 20


def add_to(cli: click.Group) -> None:
    """Add the commands of this module to ``cli``."""
    cli.add_command(keys)
    cli.add_command(access)
    cli.add_command(audit)


@click.group()
@URL
@click.pass_context
def keys(ctx: click.Context, url: str) -> None:
    """API keys of clients: create, list, revoke."""
    ctx.obj = url


@keys.command("create")
@click.argument("name")
@click.option("--role", "roles", multiple=True, metavar="ROLE", help="a role of the key; may be repeated")
@click.option("--expires", metavar="DURATION", default="", help="30m, 12h, 90d, 1y [never]")
@JSON
@URL_HERE
@click.pass_obj
def keys_create(
    group_url: str, url: str | None, name: str, roles: tuple[str, ...], expires: str, as_json: bool
) -> None:
    """Make a key for the client NAME. The key is shown this once, and only its digest is kept."""
    body = {"name": name, "roles": list(roles), "expires": expires}
    made = AdminClient(url or group_url).send("POST", "keys", body)
    if as_json:
        show.as_json(made)
        return
    click.echo(escaped(made["key"]))
    click.echo(f"key {name!r} was made; this is the only time it is shown. A client sends it as", err=True)
    click.echo("  Authorization: Bearer KEY", err=True)


@keys.command("list")
@JSON
@URL_HERE
@click.pass_obj
def keys_list(group_url: str, url: str | None, as_json: bool) -> None:
    """All keys, without what they are."""
    found = AdminClient(url or group_url).get("keys")
    if as_json:
        show.as_json(found)
        return
    if not found:
        click.echo("there is no key yet: 'gateway keys create NAME --role ROLE' makes one", err=True)
        return
    show.table(
        ["NAME", "ID", "ROLES", "MADE", "EXPIRES", "FROM"],
        [
            [one["name"], one["id"], ", ".join(one["roles"]), _made(one), _expires(one["expiresAt"]), one["source"]]
            for one in found
        ],
    )


def _made(key: dict[str, float]) -> str:
    return show.ago(key["createdAt"]) + " ago" if key["createdAt"] else ""


def _expires(at: float) -> str:
    if not at:
        return "never"
    left = at - time.time()
    return time.strftime("%Y-%m-%d %H:%M", time.localtime(at)) if left > 0 else "expired"


@keys.command("revoke")
@click.argument("name")
@URL_HERE
@click.pass_obj
def keys_revoke(group_url: str, url: str | None, name: str) -> None:
    """Revoke the key NAME. Every front end hears of it at once, and ends the streams of its client."""
    AdminClient(url or group_url).send("DELETE", f"keys/{quote(name, safe='')}")
    click.echo(f"revoked {name}")


@click.group()
@URL
@click.pass_context
def access(ctx: click.Context, url: str) -> None:
    """Rules of access: explain."""
    ctx.obj = url


@access.command("explain")
@click.argument("tool")
@click.option("--as", "principal", required=True, metavar="PRINCIPAL", help="key:NAME, or ISSUER#SUBJECT with --claims")
@click.option("--claims", default="", metavar="JSON", help="the claims of a token of this principal")
@click.option(
    "--server", default="", metavar="NAME", help="as seen at this group's or virtual server's endpoint [/mcp]"
)
@JSON
@URL_HERE
@click.pass_obj
def access_explain(
    group_url: str, url: str | None, tool: str, principal: str, claims: str, server: str, as_json: bool
) -> None:
    """Say whether a principal may use TOOL, and which rule decides."""
    query = {"tool": tool, "as": principal, "claims": claims, **({"server": server} if server else {})}
    found = AdminClient(url or group_url).get(f"access/explain?{urlencode(query, quote_via=quote)}")
    if as_json:
        show.as_json(found)
        return
    rows = [
        ["tool", found["tool"]],
        ["principal", found["principal"] or "(nobody: no credentials)"],
        ["roles", ", ".join(found["roles"]) or "none"],
        ["verdict", found["verdict"]],
        *(["rule", one] for one in found["rules"]),
        *(["condition", one] for one in found["conditions"]),
        *(["limit", one] for one in found["limits"]),
    ]
    show.table(["FIELD", "VALUE"], rows)


@click.group()
@URL
@click.pass_context
def audit(ctx: click.Context, url: str) -> None:
    """The audit log: tail, verify."""
    ctx.obj = url


@audit.command("tail")
@click.option("--principal", help="only events of this principal")
@click.option("--tool", help="only calls of this tool, by its upstream's name")
@click.option("--event", help="only this kind: call, denied, authentication, admin, lost")
@click.option("--lines", "-n", type=click.IntRange(1, 1000), default=100, show_default=True, help="to begin with")
@click.option("--follow", "-f", is_flag=True, help="go on until Ctrl-C")
@JSON
@URL_HERE
@click.pass_obj
def audit_tail(
    group_url: str,
    /,
    url: str | None,
    lines: int,
    follow: bool,
    as_json: bool,
    **wanted: str | None,
) -> None:
    """The last events of the audit log, oldest first."""
    client = AdminClient(url or group_url)
    query = "".join(f"&{name}={quote(value, safe='')}" for name, value in wanted.items() if value)
    place = ""
    while True:
        since = f"&after={place}" if place else ""
        found = client.get(f"audit?limit={1000 if place else lines}{query}{since}")
        for event in found["events"]:
            click.echo(json.dumps(event) if as_json else _line(event))
        place = found["next"] or place
        if not follow:
            return
        time.sleep(_FOLLOW_S)


def _line(event: dict[str, Any]) -> str:
    """Return an event as a line for people. Names come from outside, so control characters are escaped."""
    what = "/".join(str(event[name]) for name in ("group", "name") if event.get(name))
    took = f" {event['durationMs']:g} ms" if "durationMs" in event else ""
    why = f" ({event['reason']})" if "reason" in event else ""
    who, outcome = event.get("principal") or "-", event.get("outcome", "")
    text = f"{event['time']} {event['event']} {who} {what} {outcome}{took}{why}"
    return "".join(one if one.isprintable() else repr(one)[1:-1] for one in text)


@audit.command("verify")
@click.argument("file", type=click.Path(exists=True, dir_okay=False))
def audit_verify(file: str) -> None:
    """Check that no line of FILE was changed or left out; for a log with 'chain': true."""
    with open(file, "rb") as lines:
        good, problems = verify(lines)
    for problem in problems[:_MOST_PROBLEMS]:
        click.echo(escaped(problem), err=True)
    if problems:
        raise CommandFailed(f"{file}: {len(problems)} lines are not as they were written, {good} are")
    click.echo(f"{file}: {good} events, none changed or left out")
