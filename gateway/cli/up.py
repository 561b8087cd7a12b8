"""Commands that start processes: ``up``, ``serve``, ``worker``; and ``check``, which starts nothing."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, cast

import click
from msgspec import structs

from gateway.cli import narration, state
from shared import logs
from shared.child_environment import for_process
from shared.choices import Pin
from shared.config import load
from shared.config.roots import ROOTS
from shared.connections import mask_url
from shared.errors import ConfigError
from shared.handover import VARIABLE, offer
from shared.logs import escaped
from shared.models import UpstreamSpec
from shared.seclusion import seclude
from shared.settings import Settings, build
from shared.tasks import cancel, spawn
from shared.virtual_servers import summary


def add_to(cli: click.Group) -> None:
    """Add the commands of this module to ``cli``."""
    for command in (up, serve, worker, check):
        cli.add_command(command)


def _settings(config: str | None, strict: bool, **flags: Any) -> tuple[Any, Any]:
    loaded = load(config, strict=strict, own=True) if config else None
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
_SAME_SIGNAL_S = 0.3
"""timeout(1), npm and others send a signal to a process and to its group, so that it arrives twice."""
_KILLED = 130
"""The exit code of a program that Ctrl-C ended (128 + SIGINT)."""


@click.command()
@_CONFIG
@_STRICT
@_HOST
@_PORT
@_FRONTENDS
@click.option("--workers", type=click.IntRange(1, 256), help="worker processes [1]")
@_REDIS
@click.option("--state-dir", help="where registrations and sessions are kept [by file, or name and port]")
@click.option("--ephemeral", is_flag=True, default=None, help="keep nothing for the next start")
def up(config: str | None, strict: bool, **flags: Any) -> None:
    """Run the whole gateway on this machine: Redis, workers, front ends.

    Ctrl-C finishes running calls and ends; Ctrl-C again ends at once. What was registered by command or API, and
    clients' sessions, are there again at the next start with the same file (without a file: the same name and port).
    """
    from gateway.supervisor.state_directory import with_default

    on_terminal = sys.stdout.isatty() and sys.stderr.isatty()

    def read() -> tuple[Mapping[str, Any], Settings]:
        loaded, settings = _settings(config, strict, **flags)
        told = "GATEWAY_LOG_LEVEL" in os.environ or (loaded is not None and "logLevel" in loaded.settings)
        if on_terminal and not told:  # the narration says what the log would say again
            settings = structs.replace(settings, service=structs.replace(settings.service, log_level="warning"))
        return loaded.settings if loaded is not None else {}, settings

    _, settings = read()
    _seclude(settings, flags)
    logs.configure("gateway", settings.service.log_level, settings.telemetry.log_format)
    settings = with_default(settings, Path(config) if config else None)
    state_dir = settings.service.state_dir

    def reread() -> tuple[Mapping[str, Any], Settings]:
        values, now = read()
        if not now.service.state_dir:  # that of the default
            now = structs.replace(now, service=structs.replace(now.service, state_dir=state_dir))
        return values, now

    sys.exit(asyncio.run(_run_up(config, strict, settings, on_terminal, reread)))


class _Stopping:
    """What signals ask for: ``asked`` to drain and end; then, by Ctrl-C again, ``at_once``."""

    def __init__(self, kill: Callable[[], None]) -> None:
        self.asked = asyncio.Event()
        self.at_once = False
        self._kill = kill
        self._loop = asyncio.get_running_loop()
        self._since = 0.0
        self._loop.add_signal_handler(signal.SIGTERM, self._drain)
        self._loop.add_signal_handler(signal.SIGINT, self._interrupted)

    def _drain(self) -> None:
        if not self.asked.is_set():
            self._since = self._loop.time()
            self.asked.set()

    def _interrupted(self) -> None:
        if not self.asked.is_set():
            self._drain()
        elif self._loop.time() - self._since > _SAME_SIGNAL_S:
            self.at_once = True
            self._kill()


async def _run_up(
    config: str | None,
    strict: bool,
    settings: Settings,
    on_terminal: bool,
    reread: Callable[[], tuple[Mapping[str, Any], Settings]],
) -> int:
    from gateway.api import Gateway

    def note(step: Any = None) -> None:
        if step is None:
            port = int(gateway.url.rpartition(":")[2])
            sealed = bool(settings.access.secret)
            state.write(port, gateway.redis_url, settings.registry.key_prefix, gateway.admin_token, sealed)
        elif on_terminal and step.state in ("replaced", "removed", "failed"):
            narration.say(f"  restart: {step.process} {step.state}{f' (pid {step.pid})' if step.pid else ''}")

    gateway = Gateway(
        config=config, settings=settings, strict=strict, narrated=on_terminal, reread=reread, on_restart=note
    )
    loop = asyncio.get_running_loop()
    stopping = _Stopping(gateway.kill)
    loop.add_signal_handler(signal.SIGHUP, _reload, gateway)
    loop.add_signal_handler(signal.SIGUSR2, gateway.begin_restart)
    starting = asyncio.ensure_future(gateway.start(wait_connected_s=0.0))  # not ``spawn``: its error is shown below
    stopped = spawn(stopping.asked.wait(), "stop")
    await asyncio.wait({starting, stopped}, return_when=asyncio.FIRST_COMPLETED)
    if not starting.done():
        await cancel(starting)
        await gateway.stop()
        return _KILLED if stopping.at_once else 0
    await starting
    port = int(gateway.url.rpartition(":")[2])

    note()
    try:
        narration.greet(gateway, config, state.file_of(port))
        telling = spawn(narration.narrate(gateway), "narrate")
        await asyncio.wait({stopped, telling}, return_when=asyncio.FIRST_COMPLETED)
    finally:
        state.remove(port)
        again = " (Ctrl-C again ends at once)" if on_terminal else ""
        narration.say(f"draining: running calls are finished first{again}")
        await gateway.stop()
    narration.say("ended at once" if stopping.at_once else "stopped")
    return _KILLED if stopping.at_once else 0


def _reload(gateway: Any) -> None:
    if gateway.config_follower is not None:
        gateway.config_follower.reload_now.set()


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
    logs.configure("serve", settings.service.log_level, settings.telemetry.log_format)
    sys.exit(asyncio.run(_run_serve(config, strict, loaded, settings, flags)))


async def _run_serve(config: str | None, strict: bool, loaded: Any, settings: Any, flags: dict[str, Any]) -> int:
    from gateway.supervisor.config_follower import ConfigFollower, log_remarks, reconcile
    from gateway.supervisor.lifecycle import Supervisor
    from gateway.supervisor.rolling import Restarts

    supervisor = Supervisor(settings, with_workers=False)
    reload_now, stopping = asyncio.Event(), _Stopping(supervisor.kill)
    asyncio.get_running_loop().add_signal_handler(signal.SIGHUP, reload_now.set)
    asyncio.get_running_loop().add_signal_handler(signal.SIGUSR2, lambda: None)  # until there is something to replace
    await supervisor.start()
    file_settings: Mapping[str, Any] = loaded.settings if loaded else {}
    follower, config_follower = None, None

    def reread() -> Settings:
        nonlocal file_settings
        now, settings = _settings(config, strict, **flags)
        file_settings = now.settings if now else {}
        return cast(Settings, settings)

    def restarted() -> None:
        if config_follower is not None:
            config_follower.restarted(file_settings)

    restarts = Restarts(supervisor, reread, restarted)
    asyncio.get_running_loop().add_signal_handler(signal.SIGUSR2, restarts.begin)
    try:
        click.echo(f"MCP endpoint   {supervisor.url}/mcp")
        if config and loaded and supervisor.store is not None:
            log_remarks(Path(config), loaded)
            await reconcile(supervisor.store, loaded.upstreams, loaded.virtual_servers)
            config_follower = ConfigFollower(
                Path(config),
                supervisor.store,
                reload_now,
                strict,
                loaded.settings,
                files=loaded.files,
                take_rules=supervisor.take_rules,
            )
            follower = spawn(config_follower.run(), "configuration")
        await stopping.asked.wait()
    finally:
        await restarts.close()
        await cancel(follower)
        await supervisor.stop()
    return _KILLED if stopping.at_once else 0


@click.command()
@_REDIS
@click.option("--rpc-bind", help="host:port for front ends of other machines; none: Unix socket only")
def worker(redis_url: str | None, rpc_bind: str | None) -> None:
    """Run one worker (for containers and the Procfile)."""
    from shared.safe_python import SAFE_PYTHON

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
    from gateway.supervisor.start_checks import check_tls

    config = load(file, strict=strict, own=True)
    settings = build(config.settings, os.environ)
    check_tls(settings)
    running = [spec for spec in config.upstreams if not spec.problem]
    flawed = [spec for spec in config.upstreams if spec.problem]
    groups = len({spec.name for spec in running})
    verdict = f"would run without {len(flawed)} of its entries" if flawed else "is fine"
    click.echo(f"{file} {verdict}: {len(running)} upstreams in {groups} groups, port {settings.service.port}")
    for spec in running:
        click.echo(escaped(f"  {spec.id} ({spec.name}, {spec.transport}){_shown_tools(spec)}"))
    for spec in flawed:
        click.echo(escaped(f"  {spec.id}: error: {spec.problem}"))
    for name, server in config.virtual_servers.items():
        click.echo(escaped(f"  virtual server {name}: {summary(server)}"))
    for word, said in (("left out", config.left_out), ("warning", config.warnings), ("mended", config.mended)):
        for path, text in said:
            click.echo(escaped(f"  {word}: {path}: {text}"))
    if not config.upstreams and not config.left_out:
        click.echo(f"  warning: no servers were found under {', '.join(ROOTS)}")


def _shown_tools(spec: UpstreamSpec) -> str:
    only = "" if spec.include_tools is None else f", only tools: {', '.join(spec.include_tools) or 'none'}"
    hidden = f", hidden tools: {', '.join(spec.exclude_tools)}" if spec.exclude_tools else ""
    pinned = f", pin: {spec.pin.value}" if spec.pin is not Pin.OFF else ""
    return only + hidden + pinned
