"""Commands that use a running gateway as a client does: ``call``, ``read``, ``prompt``, and the list of ``tools``.

They import ``gateway.cli.mcp_client`` only when they run, because that import takes long.
"""

from __future__ import annotations

import fnmatch
import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

import click

from gateway.cli import address, show
from gateway.cli import arguments as spoken
from gateway.cli.address import Address
from gateway.cli.admin_client import AdminClient
from gateway.cli.asking import Person
from gateway.cli.content import Shown, printable
from gateway.cli.failures import CommandFailed, RequestRefused, command
from gateway.cli.options import JSON, URL
from shared.errors import ConfigError
from shared.knobs import suggestion
from shared.logs import escaped

if TYPE_CHECKING:
    from gateway.cli.mcp_client import McpClient

_SERVER = click.option("--server", metavar="NAME", help="only this group, at its own endpoint")


def add_to(cli: click.Group) -> None:
    """Add the commands of this module to ``cli``."""
    for one in (call, read, prompt):
        cli.add_command(one)


def _where(url: str, server: str | None) -> Address:
    """Return the address of the endpoint to use; ``--server`` takes precedence over a group in the URL."""
    where = address.parse(url)
    return where if server is None else where._replace(group=server)


@click.command()
@click.argument("pattern", required=False)
@click.option("--limit", type=click.IntRange(1), metavar="N", help="show the first N")
@URL
@_SERVER
@JSON
def tools(pattern: str | None, limit: int | None, url: str, server: str | None, as_json: bool) -> None:
    """Tools as clients see them; with --server those of one group, under their names there.

    PATTERN chooses by name (with * and ?), or by a text in name or description. A long list is paged on a terminal.

    The MCP endpoint lists them. The admin API adds the group and the replicas (with --json also "upstreamName"); where
    it does not let us see them they are left out.

    \b
    gateway tools diff ID [TOOL]      what a pinned upstream lists that was not approved so
    gateway tools approve ID TOOL…    approve it
    """
    from gateway.cli.mcp_client import McpClient

    where = _where(url, server)
    everything = McpClient(where).tools()
    if not everything:
        _check_server(where)
    listed = [tool for tool in everything if pattern is None or _fits(tool, pattern)]
    chosen = listed[:limit]
    places = _places(where)
    found = [{"name": "", "description": None, **tool, **(places or {}).get(tool["name"], {})} for tool in chosen]
    if as_json:
        show.as_json(found)
        return
    placed = any("group" in tool for tool in found)  # those of a virtual server are not
    rows = []
    for tool in found:
        place = [] if not placed else [tool.get("group"), ", ".join(tool.get("replicas", ()))]
        rows.append([tool["name"], *place, (tool["description"] or "").split("\n")[0][:80]])
    columns = ["TOOL", *(["GROUP", "REPLICAS"] if placed else []), "DESCRIPTION"]
    show.table(columns, rows, paged=True)
    if len(listed) > len(chosen):
        click.echo(f"{len(listed) - len(chosen)} more; choose with a PATTERN, or a larger --limit", err=True)
    elif pattern is not None and not listed:
        raise CommandFailed(f"no tool fits {pattern!r}; '{command('tools', where.base)}' lists them all")


def _fits(tool: dict[str, Any], pattern: str) -> bool:
    name, wanted = str(tool.get("name", "")).lower(), pattern.lower()
    if any(one in wanted for one in "*?["):
        return fnmatch.fnmatchcase(name, wanted)
    return wanted in name or wanted in str(tool.get("description") or "").lower()


def _places(where: Address) -> dict[str, dict[str, Any]] | None:
    """Return ``group``, ``upstreamName`` and ``replicas`` of each tool, by its name at the endpoint.

    Return ``None`` if the admin API cannot be used.
    """
    name = "name" if where.group is None else "upstreamName"
    query = "" if where.group is None else f"?server={quote(where.group, safe='')}"
    try:
        routes = AdminClient(where.base).get(f"tools{query}")
    except CommandFailed:
        return None
    return {route[name]: {key: route[key] for key in ("group", "upstreamName", "replicas")} for route in routes}


_ARGS = click.option("--arg", "pairs", multiple=True, metavar="KEY=VALUE", help="an argument; may be repeated")
_SAVE = click.option(
    "--save", type=click.Path(file_okay=False, path_type=Path), metavar="DIR", help="write images, audio and such there"
)


@click.command()
@click.argument("tool")
@click.argument("arguments", required=False, default="{}")
@_ARGS
@_SAVE
@URL
@_SERVER
@JSON
def call(
    tool: str, arguments: str, pairs: tuple[str, ...], save: Path | None, url: str, server: str | None, as_json: bool
) -> None:
    """Call TOOL through the gateway, with ARGUMENTS as a JSON object or with --arg, or both.

    A value of --arg has the type that the tool's schema says. Progress is shown on stderr. What the tool asks you is
    asked on the terminal, and declined where stdin is none. Exit code 1 when the call fails or the tool says that it
    failed. With --json the answer is a JSON-RPC response.
    """
    try:
        parsed = json.loads(arguments)
    except json.JSONDecodeError as error:
        text = f'ARGUMENTS are not JSON: {error}; example: \'{{"text": "hello"}}\', or one by one: --arg text=hello'
        raise ConfigError(text) from error
    if not isinstance(parsed, dict):
        raise ConfigError("ARGUMENTS must be a JSON object")
    given = spoken.pairs(pairs)

    def made(schema: dict[str, Any]) -> dict[str, Any]:
        return {**parsed, **spoken.typed(given, schema)}

    result = _answer(url, server, as_json, lambda client: client.call(tool, made if given else parsed, _progress))
    if not as_json:
        shown = Shown(tool, save)
        for item in result["content"]:
            shown.item(item)
        if not result["content"] and result.get("structuredContent") is not None:
            click.echo(json.dumps(result["structuredContent"], indent=2, ensure_ascii=False))
    if result.get("isError"):
        sys.exit(1)


@click.command()
@click.argument("uri")
@_SAVE
@URL
@_SERVER
@JSON
def read(uri: str, save: Path | None, url: str, server: str | None, as_json: bool) -> None:
    """Read the resource URI through the gateway. With --json the answer is a JSON-RPC response."""
    result = _answer(url, server, as_json, lambda client: client.read(uri))
    if not as_json:
        shown = Shown(uri.rstrip("/").rpartition("/")[2], save)
        for one in result["contents"]:
            shown.resource(one if isinstance(one, dict) else {})


@click.command()
@click.argument("name")
@_ARGS
@_SAVE
@URL
@_SERVER
@JSON
def prompt(name: str, pairs: tuple[str, ...], save: Path | None, url: str, server: str | None, as_json: bool) -> None:
    """Get the prompt NAME through the gateway. With --json the answer is a JSON-RPC response."""
    given = spoken.pairs(pairs)
    result = _answer(url, server, as_json, lambda client: client.prompt(name, given))
    if not as_json:
        shown = Shown(name, save)
        for message in result["messages"]:
            content = message.get("content") if isinstance(message, dict) else None
            click.echo(escaped(f"{message.get('role', '?')}:") if isinstance(message, dict) else "?:")
            for item in content if isinstance(content, list) else [content]:
                shown.item(item)


def _answer(url: str, server: str | None, as_json: bool, ask: Callable[[McpClient], dict[str, Any]]) -> dict[str, Any]:
    """Return the result of a request; with ``as_json`` print its JSON-RPC response, also that of a refusal."""
    from gateway.cli.mcp_client import McpClient

    envelope = {"jsonrpc": "2.0", "id": 1}  # made here, because the SDK does not give out the one it received
    where = _where(url, server)
    try:
        result = ask(McpClient(where, Person().answer))
    except RequestRefused as refused:
        if as_json:
            show.as_json({**envelope, "error": refused.error})
        else:
            _check_server(where)  # at an endpoint of nothing, everything is unknown
        raise
    if as_json:
        show.as_json({**envelope, "result": result})
    return result


def _check_server(where: Address) -> None:
    """Raise ``CommandFailed`` if the endpoint is that of a server that is not there, as far as the admin API says."""
    if where.group is None:
        return
    client = AdminClient(where.base)
    try:
        names = {one["name"] for one in client.get("servers")} | {one["name"] for one in client.get("virtual-servers")}
    except CommandFailed:
        return
    if where.group not in names:
        known = command("servers list", where.base)
        raise CommandFailed(f"no server {where.group!r}{suggestion(where.group, names)}; see '{known}'")


async def _progress(progress: float, total: float | None, message: str | None) -> None:
    """Write one line about a call's progress to stderr."""
    done = f"{progress:g}" if total is None else f"{progress:g}/{total:g}"
    click.echo(f"{done} {printable(message)}" if message else done, err=True)
