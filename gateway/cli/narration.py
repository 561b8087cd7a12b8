"""What ``gateway up`` says: where the gateway is, what to do next, and the state of each upstream when it changes."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import click

from gateway.cli.failures import command
from shared.logs import escaped
from shared.models import ServerStatus

_FILE = '{"mcpServers": {"files": {"command": "npx", "args": ["-y", "@modelcontextprotocol/server-filesystem", "."]}}}'


def say(text: str) -> None:
    """Print a line. A reader that is gone does not end the gateway."""
    try:
        click.echo(escaped(text))
        sys.stdout.flush()
    except OSError:  # also BrokenPipeError; the terminal or the pipe was closed
        pass


def greet(gateway: Any, config: str | None, note: Path) -> None:
    """Say where the gateway is and how to go on. ``config`` is its configuration file, if it has one, ``note`` the
    file in which commands on this machine find its Redis (``state``)."""
    url, endpoint = gateway.url, gateway.endpoint
    say(f"MCP endpoint   {endpoint}")
    say(f"HTTP+SSE       {url}/sse")
    say(f"Admin API      {url}/admin/v1/servers   (status: {command('status', url)})")
    say(f"Access         {gateway.access}")
    say(f"Metrics        {url}/metrics")
    say(f"Dashboard      {url}/ui/")
    if gateway.redis_url.startswith("unix://"):
        path = urlsplit(gateway.redis_url).path
        say(f"Redis          redis-cli -s {path}   (password: redisPassword in {note})")
    else:
        say("Redis          as configured")
    say(f"State          {gateway.state_dir or 'nothing is kept for the next start'}")
    say("")
    if "API keys" in gateway.access:
        say("Make a key for each client, which sends it as 'Authorization: Bearer KEY':")
        say(f"  {command('keys create NAME', url)}")
        say("")
    say("Add it to a client:")
    say(f'  {{"mcpServers": {{"gateway": {{"type": "http", "url": "{endpoint}"}}}}}}')
    say(f"  claude mcp add --transport http gateway {endpoint}")
    say(f"  {command('install cursor', url)}    # or claude, codex, vscode, …")
    if config is None and not gateway.list():
        say("")
        say("It has no servers yet. Add one:")
        say(f"  {command('servers add files', url)} -- npx -y @modelcontextprotocol/server-filesystem .")
        say(f"  {command('servers add api http://localhost:3000/mcp', url)}")
        say("or start it with a file, which is followed while it runs (a file of another client will do):")
        say(f"  echo '{_FILE}' > gateway.json")
        say("  gateway up --config gateway.json")
    say("")


async def narrate(gateway: Any) -> None:
    """Say the state of each upstream whenever it changes, until cancelled."""
    last: dict[str, tuple[Any, ...]] = {}
    while True:
        for entry in gateway.list():
            if entry.status is ServerStatus.CONNECTED:
                count = len(entry.tools)
                said = f"connected, {count} tool{'' if count == 1 else 's'}, {'+'.join(entry.eras)}"
            elif entry.status is ServerStatus.ERROR:
                said = f"error: {entry.error}{f'; {entry.advice}' if entry.advice else ''}"
            else:
                continue  # an upstream that is tried again and again is in between each time
            now = (entry.name, entry.status, len(entry.tools))
            if last.get(entry.id) != now:
                last[entry.id] = now
                say(f"  {entry.id} ({entry.name}, {entry.transport}): {said}")
        for gone in set(last) - {entry.id for entry in gateway.list()}:
            del last[gone]
            say(f"  {gone}: removed")
        await gateway.wait_change(60.0)
