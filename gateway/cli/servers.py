"""The commands on the registry: ``servers`` with ``list``, ``show``, ``add``, ``remove``, ``logs``."""

from __future__ import annotations

import asyncio
import json
import os
from pathlib import Path
from typing import Any
from urllib.parse import quote

import click

from gateway.cli import address, show, state
from gateway.cli.admin_client import AdminClient
from gateway.cli.options import JSON, URL, URL_HERE
from shared.errors import ConfigError
from shared.models import UpstreamSpec, make_spec
from shared.registry.store import RegistryStore
from shared.settings import RegistrySettings


def add_to(cli: click.Group) -> None:
    """Add the commands of this module to ``cli``."""
    cli.add_command(servers)


@click.group(invoke_without_command=True)
@URL
@JSON
@click.pass_context
def servers(ctx: click.Context, url: str, as_json: bool) -> None:
    """The registry: list, show, add, remove, logs."""
    ctx.obj = url
    if ctx.invoked_subcommand is None:
        _list_servers(url, as_json)


def _list_servers(url: str, as_json: bool) -> None:
    found = AdminClient(url).get("servers")
    if as_json:
        show.as_json(found)
        return
    show.table(
        ["ID", "GROUP", "TRANSPORT", "STATUS", "SINCE", "ERAS", "WEIGHT", "ERROR"],
        [
            [
                one["id"],
                one["name"],
                one["transport"],
                one["status"],
                show.ago(one["statusSince"]),
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
    tools = one.pop("tools")
    health = one.pop("lastHealthCheck") or {}
    rows = [[name, json.dumps(value) if isinstance(value, dict | list) else value] for name, value in one.items()]
    rows += [[f"health.{name}", value] for name, value in health.items()]
    show.table(["FIELD", "VALUE"], rows)
    show.table(["TOOL", "DESCRIPTION"], [[tool["name"], tool["description"]] for tool in tools])


@servers.command("add", context_settings={"ignore_unknown_options": False})
@click.argument("id")
@click.option("--name", help="group; replicas share it [the id]")
@click.option("--url", "target_url", metavar="URL", help="URL of an http or sse upstream")
@click.option("--transport", help="http, sse or stdio")
@click.option(
    "--header",
    "headers",
    multiple=True,
    metavar="'Name: value'",
    help="sent with every request; may be repeated",
)
@click.option("--env", "variables", multiple=True, metavar="NAME=VALUE", help="environment of a stdio command")
@click.option("--weight", type=int, default=1)
@click.argument("command", nargs=-1, type=click.UNPROCESSED)
@click.pass_obj
def servers_add(
    url: str,
    id: str,
    name: str | None,
    target_url: str | None,
    transport: str | None,
    headers: tuple[str, ...],
    variables: tuple[str, ...],
    weight: int,
    command: tuple[str, ...],
) -> None:
    """Register an upstream: --url URL, or -- COMMAND ARGS for stdio."""
    where = target_url
    if bool(where) == bool(command):
        raise ConfigError("give either --url URL, or -- COMMAND ARGS")
    if where:
        pairs = dict(_pair(header, ":") for header in headers)
        connection: dict[str, Any] = {"url": where, "headers": pairs}
        if transport:
            connection["type"] = transport
    else:
        connection = {
            "type": "stdio",
            "command": command[0],
            "args": list(command[1:]),
            "env": dict(_pair(variable, "=") for variable in variables),
            "cwd": str(Path.cwd()),
        }
    spec = make_spec(id, connection, name=name, weight=weight, source="cli")
    directly = spec.connection.touches_host() and not os.environ.get("GATEWAY_ADMIN_TOKEN")
    note = state.read(address.parse(url).base) if directly else None
    if note is not None:
        asyncio.run(_register_directly(note, spec))
    else:
        AdminClient(url).send(
            "POST", "servers", {"id": id, "name": spec.name, "connection": connection, "weight": weight}
        )
    click.echo(f"registered {id} ({spec.name}, {spec.transport})")


async def _register_directly(note: dict[str, str], spec: UpstreamSpec) -> None:
    store = RegistryStore(RegistrySettings(redis_url=note["redisUrl"], key_prefix=note["keyPrefix"]))
    try:
        await store.register(spec)
    finally:
        await store.close()


def _path(id: str) -> str:
    return f"servers/{quote(id, safe='')}"  # an id may have a slash, a space or a question mark in it


def _pair(text: str, separator: str) -> tuple[str, str]:
    name, found, value = text.partition(separator)
    if not found or not name.strip():
        raise ConfigError(f"{text.split(separator)[0]!r} needs a {separator!r} between name and value")
    return name.strip(), value.strip()


@servers.command("remove")
@click.argument("id")
@URL_HERE
@click.pass_obj
def servers_remove(group_url: str, url: str | None, id: str) -> None:
    """Remove an upstream."""
    AdminClient(url or group_url).send("DELETE", _path(id))
    click.echo(f"removed {id}")


@servers.command("logs")
@click.argument("id")
@JSON
@URL_HERE
@click.pass_obj
def servers_logs(group_url: str, url: str | None, id: str, as_json: bool) -> None:
    """Last stderr lines of a stdio upstream."""
    lines = AdminClient(url or group_url).get(_path(id) + "/logs")
    if as_json:
        show.as_json(lines)
    else:
        for line in lines:
            click.echo(line)
