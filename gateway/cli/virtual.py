"""The commands about virtual servers: ``virtual list``, ``show``, ``set``, ``remove``."""

from __future__ import annotations

from pathlib import Path
from typing import Any
from urllib.parse import quote

import click

from gateway.cli import show
from gateway.cli.admin_client import AdminClient
from gateway.cli.options import JSON, URL, URL_HERE
from shared.config.documents import decode
from shared.errors import ConfigError
from shared.logs import escaped
from shared.virtual_servers import read

_SHOWN = ("tools", "prompts", "resources", "resourceTemplates")


def add_to(cli: click.Group) -> None:
    """Add the commands of this module to ``cli``."""
    cli.add_command(virtual)


@click.group()
@URL
@click.pass_context
def virtual(ctx: click.Context, url: str) -> None:
    """Virtual servers: chosen tools, prompts and resources at an endpoint of their own."""
    ctx.obj = url


@virtual.command("list")
@JSON
@URL_HERE
@click.pass_obj
def virtual_list(group_url: str, url: str | None, as_json: bool) -> None:
    """All virtual servers, and how much they show."""
    found = AdminClient(url or group_url).get("virtual-servers")
    if as_json:
        show.as_json(found)
        return
    if not found:
        click.echo("there is no virtual server yet: 'gateway virtual set NAME FILE' makes one", err=True)
        return
    rows = [
        [one["name"], *(len(one[kind]) for kind in _SHOWN), one["source"], len(one["notes"]) or ""] for one in found
    ]
    show.table(["NAME", "TOOLS", "PROMPTS", "RESOURCES", "TEMPLATES", "FROM", "NOTES"], rows)


@virtual.command("show")
@click.argument("name")
@JSON
@URL_HERE
@click.pass_obj
def virtual_show(group_url: str, url: str | None, name: str, as_json: bool) -> None:
    """The virtual server NAME: what it shows, and what of its document has no effect."""
    found = AdminClient(url or group_url).get(_path(name))
    if as_json:
        show.as_json(found)
        return
    rows: list[list[Any]] = [["name", found["name"]], ["from", found["source"]], ["path", f"/servers/{name}/mcp"]]
    rows += [[kind, ", ".join(found[kind]) or "none"] for kind in _SHOWN]
    rows += [["note", one] for one in found["notes"]]
    show.table(["FIELD", "VALUE"], rows)


@virtual.command("set")
@click.argument("name")
@click.argument("file", type=click.Path(exists=True, dir_okay=False))
@URL_HERE
@click.pass_obj
def virtual_set(group_url: str, url: str | None, name: str, file: str) -> None:
    """Make or change the virtual server NAME. FILE (JSON or YAML) has what a configuration file has under its name."""
    document = decode(Path(file).read_bytes(), Path(file))
    if not isinstance(document, dict):
        raise ConfigError(f"{file}: must be an object, such as {{tools: ['search/*']}}")
    read(name, document)
    found = AdminClient(url or group_url).send("PUT", _path(name), document)
    counts = ", ".join(f"{len(found[kind])} {kind}" for kind in _SHOWN[:3])
    click.echo(escaped(f"{name} shows {counts} at /servers/{name}/mcp"))
    for note in found["notes"]:
        click.echo(escaped(f"  {note}"), err=True)


@virtual.command("remove")
@click.argument("name")
@URL_HERE
@click.pass_obj
def virtual_remove(group_url: str, url: str | None, name: str) -> None:
    """Remove the virtual server NAME."""
    AdminClient(url or group_url).send("DELETE", _path(name))
    click.echo(f"removed {name}")


def _path(name: str) -> str:
    return f"virtual-servers/{quote(name, safe='')}"
