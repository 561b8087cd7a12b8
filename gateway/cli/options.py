"""The options that commands share."""

from __future__ import annotations

import click

from gateway.cli.failures import DEFAULT_URL

URL = click.option(
    "--url",
    envvar="GATEWAY_URL",
    default=DEFAULT_URL,
    show_default=True,
    help="the running gateway",
)
URL_HERE = click.option("--url", help="the running gateway")
JSON = click.option("--json", "as_json", is_flag=True, help="JSON for programs")
