"""The commands about the programs that use MCP servers: ``import`` takes over what they have, ``install`` tells them of
this gateway."""

from __future__ import annotations

import difflib
import json
import os
from collections.abc import Iterator
from pathlib import Path

import click

from gateway.cli import address, clients, editing
from gateway.cli.admin_client import AdminClient
from gateway.cli.clients import CLIENTS, Client
from gateway.cli.failures import CommandFailed
from gateway.cli.options import URL
from gateway.cli.registration import register
from shared.config import load
from shared.connections import HttpConnection, StdioConnection
from shared.errors import ConfigError
from shared.logs import escaped
from shared.models import UpstreamSpec

_CLIENT = click.argument("client", type=click.Choice(list(CLIENTS)))
_DRY_RUN = click.option("--dry-run", is_flag=True, help="say what would be done, and do nothing")


def add_to(cli: click.Group) -> None:
    """Add the commands of this module to ``cli``."""
    cli.add_command(import_servers)
    cli.add_command(install)


@click.command("import")
@_CLIENT
@click.option("--file", type=click.Path(path_type=Path), help="read this file in place of the client's own")
@click.option("--replace", is_flag=True, help="replace what is registered with the same id")
@_DRY_RUN
@URL
def import_servers(client: str, file: Path | None, replace: bool, dry_run: bool, url: str) -> None:
    """Register the servers that a client knows, from its files here and in the current folder.

    Its files are not changed. Servers that are registered already stay as they are.
    """
    known = CLIENTS[client]
    files = [file] if file is not None else [one for one in _places(known) if one.exists()]
    if not files:
        places = ", ".join(str(one) for one in _places(known)) or "its folder"
        raise CommandFailed(f"{known.title} has no file here (looked for {places}); name one with --file")
    base = address.parse(url).base
    there = set() if dry_run or replace else {str(one["id"]) for one in AdminClient(url).get("servers")}
    done = 0
    for place in files:
        config = load(place, os.environ)
        for path, text in (*config.problems, *config.left_out):
            click.echo(escaped(f"left out: {path}: {text}"), err=True)
        for spec in config.upstreams:
            why = _not_taken(spec, base, there)
            if why:
                click.echo(escaped(f"left out: {spec.id}: {why}"), err=True)
                continue
            if not dry_run:
                register(url, spec, json.loads(spec.connection_json()), replace)
            done += 1
            verb = "would register" if dry_run else "registered"
            click.echo(escaped(f"{verb} {spec.id} ({spec.name}, {spec.transport}) from {place}"))
    if not done:
        click.echo("nothing to register")


def _places(client: Client) -> Iterator[Path]:
    yield from clients.files_of_user(client, Path.home(), os.environ)
    yield from clients.files_of_project(client, Path.cwd())


def _not_taken(spec: UpstreamSpec, base: str, there: set[str]) -> str:
    """Return why an entry is not registered; empty if it is."""
    if spec.problem:
        return spec.problem
    connection = spec.connection
    words = connection.args if isinstance(connection, StdioConnection) else ()
    urls = [connection.url] if isinstance(connection, HttpConnection) else [one for one in words if "://" in one]
    if any(_leads_to(one, base) for one in urls):
        return "that is this gateway"
    return "it is registered already; --replace replaces it" if spec.id in there else ""


def _leads_to(url: str, base: str) -> bool:
    try:
        return address.parse(url).base == base
    except ConfigError:
        return False


@click.command()
@_CLIENT
@click.option("--name", default="gateway", show_default=True, help="what the client calls the gateway")
@click.option("--server", help="only the tools of this group or virtual server")
@click.option("--key-variable", default="", help="variable of the client's environment that has an API key")
@click.option("--file", type=click.Path(path_type=Path), help="write into this file in place of the client's own")
@click.option("--replace", is_flag=True, help="replace another server of this name")
@_DRY_RUN
@URL
def install(
    client: str,
    name: str,
    server: str | None,
    key_variable: str,
    file: Path | None,
    replace: bool,
    dry_run: bool,
    url: str,
) -> None:
    """Write this gateway into a client's file.

    What else is in the file stays; a copy of it as it was is kept beside it.
    """
    known = CLIENTS[client]
    where = address.parse(url)
    endpoint = address.Address(where.base, server or where.group).endpoint
    entry = clients.entry(known, endpoint, key_variable)
    target = file or clients.files_of_user(known, Path.home(), os.environ, name)[0]
    try:
        before = target.read_text("utf-8") if target.exists() else ""
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"cannot read {target}: {getattr(error, 'strerror', '') or error}") from error
    if target.suffix in (".yaml", ".yml"):
        after = editing.document_of_its_own(name, entry)
        if before and before != after and not replace:
            raise ConfigError(f"{target} is there already: replace it with --replace, or choose another --name")
    else:
        after = editing.with_entry(before, target, known.root, name, entry, replace)
    if after == before:
        click.echo(escaped(f"{known.title} has it already: {name} in {target}"))
        return
    if dry_run:
        lines = difflib.unified_diff(before.splitlines(), after.splitlines(), str(target), str(target), lineterm="")
        for line in lines:
            click.echo(escaped(line))
        return
    kept = editing.write(target, after)
    click.echo(escaped(f"{known.title}: {name} ({endpoint}) is in {target}{f', which was {kept}' if kept else ''}"))
    click.echo(f"start {known.title} anew to use it")
