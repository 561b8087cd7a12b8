"""``gateway restart``: every front end and worker of a running gateway is replaced, without a failed call."""

from __future__ import annotations

import sys
import time
from typing import Any

import click

from gateway.cli import show
from gateway.cli.admin_client import AdminClient
from gateway.cli.failures import CommandFailed
from gateway.cli.options import JSON, URL
from shared.logs import escaped

_LOOK_S = 0.3
_BEGINS_S = 10.0
"""How long the gateway may take to begin."""
_AWAY_S = 30.0
"""How long it may not be reached while its processes are replaced."""


def add_to(cli: click.Group) -> None:
    """Add the command of this module to ``cli``."""
    cli.add_command(restart)


@click.command()
@URL
@JSON
def restart(url: str, as_json: bool) -> None:
    """Replace every front end and worker, one after the other, while the gateway goes on serving.

    The new ones run the code that is installed now, with the settings that the configuration file has now. Exit code 0:
    all were replaced. 1: one did not become ready; the old ones that were left go on.
    """
    client = AdminClient(url)
    id = client.send("POST", "restart")["id"]
    roll = _follow(client, id, _Teller(quiet=as_json))
    if as_json:
        show.as_json(roll)
    elif roll["state"] == "done":
        click.echo(_summary(roll))
    else:
        click.echo(escaped(f"error: {roll['error']}"), err=True)
    sys.exit(0 if roll["state"] == "done" else 1)


def _follow(client: AdminClient, id: str, teller: _Teller) -> dict[str, Any]:
    """Return what became of the restart ``id``. Raises ``CommandFailed``."""
    reached = time.monotonic()
    begins_until = reached + _BEGINS_S
    while True:
        try:
            found: dict[str, Any] = client.get("restart")
        except CommandFailed as error:  # the front end that was asked may just be the one that leaves
            found = {}
            if time.monotonic() - reached > _AWAY_S:
                raise CommandFailed(f"{error}; whether the restart went through is not known") from error
        else:
            reached = time.monotonic()
        if found.get("id") == id:
            teller.tell(found["steps"])
            if found["state"] != "running":
                return found
        elif time.monotonic() > begins_until:
            raise CommandFailed("the gateway has not begun the restart; its log says why")
        time.sleep(_LOOK_S)


class _Teller:
    """Says each step once, a line for each state: on a terminal that of every step, else only its end."""

    def __init__(self, quiet: bool) -> None:
        self._quiet = quiet
        self._said: set[tuple[str, str]] = set()

    def tell(self, steps: list[dict[str, Any]]) -> None:
        if self._quiet:
            return
        for step in steps:
            now = (step["process"], step["state"])
            if step["state"] == "waiting" or now in self._said:
                continue
            self._said.add(now)
            if sys.stdout.isatty() or step["state"] in ("replaced", "removed", "failed"):
                pid = f" (pid {step['pid']})" if step["pid"] else ""
                click.echo(escaped(f"  {step['process']} {step['state']}{pid}, {step['tookS']:.1f} s"))


def _summary(roll: dict[str, Any]) -> str:
    lines = [f"restarted in {roll['endedAt'] - roll['beganAt']:.1f} s"]
    if roll["changed"]:
        lines.append(f"changed settings that apply now: {', '.join(roll['changed'])}")
    if roll["notApplied"]:
        lines.append(f"changed, and need a stop and a start: {', '.join(roll['notApplied'])}")
    return "\n".join(map(escaped, lines))
