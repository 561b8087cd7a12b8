"""The group of commands, and how errors are shown: one line that says what to do.

Exit codes: 0 ok, 1 failed, 2 wrong usage or configuration, 130 ended by Ctrl-C.
"""

from __future__ import annotations

import importlib
import io
import os
import sys
from typing import Any

import click

from gateway import __version__
from gateway.cli import usage
from shared.errors import ConfigError, GatewayError
from shared.knobs import suggestion
from shared.logs import escaped

_INTERRUPTED = 130
"""128 + SIGINT, as shells have it."""


MODULES = {
    "access": ("access", "audit", "keys"),
    "adoption": ("add", "import", "install"),
    "calls": ("call", "prompt", "read"),
    "connect": ("connect",),
    "look": ("explain", "health", "settings", "status", "topology"),
    "restart": ("restart",),
    "servers": ("servers",),
    "tools": ("tools",),
    "up": ("check", "serve", "up", "worker"),
    "virtual": ("virtual",),
    "watching": ("doctor", "errors", "events", "top"),
}
"""The modules of this package that have commands, and which. A module is imported when one of its commands is asked
for: ``gateway up`` runs for as long as the gateway does, and needs a quarter of them."""
_MODULE_OF = {command: module for module, commands in MODULES.items() for command in commands}


class _Group(click.Group):
    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except ConfigError as error:
            for path, text in error.problems:
                click.echo(escaped(f"error: {path + ': ' if path else ''}{text}"), err=True)
            sys.exit(2)
        except GatewayError as error:
            click.echo(escaped(f"error: {error}"), err=True)
            sys.exit(1)
        except click.UsageError as error:
            if isinstance(error, click.exceptions.NoArgsIsHelpError):
                raise
            click.echo(escaped(usage.line(error)), err=True)
            sys.exit(2)
        except (click.ClickException, click.exceptions.Exit, click.Abort, BrokenPipeError):
            raise  # click shows these, and is silent about a reader that is gone
        except KeyboardInterrupt:
            sys.exit(_INTERRUPTED)
        except OSError as error:  # a full disk, a terminal that is gone
            where = f"{error.filename}: " if error.filename else ""
            click.echo(escaped(f"error: {where}{error.strerror or error}"), err=True)
            sys.exit(1)
        except UnicodeEncodeError as error:  # what is written has no such error (see ``main``), what is sent has
            click.echo(f"error: {ascii(error.object)[:80]} is no UTF-8 text; write it in UTF-8", err=True)
            sys.exit(2)
        except Exception as error:
            if os.environ.get("GATEWAY_TRACEBACK"):
                raise
            words = escaped(" ".join(str(error).split()))
            click.echo(
                f"error: {type(error).__name__}{f': {words}' if words else ''}; that is a flaw of this program: "
                "GATEWAY_TRACEBACK=1 shows where, please report it",
                err=True,
            )
            sys.exit(1)


class _Commands(_Group):
    """All commands, of which each is imported when it is asked for."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return sorted(_MODULE_OF)

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        try:
            return super().parse_args(ctx, args)
        except click.NoSuchOption as error:
            cure = "options stand behind the command, as in 'gateway status --url URL'"
            click.echo(escaped(f"error: no option {error.option_name} here; {cure}"), err=True)
            sys.exit(2)

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        if args[0] not in _MODULE_OF and not args[0].startswith("-"):
            raise click.UsageError(f"no command {args[0]!r}{suggestion(args[0], _MODULE_OF)}", ctx)
        return super().resolve_command(ctx, args)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name in _MODULE_OF and cmd_name not in self.commands:
            importlib.import_module(f"gateway.cli.{_MODULE_OF[cmd_name]}").add_to(self)
        return super().get_command(ctx, cmd_name)


@click.group(cls=_Commands, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="gateway")
def cli() -> None:
    """One endpoint in front of many MCP servers."""


def main() -> None:
    """Run the ``gateway`` command; the entry point of the script."""
    sys.stdin = sys.stdin or open(os.devnull)  # noqa: SIM115  # a shell can close them (``>&-``)
    sys.stdout = sys.stdout or open(os.devnull, "w")  # noqa: SIM115
    sys.stderr = sys.stderr or open(os.devnull, "w")  # noqa: SIM115
    for stream in (sys.stdout, sys.stderr):  # words of servers may have characters that a terminal's encoding has not
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
    try:
        cli()
    except KeyboardInterrupt:  # before a command has begun
        sys.exit(_INTERRUPTED)
