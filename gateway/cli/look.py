"""Commands that ask a running gateway: ``servers``, ``tools``, ``call``, ``status``, ``health``, ``explain``."""

from __future__ import annotations

import asyncio
import json
import os
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

from gateway.cli import show, state
from gateway.cli.client import CommandFailed, GatewayClient
from shared.errors import ConfigError
from shared.models import UpstreamSpec, make_spec
from shared.registry.store import RegistryStore
from shared.settings import RegistrySettings

_URL = click.option(
    "--url",
    envvar="GATEWAY_URL",
    default="http://127.0.0.1:4000",
    show_default=True,
    help="the running gateway",
)
_URL_HERE = click.option("--url", help="the running gateway")
_JSON = click.option("--json", "as_json", is_flag=True, help="JSON for programs")


def add_to(cli: click.Group) -> None:
    """Add the commands."""
    for command in (servers, tools, call, status, health, explain):
        cli.add_command(command)


@click.group(invoke_without_command=True)
@_URL
@_JSON
@click.pass_context
def servers(ctx: click.Context, url: str, as_json: bool) -> None:
    """The registry: list, show, add, remove, logs."""
    ctx.obj = url
    if ctx.invoked_subcommand is None:
        _list_servers(url, as_json)


def _list_servers(url: str, as_json: bool) -> None:
    found = GatewayClient(url).admin("GET", "servers")
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
@_JSON
@_URL_HERE
@click.pass_obj
def servers_list(group_url: str, url: str | None, as_json: bool) -> None:
    """All upstreams."""
    _list_servers(url or group_url, as_json)


@servers.command("show")
@click.argument("id")
@_JSON
@_URL_HERE
@click.pass_obj
def servers_show(group_url: str, url: str | None, id: str, as_json: bool) -> None:
    """One upstream, with its tools."""
    one = GatewayClient(url or group_url).admin("GET", f"servers/{id}")
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
    note = state.read(url) if spec.transport == "stdio" and not os.environ.get("GATEWAY_ADMIN_TOKEN") else None
    if note is not None:
        asyncio.run(_register_directly(note, spec))
    else:
        GatewayClient(url).admin(
            "POST", "servers", {"id": id, "name": spec.name, "connection": connection, "weight": weight}
        )
    click.echo(f"registered {id} ({spec.name}, {spec.transport})")


async def _register_directly(note: dict[str, str], spec: UpstreamSpec) -> None:
    store = RegistryStore(RegistrySettings(redis_url=note["redisUrl"], key_prefix=note["keyPrefix"]))
    try:
        await store.register(spec)
    finally:
        await store.close()


def _pair(text: str, separator: str) -> tuple[str, str]:
    name, found, value = text.partition(separator)
    if not found or not name.strip():
        raise ConfigError(f"{text.split(separator)[0]!r} needs a {separator!r} between name and value")
    return name.strip(), value.strip()


@servers.command("remove")
@click.argument("id")
@_URL_HERE
@click.pass_obj
def servers_remove(group_url: str, url: str | None, id: str) -> None:
    """Remove an upstream."""
    GatewayClient(url or group_url).admin("DELETE", f"servers/{id}")
    click.echo(f"removed {id}")


@servers.command("logs")
@click.argument("id")
@_JSON
@_URL_HERE
@click.pass_obj
def servers_logs(group_url: str, url: str | None, id: str, as_json: bool) -> None:
    """Last stderr lines of a stdio upstream."""
    lines = GatewayClient(url or group_url).admin("GET", f"servers/{id}/logs")
    if as_json:
        show.as_json(lines)
    else:
        for line in lines:
            click.echo(line)


@click.command()
@_URL
@click.option("--server", help="only tools of this group")
@_JSON
def tools(url: str, server: str | None, as_json: bool) -> None:
    """Tools as clients see them."""
    found = GatewayClient(url).admin("GET", "tools" + (f"?server={server}" if server else ""))
    if as_json:
        show.as_json(found)
        return
    show.table(
        ["TOOL", "GROUP", "REPLICAS", "DESCRIPTION"],
        [
            [
                one["name"],
                one["group"],
                ", ".join(one["replicas"]),
                (one["description"] or "").split("\n")[0][:80],
            ]
            for one in found
        ],
    )


@click.command()
@click.argument("tool")
@click.argument("arguments", required=False, default="{}")
@_URL
@_JSON
def call(tool: str, arguments: str, url: str, as_json: bool) -> None:
    """Call TOOL through the gateway, with ARGUMENTS as a JSON object."""
    try:
        parsed = json.loads(arguments)
    except json.JSONDecodeError as error:
        raise ConfigError(f'ARGUMENTS are not JSON: {error}; example: \'{{"text": "hello"}}\'') from error
    if not isinstance(parsed, dict):
        raise ConfigError("ARGUMENTS must be a JSON object")
    answer = GatewayClient(url).call("tools/call", {"name": tool, "arguments": parsed})
    if as_json:
        show.as_json(answer)
    if "error" in answer:
        raise CommandFailed(f"{answer['error'].get('message')} (code {answer['error'].get('code')})")
    result = answer["result"]
    if not as_json:
        for item in result.get("content", []):
            click.echo(item["text"] if item.get("type") == "text" else json.dumps(item))
    if result.get("isError"):
        sys.exit(1)


def _watching(once: Callable[[], None], watch: bool) -> None:
    while True:
        if watch and sys.stdout.isatty():
            click.clear()
        once()
        if not watch:
            return
        time.sleep(2.0)


def _show_status(found: dict[str, Any], before: dict[str, tuple[int, float]]) -> None:
    """``before`` keeps each front end's calls and when they were read; the first rate is since the process began."""
    rows = []
    for one in found["frontends"]:
        calls, now = int(one.get("calls", 0)), time.time()
        then = before.get(one["id"], (0, float(one["started_at"])))
        per_s = f"{(calls - then[0]) / max(now - then[1], 0.001):.1f}"
        before[one["id"]] = (calls, now)
        rows.append(
            [
                one["id"],
                one["host"],
                one["pid"],
                show.ago(one["started_at"]),
                calls,
                per_s,
                one["in_flight"],
                one["streams"],
                one["retries"],
            ]
        )
    show.table(["FRONT END", "HOST", "PID", "UP", "CALLS", "CALLS/S", "IN FLIGHT", "STREAMS", "RETRIES"], rows)
    show.table(
        ["WORKER", "HOST", "PID", "UP", "IN FLIGHT", "UPSTREAMS"],
        [
            [
                one["id"],
                one["host"],
                one["pid"],
                show.ago(one["started_at"]),
                one["load"],
                sum(one["id"] in server["owners"] for server in found["servers"]),
            ]
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
    if found["restarts"]:
        show.table(["PROCESS", "REPLACED"], sorted(found["restarts"].items()))


@click.command()
@_URL
@click.option("--watch", is_flag=True, help="again every 2 s")
@_JSON
def status(url: str, watch: bool, as_json: bool) -> None:
    """Front ends, workers, upstreams; calls per second, in flight."""
    client = GatewayClient(url)
    before: dict[str, tuple[int, float]] = {}

    def once() -> None:
        found = {kind: client.admin("GET", kind) for kind in ("frontends", "workers", "servers", "restarts")}
        if as_json:
            show.as_json(found)
        else:
            _show_status(found, before)

    _watching(once, watch)


@click.command()
@_URL
@_JSON
def health(url: str, as_json: bool) -> None:
    """The last health check of each upstream. Exit code 1 when one is unhealthy."""
    found = GatewayClient(url).admin("GET", "health")
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
@click.argument("tool")
@_URL
@_JSON
def explain(tool: str, url: str, as_json: bool) -> None:
    """Where a call of TOOL would go, and why."""
    from urllib.parse import quote

    found = GatewayClient(url).admin("GET", f"explain?tool={quote(tool, safe='')}")
    if as_json:
        show.as_json(found)
        return
    click.echo(f"{found['tool']}: tool {found['upstreamName']!r} of group {found['group']!r}, {found['balancer']}")
    show.table(
        ["REPLICA", "STATUS", "AVAILABLE", "IN FLIGHT", "ELSEWHERE", "WEIGHT", "WORKERS", "REASON"],
        [
            [
                one["id"],
                one["status"],
                "yes" if one["available"] else "no",
                one["inFlight"],
                one["inFlightElsewhere"],
                one["weight"],
                ", ".join(one["workers"]),
                one["reason"],
            ]
            for one in found["candidates"]
        ],
    )
    click.echo(f"-> {found['choice'] or 'open'}: {found['because']}")
