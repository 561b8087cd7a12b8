"""Commands that take over what is described elsewhere, and tell of this gateway there.

``import`` and ``install`` are for the programs that use MCP servers, ``add`` is for what the MCP registry describes.
"""

from __future__ import annotations

import asyncio
import difflib
import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import aiohttp
import click

from gateway.cli import address, clients, editing
from gateway.cli.admin_client import AdminClient
from gateway.cli.clients import CLIENTS, Client
from gateway.cli.descriptions import describe
from gateway.cli.failures import CommandFailed
from gateway.cli.options import URL
from gateway.cli.registration import pair, register
from shared.config import load
from shared.connections import HttpConnection, StdioConnection
from shared.errors import ConfigError
from shared.logs import escaped
from shared.models import UpstreamSpec, make_spec

_CLIENT = click.argument("client", type=click.Choice(list(CLIENTS)))
_FETCH_S = 30.0
_MOST_BYTES = 1 << 20
_DRY_RUN = click.option("--dry-run", is_flag=True, help="say what would be done, and do nothing")


def add_to(cli: click.Group) -> None:
    """Add the commands of this module to ``cli``."""
    cli.add_command(import_servers)
    cli.add_command(install)
    cli.add_command(add)


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


@click.command()
@click.argument("source")
@click.option("--id", help="its id [the last part of its name]")
@click.option("--value", "values", multiple=True, metavar="NAME[=VALUE]", help="what it asks for; may be repeated")
@click.option("--package", default="", help="run its package of this type (npm, pypi, oci, nuget) on the worker's host")
@click.option("--replace", is_flag=True, help="replace what is registered with this id")
@_DRY_RUN
@URL
def add(
    source: str, id: str | None, values: tuple[str, ...], package: str, replace: bool, dry_run: bool, url: str
) -> None:
    """Register a server from its description in the MCP registry: a file or a URL of a server.json.

    --value NAME takes the variable NAME of the environment, where other users of the machine do not see it.
    """
    given: dict[str, list[str]] = {}
    for one in values:
        name, value = pair(one, "=", "--value") if "=" in one else (one, os.environ.get(one, ""))
        if not value and "=" not in one:
            raise ConfigError(f"--value: the environment has no variable {one}")
        given.setdefault(name, []).append(value)
    found = describe(_document(source), given, package)
    for warning in found.warnings:
        click.echo(escaped(f"warning: {warning}"), err=True)
    spec = make_spec(id or found.id, found.connection, source="cli")
    if dry_run:
        shown = spec.connection.public()
        what = " ".join([shown["command"], *shown["args"]]) if "command" in shown else shown["url"]
        click.echo(escaped(f"would register {spec.id}: {what}"))
        return
    register(url, spec, found.connection, replace)
    click.echo(escaped(f"{'replaced' if replace else 'registered'} {spec.id} ({spec.name}, {spec.transport})"))


def _document(source: str) -> Any:
    """Return the JSON at a path or a URL. Raises ``ConfigError``."""
    try:
        if source.startswith(("http://", "https://")):
            content = asyncio.run(_fetched(source))
        else:
            content = Path(source).read_bytes()
        return json.loads(content)
    except (OSError, aiohttp.ClientError, TimeoutError) as error:
        raise ConfigError(f"cannot read {source}: {getattr(error, 'strerror', '') or error or 'no answer'}") from error
    except ValueError as error:
        raise ConfigError(f"{source} is not valid JSON: {error}") from error


async def _fetched(url: str) -> bytes:
    timeout = aiohttp.ClientTimeout(total=_FETCH_S)
    async with aiohttp.ClientSession(timeout=timeout, trust_env=True) as session, session.get(url) as response:
        if response.status != 200:
            raise ConfigError(f"{url} answers HTTP {response.status}")
        content = await response.content.read(_MOST_BYTES + 1)
        while len(content) <= _MOST_BYTES and (more := await response.content.read(_MOST_BYTES)):
            content += more
        if len(content) > _MOST_BYTES:
            raise ConfigError(f"{url} is larger than {_MOST_BYTES} bytes: that is no description of a server")
        return content
