"""``gateway servers add``: what a file's entry can say, as options."""

from __future__ import annotations

import asyncio
import json
import os
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, TypeVar

import click

from gateway.cli import address, state
from gateway.cli.admin_client import AdminClient
from gateway.cli.failures import CommandFailed
from gateway.cli.options import URL_HERE
from shared.choices import EraChoice, Isolation, Pin
from shared.config.env_file import read_env_file
from shared.errors import ConfigError
from shared.logs import escaped
from shared.models import UpstreamSpec, make_spec
from shared.own_settings import OWN
from shared.registry.store import RegistryStore
from shared.sandbox import KINDS
from shared.settings import RegistrySettings
from shared.upstream_auth import with_key_files

_F = TypeVar("_F", bound=Callable[..., Any])
_SCHEMES = ("http://", "https://", "unix://")
_TLS = {
    "ca_file": "PEM file of the authorities to trust instead of the system's",
    "cert_file": "PEM file of the certificate that the gateway presents",
    "key_file": "PEM file of that certificate's key",
    "server_name": "name in the server's certificate, if the address has another one",
}


class _Add(click.Command):
    """A command that knows whether ``--`` was written: only after it stands a command to run."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        ctx.meta["dashes"] = "--" in args
        try:
            return super().parse_args(ctx, list(args))
        except click.NoSuchOption as error:
            if "--" in args:
                raise
            cure = "what belongs to a command stands behind --, as in 'gateway servers add ID -- npx -y PACKAGE'"
            raise click.UsageError(f"no option {error.option_name}; {cure}", ctx) from error


def _several(*names: str, metavar: str, help: str) -> Callable[[_F], _F]:
    return click.option(*names, multiple=True, metavar=metavar, help=f"{help}; may be repeated")


def _file(name: str, help: str) -> Callable[[_F], _F]:
    return click.option(name, metavar="FILE", type=click.Path(dir_okay=False), help=help)


@click.command("add", cls=_Add)
@click.argument("id")
@click.argument("target", metavar="URL | -- COMMAND ARGS…", nargs=-1, type=click.UNPROCESSED)
@URL_HERE
@click.option("--replace", is_flag=True, help="change the one that is registered under this id")
@click.option("--name", help="group; replicas share it [the id]")
@click.option("--transport", help="http, sse, stdio or openapi [as the address, command or --spec says]")
@click.option(
    "--spec", metavar="FILE|URL", help="OpenAPI document of an API at the address: its operations are the tools"
)
@_several("--operations", "operations", metavar="PATTERN", help="of the document only 'GET /pets*', not '!* /admin*'")
@click.option("--health", metavar="PATH", help="GET path, below the address of the API, for health checks [HEAD of it]")
@click.option("--weight", type=click.IntRange(1, 1000), default=1, help="share of calls with the weighted balancer [1]")
@click.option("--balancer", help="strategy of the group [the gateway's]")
@click.option("--isolation", type=click.Choice([one.value for one in Isolation]), help="who shares a session of it")
@click.option(
    "--era", type=click.Choice([one.value for one in EraChoice]), help="protocol era in which it is spoken to"
)
@_several("--include-tool", "included", metavar="NAME", help="show only this tool (* for any text)")
@_several("--exclude-tool", "excluded", metavar="NAME", help="hide this tool (* for any text)")
@click.option(
    "--pin", type=click.Choice([one.value for one in Pin]), help="whether tools that change are held back [off]"
)
@_several("--metadata", "facts", metavar="KEY=TEXT", help="kept with the entry")
@_several("--set", "own", metavar="KEY=VALUE", help=f"a setting of its own ({OWN[0]}, startTimeout, …; in ms)")
@_several("--header", "headers", metavar="'Name: value'", help="sent with every request to the address")
@click.option("--auth", metavar="JSON|@FILE", help="in whose name it is called (docs/upstreams.md); @FILE reads a file")
@_several("--passthrough", "passed", metavar="NAME", help="header of clients that calls take along")
@click.option("--dangerously-forward-authorization", is_flag=True, help="allow --passthrough Authorization")
@click.option("--proxy", metavar="URL", help="http:// proxy towards the address, or 'direct' for none")
@_file("--ca-file", _TLS["ca_file"])
@_file("--cert-file", _TLS["cert_file"])
@_file("--key-file", _TLS["key_file"])
@click.option("--server-name", help=_TLS["server_name"])
@click.option("--insecure-skip-verify", is_flag=True, help="do not verify the server's certificate")
@_several("--env", "variables", metavar="NAME=VALUE", help="environment of the command")
@_file("--env-file", "dotenv file with more of it, read now")
@click.option("--cwd", type=click.Path(file_okay=False), help="folder of the command [the current one]")
@click.option("--sandbox", type=click.Choice(["none", *KINDS]), help="what the command is shut in [none]")
@_several("--read", "readable", metavar="PATH", help="what a command in a sandbox may read")
@_several("--write", "writable", metavar="PATH", help="what a command in a sandbox may read and write")
@click.option("--network", is_flag=True, help="a command in a sandbox has the network")
@click.option("--image", help="image of a sandbox of podman or docker")
@click.pass_context
def servers_add(
    ctx: click.Context, /, id: str, target: tuple[str, ...], url: str | None, replace: bool, **given: Any
) -> None:
    """Register a server: by its URL, or after -- the command that speaks MCP on stdin and stdout.

    \b
    gateway servers add api https://host/mcp --header 'Authorization: Bearer x'
    gateway servers add files -- npx -y @modelcontextprotocol/server-filesystem .
    gateway servers add pets https://host/v1 --spec openapi.yaml --operations 'GET *'

    --url is the gateway's, as with every command.
    """
    group_url: str = ctx.obj
    if not target and url is not None:  # until 0.1 --url was the server's address here; nothing else can be meant
        click.echo(
            f"deprecated: --url names the gateway; write 'gateway servers add {id} {url}' for a server's address",
            err=True,
        )
        target, url = (url,), None
    connection = _connection(target, ctx.meta["dashes"], given)
    spec = make_spec(
        id,
        connection,
        name=given["name"],
        transport=given["transport"],
        weight=given["weight"],
        balancer=given["balancer"],
        isolation=given["isolation"],
        era=given["era"],
        include_tools=given["included"] or None,
        exclude_tools=given["excluded"] or None,
        pin=given["pin"],
        metadata=dict(pair(one, "=", "--metadata") for one in given["facts"]),
        settings=_own(given["own"]),
        source="cli",
    )
    register(url or group_url, spec, connection, replace)
    click.echo(escaped(f"{'replaced' if replace else 'registered'} {id} ({spec.name}, {spec.transport})"))


def _connection(target: tuple[str, ...], dashes: bool, given: dict[str, Any]) -> dict[str, Any]:
    """Return the connection that address or command and their options describe. Raises ``ConfigError``."""
    if not target:
        raise ConfigError("give the server's URL, or -- COMMAND ARGS")
    if target[0].startswith(_SCHEMES) and len(target) == 1:
        of_commands = [("variables", "--env"), ("env_file", "--env-file"), ("cwd", "--cwd"), ("sandbox", "--sandbox")]
        _refuse(given, *of_commands, *_IN_SANDBOX, of="a command")
        found: dict[str, Any] = {
            "url": target[0],
            "headers": dict(pair(one, ":", "--header") for one in given["headers"]),
        }
        if given["spec"]:
            found["spec"] = given["spec"] if "://" in given["spec"] else os.path.abspath(given["spec"])
            found |= {key: value for key in ("operations", "health") if (value := given[key])}
        elif given["operations"] or given["health"]:
            raise ConfigError("--operations and --health are about an API; name its document with --spec")
        if given["auth"]:
            found["auth"] = _auth(given["auth"])
        if given["passed"]:
            found["passthrough"] = list(given["passed"])
        if given["dangerously_forward_authorization"]:
            found["dangerouslyForwardAuthorization"] = True
        if given["proxy"]:
            found["proxy"] = given["proxy"]
        tls = {
            "caFile": _path(given["ca_file"]),
            "certFile": _path(given["cert_file"]),
            "keyFile": _path(given["key_file"]),
            "serverName": given["server_name"],
            "insecureSkipVerify": given["insecure_skip_verify"],
        }
        if any(tls.values()):
            found["tls"] = {name: value for name, value in tls.items() if value}
        return found
    if not dashes:
        raise ConfigError(
            f"{' '.join(target)!r} is no URL: write http://… or https://… for a server's address, "
            "or '-- COMMAND ARGS' for a command"
        )
    if target[0].startswith(_SCHEMES):
        raise ConfigError("a URL takes no arguments; write '-- COMMAND ARGS' for a command")
    of_urls = [
        ("spec", "--spec"),
        ("operations", "--operations"),
        ("headers", "--header"),
        ("auth", "--auth"),
        ("passed", "--passthrough"),
        ("proxy", "--proxy"),
        ("insecure_skip_verify", "--insecure-skip-verify"),
    ]
    _refuse(given, *of_urls, *((name, f"--{name.replace('_', '-')}") for name in _TLS), of="a URL")
    environment = _from_file(given["env_file"]) if given["env_file"] else {}
    return {
        "type": "stdio",
        "command": target[0],
        "args": list(target[1:]),
        "env": {**environment, **dict(pair(one, "=", "--env") for one in given["variables"])},
        "cwd": os.path.abspath(given["cwd"] or "."),
        **_sandbox(given),
    }


def _sandbox(given: dict[str, Any]) -> dict[str, Any]:
    if given["sandbox"] in (None, "none"):
        for name, option in _IN_SANDBOX:
            if given[name]:
                raise ConfigError(f"{option} is for a command in a sandbox: name one with --sandbox")
        return {}
    sandbox = {"type": given["sandbox"], "network": given["network"], "image": given["image"] or ""}
    for key, name in (("read", "readable"), ("write", "writable")):
        sandbox[key] = [os.path.abspath(path) for path in given[name]]
    return {"sandbox": sandbox}


_IN_SANDBOX = (("readable", "--read"), ("writable", "--write"), ("network", "--network"), ("image", "--image"))


def _auth(text: str) -> Any:
    """Return the object that ``--auth`` has. In a file its secrets are not seen by other users of the machine."""
    if text.startswith("@"):
        try:
            text = Path(text[1:]).read_text("utf-8")
        except (OSError, UnicodeDecodeError) as error:
            raise ConfigError(f"--auth: cannot read {text[1:]}: {getattr(error, 'strerror', '') or error}") from error
    try:
        found = json.loads(text)
    except ValueError:
        raise ConfigError("--auth: it is no JSON object; for a file write @FILE") from None
    return with_key_files(found, _path) if isinstance(found, dict) else found


def _refuse(given: dict[str, Any], *options: tuple[str, str], of: str) -> None:
    for name, option in options:
        if given[name]:
            raise ConfigError(f"{option} is for a server that is reached by {of}")


def _path(file: str | None) -> str:
    return os.path.abspath(file) if file else ""


def _from_file(file: str) -> dict[str, str]:
    try:
        return read_env_file(Path(file))
    except OSError as error:
        raise ConfigError(f"--env-file: cannot read {file}: {error.strerror or error}") from error
    except UnicodeDecodeError as error:
        raise ConfigError(f"--env-file: cannot read {file}: it is not UTF-8 text") from error


def pair(text: str, separator: str, option: str) -> tuple[str, str]:
    name, found, value = text.partition(separator)
    if not found or not name.strip():
        raise ConfigError(f"{option}: {text.split(separator)[0]!r} needs a {separator!r} between name and value")
    return name.strip(), value.strip()


def _own(pairs: Iterable[str]) -> dict[str, Any]:
    """Return the settings that an upstream has for itself; ``hedge.after`` stands in an object of its own."""
    found: dict[str, Any] = {}
    for key, text in (pair(one, "=", "--set") for one in pairs):
        outer, _, inner = key.partition(".")
        if inner:
            found[outer] = {**found.get(outer, {}), inner: _value(text)}
        else:
            found[key] = _value(text)
    return found


def _value(text: str) -> Any:
    """Return a number where the text is one: settings of upstreams are numbers."""
    try:
        return json.loads(text)
    except ValueError:
        return text


def register(url: str, spec: UpstreamSpec, connection: dict[str, Any], replace: bool) -> None:
    """Register over the admin API; what touches the host and needs no token here, through the gateway's Redis."""
    directly = spec.connection.touches_host() and not os.environ.get("GATEWAY_ADMIN_TOKEN")
    note = state.read(address.parse(url).base) if directly else None
    if note is not None:
        asyncio.run(_register_directly(note, spec, replace))
        return
    body = {
        "id": spec.id,
        "name": spec.name,
        "transport": spec.transport,
        "connection": connection,
        "weight": spec.weight,
        "metadata": spec.metadata,
        "isolation": spec.isolation.value,
        "era": spec.era.value,
        "balancer": spec.balancer,
        "includeTools": spec.include_tools,
        "excludeTools": spec.exclude_tools or None,
        "settings": spec.settings,
        "pin": spec.pin.value,
    }
    AdminClient(url).send("POST", "servers?replace=true" if replace else "servers", body)


async def _register_directly(note: dict[str, str], spec: UpstreamSpec, replace: bool) -> None:
    secret = os.environ.get("GATEWAY_SECRET", "")
    if note["sealed"] and not secret:
        raise CommandFailed(
            "this gateway seals what is registered with its key: set GATEWAY_SECRET as the gateway has it, or register "
            "with its GATEWAY_ADMIN_TOKEN"
        )
    store = RegistryStore(
        RegistrySettings(redis_url=note["redisUrl"], key_prefix=note["keyPrefix"]), secret if note["sealed"] else ""
    )
    try:
        await store.register(spec, "replace" if replace else "create")
    finally:
        await store.close()
