"""Commands that start processes: ``up``, ``serve``, ``worker``; and ``check``, which starts nothing."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import click

from gateway.cli import state
from shared import logs
from shared.child_environment import for_process
from shared.config import load
from shared.config.roots import ROOTS
from shared.connections import mask_url
from shared.errors import ConfigError
from shared.handover import VARIABLE, offer
from shared.models import ServerStatus, UpstreamSpec
from shared.seclusion import seclude
from shared.settings import Settings, build
from shared.tasks import cancel, spawn


def add_to(cli: click.Group) -> None:
    """Add the commands of this module to ``cli``."""
    for command in (up, serve, worker, check):
        cli.add_command(command)


def _settings(config: str | None, strict: bool, **flags: Any) -> tuple[Any, Any]:
    loaded = load(config, strict=strict) if config else None
    return loaded, build(loaded.settings if loaded else None, os.environ, flags)


def _seclude(settings: Settings, flags: dict[str, Any]) -> None:
    """Hide this process, and a URL of Redis with a password among its arguments, from stdio children."""
    url = flags["redis_url"] or ""
    seclude(for_process(os.environ, settings.upstreams.stdio_environment), [url] if url != mask_url(url) else [])


_CONFIG = click.option(
    "--config", "-c", type=click.Path(dir_okay=False), help="configuration file (JSON, YAML or TOML)"
)
_STRICT = click.option("--strict", is_flag=True, help="refuse a file with any flaw; else a flaw costs its entry")
_HOST = click.option("--host", help="address to listen on [127.0.0.1]")
_PORT = click.option("--port", "-p", type=click.IntRange(0, 65535), help="port; 0 picks a free one [4000]")
_FRONTENDS = click.option("--frontends", type=click.IntRange(1, 256), help="front-end processes [1]")
_REDIS = click.option("--redis-url", help="redis://, rediss:// or unix://; none: a Redis of our own")


@click.command()
@_CONFIG
@_STRICT
@_HOST
@_PORT
@_FRONTENDS
@click.option("--workers", type=click.IntRange(1, 256), help="worker processes [1]")
@_REDIS
def up(config: str | None, strict: bool, **flags: Any) -> None:
    """Run the whole gateway on this machine: Redis, workers, front ends. Ctrl-C drains."""
    _, settings = _settings(config, strict, **flags)
    _seclude(settings, flags)
    logs.configure("gateway", settings.service.log_level)
    sys.exit(asyncio.run(_run_up(config, strict, settings)))


async def _run_up(config: str | None, strict: bool, settings: Any) -> int:
    from gateway.api import Gateway

    gateway = Gateway(config=config, settings=settings, strict=strict)
    stop, loop = asyncio.Event(), asyncio.get_running_loop()
    for which in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(which, stop.set)
    loop.add_signal_handler(signal.SIGHUP, _reload, gateway)
    starting = asyncio.ensure_future(gateway.start(wait_connected_s=0.0))  # not ``spawn``: its error is shown below
    stopped = spawn(stop.wait(), "stop")
    await asyncio.wait({starting, stopped}, return_when=asyncio.FIRST_COMPLETED)
    if not starting.done():
        await cancel(starting)
        await gateway.stop()
        return 0
    await starting
    port = int(gateway.url.rpartition(":")[2])
    state.write(port, gateway.redis_url, settings.registry.key_prefix, settings.access.admin_token)
    try:
        _greet(gateway, state.file_of(port))
        await asyncio.wait({stopped, spawn(_narrate(gateway), "narrate")}, return_when=asyncio.FIRST_COMPLETED)
    finally:
        state.remove(port)
        click.echo("draining: running calls are finished first")
        await gateway.stop()
    click.echo("stopped")
    return 0


def _reload(gateway: Any) -> None:
    if gateway.config_follower is not None:
        gateway.config_follower.reload_now.set()


def _greet(gateway: Any, note: Path) -> None:
    click.echo(f"MCP endpoint   {gateway.endpoint}")
    click.echo(f"HTTP+SSE       {gateway.url}/sse")
    click.echo(f"Admin API      {gateway.url}/admin/v1/servers   (status: gateway status --url {gateway.url})")
    click.echo(f"Metrics        {gateway.url}/metrics")
    click.echo(
        f"Redis          redis-cli -s {urlsplit(gateway.redis_url).path}   (password: redisPassword in {note})"
        if gateway.redis_url.startswith("unix://")
        else "Redis          as configured"
    )
    click.echo("")
    click.echo("Add it to a client:")
    click.echo(f'  {{"mcpServers": {{"gateway": {{"type": "http", "url": "{gateway.endpoint}"}}}}}}')
    click.echo(f"  claude mcp add --transport http gateway {gateway.endpoint}")
    click.echo("")


async def _narrate(gateway: Any) -> None:
    """Print the state of each upstream whenever it changes."""
    last: dict[str, tuple[str, str, int]] = {}
    while True:
        for entry in gateway.list():
            now = (entry.name, entry.status.value, len(entry.tools))
            if last.get(entry.id) == now:
                continue
            last[entry.id] = now
            if entry.status is ServerStatus.CONNECTED:
                eras = "+".join(entry.eras)
                click.echo(
                    f"  {entry.id} ({entry.name}, {entry.transport}): connected, {len(entry.tools)} tools, {eras}"
                )
            elif entry.status is ServerStatus.ERROR:
                click.echo(f"  {entry.id} ({entry.name}, {entry.transport}): error: {entry.error}")
        for gone in set(last) - {entry.id for entry in gateway.list()}:
            del last[gone]
            click.echo(f"  {gone}: removed")
        await gateway.wait_change(60.0)


@click.command()
@_CONFIG
@_STRICT
@_HOST
@_PORT
@_FRONTENDS
@_REDIS
def serve(config: str | None, strict: bool, **flags: Any) -> None:
    """Run one front-end service (for containers and the Procfile); workers run elsewhere."""
    loaded, settings = _settings(config, strict, **flags)
    if not settings.registry.redis_url:
        raise ConfigError("serve needs a Redis that workers share: --redis-url or GATEWAY_REDIS_URL")
    _seclude(settings, flags)
    logs.configure("serve", settings.service.log_level)
    sys.exit(asyncio.run(_run_serve(config, strict, loaded, settings)))


async def _run_serve(config: str | None, strict: bool, loaded: Any, settings: Any) -> int:
    from gateway.supervisor.config_follower import ConfigFollower, log_remarks, reconcile
    from gateway.supervisor.lifecycle import Supervisor

    supervisor = Supervisor(settings, with_workers=False)
    stop, reload_now, loop = asyncio.Event(), asyncio.Event(), asyncio.get_running_loop()
    for which in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(which, stop.set)
    loop.add_signal_handler(signal.SIGHUP, reload_now.set)
    await supervisor.start()
    follower = None
    try:
        click.echo(f"MCP endpoint   {supervisor.url}/mcp")
        if config and loaded and supervisor.store is not None:
            log_remarks(Path(config), loaded)
            await reconcile(supervisor.store, loaded.upstreams)
            config_follower = ConfigFollower(Path(config), supervisor.store, reload_now, strict)
            follower = spawn(config_follower.run(), "configuration")
        await stop.wait()
    finally:
        await cancel(follower)
        await supervisor.stop()
    return 0


@click.command()
@_REDIS
@click.option("--rpc-bind", help="host:port for front ends of other machines; none: Unix socket only")
def worker(redis_url: str | None, rpc_bind: str | None) -> None:
    """Run one worker (for containers and the Procfile)."""
    from gateway.supervisor.processes import SAFE_PYTHON

    settings = build(None, os.environ, {"redis_url": redis_url, "rpc_bind": rpc_bind})
    if not settings.registry.redis_url:
        raise ConfigError("worker needs the fleet's Redis: --redis-url or GATEWAY_REDIS_URL")
    environment = for_process(os.environ, settings.upstreams.stdio_environment)
    socket = offer(settings)
    socket.set_inheritable(True)
    environment[VARIABLE] = str(socket.fileno())
    # ``gateway`` must not import ``worker`` (import rules), so the worker runs as a program of its own.
    os.execve(sys.executable, [*SAFE_PYTHON, "-m", "worker"], environment)


@click.command()
@click.argument("file", type=click.Path(dir_okay=False))
@_STRICT
def check(file: str, strict: bool) -> None:
    """Validate a configuration FILE without starting anything; every problem with its path.

    Exit code 0: the gateway would start with it, without the entries that are listed as an error.
    """
    config = load(file, strict=strict)
    settings = build(config.settings, os.environ)
    running = [spec for spec in config.upstreams if not spec.problem]
    flawed = [spec for spec in config.upstreams if spec.problem]
    groups = len({spec.name for spec in running})
    verdict = f"would run without {len(flawed)} of its entries" if flawed else "is fine"
    click.echo(f"{file} {verdict}: {len(running)} upstreams in {groups} groups, port {settings.service.port}")
    for spec in running:
        click.echo(f"  {spec.id} ({spec.name}, {spec.transport}){_shown_tools(spec)}")
    for spec in flawed:
        click.echo(f"  {spec.id}: error: {spec.problem}")
    for word, said in (("left out", config.left_out), ("warning", config.warnings), ("mended", config.mended)):
        for path, text in said:
            click.echo(f"  {word}: {path}: {text}")
    if not config.upstreams and not config.left_out:
        click.echo(f"  warning: no servers were found under {', '.join(ROOTS)}")


def _shown_tools(spec: UpstreamSpec) -> str:
    only = "" if spec.include_tools is None else f", only tools: {', '.join(spec.include_tools) or 'none'}"
    hidden = f", hidden tools: {', '.join(spec.exclude_tools)}" if spec.exclude_tools else ""
    return only + hidden
