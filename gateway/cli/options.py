"""The options that commands share."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any, TypeVar

import click

from gateway.cli.failures import CA_FILE, DEFAULT_URL

F = TypeVar("F", bound=Callable[..., Any])


def _trust(_: click.Context, __: click.Parameter, path: str | None) -> None:
    if path is not None:
        os.environ[CA_FILE] = path  # where both clients look


_URL = click.option(
    "--url",
    envvar="GATEWAY_URL",
    default=DEFAULT_URL,
    show_default=True,
    help="the running gateway",
)
_URL_HERE = click.option("--url", help="the running gateway")
_CA = click.option(
    "--gateway-ca",
    metavar="FILE",
    expose_value=False,
    callback=_trust,
    help=f"authorities to trust for https:// beside the system's, PEM [{CA_FILE}]",
)


def URL(command: F) -> F:  # noqa: N802
    """Add ``--url``, with a default, and ``--gateway-ca``."""
    return _URL(_CA(command))


def URL_HERE(command: F) -> F:  # noqa: N802
    """Add ``--url``, without a default, and ``--gateway-ca``."""
    return _URL_HERE(_CA(command))


JSON = click.option("--json", "as_json", is_flag=True, help="JSON for programs")
