"""What is said of a command line that cannot be understood: one line, with the cure. Pure."""

from __future__ import annotations

import click

_FILE_BEHIND_AN_OPTION = ("up", "serve")


def line(error: click.UsageError) -> str:
    """Return the line."""
    said = " ".join(error.format_message().split()).rstrip(".")
    said = said if said[1:2].isupper() else said[:1].lower() + said[1:]
    if error.ctx is None:
        return f"error: {said}"
    if error.ctx.command.name in _FILE_BEHIND_AN_OPTION and "extra argument" in said:
        return f"error: {said}; a file is named with --config FILE"
    return f"error: {said}; '{error.ctx.command_path.strip()} --help' says what it takes"
