"""The commands on the registry: ``servers`` with ``list``, ``show``, ``remove``, ``logs``, ``restart``, ``disable``,
``drain``, ``enable``, and ``add`` from ``registration``."""

from __future__ import annotations

import json
from urllib.parse import quote

import click

from gateway.cli import address, failures, show
from gateway.cli.admin_client import AdminClient
from gateway.cli.failures import CommandFailed
from gateway.cli.options import JSON, URL, URL_HERE
from gateway.cli.registration import servers_add
from shared.connections import StdioConnection
from shared.logs import escaped
from shared.transports import traits


def add_to(cli: click.Group) -> None:
    """Add the commands of this module to ``cli``."""
    cli.add_command(servers)


@click.group(invoke_without_command=True)
@URL
@JSON
@click.pass_context
def servers(ctx: click.Context, url: str, as_json: bool) -> None:
    """The registry: list, show, add, remove, logs, restart, disable, drain, enable."""
    ctx.obj = url
    if ctx.invoked_subcommand is None:
        _list_servers(url, as_json)


def _list_servers(url: str, as_json: bool) -> None:
    found = AdminClient(url).get("servers")
    if as_json:
        show.as_json(found)
        return
    show.table(
        ["ID", "GROUP", "TRANSPORT", "STATUS", "SINCE", "DUTY", "ERAS", "WEIGHT", "ERROR"],
        [
            [
                one["id"],
                one["name"],
                one["transport"],
                one["status"],
                show.ago(one["statusSince"]),
                one["duty"],
                "+".join(one["eras"]),
                one["weight"],
                one["error"],
            ]
            for one in found
        ],
    )


@servers.command("list")
@JSON
@URL_HERE
@click.pass_obj
def servers_list(group_url: str, url: str | None, as_json: bool) -> None:
    """All upstreams."""
    _list_servers(url or group_url, as_json)


@servers.command("show")
@click.argument("id")
@JSON
@URL_HERE
@click.pass_obj
def servers_show(group_url: str, url: str | None, id: str, as_json: bool) -> None:
    """One upstream, with its tools."""
    one = AdminClient(url or group_url).get(_path(id))
    if as_json:
        show.as_json(one)
        return
    tools, differing = one.pop("tools"), one.pop("differing", {})
    health = one.pop("lastHealthCheck") or {}
    rows = [
        [name, json.dumps(value) if isinstance(value, dict | list) else value]
        for name, value in {**one, "statusSince": show.at(one["statusSince"])}.items()
    ]
    if health:
        health["checkedAt"] = show.at(health["checkedAt"])
    rows += [[f"health.{name}", value] for name, value in health.items()]
    held = "is held back" if one.get("pin") == "block" else "is listed, and not approved"
    rows += [
        ["tool", f"{name} {held}: {what}; see 'gateway tools diff {id} {name}'"] for name, what in differing.items()
    ]
    show.table(["FIELD", "VALUE"], rows)
    show.table(["TOOL", "DESCRIPTION"], [[tool["name"], tool["description"]] for tool in tools])


servers.add_command(servers_add)


def _path(id: str) -> str:
    return f"servers/{quote(id, safe='')}"  # an id may have a slash, a space or a question mark in it


@servers.command("remove")
@click.argument("id")
@click.option("--force", is_flag=True, help="Also one that a configuration file declares, if that file is gone.")
@URL_HERE
@click.pass_obj
def servers_remove(group_url: str, url: str | None, id: str, force: bool) -> None:
    """Remove an upstream. One that the gateway's configuration file declares is removed there."""
    AdminClient(url or group_url).send("DELETE", _path(id) + ("?force=true" if force else ""))
    click.echo(f"removed {id}")


@servers.command("restart")
@click.argument("ids", metavar="ID…", nargs=-1, required=True)
@URL_HERE
@click.pass_obj
def servers_restart(group_url: str, url: str | None, ids: tuple[str, ...]) -> None:
    """Begin anew with upstreams, on every worker that has them: new children, connections and sessions."""
    client = AdminClient(url or group_url)
    for id in ids:
        client.send("POST", _path(id) + "/restart")
        click.echo(f"{id} begins anew; 'gateway servers show {id}' says how that goes")


def _duty(name: str, duty: str, done: str, help: str) -> None:
    """Add the command ``name``, which gives upstreams a ``duty``."""

    @servers.command(name, help=help)
    @click.argument("ids", metavar="ID…", nargs=-1, required=True)
    @URL_HERE
    @click.pass_obj
    def command(group_url: str, url: str | None, ids: tuple[str, ...]) -> None:
        client = AdminClient(url or group_url)
        for id in ids:
            client.send("PUT", _path(id) + "/duty", {"duty": duty})
            click.echo(f"{id} {done}")


_duty(
    "disable",
    "disabled",
    "is disabled: it stops once its calls are over",
    "Stop upstreams, and list nothing of them, until they are enabled again; also across restarts of the gateway. "
    "Calls under way may end first, for as long as drainTimeout.",
)
_duty(
    "drain",
    "draining",
    "takes no new calls",
    "Send no new calls to upstreams: only those of client sessions and tasks that they have already.",
)
_duty("enable", "active", "takes calls", "Have upstreams that were drained or disabled take calls again.")


@servers.command("logs")
@click.argument("id")
@JSON
@URL_HERE
@click.pass_obj
def servers_logs(group_url: str, url: str | None, id: str, as_json: bool) -> None:
    """Last stderr lines of a stdio upstream."""
    client = AdminClient(url or group_url)
    lines = client.get(_path(id) + "/logs")
    if not lines:
        transport = client.get(_path(id))["transport"]
        if traits(transport).connection is not StdioConnection:
            more = failures.command(f"servers show {id}", address.parse(url or group_url).base)
            raise CommandFailed(
                f"{id!r} is reached over {transport}, so its log is where it runs; '{more}' has its state"
            )
        click.echo(f"{id!r} has written nothing to its stderr", err=True)
    if as_json:
        show.as_json(lines)
    else:
        for line in lines:
            click.echo(escaped(line))
