"""The command ``tools``, and what it has for pinned tools: ``tools diff``, ``tools approve``, ``tools quarantine``;
and ``tools conflicts``."""

from __future__ import annotations

import difflib
import json
from collections.abc import Iterator
from typing import Any
from urllib.parse import quote

import click

from gateway.cli import calls, show
from gateway.cli.admin_client import AdminClient
from gateway.cli.failures import CommandFailed
from gateway.cli.options import JSON, URL
from shared.logs import escaped

_COLOURS = {"-": "red", "+": "green"}


class _Tools(click.Group):
    """A group whose first word may be a pattern: everything but its own commands is for the list of tools."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        if not args or args[0] not in ("diff", "approve", "quarantine", "conflicts"):
            args = ["list", *args]
        return super().parse_args(ctx, args)

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Return the command that is meant. The list has no word of its own that could be shown."""
        name, command, rest = super().resolve_command(ctx, args)
        return ("" if name == "list" else name), command, rest


def add_to(cli: click.Group) -> None:
    """Add the commands of this module to ``cli``."""
    cli.add_command(tools)


@click.group(cls=_Tools, no_args_is_help=False)
def tools() -> None:
    """Tools as clients see them; with conflicts names that several groups have; with quarantine, diff and approve those
    of pinned upstreams."""


tools.add_command(calls.tools, "list")


@tools.command()
@click.argument("id")
@click.argument("tool", required=False)
@URL
@JSON
def diff(id: str, tool: str | None, url: str, as_json: bool) -> None:
    """What the pinned upstream ID lists that was not approved so; with TOOL both definitions of it."""
    client = AdminClient(url)
    found = client.get(_path(id, tool) if tool is not None else _path(id))
    if as_json:
        show.as_json(found)
    elif tool is not None:
        for line in _lines(found):
            click.secho(escaped(line), fg=_COLOURS.get(line[:1]))
        click.echo(escaped(f"digest {found['digest']}") if found["digest"] else "not listed now")
    else:
        differing = [one for one in found if one["state"] != "approved"]
        if differing:
            show.table(
                ["TOOL", "STATE", "APPROVED", "BY"],
                [[one["tool"], one["state"], show.ago(one["approvedAt"]), one["approvedBy"]] for one in differing],
            )
        click.echo(f"{len(found) - len(differing)} of {len(found)} tools are as they were approved")


@tools.command()
@click.argument("id")
@click.argument("names", metavar="TOOL…", nargs=-1)
@click.option("--all", "everything", is_flag=True, help="every tool that the upstream lists now")
@click.option("--digest", help="only if the definition has this digest, as 'tools diff ID TOOL' shows it")
@URL
def approve(id: str, names: tuple[str, ...], everything: bool, digest: str | None, url: str) -> None:
    """Approve the tools of the pinned upstream ID as it lists them now. Look at them first: tools diff ID TOOL."""
    if everything == bool(names) or (digest is not None and len(names) != 1):
        raise click.UsageError("name the tools, or write --all; --digest is for one tool")
    client = AdminClient(url)
    listed = {one["tool"]: one for one in client.get(_path(id))}
    wanted = [one for one, found in listed.items() if found["state"] in ("new", "changed")] if everything else names
    for name in wanted:
        found = listed.get(name)
        if found is None or not found["digest"]:
            raise CommandFailed(f"upstream {id!r} lists no tool {name!r} now")
        client.send("PUT", _path(id, name), {"digest": digest or found["digest"]})
        click.echo(escaped(f"approved {name} of {id}"))
    if not wanted:
        click.echo(f"all tools of {id} are as they were approved")


@tools.command()
@URL
@JSON
def quarantine(url: str, as_json: bool) -> None:
    """Every tool of a pinned upstream that is not as it was approved."""
    found = AdminClient(url).get("quarantine")
    if as_json:
        show.as_json(found)
    elif not found:
        click.echo("every tool of a pinned upstream is as it was approved", err=True)
    else:
        show.table(
            ["UPSTREAM", "GROUP", "TOOL", "STATE", "HELD BACK"],
            [
                [one["upstream"], one["group"], one["tool"], one["state"], "yes" if one["heldBack"] else "no"]
                for one in found
            ],
        )
        click.echo("look with 'gateway tools diff UPSTREAM TOOL', then 'gateway tools approve UPSTREAM TOOL'", err=True)


@tools.command()
@URL
@JSON
def conflicts(url: str, as_json: bool) -> None:
    """Names of tools that several groups have, and under which names clients see them."""
    found = AdminClient(url).get("conflicts")
    if as_json:
        show.as_json(found)
    elif not found:
        click.echo("no two groups have a tool of the same name", err=True)
    else:
        show.table(
            ["TOOL", "GROUP", "LISTED AS"],
            [[one["name"], group, listed] for one in found for group, listed in one["listed"].items()],
        )


def _lines(found: dict[str, Any]) -> Iterator[str]:
    """Yield the lines of a unified diff from what was approved to what is listed."""
    before, now = (
        [] if one is None else json.dumps(one, indent=2, sort_keys=True, ensure_ascii=False).splitlines()
        for one in (found["approved"], found["listed"])
    )
    if before == now:
        yield from now
        return
    by = f"approved by {found['approvedBy']}" if found["approvedBy"] else "never approved"
    yield from difflib.unified_diff(before, now, by, "listed now", lineterm="", n=max(len(before), len(now)))


def _path(id: str, tool: str | None = None) -> str:
    return f"servers/{quote(id, safe='')}/pins" + (f"/{quote(tool, safe='')}" if tool is not None else "")
