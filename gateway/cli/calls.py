"""Commands that use a running gateway as a client does: ``tools``, ``call``.

They import ``gateway.cli.mcp_client`` only when they run, because that import takes long.
"""

from __future__ import annotations

import json
import sys
from typing import Any
from urllib.parse import quote

import click

from gateway.cli import address, show
from gateway.cli.address import Address
from gateway.cli.admin_client import AdminClient
from gateway.cli.failures import CommandFailed, RequestRefused
from gateway.cli.options import JSON, URL
from shared.errors import ConfigError

_SERVER = click.option("--server", metavar="NAME", help="only this group, at its own endpoint")


def add_to(cli: click.Group) -> None:
    """Add the commands of this module to ``cli``."""
    for command in (tools, call):
        cli.add_command(command)


def _where(url: str, server: str | None) -> Address:
    """Return the address of the endpoint to use; ``--server`` takes precedence over a group in the URL."""
    where = address.parse(url)
    return where if server is None else where._replace(group=server)


@click.command()
@URL
@_SERVER
@JSON
def tools(url: str, server: str | None, as_json: bool) -> None:
    """Tools as clients see them; with --server those of one group, under their names there.

    The MCP endpoint lists them. The admin API adds the group and the replicas (with --json also "upstreamName"); where
    it does not let us see them they are left out.
    """
    from gateway.cli.mcp_client import McpClient

    where = _where(url, server)
    listed = McpClient(where).tools()
    places = _places(where)
    found = [{"name": "", "description": None, **tool, **(places or {}).get(tool["name"], {})} for tool in listed]
    if as_json:
        show.as_json(found)
        return
    rows = []
    for tool in found:
        place = [] if places is None else [tool.get("group"), ", ".join(tool.get("replicas", ()))]
        rows.append([tool["name"], *place, (tool["description"] or "").split("\n")[0][:80]])
    show.table(["TOOL", *(["GROUP", "REPLICAS"] if places is not None else []), "DESCRIPTION"], rows)


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


@click.command()
@click.argument("tool")
@click.argument("arguments", required=False, default="{}")
@URL
@_SERVER
@JSON
def call(tool: str, arguments: str, url: str, server: str | None, as_json: bool) -> None:
    """Call TOOL through the gateway, with ARGUMENTS as a JSON object.

    Exit code 1 when the call fails or the tool says that it failed. With --json the answer is a JSON-RPC response; a
    terminal is told of progress.
    """
    try:
        parsed = json.loads(arguments)
    except json.JSONDecodeError as error:
        raise ConfigError(f'ARGUMENTS are not JSON: {error}; example: \'{{"text": "hello"}}\'') from error
    if not isinstance(parsed, dict):
        raise ConfigError("ARGUMENTS must be a JSON object")
    from gateway.cli.mcp_client import McpClient

    envelope = {"jsonrpc": "2.0", "id": 1}  # made here, because the SDK does not give out the one it received
    try:
        result = McpClient(_where(url, server)).call(tool, parsed, _progress if sys.stderr.isatty() else None)
    except RequestRefused as refused:
        if as_json:
            show.as_json({**envelope, "error": refused.error})
        raise
    if as_json:
        show.as_json({**envelope, "result": result})
    else:
        for item in result["content"]:
            text = item.get("text") if isinstance(item, dict) and item.get("type") == "text" else None
            click.echo(text if isinstance(text, str) else json.dumps(item))
    if result.get("isError"):
        sys.exit(1)


async def _progress(progress: float, total: float | None, message: str | None) -> None:
    """Write one line about a call's progress to stderr."""
    done = f"{progress:g}" if total is None else f"{progress:g}/{total:g}"
    click.echo(f"{done} {message}" if message else done, err=True)
