"""The group of commands, and how errors are shown: one line that says what to do.

Exit codes: 0 ok, 1 failed, 2 wrong usage or configuration, 130 ended by Ctrl-C.
"""

from __future__ import annotations

import os
import sys
from typing import Any

import click

from gateway import __version__
from shared.errors import ConfigError, GatewayError
from shared.logs import escaped

_INTERRUPTED = 130
"""128 + SIGINT, as shells have it."""


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
        except (click.ClickException, click.exceptions.Exit, click.Abort, BrokenPipeError):
            raise  # click shows these, and is silent about a reader that is gone
        except KeyboardInterrupt:
            sys.exit(_INTERRUPTED)
        except Exception as error:
            if os.environ.get("GATEWAY_TRACEBACK"):
                raise
            words = " ".join(str(error).split())
            click.echo(
                f"error: {type(error).__name__}{f': {words}' if words else ''}; that is a flaw of this program: "
                "GATEWAY_TRACEBACK=1 shows where, please report it",
                err=True,
            )
            sys.exit(1)


@click.group(cls=_Group, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="gateway")
def cli() -> None:
    """One endpoint in front of many MCP servers."""


def main() -> None:
    """Run the ``gateway`` command; the entry point of the script."""
    try:
        from gateway.cli import access, adoption, calls, connect, look, restart, servers, tools, up, virtual, watching

        for module in (up, restart, servers, tools, calls, look, access, connect, virtual, watching, adoption):
            module.add_to(cli)
        cli()
    except KeyboardInterrupt:  # before a command has begun
        sys.exit(_INTERRUPTED)
