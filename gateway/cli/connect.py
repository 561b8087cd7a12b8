"""``gateway connect``: connects to an upstream that is called in each caller's name."""

from __future__ import annotations

import time
import webbrowser
from urllib.parse import quote

import click

from gateway.cli.admin_client import AdminClient
from gateway.cli.failures import API_KEY, CommandFailed
from gateway.cli.options import URL
from shared.logs import escaped

_LOOK_S = 1.0


def add_to(cli: click.Group) -> None:
    """Add the command of this module to ``cli``."""
    cli.add_command(connect)


@click.command()
@click.argument("upstream")
@click.option(
    "--token", envvar=["GATEWAY_TOKEN", API_KEY], default="", help="your API key or access token at the gateway"
)
@click.option("--no-browser", is_flag=True, help="only show the link")
@click.option("--timeout", type=float, default=300.0, metavar="SECONDS", help="how long to wait [300]")
@click.option("--forget", is_flag=True, help="end the connection instead")
@URL
def connect(upstream: str, token: str, no_browser: bool, timeout: float, forget: bool, url: str) -> None:
    """Sign in to UPSTREAM in a browser, so that the gateway may call it in your name ('auth' of type 'user')."""
    client = AdminClient(url, token)
    path = f"connect/{quote(upstream, safe='')}"
    if forget:
        client.send_to("DELETE", path)
        click.echo(f"{upstream} is not connected any more")
        return
    link = client.send_to("POST", path, {})["url"]
    if client.send_to("GET", path)["connected"]:
        click.echo(f"{upstream} is connected already; to connect anew open\n  {escaped(link)}")
        return
    click.echo(f"open this link to connect {upstream}:\n  {escaped(link)}")
    if not no_browser:
        webbrowser.open(link)
    until = time.monotonic() + timeout
    while not client.send_to("GET", path)["connected"]:
        if time.monotonic() > until:
            raise CommandFailed(f"nobody has signed in within {timeout:g} s; the link is good for 15 minutes")
        time.sleep(_LOOK_S)
    click.echo(f"{upstream} is connected")
